//! Where the messages of an HTTP/1.1 client begin and end, read as the standard says and no other way.
//!
//! [`Framing`] looks at bytes before anything else does, and refuses what two readers could divide differently: a
//! length beside a coding, two lengths, lines that end in a lone LF, folded fields, control bytes, sloppy chunks. It
//! keeps nothing but a few numbers, and its verdict does not depend on how the bytes were cut into reads.
//!
//! It does not know sockets, responses or what a request means; hosts and hop-by-hop fields are the business of
//! `headers`.

use memchr::memchr;

use crate::proxy::{
    error::{Kind, ProxyError},
    limits::{Limits, Tolerated},
};

mod line;

/// Bounds of what a message's framing may take.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Bytes of a request head, and of a trailer section.
    pub head_bytes: usize,
    /// Fields of a head, and of a trailer section.
    pub fields: usize,
    /// What is let pass though it should not be.
    pub tolerated: Tolerated,
}

impl Bounds {
    /// Those that the proxy is started with.
    pub(crate) const fn of(limits: &Limits) -> Self {
        Self {
            head_bytes: limits.head_bytes,
            fields: limits.fields,
            tolerated: limits.tolerated,
        }
    }
}

/// Bytes of chunk extensions in one body. Nobody is known to use them for good; hyper allows 16 KiB.
const EXTENSION_BYTES: usize = 4096;

/// Bytes of a chunk-size line without its extension: sixteen hexadecimal digits.
const SIZE_DIGITS: usize = 16;

/// Most bytes of a request's target that the HTTP library can represent.
const TARGET_BYTES: usize = u16::MAX as usize - 1;

/// What became of the bytes of a window.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Progress {
    /// Bytes from the window's beginning that may be handed on.
    pub passed: usize,
    /// Why nothing behind them ever may.
    pub refused: Option<ProxyError>,
}

/// Where in a connection's bytes the scan is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    /// Before a message, or in its first line.
    Request,
    Fields,
    /// Bytes left of a body of known length.
    Body(u64),
    ChunkSize,
    /// Bytes left of a chunk.
    Chunk(u64),
    ChunkEnd,
    Trailers,
    /// After a request to switch protocols: what these bytes are is not known yet.
    Parked,
    /// Not HTTP any more.
    Tunnel,
    Refused(ProxyError),
}

/// What a head has said so far.
#[derive(Clone, Copy, Default, Debug)]
struct Head {
    http_11: bool,
    length: Option<u64>,
    chunked: bool,
    upgrade: bool,
}

/// The scan of one connection's bytes.
///
/// It is given *windows*: all bytes that it has not passed yet, the same ones again with more behind them. A head is
/// passed whole, and so is a chunk-size line; bodies are passed as they come.
#[derive(Debug)]
pub struct Framing {
    state: State,
    bounds: Bounds,
    head: Head,
    /// Bytes of the window whose lines were read.
    read: usize,
    /// Bytes of the window that hold no further end of a line.
    searched: usize,
    /// Fields of this head or trailer section.
    fields: usize,
    /// Bytes of this body's chunk extensions, or of its trailer section.
    spent: usize,
    /// Length of this head's first line, without its end; 0: it was not read yet.
    first_line: usize,
    /// An empty line came before this request.
    blank: bool,
    /// Bytes were passed while it was not known what they are.
    early: bool,
    heads: u64,
}

impl Framing {
    /// The scan of a new connection.
    pub const fn new(bounds: Bounds) -> Self {
        Self {
            state: State::Request,
            bounds,
            head: Head {
                http_11: false,
                length: None,
                chunked: false,
                upgrade: false,
            },
            read: 0,
            searched: 0,
            fields: 0,
            spent: 0,
            first_line: 0,
            blank: false,
            early: false,
            heads: 0,
        }
    }

    /// Heads passed so far.
    pub const fn heads(&self) -> u64 {
        self.heads
    }

    /// True between two messages and within a head, where a refusal can still be answered as a request of its own.
    pub const fn is_in_head(&self) -> bool {
        matches!(self.state, State::Request | State::Fields)
    }

    /// True between a head and the end of its request.
    pub const fn is_in_body(&self) -> bool {
        matches!(
            self.state,
            State::Body(_) | State::ChunkSize | State::Chunk(_) | State::ChunkEnd | State::Trailers
        )
    }

    /// The first line of the head that the window begins with, once it has been read.
    pub fn first_line<'w>(&self, window: &'w [u8]) -> Option<&'w [u8]> {
        window.get(..self.first_line).filter(|line| !line.is_empty())
    }

    /// True after a request to switch protocols.
    pub const fn is_parked(&self) -> bool {
        matches!(self.state, State::Parked)
    }

    /// True when bytes were passed after a request to switch protocols.
    pub const fn is_early(&self) -> bool {
        self.early
    }

    /// The endpoint did not switch, and nothing came early: the connection stays HTTP.
    pub fn resume(&mut self) {
        self.state = State::Request;
    }

    /// The protocol has been switched.
    pub fn becomes_tunnel(&mut self) {
        self.state = State::Tunnel;
    }

    /// Looks at a window.
    pub fn scan(&mut self, window: &[u8]) -> Progress {
        let mut passed = 0;
        loop {
            let rest = &window[passed..];
            match self.step(rest) {
                Ok(0) => {
                    return Progress {
                        passed,
                        refused: None,
                    };
                }
                Ok(step) => passed += step,
                Err(error) => {
                    return Progress {
                        passed,
                        refused: Some(error),
                    };
                }
            }
        }
    }

    /// Never to be used again, except to ask what it knows.
    pub fn refuse(&mut self, error: ProxyError) {
        self.state = State::Refused(error);
    }

    /// Passes one part of a message: a head, a line, what there is of a body. Zero: more bytes are needed.
    fn step(&mut self, rest: &[u8]) -> Result<usize, ProxyError> {
        match self.state {
            State::Request | State::Fields => self.head(rest),
            State::Body(left) => {
                let step = take(left, rest);
                self.state = State::Body(left - step as u64);
                if left == step as u64 {
                    self.ends();
                }
                Ok(step)
            }
            State::ChunkSize => self.chunk_size(rest),
            State::Chunk(left) => {
                let step = take(left, rest);
                self.state = if left == step as u64 {
                    State::ChunkEnd
                } else {
                    State::Chunk(left - step as u64)
                };
                Ok(step)
            }
            State::ChunkEnd => match rest {
                [b'\r', b'\n', ..] => {
                    self.state = State::ChunkSize;
                    Ok(2)
                }
                [] | [b'\r'] => Ok(0),
                _ => Err(framing("a chunk does not end where its size says")),
            },
            State::Trailers => self.trailers(rest),
            State::Parked => {
                self.early |= !rest.is_empty();
                Ok(rest.len())
            }
            State::Tunnel => Ok(rest.len()),
            State::Refused(error) => Err(error),
        }
    }

    fn head(&mut self, rest: &[u8]) -> Result<usize, ProxyError> {
        while let Some((line, end)) = self.next_line(rest, self.bounds.head_bytes)? {
            if self.state == State::Request {
                if line.is_empty() {
                    // One is tolerated, since old clients send it after a body (RFC 9112, 2.2).
                    if std::mem::replace(&mut self.blank, true) {
                        return Err(ProxyError::bad_request("empty lines before the request"));
                    }
                    self.read = 0;
                    self.searched = 0;
                    return Ok(end);
                }
                self.head = Head {
                    http_11: line::request(line, self.bounds.tolerated)?,
                    ..Head::default()
                };
                self.first_line = line.len();
                self.fields = 0;
                self.state = State::Fields;
            } else if line.is_empty() {
                self.begins_body()?;
                return Ok(end);
            } else {
                self.field(line)?;
            }
        }
        Ok(0)
    }

    /// The next line without its end, and where the line after it begins; none: it is not complete.
    fn next_line<'w>(
        &mut self,
        rest: &'w [u8],
        bound: usize,
    ) -> Result<Option<(&'w [u8], usize)>, ProxyError> {
        let too_large = || ProxyError::new(Kind::HeadTooLarge, "the request's head is too large");
        let Some(found) = rest.get(self.searched..).and_then(|bytes| memchr(b'\n', bytes)) else {
            self.searched = rest.len();
            return if rest.len() > bound {
                Err(too_large())
            } else {
                Ok(None)
            };
        };
        let end = self.searched + found + 1;
        if end > bound {
            return Err(too_large());
        }
        let line = rest[self.read..end - 1]
            .strip_suffix(b"\r")
            .ok_or_else(|| ProxyError::bad_request("a line ends in LF without CR"))?;
        self.read = end;
        self.searched = end;
        Ok(Some((line, end)))
    }

    fn field(&mut self, line: &[u8]) -> Result<(), ProxyError> {
        self.fields += 1;
        if self.fields > self.bounds.fields {
            return Err(ProxyError::new(Kind::HeadTooLarge, "too many fields"));
        }
        let (name, value) = line::field(line)?;
        // Lengths first: most fields are none of these.
        match name.len() {
            7 if name.eq_ignore_ascii_case(b"upgrade") => self.head.upgrade = true,
            14 if name.eq_ignore_ascii_case(b"content-length") => {
                if self.head.length.is_some() {
                    return Err(framing("more than one Content-Length"));
                }
                self.head.length = Some(line::length(value)?);
            }
            17 if name.eq_ignore_ascii_case(b"transfer-encoding") => {
                if self.head.chunked {
                    return Err(framing("more than one Transfer-Encoding"));
                }
                if !value.trim_ascii().eq_ignore_ascii_case(b"chunked") {
                    return Err(framing("a transfer coding other than chunked"));
                }
                if !self.head.http_11 {
                    return Err(framing("Transfer-Encoding in an old version"));
                }
                self.head.chunked = true;
            }
            _ => {}
        }
        Ok(())
    }

    /// At the end of a head.
    fn begins_body(&mut self) -> Result<(), ProxyError> {
        self.state = match (self.head.chunked, self.head.length) {
            // hyper drops the length, and closes after the response.
            (true, Some(_)) if self.bounds.tolerated.length_beside_chunked => State::ChunkSize,
            (true, Some(_)) => return Err(framing("both Content-Length and Transfer-Encoding")),
            (true, None) => State::ChunkSize,
            (false, length) => State::Body(length.unwrap_or(0)),
        };
        self.heads += 1;
        self.spent = 0;
        self.next_part();
        if self.state == State::Body(0) {
            self.ends();
            // With a body there is no switch: `headers` sees to that.
            if self.head.upgrade && self.head.http_11 {
                self.state = State::Parked;
            }
        }
        Ok(())
    }

    /// At the end of a message.
    fn ends(&mut self) {
        self.state = State::Request;
        self.blank = false;
        self.next_part();
    }

    fn next_part(&mut self) {
        self.read = 0;
        self.searched = 0;
        self.fields = 0;
        self.first_line = 0;
    }

    fn chunk_size(&mut self, rest: &[u8]) -> Result<usize, ProxyError> {
        let allowed = EXTENSION_BYTES - self.spent;
        let line = self.next_line(rest, SIZE_DIGITS + allowed + 2);
        let Some((line, end)) = line.map_err(|error| framing(chunk_detail(&error)))? else {
            return Ok(0);
        };
        let (size, extension) = line::chunk_size(line)?;
        self.spent += extension;
        if self.spent > EXTENSION_BYTES {
            return Err(framing(TOO_MANY_EXTENSIONS));
        }
        self.next_part();
        self.state = if size == 0 {
            self.spent = 0;
            State::Trailers
        } else {
            State::Chunk(size)
        };
        Ok(end)
    }

    fn trailers(&mut self, rest: &[u8]) -> Result<usize, ProxyError> {
        let line = self.next_line(rest, self.bounds.head_bytes - self.spent);
        let Some((line, end)) = line.map_err(trailer_error)? else {
            return Ok(0);
        };
        self.read = 0;
        self.searched = 0;
        self.spent += end;
        if line.is_empty() {
            self.ends();
            return Ok(end);
        }
        self.fields += 1;
        if self.fields > self.bounds.fields {
            return Err(ProxyError::new(Kind::HeadTooLarge, "too many fields"));
        }
        line::field(line)?;
        Ok(end)
    }
}

const TOO_MANY_EXTENSIONS: &str = "too many chunk extensions";

const fn chunk_detail(error: &ProxyError) -> &'static str {
    match error.kind {
        Kind::HeadTooLarge => TOO_MANY_EXTENSIONS,
        _ => error.detail,
    }
}

const fn trailer_error(error: ProxyError) -> ProxyError {
    match error.kind {
        Kind::HeadTooLarge => ProxyError::new(Kind::HeadTooLarge, "the trailer section is too large"),
        _ => error,
    }
}

fn take(left: u64, rest: &[u8]) -> usize {
    usize::try_from(left).unwrap_or(usize::MAX).min(rest.len())
}

/// The message's end is stated twice, or not as the standard has it.
const fn framing(detail: &'static str) -> ProxyError {
    ProxyError::new(Kind::BadFraming, detail)
}

#[cfg(test)]
mod tests;
