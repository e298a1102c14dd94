//! How long a request may take and how often it is tried.

use std::time::Duration;

use router_rules::{
    action::{MAX_ATTEMPTS, Retries},
    duration::{self, DurationFault},
};

use super::Compiler;
use crate::{
    config::rules_v1alpha1::{self as dsl, DurationText},
    finding::codes,
};

/// A duration in one of its two spellings.
enum Spelled<'s> {
    Text(&'s str),
    Seconds(f64),
}

/// A duration with the path of its field.
struct Written<'s> {
    field: String,
    value: Spelled<'s>,
}

impl Compiler<'_> {
    pub(super) fn timeout(&mut self, timeout: &dsl::HttpTimeout) -> Option<Duration> {
        let field = "httpReqTimeout.simpleTimeout";
        self.custom("httpReqTimeout", timeout.custom);
        let Some(simple) = &timeout.simple_timeout else {
            if timeout.custom.is_some() {
                return None;
            }
            self.missing("httpReqTimeout", "simpleTimeout");
            return None;
        };
        let spellings = (simple.timeout.as_ref(), simple.timeout_seconds);
        if matches!(spellings, (None, None)) && simple.override_header_name.is_none() {
            self.missing(field, "timeout");
        }
        let hint = "leave `httpReqTimeout` out for the default of 15s";
        self.duration(field, "timeout", spellings, hint)
    }

    pub(super) fn retries(&mut self, retries: &dsl::HttpRetry) -> Option<Retries> {
        let field = "httpReqRetries.simpleRetry";
        self.custom("httpReqRetries", retries.custom);
        let Some(simple) = &retries.simple_retry else {
            if retries.custom.is_some() {
                return None;
            }
            self.missing("httpReqRetries", "simpleRetry");
            return None;
        };
        let spellings = (simple.per_try_timeout.as_ref(), simple.per_try_timeout_seconds);
        let hint = "leave it out for no limit but the request's";
        let per_try_timeout = self.duration(field, "perTryTimeout", spellings, hint);
        let may_be_none = simple.override_header_name.is_some();
        let Some(attempts) = simple.attempts.or(may_be_none.then_some(0)) else {
            self.missing(field, "attempts");
            return None;
        };
        if !(0..=i64::from(MAX_ATTEMPTS)).contains(&attempts) {
            let message = format!("{attempts} is not between 0 and {MAX_ATTEMPTS}");
            self.report(&codes::INVALID_VALUE, &format!("{field}.attempts"), message, "");
        }
        let attempts = u32::try_from(attempts)
            .ok()
            .filter(|&attempts| attempts > 0 || may_be_none)?;
        Some(Retries {
            attempts,
            per_try_timeout,
        })
    }

    /// A duration that may be spelled as text in `name` or in seconds in `nameSeconds`.
    pub(in crate::compile) fn duration(
        &mut self,
        parent: &str,
        name: &str,
        spellings: (Option<&DurationText>, Option<f64>),
        hint: &str,
    ) -> Option<Duration> {
        let names = [name, &format!("{name}Seconds")];
        let written = self.one_spelling(parent, names, spellings)?;
        let result = match written.value {
            Spelled::Text(text) => duration::from_text(text),
            Spelled::Seconds(seconds) => duration::from_seconds(seconds),
        };
        self.read_duration(&written.field, result, hint)
    }

    /// As [`Compiler::duration`], for a field whose two spellings have other names, and which may be zero.
    pub(super) fn duration_or_zero(
        &mut self,
        parent: &str,
        names: [&str; 2],
        spellings: (Option<&DurationText>, Option<f64>),
    ) -> Option<Duration> {
        let written = self.one_spelling(parent, names, spellings)?;
        let result = match written.value {
            Spelled::Text(text) => duration::from_text_or_zero(text),
            Spelled::Seconds(seconds) => duration::from_seconds_or_zero(seconds),
        };
        self.read_duration(&written.field, result, "")
    }

    /// The spelling in use of a duration that has two; reports when both are.
    fn one_spelling<'s>(
        &mut self,
        parent: &str,
        [text_name, seconds_name]: [&str; 2],
        spellings: (Option<&'s DurationText>, Option<f64>),
    ) -> Option<Written<'s>> {
        let (name, value) = match spellings {
            (None, None) => return None,
            (Some(_), Some(_)) => {
                let hint = format!("keep one of `{text_name}` and `{seconds_name}`");
                let message = "the duration is given in two spellings";
                self.report(
                    &codes::CONFLICTING_FIELDS,
                    &format!("{parent}.{seconds_name}"),
                    message,
                    hint,
                );
                return None;
            }
            (Some(text), None) => (text_name, Spelled::Text(&text.0)),
            (None, Some(seconds)) => (seconds_name, Spelled::Seconds(seconds)),
        };
        Some(Written {
            field: format!("{parent}.{name}"),
            value,
        })
    }

    fn read_duration(
        &mut self,
        field: &str,
        result: Result<Duration, DurationFault>,
        hint: &str,
    ) -> Option<Duration> {
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
                self.report(&codes::INVALID_DURATION, field, fault.to_string(), hint);
                None
            }
        }
    }

    /// Reports a field that the language leaves to the implementation, at `parent`.
    pub(in crate::compile) fn custom(&mut self, parent: &str, written: Option<dsl::Opaque>) {
        if written.is_none() {
            return;
        }
        let field = if parent.is_empty() {
            "custom".to_owned()
        } else {
            format!("{parent}.custom")
        };
        let message = "what `custom` holds is the implementation's to define, and router defines nothing";
        self.report(&codes::CUSTOM_HAS_NO_EFFECT, &field, message, "remove it");
    }

    pub(in crate::compile) fn missing(&mut self, parent: &str, field: &str) {
        self.report(
            &codes::MISSING_FIELD,
            parent,
            format!("`{field}` is missing"),
            format!("add `{field}`"),
        );
    }
}
