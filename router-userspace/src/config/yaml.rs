//! YAML text → a tree. The only module that knows `serde_yaml`, which is no longer developed: whatever replaces it
//! has to provide [`parse`] and nothing else.
//!
//! It knows no kinds of documents and no fields.

mod plain;

use std::{cell::Cell, fmt};

use serde::de::{DeserializeSeed, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};

pub(super) use plain::Node;

/// A tree may hold this many times the bytes of its text; beyond it, aliases are being multiplied.
const EXPANSION: usize = 8;

/// What every tree may hold, however short its text.
const EXPANSION_FLOOR: usize = 65_536;

/// Why a text is no tree.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub(super) struct SyntaxFault {
    /// Line in the text, counted from 1, when the parser knows it.
    pub(super) line: Option<u32>,
    /// What is wrong.
    pub(super) message: String,
    /// True when a mapping has a key twice; the parser then knows the line of the mapping only.
    pub(super) is_repeated_key: bool,
}

/// How the message of a repeated key ends.
const REPEATED: &str = "is there twice";

/// A value as YAML text.
///
/// # Errors
///
/// The value has a shape that YAML cannot write.
pub fn to_yaml(value: &impl serde::Serialize) -> std::io::Result<String> {
    serde_yaml::to_string(value).map_err(std::io::Error::other)
}

/// The tree of one document when it is of the simple kind that [`plain()`] knows; none says nothing about it.
pub(super) fn plain(text: &str) -> Option<Node<'_>> {
    plain::parse(text)
}

/// Parses one document. Keys must be text and may not repeat; tags are refused.
///
/// `first_line` is the number of the text's first line in its file; messages speak of lines of the file.
pub(super) fn parse(text: &str, first_line: u32) -> Result<Value, SyntaxFault> {
    match plain(text) {
        Some(node) => Ok(Value::from(&node)),
        None => whole(text, first_line),
    }
}

/// As [`parse`], by the parser that knows all of YAML.
pub(super) fn whole(text: &str, first_line: u32) -> Result<Value, SyntaxFault> {
    let budget = Cell::new(text.len().saturating_mul(EXPANSION).max(EXPANSION_FLOOR));
    let tree = Tree { budget: &budget };
    if text.trim_start().starts_with('{') {
        // JSON is YAML, and its own parser is several times as fast. What it refuses may still be YAML.
        let mut json = serde_json::Deserializer::from_str(text);
        if let Ok(value) = tree.deserialize(&mut json)
            && json.end().is_ok()
        {
            return Ok(value);
        }
    }
    tree.deserialize(serde_yaml::Deserializer::from_str(text))
        .map_err(|error| {
            let line = error.location().and_then(|l| u32::try_from(l.line()).ok());
            let message = message(&error, first_line);
            SyntaxFault {
                line: line.map(|line| line + first_line - 1),
                is_repeated_key: message.ends_with(REPEATED),
                message,
            }
        })
}

/// The error's text without its own position, which goes into the finding's place, and with the lines of the file in
/// what remains.
fn message(error: &serde_yaml::Error, first_line: u32) -> String {
    let text = error.to_string();
    let Some(position) = error.location() else {
        return text;
    };
    let own = format!(" at line {} column {}", position.line(), position.column());
    let mut shifted = String::new();
    let without_own = text.replacen(&own, "", 1);
    let mut rest = without_own.as_str();
    while let Some((before, after)) = rest.split_once(" at line ") {
        let digits = after.find(|c: char| !c.is_ascii_digit()).unwrap_or(after.len());
        let line = after[..digits].parse::<u32>().unwrap_or(1);
        shifted.push_str(before);
        shifted.push_str(" at line ");
        shifted.push_str(&(line + first_line - 1).to_string());
        rest = &after[digits..];
    }
    shifted.push_str(rest);
    shifted
}

/// Builds a [`Value`], refusing repeated keys and unbounded expansion, both of which `Value` itself would accept.
#[derive(Clone, Copy)]
struct Tree<'b> {
    budget: &'b Cell<usize>,
}

impl Tree<'_> {
    fn spend<E: serde::de::Error>(self, bytes: usize) -> Result<(), E> {
        let left = self.budget.get().checked_sub(bytes + 1);
        self.budget
            .set(left.ok_or_else(|| E::custom("aliases expand to more than the document may hold"))?);
        Ok(())
    }
}

impl<'de> DeserializeSeed<'de> for Tree<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Tree<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a mapping, a list, text, a number, true, false or null, without a tag")
    }

    fn visit_unit<E: serde::de::Error>(self) -> Result<Value, E> {
        self.spend(0).map(|()| Value::Null)
    }

    fn visit_bool<E: serde::de::Error>(self, value: bool) -> Result<Value, E> {
        self.spend(0).map(|()| Value::Bool(value))
    }

    fn visit_i64<E: serde::de::Error>(self, value: i64) -> Result<Value, E> {
        self.spend(0).map(|()| value.into())
    }

    fn visit_u64<E: serde::de::Error>(self, value: u64) -> Result<Value, E> {
        self.spend(0).map(|()| value.into())
    }

    fn visit_f64<E: serde::de::Error>(self, value: f64) -> Result<Value, E> {
        self.spend(0)?;
        let number = serde_json::Number::from_f64(value);
        number
            .map(Value::Number)
            .ok_or_else(|| E::custom("numbers must be finite"))
    }

    fn visit_str<E: serde::de::Error>(self, value: &str) -> Result<Value, E> {
        self.spend(value.len()).map(|()| value.into())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        self.spend(0)?;
        let mut list = Vec::new();
        while let Some(item) = items.next_element_seed(self)? {
            list.push(item);
        }
        Ok(Value::Array(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        self.spend(0)?;
        let mut map = Map::new();
        while let Some(key) = entries.next_key_seed(self)? {
            let Value::String(key) = key else {
                return Err(A::Error::custom(format!("keys must be text; quote {key}")));
            };
            let value = entries.next_value_seed(self)?;
            if map.contains_key(&key) {
                return Err(A::Error::custom(format!("key \"{key}\" {REPEATED}")));
            }
            map.insert(key, value);
        }
        Ok(Value::Object(map))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repeated_keys_are_refused_with_their_line() {
        let fault = parse("a: 1\nb: 2\na: 3\n", 11).unwrap_err();
        assert!(
            fault.message.contains("key \"a\" is there twice"),
            "{}",
            fault.message
        );
        assert!(
            fault.line.is_some_and(|line| (11..=13).contains(&line)),
            "{fault:?}"
        );
    }

    #[test]
    fn lines_in_messages_are_lines_of_the_file() {
        let fault = parse("a:\n  b: 1\n c: 2\n", 101).unwrap_err();
        assert!(fault.line.is_some_and(|line| line > 100), "{fault:?}");
        assert!(!fault.message.contains("line 2 "), "{fault:?}");
    }

    #[test]
    fn alias_bombs_end_in_an_error() {
        let mut text = String::from("a0: &a0 [lol, lol, lol, lol, lol, lol, lol, lol, lol]\n");
        for level in 1..12 {
            let below = format!("*a{},", level - 1).repeat(9);
            text.push_str(&format!("a{level}: &a{level} [{below}]\n"));
        }
        assert!(parse(&text, 1).is_err());
        let wide = format!("a: &a \"{}\"\nb: [{}]\n", "x".repeat(100_000), "*a,".repeat(1000));
        assert!(parse(&wide, 1).unwrap_err().message.contains("aliases"));
    }

    #[test]
    fn deep_nesting_and_tags_end_in_an_error() {
        assert!(parse(&"[".repeat(100_000), 1).is_err());
        assert!(parse("a: !secret b", 1).is_err());
        assert!(parse("1: b", 1).unwrap_err().message.contains("quote 1"));
    }
}
