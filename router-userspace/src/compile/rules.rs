//! 0.1 route rules → rules of the model, one by one. It does not know which services exist.

use std::{collections::BTreeMap, time::Duration};

use http::HeaderName;
use router_rules::{
    action::{Abort, Delay, Fault, Fraction, Retries, Target},
    id::ServiceName,
    labels::Labels,
    model::{Match, Rule},
    source::SourceMatch,
    text::{TextMatch, WholeRegex},
};

use super::{Placed, duration, duration::DurationFault, names, origin};
use crate::{
    config::{
        Document, Position,
        rules_v1alpha1::{self as dsl, DurationText, RouteRule, ServiceReference, StringMatch},
    },
    finding::{Code, Finding, codes},
};

/// Most retries that a rule may ask for.
const MAX_ATTEMPTS: i64 = 100;

pub(super) fn compile<'d>(
    documents: &'d [Document<RouteRule>],
    findings: &mut Vec<Finding>,
) -> Vec<Placed<'d, Rule>> {
    let mut rules: Vec<_> = documents
        .iter()
        .filter_map(|document| {
            let mut compiler = Compiler::new(document, findings);
            let item = compiler.rule(&document.body)?;
            Some(Placed {
                item,
                position: &document.position,
            })
        })
        .collect();
    rules.sort_by(|a, b| a.item.origin.cmp(&b.item.origin));
    rules
}

/// Compiles the fields of one object, reporting what is wrong with each.
pub(super) struct Compiler<'c> {
    namespace: &'c str,
    position: &'c Position,
    findings: &'c mut Vec<Finding>,
}

impl<'c> Compiler<'c> {
    pub(super) fn new<T>(document: &'c Document<T>, findings: &'c mut Vec<Finding>) -> Self {
        Self {
            namespace: &document.namespace,
            position: &document.position,
            findings,
        }
    }

    pub(super) fn report(
        &mut self,
        code: &Code,
        field: &str,
        message: impl Into<String>,
        hint: impl Into<String>,
    ) {
        let finding = self.position.finding(code, field, message, hint);
        self.findings.push(finding);
    }

    fn rule(&mut self, rule: &RouteRule) -> Option<Rule> {
        let destination = self.destination(rule.destination.as_ref());
        let condition = rule
            .r#match
            .as_ref()
            .map(|m| self.condition(m))
            .unwrap_or_default();
        let entries = rule.route.as_deref().unwrap_or_default();
        let targets = self.targets(destination.as_ref(), entries);
        let timeout = rule.http_req_timeout.as_ref().and_then(|t| self.timeout(t));
        let retries = rule.http_req_retries.as_ref().and_then(|r| self.retries(r));
        let fault = rule
            .http_fault
            .as_ref()
            .map(|f| self.fault(f))
            .unwrap_or_default();
        Some(Rule {
            origin: origin(self.position),
            destination: destination?,
            precedence: rule.precedence.unwrap_or(0),
            any_of: if condition.is_empty() {
                Vec::new()
            } else {
                vec![condition]
            },
            targets,
            timeout,
            retries,
            fault,
        })
    }

    /// The service that a rule is for. It may not carry labels there.
    fn destination(&mut self, reference: Option<&ServiceReference>) -> Option<ServiceName> {
        let Some(given) = reference else {
            let hint = "add `destination:` with the name of a service";
            self.report(
                &codes::MISSING_DESTINATION,
                "",
                "the rule names no destination",
                hint,
            );
            return None;
        };
        let name = self.service("destination", given);
        if labels_of(reference).is_some() {
            let hint = "put them below `route` as `labels`";
            let message = "a rule's own destination has no labels";
            self.report(&codes::CONFLICTING_FIELDS, "destination.labels", message, hint);
        }
        name
    }

    /// The service at `field`. Reports when there is none.
    pub(super) fn service(&mut self, field: &str, reference: &ServiceReference) -> Option<ServiceName> {
        if let ServiceReference::Structured(service) = reference
            && service.service.is_some()
            && (service.name.is_some() || service.namespace.is_some() || service.domain.is_some())
        {
            let hint = "keep either `service` or `name`, `namespace` and `domain`";
            let message = "`service` is the whole name already";
            self.report(
                &codes::CONFLICTING_FIELDS,
                &format!("{field}.service"),
                message,
                hint,
            );
        }
        let name = names::resolve(reference, self.namespace);
        let Some(name) = name else {
            let hint = "name a service, such as reviews.default.svc.cluster.local";
            self.report(
                &codes::MISSING_DESTINATION,
                field,
                "no service is named here",
                hint,
            );
            return None;
        };
        let is_part = |part: &str| {
            (1..=63).contains(&part.len())
                && part.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
                && !part.starts_with('-')
                && !part.ends_with('-')
        };
        if name.as_str().len() > 253 || !name.as_str().split('.').all(is_part) {
            let hint = "name a service, such as reviews.default.svc.cluster.local";
            self.report(
                &codes::INVALID_NAME,
                field,
                format!("`{name}` is no service name"),
                hint,
            );
            return None;
        }
        Some(name)
    }

    fn condition(&mut self, condition: &dsl::MatchCondition) -> Match {
        let mut compiled = Match {
            source: self.source(condition),
            ..Match::default()
        };
        let in_request = condition.request.as_ref().and_then(|r| r.headers.as_ref());
        let (field, headers) = match (&condition.http_headers, in_request) {
            (Some(_), Some(_)) => {
                let hint = "keep one of `httpHeaders` and `request.headers`";
                let message = "headers are given in two spellings";
                self.report(&codes::CONFLICTING_FIELDS, "match.request.headers", message, hint);
                return compiled;
            }
            (Some(headers), None) => ("match.httpHeaders", headers),
            (None, Some(headers)) => ("match.request.headers", headers),
            (None, None) => return compiled,
        };
        self.headers(field, headers, &mut compiled);
        compiled
    }

    fn source(&mut self, condition: &dsl::MatchCondition) -> Option<SourceMatch> {
        let reference = condition.source.as_ref();
        let service = reference.and_then(|r| self.service("match.source", r));
        let of_source = labels_of(reference);
        if of_source.is_some() && condition.source_tags.is_some() {
            let hint = "keep one of `sourceTags` and `source.labels`";
            let message = "the caller's labels are given in two spellings";
            self.report(&codes::CONFLICTING_FIELDS, "match.sourceTags", message, hint);
        }
        let labels = labels(condition.source_tags.as_ref().or(of_source));
        (service.is_some() || !labels.is_empty()).then_some(SourceMatch { service, labels })
    }

    fn headers(&mut self, field: &str, headers: &BTreeMap<String, StringMatch>, compiled: &mut Match) {
        for (name, wanted) in headers {
            let field = format!("{field}.{name}");
            let Some(wanted) = self.text_match(&field, wanted) else {
                continue;
            };
            let lower = name.to_ascii_lowercase();
            if lower == "uri"
                && matches!(&wanted, TextMatch::Exact(text) | TextMatch::Prefix(text) if text.is_empty())
            {
                let hint = "a path begins with `/`; leave `uri` out to match every path";
                self.report(&codes::INVALID_MATCH, &field, "the path is empty", hint);
            }
            let pseudo = match lower.as_str() {
                "uri" => Some(&mut compiled.path),
                "scheme" => Some(&mut compiled.scheme),
                "method" => Some(&mut compiled.method),
                "authority" => Some(&mut compiled.authority),
                _ => None,
            };
            let is_repeated = match pseudo {
                Some(part) => part.replace(wanted).is_some(),
                None => match HeaderName::from_bytes(lower.as_bytes()) {
                    Ok(header) => {
                        let is_repeated = compiled.headers.iter().any(|(other, _)| *other == header);
                        compiled.headers.push((header, wanted));
                        is_repeated
                    }
                    Err(_) => {
                        let message = format!("`{name}` is no name of a header");
                        self.report(&codes::INVALID_HEADER_NAME, &field, message, "");
                        false
                    }
                },
            };
            if is_repeated {
                let message = format!("`{name}` is there in another case already");
                let hint = "names of headers do not mind case; keep one";
                self.report(&codes::CONFLICTING_FIELDS, &field, message, hint);
            }
        }
        compiled.headers.sort_by(|a, b| a.0.as_str().cmp(b.0.as_str()));
    }

    fn text_match(&mut self, field: &str, wanted: &StringMatch) -> Option<TextMatch> {
        match (&wanted.exact, &wanted.prefix, &wanted.regex) {
            (Some(text), None, None) => Some(TextMatch::Exact(text.clone())),
            (None, Some(text), None) => Some(TextMatch::Prefix(text.clone())),
            (None, None, Some(pattern)) => match WholeRegex::new(pattern) {
                Ok(regex) => Some(TextMatch::Regex(regex)),
                Err(error) => {
                    let hint =
                        "look-around and back-references are not available; the whole value must match";
                    self.report(
                        &codes::INVALID_REGEX,
                        &format!("{field}.regex"),
                        one_line(&error),
                        hint,
                    );
                    None
                }
            },
            (exact, prefix, regex) => {
                let given = [exact, prefix, regex].iter().filter(|t| t.is_some()).count();
                let message = format!("{given} comparisons are given");
                let hint = "give exactly one of `exact`, `prefix` and `regex`";
                self.report(&codes::INVALID_MATCH, field, message, hint);
                None
            }
        }
    }

    fn targets(&mut self, own: Option<&ServiceName>, entries: &[dsl::DestinationWeight]) -> Vec<Target> {
        let mut targets = Vec::with_capacity(entries.len());
        for (index, entry) in entries.iter().enumerate() {
            let field = format!("route[{index}]");
            let service = match &entry.destination {
                Some(reference) => self.service(&format!("{field}.destination"), reference),
                None => own.cloned(),
            };
            if entry.tags.is_some() && entry.labels.is_some() {
                let hint = "keep one of `tags` and `labels`";
                let message = "labels are given in two spellings";
                self.report(
                    &codes::CONFLICTING_FIELDS,
                    &format!("{field}.labels"),
                    message,
                    hint,
                );
            }
            if labels_of(entry.destination.as_ref()).is_some() {
                let hint = "put them beside `destination`, not into it";
                let message = "labels of instances belong to the route";
                self.report(
                    &codes::CONFLICTING_FIELDS,
                    &format!("{field}.destination.labels"),
                    message,
                    hint,
                );
            }
            let weight = entry.weight.unwrap_or(100);
            if !(0..=100).contains(&weight) {
                let message = format!("the weight {weight} is not between 0 and 100");
                let hint = "weights are percentages that sum to 100";
                self.report(
                    &codes::WEIGHT_OUT_OF_RANGE,
                    &format!("{field}.weight"),
                    message,
                    hint,
                );
            }
            if let (Some(service), Ok(weight)) = (service, u32::try_from(weight)) {
                let labels = labels(entry.tags.as_ref().or(entry.labels.as_ref()));
                targets.push(Target {
                    service,
                    labels,
                    weight,
                });
            }
        }
        targets
    }

    fn timeout(&mut self, timeout: &dsl::HttpTimeout) -> Option<Duration> {
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

    fn retries(&mut self, retries: &dsl::HttpRetry) -> Option<Retries> {
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

    fn fault(&mut self, fault: &dsl::HttpFault) -> Fault {
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

    fn missing(&mut self, parent: &str, field: &str) {
        self.report(
            &codes::MISSING_FIELD,
            parent,
            format!("`{field}` is missing"),
            format!("add `{field}`"),
        );
    }
}

/// Labels inside a structured reference.
pub(super) fn labels_of(reference: Option<&ServiceReference>) -> Option<&dsl::Labels> {
    match reference {
        Some(ServiceReference::Structured(service)) => service.labels.as_ref().filter(|l| !l.is_empty()),
        _ => None,
    }
}

pub(super) fn labels(pairs: Option<&dsl::Labels>) -> Labels {
    pairs
        .into_iter()
        .flatten()
        .map(|(k, v)| (k.as_str(), v.as_str()))
        .collect()
}

/// The last line of a regular expression's error says what is wrong; the lines before draw a picture.
fn one_line(error: &impl std::fmt::Display) -> String {
    let text = error.to_string();
    let last = text.lines().last().unwrap_or_default();
    last.trim_start_matches("error: ").to_owned()
}
