//! Tree → typed object, with every fault of its shape as a finding.
//!
//! It knows the errors that serde speaks; it does not know what fields mean.

use serde::de::DeserializeOwned;
use serde_json::Value;
use serde_path_to_error::Segment;

use super::source::{self, Position};
use crate::finding::{Finding, codes};

/// Faults of one object that are reported at most.
const MAX_FAULTS: usize = 32;

/// Decodes `tree`. After a fault the value at fault is taken out and the rest is read again, so that one reading
/// reports them all.
pub(super) fn decode<T: DeserializeOwned>(tree: &mut Value, position: &Position) -> Result<T, Vec<Finding>> {
    // Keeping track of the path costs several times as much as decoding: it is done where there is a fault.
    if let Ok(object) = T::deserialize(&*tree) {
        return Ok(object);
    }
    let mut findings = Vec::new();
    loop {
        let error = match serde_path_to_error::deserialize::<_, T>(&*tree) {
            Ok(object) if findings.is_empty() => return Ok(object),
            Ok(_) => return Err(findings),
            Err(error) => error,
        };
        let mut way: Vec<Segment> = error.path().iter().cloned().collect();
        let shown = error.path().to_string();
        let mut path = if shown == "." { String::new() } else { shown };
        let message = error.into_inner().to_string();
        if let Some(second) = second_spelling(&message) {
            path = join(&path, &second);
            way.push(Segment::Map { key: second });
        }
        // What is missing because it was taken out is no fault of its own.
        let is_consequence = message.starts_with("missing field")
            && findings
                .iter()
                .any(|f| f.place.field.contains(&format!("{path}.")));
        if !is_consequence {
            findings.push(explain(&path, &message, position));
        }
        if is_consequence || findings.len() == MAX_FAULTS || !take_out(tree, &way) {
            return Err(findings);
        }
    }
}

fn join(path: &str, key: &str) -> String {
    if path.is_empty() {
        key.to_owned()
    } else {
        format!("{path}.{key}")
    }
}

/// For a field that is there in both spellings: its spelling in the proto.
fn second_spelling(message: &str) -> Option<String> {
    let name = message.strip_prefix("duplicate field `")?.split('`').next()?;
    Some(source::snake_case(name))
}

/// Removes the value at `path`. False when that cannot be done without moving others.
fn take_out(tree: &mut Value, path: &[Segment]) -> bool {
    let Some((Segment::Map { key: last }, way)) = path.split_last() else {
        return false;
    };
    let mut node = tree;
    for step in way {
        let next = match step {
            Segment::Map { key } => node.get_mut(key),
            Segment::Seq { index } => node.get_mut(index),
            Segment::Enum { .. } | Segment::Unknown => None,
        };
        let Some(next) = next else { return false };
        node = next;
    }
    node.as_object_mut().is_some_and(|map| map.remove(last).is_some())
}

fn explain(path: &str, message: &str, position: &Position) -> Finding {
    if message.starts_with("unknown field") {
        let (name, known) = unknown_field(message);
        return position.finding(
            &codes::UNKNOWN_FIELD,
            path,
            format!("there is no field `{name}` here"),
            nearest(&name, &known),
        );
    }
    if message.starts_with("duplicate field") {
        let hint = "keep one of the two spellings";
        return position.finding(
            &codes::CONFLICTING_FIELDS,
            path,
            "the field is there in two spellings",
            hint,
        );
    }
    if let Some(field) = message.strip_prefix("missing field ") {
        return position.finding(&codes::MISSING_FIELD, path, format!("{field} is missing"), "");
    }
    let (message, hint) = wrong_type(message);
    position.finding(&codes::WRONG_TYPE, path, message, hint)
}

/// Name and known names out of ``unknown field `x`, expected one of `a`, `b` ``.
fn unknown_field(message: &str) -> (String, Vec<String>) {
    let mut quoted = message.split('`').skip(1).step_by(2).map(str::to_owned);
    let name = quoted.next().unwrap_or_default();
    // Aliases in proto spelling are accepted, not advertised.
    (name, quoted.filter(|known| !known.contains('_')).collect())
}

/// A hint that names the nearest of `known`, or all of them.
fn nearest(name: &str, known: &[String]) -> String {
    let best = known
        .iter()
        .map(|candidate| {
            (
                strsim::damerau_levenshtein(&name.to_lowercase(), &candidate.to_lowercase()),
                candidate,
            )
        })
        .min();
    match best {
        Some((distance, candidate)) if distance <= 1 + name.len() / 4 => {
            format!("did you mean `{candidate}`?")
        }
        Some(_) => format!("known fields are {}", known.join(", ")),
        None => String::new(),
    }
}

/// Message and hint out of `invalid type: integer `1`, expected a string`.
fn wrong_type(message: &str) -> (String, String) {
    let Some((found, expected)) = message
        .trim_start_matches("invalid type: ")
        .trim_start_matches("invalid value: ")
        .split_once(", expected ")
    else {
        return (message.to_owned(), String::new());
    };
    let expected = match expected {
        "a string" => "text",
        "i32" | "i64" => "a whole number",
        "u16" => "a whole number up to 65535",
        "f64" => "a number",
        "a boolean" => "true or false",
        _ if expected.starts_with("struct ") || expected == "a map" => "a mapping",
        _ if expected.contains("sequence") => "a list",
        other => other,
    };
    let value = found.split('`').nth(1).filter(|_| expected == "text");
    let hint = value.map_or_else(String::new, |value| format!("quote it: \"{value}\""));
    (format!("{found} where {expected} is wanted"), hint)
}
