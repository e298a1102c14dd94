//! HTTP/2 to an endpoint, with `h2` itself: whoever sends a request drives its stream.
//!
//! hyper's client would put a queue, an answer's channel and a task between a request and its stream, for every
//! request. It knows no pools, and does not know why a request is sent.

use std::{
    future::{Future, poll_fn},
    io,
    pin::Pin,
    sync::atomic::{AtomicU32, AtomicUsize, Ordering::Relaxed},
    task::{Context, Poll, Waker, ready},
};

use bytes::Bytes;
use h2::client::{Builder, Connection, ResponseFuture, SendRequest};
use http::{HeaderValue, Method, Request, Response, header::CONTENT_LENGTH};
use http_body::Body as _;
use tokio::{net::TcpStream, sync::oneshot, task::JoinHandle, time::timeout};
use tokio_util::task::AbortOnDropHandle;

use self::pipe::Pipe;
use super::{ConnectError, failed::Failed, received::Streamed};
use crate::proxy::{body::RequestBody, limits::Limits};

mod pipe;

/// Bytes of one stream that wait to be written; beyond it nothing more is taken from its body (hyper: as many).
const SEND_BUFFER: usize = 1024 * 1024;

/// Bytes that frames of data may take beyond their contents while nobody reads them, for all streams of a connection: so that
/// one stalled stream of 256 KiB in pieces of 20 bytes leaves enough for others. `h2` has 256 bytes for each, and its own bound, half
/// of the connection's window, would end the connection with all of its streams.
const FRAMES_OVERHEAD: usize = 16 * 1024 * 1024;

/// Streams that may be cancelled on a connection that others share. To `h2` what still comes on them waits to be read for as
/// long as the connection lives: of each, [`FRAMES_OVERHEAD`] has room for 256 small frames.
const MOST_CANCELLED: u32 = 256;

/// Cancelled streams that are remembered for a second (`h2`), so that what still comes on them is let pass. What comes on one
/// that is forgotten is answered by a reset, and a thousand such answers end the connection.
const REMEMBERED_RESETS: usize = 4 * MOST_CANCELLED as usize;

/// An open connection, shared by its streams.
pub(super) struct Http2 {
    sender: SendRequest<Bytes>,
    /// Leases that are out.
    pub(super) streams: AtomicUsize,
    /// Requests that it was lent for; written under the lock of its list.
    pub(super) uses: AtomicU32,
    /// Leases that ended before their exchange was over.
    pub(super) cancelled: AtomicU32,
    task: JoinHandle<()>,
}

impl Http2 {
    /// Opens HTTP/2 on a socket, and its first stream's sender, when the endpoint has said how many streams it allows: as it
    /// must before anything else (RFC 9113, 3.4). More than those it would refuse. `open` is dropped when the connection has
    /// ended.
    ///
    /// # Errors
    ///
    /// The endpoint does not speak HTTP/2, or says nothing for as long as connecting may take.
    pub(super) async fn open(
        stream: TcpStream,
        limits: &Limits,
        open: impl Send + 'static,
    ) -> Result<(Self, SendRequest<Bytes>), ConnectError> {
        let (sender, connection) = Builder::new()
            .enable_push(false)
            .initial_max_send_streams(0)
            .initial_window_size(limits.stream_window)
            .initial_connection_window_size(limits.connection_window)
            .max_header_list_size(u32::try_from(limits.head_bytes).unwrap_or(u32::MAX))
            .max_send_buffer_size(SEND_BUFFER)
            .data_frame_budget(FRAMES_OVERHEAD)
            .max_concurrent_reset_streams(REMEMBERED_RESETS)
            .handshake(stream)
            .await
            .map_err(io::Error::other)?;
        let (allows, allowed) = oneshot::channel();
        let driven = drive(connection, sender.clone(), allows);
        // Whoever gives up before the endpoint says anything leaves no connection that nobody knows.
        let task = AbortOnDropHandle::new(tokio::spawn(async move {
            if let Err(error) = driven.await {
                tracing::debug!(%error, "upstream connection ended");
            }
            drop(open);
        }));
        match timeout(limits.connect_timeout, allowed).await {
            Ok(Ok(())) => {}
            Ok(Err(_)) => return Err(io::Error::other("the endpoint does not speak HTTP/2").into()),
            Err(_) => return Err(ConnectError::TimedOut),
        }
        let connection = Self {
            sender: sender.clone(),
            streams: AtomicUsize::new(1),
            uses: AtomicU32::new(1),
            cancelled: AtomicU32::new(0),
            task: task.detach(),
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

    /// Streams that its endpoint allows at once: a request beyond them would wait within the connection, and be sent even when
    /// nobody waits for it any more. At least one, which waits where none is allowed for now.
    pub(super) fn allowed(&self) -> usize {
        self.sender.current_max_send_streams().max(1)
    }

    /// True when another connection should take its place.
    pub(super) fn is_worn(&self) -> bool {
        self.cancelled.load(Relaxed) >= MOST_CANCELLED
    }

    /// Closes it, as soon as nobody has a sender any more. The task ends with its socket.
    pub(super) fn close(self) -> JoinHandle<()> {
        self.task
    }
}

/// Drives a connection to its end, and tells once when its endpoint has said how many streams it allows.
async fn drive(
    mut connection: Connection<TcpStream, Bytes>,
    sender: SendRequest<Bytes>,
    allows: oneshot::Sender<()>,
) -> Result<(), h2::Error> {
    let mut waiting = Some((sender, allows));
    poll_fn(move |cx| {
        let ended = Pin::new(&mut connection).poll(cx);
        let told = waiting.take_if(|(sender, _)| sender.current_max_send_streams() > 0);
        if let Some((_, allows)) = told {
            // Whoever has opened it may be gone.
            let _ = allows.send(());
        }
        ended
    })
    .await
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
    type Output = Result<Response<Streamed>, Failed>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.get_mut();
        if let Some(pipe) = &mut this.pipe
            && Pin::new(pipe).poll(cx).is_ready()
        {
            this.pipe = None;
        }
        let response = ready!(Pin::new(&mut this.response).poll(cx));
        // Endpoint and client may both go on sending.
        let upload = |pipe| AbortOnDropHandle::new(tokio::spawn(pipe));
        let response = response.map(|r| r.map(|stream| Streamed::new(stream, this.pipe.take().map(upload))));
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
