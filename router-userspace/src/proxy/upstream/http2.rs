//! HTTP/2 to an endpoint, with `h2` itself: whoever sends a request drives its stream.
//!
//! hyper's client would put a queue, an answer's channel and a task between a request and its stream, for every
//! request. It knows no pools, and does not know why a request is sent.

use std::{
    future::Future,
    pin::Pin,
    sync::atomic::{AtomicU32, AtomicUsize},
    task::{Context, Poll, Waker, ready},
};

use bytes::Bytes;
use h2::{
    RecvStream,
    client::{Builder, ResponseFuture, SendRequest},
};
use http::{HeaderValue, Method, Request, Response, header::CONTENT_LENGTH};
use http_body::Body as _;
use tokio::{net::TcpStream, task::JoinHandle};

use self::pipe::Pipe;
use super::failed::Failed;
use crate::proxy::{body::RequestBody, limits::Limits};

mod pipe;

/// Streams of a new connection until its endpoint has said how many it allows (RFC 9113, 6.5.2 wants no less).
const FIRST_STREAMS: usize = 100;

/// Bytes of one stream that wait to be written; beyond it nothing more is taken from its body (hyper: as many).
const SEND_BUFFER: usize = 1024 * 1024;

/// An open connection, shared by its streams.
pub(super) struct Http2 {
    sender: SendRequest<Bytes>,
    /// Leases that are out.
    pub(super) streams: AtomicUsize,
    /// Requests that it was lent for; written under the lock of its list.
    pub(super) uses: AtomicU32,
    task: JoinHandle<()>,
}

impl Http2 {
    /// Opens HTTP/2 on a socket, and its first stream's sender. `open` is dropped when the connection has ended.
    ///
    /// # Errors
    ///
    /// The socket takes no bytes.
    pub(super) async fn open(
        stream: TcpStream,
        limits: &Limits,
        open: impl Send + 'static,
    ) -> Result<(Self, SendRequest<Bytes>), h2::Error> {
        let (sender, connection) = Builder::new()
            .enable_push(false)
            .initial_max_send_streams(FIRST_STREAMS)
            .initial_window_size(limits.stream_window)
            .initial_connection_window_size(limits.connection_window)
            .max_header_list_size(u32::try_from(limits.head_bytes).unwrap_or(u32::MAX))
            .max_send_buffer_size(SEND_BUFFER)
            .handshake(stream)
            .await?;
        let task = tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::trace!(%error, "upstream connection ended");
            }
            drop(open);
        });
        let connection = Self {
            sender: sender.clone(),
            streams: AtomicUsize::new(1),
            uses: AtomicU32::new(1),
            task,
        };
        Ok((connection, sender))
    }

    /// True when it has ended.
    pub(super) fn is_closed(&self) -> bool {
        self.task.is_finished()
    }

    /// What a stream is opened with; none: the endpoint takes no new ones, or the connection has ended.
    pub(super) fn sender(&self) -> Option<SendRequest<Bytes>> {
        let mut sender = self.sender.clone();
        match poll_ready(&mut sender) {
            Poll::Ready(Err(_)) => None,
            _ => Some(sender),
        }
    }

    /// Closes it, as soon as nobody has a sender any more. The task ends with its socket.
    pub(super) fn close(self) -> JoinHandle<()> {
        self.task
    }
}

/// Opens a stream for a request, and sends what has come of its body.
///
/// # Errors
///
/// The connection takes no new streams, and nothing was sent; or the request is none that HTTP/2 could carry.
pub(super) fn send(
    mut sender: SendRequest<Bytes>,
    mut request: Request<RequestBody>,
) -> Result<Answering, Failed> {
    if let Poll::Ready(Err(error)) = poll_ready(&mut sender) {
        return Err(Failed::unsent(&error, request));
    }
    say_length(&mut request);
    let (head, body) = request.into_parts();
    let is_whole = body.is_end_stream();
    let (response, stream) = sender
        .send_request(Request::from_parts(head, ()), is_whole)
        .map_err(|error| Failed::http2(&error))?;
    Ok(Answering {
        response,
        pipe: (!is_whole).then(|| Pipe::new(body, stream)),
    })
}

/// Whether a stream can be opened. A sender waits only behind a stream that it has opened itself, and each is used for
/// one; what the endpoint does not allow yet waits within the connection.
fn poll_ready(sender: &mut SendRequest<Bytes>) -> Poll<Result<(), h2::Error>> {
    sender.poll_ready(&mut Context::from_waker(Waker::noop()))
}

/// A stream whose response has not begun. It resolves with the head of the response; dropped before, it resets the
/// stream.
pub(super) struct Answering {
    response: ResponseFuture,
    /// The rest of the request's body; none: it is sent. Most bodies have come with their heads, and need no task.
    pipe: Option<Pipe>,
}

impl Future for Answering {
    type Output = Result<Response<RecvStream>, Failed>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.get_mut();
        if let Some(pipe) = &mut this.pipe
            && Pin::new(pipe).poll(cx).is_ready()
        {
            this.pipe = None;
        }
        let response = ready!(Pin::new(&mut this.response).poll(cx));
        if response.is_ok()
            && let Some(pipe) = this.pipe.take()
        {
            // Endpoint and client may both go on sending.
            tokio::spawn(pipe);
        }
        Poll::Ready(response.map_err(|error| Failed::http2(&error)))
    }
}

/// Says how long the body is, where that is known and the request does not say it. An empty one is nothing to speak of
/// where none is expected (RFC 9110, 8.6).
fn say_length(request: &mut Request<RequestBody>) {
    if let Some(length) = request.body().size_hint().exact()
        && (length != 0 || !matches!(*request.method(), Method::GET | Method::HEAD | Method::DELETE))
        && !request.headers().contains_key(CONTENT_LENGTH)
    {
        let length = HeaderValue::from(length);
        request.headers_mut().insert(CONTENT_LENGTH, length);
    }
}
