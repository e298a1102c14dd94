//! Raw bytes of HTTP/1.1 clients: where requests begin and how long their bodies are, by the scan and by the server
//! behind it, which reads only what the scan has passed.

use std::{
    convert::Infallible,
    io,
    pin::{Pin, pin},
    sync::{Arc, Mutex},
    task::{Context, Poll, Waker},
};

use bytes::Bytes;
use http::{Method, Request, Response, Version, header::UPGRADE};
use http_body_util::{BodyExt, Empty};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use router_userspace::proxy::scan::scan;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

pub use super::heads::WORDS;

/// Longer inputs are cut: they are scanned once for every byte.
const MAX_BYTES: usize = 600;

/// Polls without any effect after which a server has nothing to do.
const IDLE: usize = 3;

/// Follows the input, so that it shows where the last request has ended.
const NEXT: &[u8] = b"GET /next HTTP/1.1\r\nhost: next\r\n\r\n";

pub fn check(input: &[u8]) -> u64 {
    let input = [&input[..input.len().min(MAX_BYTES)], NEXT].concat();
    let whole = scan(&[&input]);
    let ends = head_ends(&input, whole.heads);
    let seen = served(&whole.passed);
    let mut last = None;
    for (number, head) in seen.iter().enumerate() {
        assert_eq!(
            Some(&head.end),
            ends.get(number),
            "end of head {number}: {seen:?}, scanned {ends:?}"
        );
        last = Some(head);
        if head.ends_http {
            break;
        }
    }
    // A server may end a connection sooner, but not between requests that it has no word against.
    let went_on = last.is_some_and(|head| !head.ends_http && head.body != Some(Err(())));
    if went_on {
        assert_eq!(seen.len(), ends.len(), "{seen:?}, scanned {ends:?}");
    }
    let bodies = seen
        .iter()
        .filter(|head| matches!(head.body, Some(Ok(1..))))
        .count();
    (seen.len().min(15) << 8 | bodies.min(15) << 4 | usize::from(whole.refused.is_some())) as u64
}

/// How many bytes there were when each head was complete.
fn head_ends(input: &[u8], heads: u64) -> Vec<usize> {
    let mut ends = Vec::new();
    for end in 0..=input.len() {
        if ends.len() as u64 == heads {
            break;
        }
        while scan(&[&input[..end]]).heads > ends.len() as u64 {
            ends.push(end);
        }
    }
    ends
}

/// A request as the server saw it.
#[derive(Clone, Copy, Debug)]
struct Seen {
    /// Bytes that the server had when it had the head.
    end: usize,
    /// Length of the body, when that has come to an end.
    body: Option<Result<usize, ()>>,
    /// What follows is no further request: the proxy refuses it, or does not take it for one.
    ends_http: bool,
}

/// What a server sees that is given bytes one by one.
fn served(bytes: &[u8]) -> Vec<Seen> {
    let given = Arc::new(Mutex::new(0));
    let seen: Arc<Mutex<Vec<Seen>>> = Arc::default();
    let stream = Bytewise {
        bytes: bytes.to_vec(),
        given: given.clone(),
    };
    let service = service_fn(|request: Request<Incoming>| {
        let end = *given.lock().unwrap();
        let switches = request.version() == Version::HTTP_11 && request.headers().contains_key(UPGRADE);
        let closes = request.headers().get_all("connection").iter().any(|options| {
            options
                .as_bytes()
                .to_ascii_lowercase()
                .windows(5)
                .any(|option| option == b"close")
        });
        let ends_http = switches
            || closes
            || request.method() == Method::CONNECT
            || request.version() == Version::HTTP_10;
        let number = {
            let mut seen = seen.lock().unwrap();
            seen.push(Seen {
                end,
                body: None,
                ends_http,
            });
            seen.len() - 1
        };
        let seen = seen.clone();
        async move {
            let body = request.into_body().collect().await;
            let body = body.map(|body| body.to_bytes().len()).map_err(drop);
            seen.lock().unwrap()[number].body = Some(body);
            Ok::<_, Infallible>(Response::new(Empty::<Bytes>::new()))
        }
    });
    let mut connection = pin!(http1::Builder::new().serve_connection(TokioIo::new(stream), service));
    // Nothing is waited for but what is there already.
    let mut cx = Context::from_waker(Waker::noop());
    let mut idle = 0;
    while idle < IDLE {
        let before = (*given.lock().unwrap(), seen.lock().unwrap().len());
        if connection.as_mut().poll(&mut cx).is_ready() {
            break;
        }
        let after = (*given.lock().unwrap(), seen.lock().unwrap().len());
        idle = if before == after { idle + 1 } else { 0 };
    }
    let seen = seen.lock().unwrap();
    seen.clone()
}

/// Gives out one byte at a time, takes everything.
struct Bytewise {
    bytes: Vec<u8>,
    given: Arc<Mutex<usize>>,
}

impl AsyncRead for Bytewise {
    fn poll_read(self: Pin<&mut Self>, _: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let mut given = self.given.lock().unwrap();
        // After the last one comes nothing, not even an end.
        let Some(byte) = self.bytes.get(*given) else {
            return Poll::Pending;
        };
        buf.put_slice(&[*byte]);
        *given += 1;
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Bytewise {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
