//! Faults: which requests are delayed and aborted, and how.

use router_rules::{
    action::{Abort, AbortWith, Delay, DelayTime, Fault, Fraction},
    status::{GrpcStatus, Http2Error},
};

use super::Compiler;
use crate::{config::rules_v1alpha1 as dsl, finding::codes};

impl Compiler<'_> {
    pub(super) fn fault(&mut self, fault: &dsl::HttpFault) -> Fault {
        Fault {
            delay: fault.delay.as_ref().and_then(|d| self.delay(d)),
            abort: fault.abort.as_ref().and_then(|a| self.abort(a)),
        }
    }

    fn delay(&mut self, delay: &dsl::Delay) -> Option<Delay> {
        let field = "httpFault.delay";
        let fraction = self.fraction(field, delay.percent);
        let fixed = (delay.fixed_delay.as_ref(), delay.fixed_delay_seconds);
        let exponential = (delay.exponential_delay.as_ref(), delay.exponential_delay_seconds);
        let hint = "leave `delay` out for no delay";
        let time = match (fixed, exponential) {
            ((None, None), (None, None)) => {
                if delay.override_header_name.is_none() {
                    self.missing(field, "fixedDelay");
                }
                None
            }
            (fixed, (None, None)) => self
                .duration(field, "fixedDelay", fixed, hint)
                .map(DelayTime::Fixed),
            ((None, None), mean) => self
                .duration(field, "exponentialDelay", mean, hint)
                .map(|mean| DelayTime::Exponential { mean }),
            _ => {
                let hint = "keep one of `fixedDelay` and `exponentialDelay`";
                let message = "two kinds of delay are given";
                self.report(&codes::CONFLICTING_FIELDS, field, message, hint);
                None
            }
        };
        Some(Delay {
            fraction: fraction?,
            time: time?,
        })
    }

    fn abort(&mut self, abort: &dsl::Abort) -> Option<Abort> {
        let field = "httpFault.abort";
        let fraction = self.fraction(field, abort.percent);
        let with = match (abort.http_status, &abort.grpc_status, &abort.http2_error) {
            (Some(status), None, None) => self.http_status(status),
            (None, Some(status), None) => self.grpc_status(&status.0),
            (None, None, Some(code)) => self.http2_error(&code.0),
            (None, None, None) => {
                if abort.override_header_name.is_none() {
                    self.missing(field, "httpStatus");
                }
                None
            }
            _ => {
                let hint = "keep one of `httpStatus`, `grpcStatus` and `http2Error`";
                let message = "more than one answer is given";
                self.report(&codes::CONFLICTING_FIELDS, field, message, hint);
                None
            }
        };
        Some(Abort {
            fraction: fraction?,
            with: with?,
        })
    }

    fn http_status(&mut self, status: i64) -> Option<AbortWith> {
        let valid = u16::try_from(status).ok().filter(|s| (200..=599).contains(s));
        if valid.is_none() {
            let message = format!("{status} is not an HTTP status between 200 and 599");
            let field = "httpFault.abort.httpStatus";
            self.report(&codes::INVALID_STATUS, field, message, "");
        }
        valid.map(AbortWith::HttpStatus)
    }

    fn grpc_status(&mut self, status: &str) -> Option<AbortWith> {
        let valid = GrpcStatus::parse(status);
        if valid.is_none() {
            let message = format!("there is no gRPC status `{status}`");
            let hint = "name one, such as UNAVAILABLE, or give its number between 0 and 16";
            let field = "httpFault.abort.grpcStatus";
            self.report(&codes::INVALID_STATUS, field, message, hint);
        }
        valid.map(AbortWith::GrpcStatus)
    }

    fn http2_error(&mut self, code: &str) -> Option<AbortWith> {
        let valid = Http2Error::parse(code);
        if valid.is_none() {
            let message = format!("there is no HTTP/2 error code `{code}`");
            let hint = "name one, such as REFUSED_STREAM, or give its number between 0 and 13";
            let field = "httpFault.abort.http2Error";
            self.report(&codes::INVALID_STATUS, field, message, hint);
        }
        valid.map(AbortWith::Http2Error)
    }

    /// A share of requests or connections; all when nothing is said.
    pub(super) fn fraction(&mut self, field: &str, percent: Option<f64>) -> Option<Fraction> {
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
}
