//! What the proxy tells clients of itself beside their responses: reasons of refusals, and explanations of single
//! requests for those that ask and may.
//!
//! An explanation is what the engine's own explanation says, as one header field. It decides nothing.

use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue};
use router_rules::{
    Snapshot,
    explain::{self, Outcome},
    matcher::Request,
    snapshot::{Route, Subset},
    source::ClassId,
};

use super::{error::Kind, exchange::Exchange};

/// Bytes of an explanation; what does not fit is left out, and `cut` says so.
const MAX_BYTES: usize = 2048;
/// Characters of one value; longer ones end in `...`.
const MAX_VALUE: usize = 256;
/// Rules that did not match for which the reason is given.
const MAX_PASSED_OVER: usize = 3;

/// What clients are told.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Disclosure {
    /// Whether responses that no endpoint sent carry `x-router-reason`.
    pub reason: bool,
    /// A request with this field is answered with its explanation in a field of the same name; endpoints do not see
    /// it. None: requests get no explanations.
    pub explain: Option<HeaderName>,
}

impl Default for Disclosure {
    fn default() -> Self {
        Self {
            reason: true,
            explain: None,
        }
    }
}

/// What is added to a response, whoever made it. Nothing is allocated unless there is something.
#[derive(Default)]
pub(crate) struct Additions(Option<Box<Added>>);

#[derive(Default)]
struct Added {
    fields: HeaderMap,
    explanation: Option<(HeaderName, Dictionary)>,
}

impl Additions {
    /// Header fields that replace those of the same name.
    pub(crate) fn fields(&mut self) -> &mut HeaderMap {
        &mut self.0.get_or_insert_default().fields
    }

    /// Begins an explanation, to be put into the field `name`.
    pub(crate) fn explain(
        &mut self,
        name: &HeaderName,
        snapshot: &Snapshot,
        route: &Route<'_>,
        (caller, request): (ClassId, &Request<'_>),
    ) {
        let mut text = Dictionary::default();
        decision(&mut text, snapshot, route, (caller, request));
        self.0.get_or_insert_default().explanation = Some((name.clone(), text));
    }

    fn dictionary(&mut self) -> Option<&mut Dictionary> {
        let (_, text) = self.0.as_mut()?.explanation.as_mut()?;
        Some(text)
    }

    /// Notes the subset whose turn it was, and the time that the request has.
    pub(crate) fn picked(&mut self, subset: &Subset, timeout: Duration) {
        let Some(text) = self.dictionary() else { return };
        let name = format!("{}:{} {}", subset.service(), subset.port(), subset.labels());
        text.text("subset", &name);
        text.text("timeout", &format!("{timeout:?}"));
    }

    /// Notes how it went. `refusal`: why no endpoint's response is passed on.
    pub(crate) fn went(&mut self, exchange: &Exchange, refusal: Option<Kind>) {
        let Some(text) = self.dictionary() else { return };
        if let Some(endpoint) = exchange.endpoint {
            text.text("endpoint", &endpoint.to_string());
        }
        text.number("attempts", exchange.attempts.into());
        if let Some(kind) = refusal {
            text.text("reason", kind.name());
        }
    }

    /// Adds everything to a response.
    pub(crate) fn write(self, response: &mut HeaderMap) {
        let Some(added) = self.0 else { return };
        for (name, value) in &added.fields {
            response.insert(name, value.clone());
        }
        if let Some((name, text)) = added.explanation
            && let Some(value) = text.value()
        {
            response.insert(name, value);
        }
    }
}

/// Which rule decided, and why.
fn decision(
    text: &mut Dictionary,
    snapshot: &Snapshot,
    route: &Route<'_>,
    (caller, request): (ClassId, &Request<'_>),
) {
    let port = route.port();
    text.number("generation", snapshot.generation());
    text.text("service", &format!("{}:{}", port.service(), port.number()));
    match route.rule() {
        Some(rule) => {
            let origin = rule.origin();
            text.text("rule", &origin.object);
            text.text("at", &format!("{}:{}", origin.file, origin.line));
            let conditions = explain::conditions(snapshot, rule);
            let conditions = conditions.join(" or ");
            text.text(
                "match",
                if conditions.is_empty() {
                    "everything"
                } else {
                    &conditions
                },
            );
        }
        None => text.text("match", "no rule"),
    }
    let steps = explain::steps(snapshot, port, caller, Some(request));
    for (number, step) in (1..).zip(steps.take(MAX_PASSED_OVER)) {
        let Outcome::NotMatched(reasons) = step.outcome else {
            return;
        };
        let reasons: Vec<_> = reasons.iter().map(ToString::to_string).collect();
        let object = &snapshot.rule(step.rule).origin().object;
        text.text(
            &format!("not-{number}"),
            &format!("{object}: {}", reasons.join("; ")),
        );
    }
}

/// A dictionary of RFC 9651, of numbers and strings: nothing in it can end the field or begin another.
#[derive(Default)]
struct Dictionary {
    text: String,
    cut: bool,
}

impl Dictionary {
    const CUT: &'static str = ", cut";

    fn member(&mut self, member: &str) {
        let comma = if self.text.is_empty() { "" } else { ", " };
        if self.text.len() + comma.len() + member.len() + Self::CUT.len() > MAX_BYTES {
            self.cut = true;
            return;
        }
        self.text.push_str(comma);
        self.text.push_str(member);
    }

    fn number(&mut self, key: &str, value: u64) {
        self.member(&format!("{key}={value}"));
    }

    fn text(&mut self, key: &str, value: &str) {
        let mut quoted = format!("{key}=\"");
        let mut characters = value.chars();
        for character in characters.by_ref().take(MAX_VALUE) {
            match character {
                '"' | '\\' => quoted.extend(['\\', character]),
                ' '..='~' => quoted.push(character),
                _ => quoted.push('?'),
            }
        }
        if characters.next().is_some() {
            quoted.push_str("...");
        }
        quoted.push('"');
        self.member(&quoted);
    }

    fn value(mut self) -> Option<HeaderValue> {
        if self.cut {
            self.text.push_str(Self::CUT);
        }
        HeaderValue::try_from(self.text).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_in_a_value_ends_the_field() {
        let mut text = Dictionary::default();
        text.number("n", 7);
        text.text("evil", "a\"b\\c\r\nset-cookie: x=1\u{e9}\0");
        let value = text.value().unwrap();
        assert_eq!(value, r#"n=7, evil="a\"b\\c??set-cookie: x=1??""#);
    }

    #[test]
    fn explanations_are_bounded() {
        let mut text = Dictionary::default();
        text.text("long", &"x".repeat(MAX_VALUE + 1));
        assert!(text.text.ends_with("x...\""));
        for _ in 0..1000 {
            text.text("again", &"\\".repeat(MAX_VALUE));
        }
        let value = text.value().unwrap();
        assert!(value.len() <= MAX_BYTES && value.to_str().unwrap().ends_with(", cut"));
    }
}
