//! Scalars that end on their line, and what plain ones stand for: text, whole numbers, true, false, null.

use super::{Node, Reader};

/// Digits that surely fit in 64 bits.
const MAX_DIGITS: usize = 18;

/// What may be in comments and quoted text.
pub(super) const fn is_printable(byte: u8) -> bool {
    matches!(byte, b' '..=b'~')
}

const fn begins_plain(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'/' | b'_' | b'~' | b'-' | b'.')
}

const fn continues_plain(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'/' | b'_' | b'-' | b'.' | b'=' | b'+' | b'@' | b' ')
}

impl<'t> Reader<'t> {
    pub(super) fn scalar(&mut self, in_flow: bool) -> Option<Node<'t>> {
        match self.byte()? {
            b'"' | b'\'' => self.quoted().map(Node::Text),
            _ => resolve(self.plain(in_flow)?),
        }
    }

    /// Quoted text without escapes.
    pub(super) fn quoted(&mut self) -> Option<&'t str> {
        let quote = self.byte()?;
        let rest = &self.text[self.at + 1..];
        let end = rest
            .bytes()
            .position(|byte| byte == quote || byte == b'\\' || !is_printable(byte))?;
        let stop = rest.as_bytes()[end];
        // A backslash is nothing special between single quotes, but rare enough; two of them stand for one.
        if stop != quote || rest.as_bytes().get(end + 1) == Some(&quote) {
            return None;
        }
        self.at += 1 + end + 1;
        Some(&rest[..end])
    }

    fn plain(&mut self, in_flow: bool) -> Option<&'t str> {
        let bytes = self.text.as_bytes();
        let start = self.at;
        if !begins_plain(self.byte()?) {
            return None;
        }
        let mut end = start + 1;
        while let Some(&byte) = bytes.get(end) {
            let goes_on = match byte {
                // `: ` would end a key.
                b':' => bytes.get(end + 1).is_some_and(|&next| {
                    next.is_ascii_alphanumeric() || (!in_flow && matches!(next, b':' | b'/'))
                }),
                b'-' if !in_flow => true,
                _ => continues_plain(byte),
            };
            if !goes_on {
                break;
            }
            end += 1;
        }
        self.at = end;
        Some(self.text[start..end].trim_end_matches(' '))
    }

    /// A key that is surely text.
    pub(super) fn plain_key(&mut self) -> Option<&'t str> {
        let rest = &self.text[self.at..];
        let is_key = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'/' | b'-');
        let end = rest.bytes().position(|byte| !is_key(byte))?;
        let key = &rest[..end];
        if !key.as_bytes().first()?.is_ascii_alphabetic() || !matches!(resolve(key)?, Node::Text(_)) {
            return None;
        }
        self.at += end;
        Some(key)
    }
}

/// What a plain scalar stands for. None when that takes more thought.
fn resolve(text: &str) -> Option<Node<'_>> {
    match text {
        "~" | "null" | "Null" | "NULL" => return Some(Node::Null),
        "true" | "True" | "TRUE" => return Some(Node::Bool(true)),
        "false" | "False" | "FALSE" => return Some(Node::Bool(false)),
        _ => {}
    }
    let first = *text.as_bytes().first()?;
    if first.is_ascii_alphabetic() || matches!(first, b'/' | b'_') {
        return Some(Node::Text(text));
    }
    let is_decimal = text.len() <= MAX_DIGITS && text.bytes().all(|byte| byte.is_ascii_digit());
    if is_decimal && (first != b'0' || text.len() == 1) {
        return text.parse().ok().map(Node::Number);
    }
    // Addresses, versions and dates begin with a digit; numbers of other forms are left to the whole parser.
    let is_text = first.is_ascii_digit()
        && text.bytes().any(|byte| !byte.is_ascii_digit())
        && !matches!(text.as_bytes().get(1), Some(b'x' | b'o' | b'b'))
        && text.parse::<f64>().is_err();
    is_text.then_some(Node::Text(text))
}
