//! What a rule does to a request: timeout, retries, faults.

use std::time::Duration;

use router_rules::action::{Abort, Delay, Fault, Fraction, Retries};

use super::Compiler;
use crate::{
    compile::duration::{self, DurationFault},
    config::rules_v1alpha1::{self as dsl, DurationText},
    finding::codes,
};

/// Most retries that a rule may ask for.
const MAX_ATTEMPTS: i64 = 100;

impl Compiler<'_> {
    pub(super) fn timeout(&mut self, timeout: &dsl::HttpTimeout) -> Option<Duration> {
        let field = "httpReqTimeout.simpleTimeout";
        let Some(simple) = &timeout.simple_timeout else {
            self.missing("httpReqTimeout", "simpleTimeout");
            return None;
        };
        let spellings = (simple.timeout.as_ref(), simple.timeout_seconds);
        if matches!(spellings, (None, None)) {
            self.missing(field, "timeout");
        }
        let hint = "leave `httpReqTimeout` out for the default of 15s";
        self.duration(field, "timeout", spellings, hint)
    }

    pub(super) fn retries(&mut self, retries: &dsl::HttpRetry) -> Option<Retries> {
        let field = "httpReqRetries.simpleRetry";
        let Some(simple) = &retries.simple_retry else {
            self.missing("httpReqRetries", "simpleRetry");
            return None;
        };
        let spellings = (simple.per_try_timeout.as_ref(), simple.per_try_timeout_seconds);
        let hint = "leave it out for no limit but the request's";
        let per_try_timeout = self.duration(field, "perTryTimeout", spellings, hint);
        let Some(attempts) = simple.attempts else {
            self.missing(field, "attempts");
            return None;
        };
        if !(0..=MAX_ATTEMPTS).contains(&attempts) {
            let message = format!("{attempts} is not between 0 and {MAX_ATTEMPTS}");
            self.report(&codes::INVALID_VALUE, &format!("{field}.attempts"), message, "");
        }
        let attempts = u32::try_from(attempts).ok().filter(|&attempts| attempts > 0)?;
        Some(Retries {
            attempts,
            per_try_timeout,
        })
    }

    pub(super) fn fault(&mut self, fault: &dsl::HttpFault) -> Fault {
        Fault {
            delay: fault.delay.as_ref().and_then(|d| self.delay(d)),
            abort: fault.abort.as_ref().and_then(|a| self.abort(a)),
        }
    }

    fn delay(&mut self, delay: &dsl::Delay) -> Option<Delay> {
        let field = "httpFault.delay";
        let fraction = self.fraction(field, delay.percent);
        let spellings = (delay.fixed_delay.as_ref(), delay.fixed_delay_seconds);
        if matches!(spellings, (None, None)) {
            self.missing(field, "fixedDelay");
        }
        let hint = "leave `delay` out for no delay";
        let duration = self.duration(field, "fixedDelay", spellings, hint)?;
        Some(Delay {
            fraction: fraction?,
            duration,
        })
    }

    fn abort(&mut self, abort: &dsl::Abort) -> Option<Abort> {
        let field = "httpFault.abort";
        let fraction = self.fraction(field, abort.percent);
        let Some(status) = abort.http_status else {
            self.missing(field, "httpStatus");
            return None;
        };
        let valid = u16::try_from(status).ok().filter(|s| (200..=599).contains(s));
        if valid.is_none() {
            let message = format!("{status} is not an HTTP status between 200 and 599");
            self.report(
                &codes::INVALID_STATUS,
                &format!("{field}.httpStatus"),
                message,
                "",
            );
        }
        Some(Abort {
            fraction: fraction?,
            status: valid?,
        })
    }

    /// A share of requests; all when nothing is said.
    fn fraction(&mut self, field: &str, percent: Option<f64>) -> Option<Fraction> {
        let Some(percent) = percent else {
            return Some(Fraction::ALL);
        };
        let fraction = Fraction::from_percent(percent);
        if fraction.is_none() {
            let message = format!("{percent} is not between 0 and 100");
            self.report(
                &codes::PERCENT_OUT_OF_RANGE,
                &format!("{field}.percent"),
                message,
                "",
            );
        }
        fraction
    }

    /// A duration that may be spelled as text in `name` or in seconds in `nameSeconds`.
    fn duration(
        &mut self,
        parent: &str,
        name: &str,
        spellings: (Option<&DurationText>, Option<f64>),
        hint: &str,
    ) -> Option<Duration> {
        let (field, result) = match spellings {
            (None, None) => return None,
            (Some(_), Some(_)) => {
                let hint = format!("keep one of `{name}` and `{name}Seconds`");
                let message = "the duration is given in two spellings";
                self.report(
                    &codes::CONFLICTING_FIELDS,
                    &format!("{parent}.{name}Seconds"),
                    message,
                    hint,
                );
                return None;
            }
            (Some(text), None) => (format!("{parent}.{name}"), duration::from_text(&text.0)),
            (None, Some(seconds)) => (format!("{parent}.{name}Seconds"), duration::from_seconds(seconds)),
        };
        match result {
            Ok(duration) => Some(duration),
            Err(fault) => {
                let hint = match &fault {
                    DurationFault::Syntax(text) if text.bytes().all(|b| b.is_ascii_digit() || b == b'.') => {
                        format!("write \"{text}s\"")
                    }
                    DurationFault::Syntax(_) => {
                        "write it as \"10s\", \"1.5s\", \"250ms\" or \"1m30s\"".to_owned()
                    }
                    DurationFault::TooShort(_) | DurationFault::TooLong(_) => hint.to_owned(),
                };
                self.report(&codes::INVALID_DURATION, &field, fault.to_string(), hint);
                None
            }
        }
    }

    pub(super) fn missing(&mut self, parent: &str, field: &str) {
        self.report(
            &codes::MISSING_FIELD,
            parent,
            format!("`{field}` is missing"),
            format!("add `{field}`"),
        );
    }
}
