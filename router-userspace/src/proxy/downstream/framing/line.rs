//! Single lines of a message's framing: the request line, a field, a chunk's size.
//!
//! It remembers nothing from one line to the next.

use http::Uri;

use super::{SIZE_DIGITS, TARGET_BYTES, framing};
use crate::proxy::{
    error::{Kind, ProxyError},
    limits::Tolerated,
};

/// What a byte may be part of.
const TOKEN: u8 = 1;
const PATH: u8 = 2;
const QUERY: u8 = 4;

/// Tokens are as in RFC 9110, 5.6.2. Paths and queries allow what the HTTP library allows and is ASCII: RFC 3986 and
/// some of what clients forget to encode.
const CLASSES: [u8; 256] = classes();

const fn classes() -> [u8; 256] {
    let mut classes = [0; 256];
    let mut byte = 0x21;
    while byte < 0x7f {
        let b = byte as u8;
        let alphanumeric = b.is_ascii_alphanumeric();
        let mut class = 0;
        if alphanumeric
            || matches!(
                b,
                b'!' | b'#'
                    | b'$'
                    | b'%'
                    | b'&'
                    | b'\''
                    | b'*'
                    | b'+'
                    | b'-'
                    | b'.'
                    | b'^'
                    | b'_'
                    | b'`'
                    | b'|'
                    | b'~'
            )
        {
            class |= TOKEN;
        }
        if !matches!(b, b'#' | b'<' | b'>' | b'?' | b'^' | b'`') {
            class |= PATH;
        }
        if !matches!(b, b'#' | b'<' | b'>') {
            class |= QUERY;
        }
        classes[byte] = class;
        byte += 1;
    }
    classes
}

/// How many bytes from the beginning are of a class.
fn span(bytes: &[u8], class: u8) -> usize {
    bytes
        .iter()
        .position(|&b| CLASSES[usize::from(b)] & class == 0)
        .unwrap_or(bytes.len())
}

/// Reads a request line; true: it is of HTTP/1.1, false: of HTTP/1.0.
pub(super) fn request(line: &[u8], tolerated: Tolerated) -> Result<bool, ProxyError> {
    const MALFORMED: ProxyError = ProxyError::bad_request("the request line is malformed");
    let method = span(line, TOKEN);
    let Some((b' ', after)) = line[method..].split_first() else {
        return Err(MALFORMED);
    };
    if method == 0 || after.len() < b"/ HTTP/1.1".len() {
        return Err(MALFORMED);
    }
    let (rest, version) = after.split_at(after.len() - b" HTTP/1.1".len());
    let http_11 = match version {
        b" HTTP/1.1" => true,
        b" HTTP/1.0" => false,
        _ => return Err(ProxyError::bad_request("not a version of HTTP/1")),
    };
    target(&line[..method], rest, tolerated)?;
    Ok(http_11)
}

fn target(method: &[u8], target: &[u8], tolerated: Tolerated) -> Result<(), ProxyError> {
    const MALFORMED: ProxyError = ProxyError::bad_request("the request's target is malformed");
    if target.len() > TARGET_BYTES {
        return Err(ProxyError::new(
            Kind::HeadTooLarge,
            "the request's target is too long",
        ));
    }
    if target.first() == Some(&b'/') {
        let path = span(target, PATH);
        let well_formed = match target.get(path) {
            None => true,
            Some(b'?') => path + 1 + span(&target[path + 1..], QUERY) == target.len(),
            Some(_) => false,
        };
        let forgiven = || tolerated.non_ascii_target && is_nearly_ascii(target);
        return if well_formed || forgiven() {
            Ok(())
        } else {
            Err(MALFORMED)
        };
    }
    if target == b"*" && method == b"OPTIONS" {
        return Ok(());
    }
    // Absolute and authority forms are rare: the HTTP library may copy them.
    if span(target, QUERY) != target.len() {
        return Err(MALFORMED);
    }
    let uri = Uri::try_from(target).map_err(|_| MALFORMED)?;
    let absolute = uri.scheme().is_some() && uri.authority().is_some();
    let authority = method == b"CONNECT" && uri.scheme().is_none() && uri.authority().is_some();
    if absolute || authority {
        Ok(())
    } else {
        Err(MALFORMED)
    }
}

/// True when a target is valid but for text beyond ASCII.
fn is_nearly_ascii(target: &[u8]) -> bool {
    let ascii = |b: u8| CLASSES[usize::from(b)] & QUERY != 0;
    target.iter().all(|&b| b >= 0x80 || ascii(b)) && Uri::try_from(target).is_ok()
}

/// Reads a field's line: its name, and its value with the white space around it.
pub(super) fn field(line: &[u8]) -> Result<(&[u8], &[u8]), ProxyError> {
    let name = span(line, TOKEN);
    match line.get(name) {
        Some(b':') if name > 0 => {}
        Some(b' ' | b'\t') if name == 0 => return Err(ProxyError::bad_request("a folded field")),
        Some(b' ' | b'\t') => {
            return Err(ProxyError::bad_request("white space before a field's colon"));
        }
        _ => return Err(ProxyError::bad_request("a field's name is malformed")),
    }
    let value = &line[name + 1..];
    if is_text(value) {
        Ok((&line[..name], value))
    } else {
        Err(ProxyError::bad_request("a control byte in a field"))
    }
}

/// True when there is no control byte but HTAB. Without a branch per byte, so that compilers make vectors of it.
fn is_text(value: &[u8]) -> bool {
    !value
        .iter()
        .fold(false, |bad, &b| bad | ((b < b' ') & (b != b'\t')) | (b == 0x7f))
}

/// Reads a `Content-Length`: digits, and nothing else.
pub(super) fn length(value: &[u8]) -> Result<u64, ProxyError> {
    const MALFORMED: ProxyError = framing("Content-Length is not a number");
    let digits = value.trim_ascii();
    if digits.is_empty() || digits.len() > 19 {
        return Err(MALFORMED);
    }
    digits.iter().try_fold(0_u64, |length, digit| match digit {
        // Nineteen digits fit.
        b'0'..=b'9' => Ok(length * 10 + u64::from(digit - b'0')),
        _ => Err(MALFORMED),
    })
}

/// Reads a chunk-size line: the size, and how many bytes the extension takes.
pub(super) fn chunk_size(line: &[u8]) -> Result<(u64, usize), ProxyError> {
    const MALFORMED: ProxyError = framing("a chunk's size is malformed");
    let mut size = 0_u64;
    let mut digits = 0;
    while let Some(digit) = line.get(digits).and_then(|&b| char::from(b).to_digit(16)) {
        if digits == SIZE_DIGITS {
            return Err(MALFORMED);
        }
        size = size << 4 | u64::from(digit);
        digits += 1;
    }
    let extension = &line[digits..];
    match extension.first() {
        _ if digits == 0 => Err(MALFORMED),
        None => Ok((size, 0)),
        Some(b';') if is_text(extension) => Ok((size, extension.len())),
        Some(b';') => Err(framing("a control byte in a chunk extension")),
        Some(_) => Err(MALFORMED),
    }
}
