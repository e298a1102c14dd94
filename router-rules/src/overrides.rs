//! What a request may say about itself: header fields whose values take the place of a rule's.
//!
//! A value that cannot be read is as good as none; the rule's own stays in force.

use std::time::Duration;

use http::{HeaderMap, HeaderName};

use crate::{
    action::{AbortWith, Delay, DelayTime, Fault, Fraction, MAX_ATTEMPTS, Retries},
    duration,
    status::{GrpcStatus, Http2Error},
};

/// Header fields that override a rule, request by request.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Overrides {
    /// Time for the whole request: `2s`, `250ms`, or a number of seconds.
    pub timeout: Option<HeaderName>,
    /// Attempts after the first: a number.
    pub attempts: Option<HeaderName>,
    /// Delay, of this share of the requests that ask for one: as the timeout.
    pub delay: Option<(HeaderName, Fraction)>,
    /// Abort, of this share of the requests that ask for one: an HTTP status by number, or a gRPC status or HTTP/2
    /// error code by name.
    pub abort: Option<(HeaderName, Fraction)>,
}

impl Overrides {
    /// True when no field overrides anything.
    pub const fn is_empty(&self) -> bool {
        self.timeout.is_none() && self.attempts.is_none() && self.delay.is_none() && self.abort.is_none()
    }

    /// The timeout that a request asks for.
    pub fn timeout(&self, headers: &HeaderMap) -> Option<Duration> {
        time(headers, self.timeout.as_ref()?)
    }

    /// The retries of a request: the rule's, as often as the request asks for.
    pub fn retries(&self, own: Option<Retries>, headers: &HeaderMap) -> Option<Retries> {
        let attempts = || text(headers, self.attempts.as_ref()?)?.parse::<u32>().ok();
        match attempts().filter(|attempts| *attempts <= MAX_ATTEMPTS) {
            Some(attempts) => Some(Retries {
                attempts,
                per_try_timeout: own.and_then(|own| own.per_try_timeout),
            }),
            None => own,
        }
    }

    /// The faults of a request: the rule's, except what the request asks for.
    pub fn fault(&self, own: Fault, headers: &HeaderMap) -> Fault {
        let delay = || {
            let (name, fraction) = self.delay.as_ref()?;
            Some(Delay {
                fraction: *fraction,
                time: DelayTime::Fixed(time(headers, name)?),
            })
        };
        let abort = || {
            let (name, fraction) = self.abort.as_ref()?;
            Some(crate::action::Abort {
                fraction: *fraction,
                with: abort_with(text(headers, name)?)?,
            })
        };
        Fault {
            delay: delay().or(own.delay),
            abort: abort().or(own.abort),
        }
    }
}

fn text<'h>(headers: &'h HeaderMap, name: &HeaderName) -> Option<&'h str> {
    headers.get(name)?.to_str().ok().map(str::trim)
}

fn time(headers: &HeaderMap, name: &HeaderName) -> Option<Duration> {
    let text = text(headers, name)?;
    match text.parse::<f64>() {
        Ok(seconds) => duration::from_seconds(seconds).ok(),
        Err(_) => duration::from_text(text).ok(),
    }
}

fn abort_with(text: &str) -> Option<AbortWith> {
    if let Ok(number) = text.parse::<u16>() {
        // Small numbers could be either of the other two.
        return (200..=599)
            .contains(&number)
            .then_some(AbortWith::HttpStatus(number));
    }
    let grpc = GrpcStatus::parse(text).map(AbortWith::GrpcStatus);
    grpc.or_else(|| Http2Error::parse(text).map(AbortWith::Http2Error))
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn overrides() -> Overrides {
        let name = HeaderName::from_static;
        Overrides {
            timeout: Some(name("x-timeout")),
            attempts: Some(name("x-retries")),
            delay: Some((name("x-delay"), Fraction::ALL)),
            abort: Some((name("x-abort"), Fraction::ALL)),
        }
    }

    fn says(name: &'static str, value: &'static str) -> HeaderMap {
        [(HeaderName::from_static(name), HeaderValue::from_static(value))]
            .into_iter()
            .collect()
    }

    #[test]
    fn values_take_the_place_of_the_rules() {
        let overrides = overrides();
        for (value, millis) in [("2s", 2000), ("250ms", 250), (" 1.5 ", 1500), ("3", 3000)] {
            let wanted = Some(Duration::from_millis(millis));
            assert_eq!(overrides.timeout(&says("x-timeout", value)), wanted, "{value}");
        }
        let own = Retries {
            attempts: 3,
            per_try_timeout: Some(Duration::from_secs(1)),
        };
        let none = overrides.retries(Some(own), &says("x-retries", "0"));
        assert_eq!(none, Some(Retries { attempts: 0, ..own }));
        let with = |value| overrides.fault(Fault::default(), &says("x-abort", value)).abort;
        assert_eq!(with("404").map(|a| a.with), Some(AbortWith::HttpStatus(404)));
        let not_found = GrpcStatus::parse("NOT_FOUND").map(AbortWith::GrpcStatus);
        assert_eq!(with("not_found").map(|a| a.with), not_found);
        let cancel = Http2Error::parse("CANCEL").map(AbortWith::Http2Error);
        assert_eq!(with("CANCEL").map(|a| a.with), cancel);
        let delay = overrides.fault(Fault::default(), &says("x-delay", "5ms")).delay;
        let five = DelayTime::Fixed(Duration::from_millis(5));
        assert_eq!(delay.map(|d| d.time), Some(five));
    }

    #[test]
    fn what_cannot_be_read_changes_nothing() {
        let overrides = overrides();
        for value in ["", "-1", "0", "soon", "1e99", "NaN", "inf", "9999999h"] {
            assert_eq!(overrides.timeout(&says("x-timeout", value)), None, "{value}");
            let fault = overrides.fault(Fault::default(), &says("x-delay", value));
            assert_eq!(fault, Fault::default(), "{value}");
        }
        for value in ["", "-1", "101", "many"] {
            assert_eq!(
                overrides.retries(None, &says("x-retries", value)),
                None,
                "{value}"
            );
        }
        for value in ["", "14", "199", "600", "TEAPOT"] {
            let fault = overrides.fault(Fault::default(), &says("x-abort", value));
            assert_eq!(fault, Fault::default(), "{value}");
        }
        let all = says("x-timeout", "1s");
        assert_eq!(Overrides::default().timeout(&all), None);
    }
}
