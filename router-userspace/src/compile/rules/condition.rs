//! What a rule asks of a request and its caller.

use std::collections::BTreeMap;

use http::HeaderName;
use router_rules::{
    model::Match,
    source::SourceMatch,
    text::{TextMatch, WholeRegex},
};

use super::{Compiler, impossible, labels, labels_of};
use crate::{
    config::rules_v1alpha1::{self as dsl, StringMatch},
    finding::codes,
};

impl Compiler<'_> {
    pub(super) fn condition(&mut self, condition: &dsl::MatchCondition) -> Match {
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
            } else if let Some((message, hint)) = impossible::reason(&lower, &wanted) {
                self.report(&codes::IMPOSSIBLE_MATCH, &field, message, hint);
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
            (None, None, Some(pattern)) => self.regex(&format!("{field}.regex"), pattern),
            (exact, prefix, regex) => {
                let given = [exact, prefix, regex].iter().filter(|t| t.is_some()).count();
                let message = format!("{given} comparisons are given");
                let hint = "give exactly one of `exact`, `prefix` and `regex`";
                self.report(&codes::INVALID_MATCH, field, message, hint);
                None
            }
        }
    }
}

impl Compiler<'_> {
    fn regex(&mut self, field: &str, pattern: &str) -> Option<TextMatch> {
        match WholeRegex::ecmascript(pattern) {
            Ok((regex, differences)) => {
                for difference in differences {
                    let hint = "write it in ECMAScript's grammar, without flags, or leave it if this is what you mean";
                    self.report(&codes::REGEX_DIFFERS, field, difference.to_string(), hint);
                }
                Some(TextMatch::Regex(regex))
            }
            Err(error) => {
                let hint = "look-around and back-references are not available; the whole value must match";
                self.report(&codes::INVALID_REGEX, field, one_line(&error), hint);
                None
            }
        }
    }
}

/// The last line of a regular expression's error says what is wrong; the lines before draw a picture.
fn one_line(error: &impl std::fmt::Display) -> String {
    let text = error.to_string();
    let last = text.lines().last().unwrap_or_default();
    last.trim_start_matches("error: ").to_owned()
}
