//! Which host a connection to an unknown address means, from its first bytes. They are looked at and stay where they
//! are, so that whoever serves the connection reads them as the client sent them; TLS is not ended here.
//!
//! The name is the client's word: nobody asks whether the dialled address is the host's. It does not decide who may be
//! reached; [`decide`](super::decide()) does.

use std::time::Duration;

use router_rules::snapshot::Spoken;
use rustls::server::Acceptor;
use tokio::{
    net::TcpStream,
    time::{Instant, sleep, timeout_at},
};

use super::{connection::PREFACE, error::Kind, limits::Limits, worker::Worker};
use crate::enforce::Origin;

/// First byte of a TLS record that carries a handshake (RFC 8446, 5.1).
const HANDSHAKE: u8 = 22;

/// Bytes of the first look: most first messages fit.
const FIRST_LOOK: usize = 2048;

/// Most fields of a request head in which a host is looked for; one with more is let through or refused unread.
const FIELDS: usize = 100;

/// How soon an incomplete message is looked at again, at first and at last: data that is not taken keeps the socket
/// readable, so there is nothing to wait for.
const NEXT_LOOK: (Duration, Duration) = (Duration::from_millis(2), Duration::from_millis(200));

/// What a connection to an unknown address is served as.
#[derive(PartialEq, Eq, Debug)]
pub(super) enum Meant {
    /// Requests, each of which says whom it means.
    Requests,
    /// A connection that nobody looks into, to the host of this name; none: it has named nobody.
    Connection(Option<Box<str>>),
}

/// What a client's first bytes say.
#[derive(PartialEq, Eq, Debug)]
enum Words {
    /// TLS, for a server of this name.
    Tls(Option<Box<str>>),
    /// A request of HTTP/1.1 with this `Host`.
    Http1(Option<Box<str>>),
    Http2,
    /// Nothing that names a host, or nothing at all.
    Other,
}

/// Finds out whom a connection means.
///
/// # Errors
///
/// Of a client that may reach nothing unnamed: it went away, or said no name in time.
pub(super) async fn meant(worker: &Worker, stream: &TcpStream, origin: &Origin) -> Result<Meant, Kind> {
    let words = if origin.confined {
        confined(stream, worker.limits()).await?
    } else {
        free(stream, worker.limits()).await
    };
    let view = worker.views().load();
    let (snapshot, port) = (&view.snapshot, origin.destination.port());
    let below = |host: &str| snapshot.port_below(host, port, Spoken::Http).is_some();
    Ok(match words {
        Words::Tls(name) => Meant::Connection(name),
        // Where nothing is refused, what is not meant for us is not read by us either.
        Words::Http1(host) if host.as_deref().is_some_and(below) => Meant::Requests,
        Words::Http2 if snapshot.expects(port, Spoken::Http) => Meant::Requests,
        // The strict reader of requests has the last word on what is none.
        Words::Other if origin.confined && snapshot.expects(port, Spoken::Http) => Meant::Requests,
        Words::Http1(_) | Words::Http2 | Words::Other => Meant::Connection(None),
    })
}

/// The words of a client that is to be refused unless it names a host: TLS is read to the name, and nothing else at all.
async fn confined(stream: &TcpStream, limits: &Limits) -> Result<Words, Kind> {
    let tls_alone = |seen: &[u8]| match seen.first() {
        Some(&HANDSHAKE) => read(seen),
        first => first.map(|_| Words::Other),
    };
    let deadline = Instant::now() + limits.head_timeout;
    let looked = look(stream, limits.name_bytes, (deadline, deadline), tls_alone).await;
    looked.map_err(|unheard| match unheard {
        Unheard::Gone => Kind::ClientDisconnected,
        Unheard::Late => Kind::HeadTimeout,
    })
}

/// The words of a client that is let through whatever it says. It may be waiting for the server to speak first.
async fn free(stream: &TcpStream, limits: &Limits) -> Words {
    let now = Instant::now();
    let deadlines = (now + limits.silence, now + limits.head_timeout);
    let looked = look(stream, limits.name_bytes, deadlines, read).await;
    looked.unwrap_or(Words::Other)
}

/// Why there are no words.
enum Unheard {
    /// The client closed its side, or its connection broke.
    Gone,
    /// It did not say enough in time.
    Late,
}

/// Looks at the first bytes, `bound` at most, until `read` makes something of them: the first of them until the first
/// deadline, enough of them until the second.
async fn look(
    stream: &TcpStream,
    bound: usize,
    (first, enough): (Instant, Instant),
    read: impl Fn(&[u8]) -> Option<Words>,
) -> Result<Words, Unheard> {
    let mut bytes = vec![0; FIRST_LOOK.min(bound)];
    let (mut pause, longest) = NEXT_LOOK;
    let mut deadline = first;
    loop {
        let seen = match timeout_at(deadline, stream.peek(&mut bytes)).await {
            Ok(Ok(seen)) if seen > 0 => seen,
            Ok(_) => return Err(Unheard::Gone),
            Err(_) => return Err(Unheard::Late),
        };
        deadline = enough;
        if let Some(words) = read(&bytes[..seen]) {
            return Ok(words);
        }
        if seen == bytes.len() {
            if seen == bound {
                return Ok(Words::Other);
            }
            bytes.resize((2 * seen).min(bound), 0);
            continue;
        }
        if timeout_at(deadline, sleep(pause)).await.is_err() {
            return Err(Unheard::Late);
        }
        pause = (2 * pause).min(longest);
    }
}

/// What the bytes say; none: more of them are needed. There is at least one.
fn read(seen: &[u8]) -> Option<Words> {
    if seen[0] == HANDSHAKE {
        return read_tls(seen);
    }
    if seen.starts_with(PREFACE) {
        return Some(Words::Http2);
    }
    if PREFACE.starts_with(seen) {
        return None;
    }
    read_http1(seen)
}

/// The server name of a ClientHello, which may be divided among several records.
fn read_tls(mut seen: &[u8]) -> Option<Words> {
    let mut acceptor = Acceptor::default();
    while !seen.is_empty() {
        // Only a full buffer or a finished handshake is an error here.
        acceptor.read_tls(&mut seen).ok()?;
        match acceptor.accept() {
            Ok(None) => {}
            Ok(Some(accepted)) => {
                return Some(Words::Tls(accepted.client_hello().server_name().map(Box::from)));
            }
            Err((error, _)) => {
                tracing::debug!(%error, "the ClientHello cannot be read");
                return Some(Words::Other);
            }
        }
    }
    None
}

fn read_http1(seen: &[u8]) -> Option<Words> {
    let mut fields = [httparse::EMPTY_HEADER; FIELDS];
    let mut request = httparse::Request::new(&mut fields);
    match request.parse(seen) {
        Ok(httparse::Status::Partial) => None,
        Ok(httparse::Status::Complete(_)) => {
            let host = request
                .headers
                .iter()
                .find(|f| f.name.eq_ignore_ascii_case("host"));
            let host = host.and_then(|field| std::str::from_utf8(field.value).ok());
            Some(Words::Http1(host.map(|host| host.trim().into())))
        }
        Err(_) => Some(Words::Other),
    }
}

#[cfg(test)]
mod tests;
