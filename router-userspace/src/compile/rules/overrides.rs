//! Header fields by which a request overrides its rule, and what a rule says of upgrades.

use http::HeaderName;
use router_rules::{action::Fraction, overrides::Overrides};

use super::Compiler;
use crate::{config::rules_v1alpha1::RouteRule, finding::codes};

impl Compiler<'_> {
    pub(super) fn overrides(&mut self, rule: &RouteRule) -> Overrides {
        let timeout = rule
            .http_req_timeout
            .as_ref()
            .and_then(|t| t.simple_timeout.as_ref())
            .and_then(|t| t.override_header_name.as_ref());
        let attempts = rule
            .http_req_retries
            .as_ref()
            .and_then(|r| r.simple_retry.as_ref())
            .and_then(|r| r.override_header_name.as_ref());
        let delay = rule.http_fault.as_ref().and_then(|f| f.delay.as_ref());
        let abort = rule.http_fault.as_ref().and_then(|f| f.abort.as_ref());
        // A percentage out of range was reported with the fault.
        let fraction = |percent: Option<f64>| percent.map_or(Some(Fraction::ALL), Fraction::from_percent);
        Overrides {
            timeout: self.override_header("httpReqTimeout.simpleTimeout", timeout),
            attempts: self.override_header("httpReqRetries.simpleRetry", attempts),
            delay: self
                .override_header(
                    "httpFault.delay",
                    delay.and_then(|d| d.override_header_name.as_ref()),
                )
                .zip(fraction(delay.and_then(|d| d.percent))),
            abort: self
                .override_header(
                    "httpFault.abort",
                    abort.and_then(|a| a.override_header_name.as_ref()),
                )
                .zip(fraction(abort.and_then(|a| a.percent))),
        }
    }

    fn override_header(&mut self, parent: &str, name: Option<&String>) -> Option<HeaderName> {
        let name = name?;
        let header = HeaderName::from_bytes(name.to_ascii_lowercase().as_bytes()).ok();
        if header.is_none() {
            let message = format!("`{name}` is no name of a header");
            let field = format!("{parent}.overrideHeaderName");
            self.report(&codes::INVALID_HEADER_NAME, &field, message, "");
        }
        header
    }
}
