//! A response's body as an endpoint sends it, in either version of HTTP.
//!
//! It keeps nothing, and does not know for whom it is.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use h2::RecvStream;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use tokio_util::task::AbortOnDropHandle;

/// The body of an endpoint's response.
pub(crate) enum Received {
    Http1(Incoming),
    Http2(Streamed),
}

/// The body of a stream of HTTP/2, which ends with it: what is left of the request then is of no use to anybody.
pub(crate) struct Streamed {
    stream: RecvStream,
    /// Only trailers may be left.
    data_ended: bool,
    /// Sends the rest of the request meanwhile.
    upload: Option<AbortOnDropHandle<()>>,
}

impl Received {
    /// The exchange is over: nothing more of the request is sent.
    pub(crate) fn stop_upload(&mut self) {
        if let Self::Http2(body) = self {
            body.upload = None;
        }
    }
}

/// A response's body broke off.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BrokenOff {
    #[error("the endpoint's body broke off: {0}")]
    Http1(#[source] hyper::Error),
    #[error("the endpoint's stream broke off: {0}")]
    Http2(#[source] h2::Error),
}

impl Streamed {
    pub(super) const fn new(stream: RecvStream, upload: Option<AbortOnDropHandle<()>>) -> Self {
        Self {
            stream,
            data_ended: false,
            upload,
        }
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, h2::Error>>> {
        if !self.data_ended {
            match ready!(self.stream.poll_data(cx)) {
                Some(Ok(bytes)) => {
                    // Fails only for more than was received.
                    let _ = self.stream.flow_control().release_capacity(bytes.len());
                    return Poll::Ready(Some(Ok(Frame::data(bytes))));
                }
                // An endpoint that does not want the rest of the request resets the stream too, after the end of its
                // response (RFC 9113, 8.1), and `h2` says nothing of it then. Before the end nothing is whole.
                Some(Err(error)) => return Poll::Ready(Some(Err(error))),
                None => self.data_ended = true,
            }
        }
        let trailers = ready!(self.stream.poll_trailers(cx));
        Poll::Ready(trailers.transpose().map(|trailers| trailers.map(Frame::trailers)))
    }
}

impl Body for Received {
    type Data = Bytes;
    type Error = BrokenOff;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BrokenOff>>> {
        match self.get_mut() {
            Self::Http1(body) => {
                let frame = ready!(Pin::new(body).poll_frame(cx));
                Poll::Ready(frame.map(|result| result.map_err(BrokenOff::Http1)))
            }
            Self::Http2(body) => {
                let frame = ready!(body.poll(cx));
                Poll::Ready(frame.map(|result| result.map_err(BrokenOff::Http2)))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Http1(body) => body.is_end_stream(),
            Self::Http2(body) => body.stream.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Http1(body) => body.size_hint(),
            Self::Http2(body) if body.stream.is_end_stream() => SizeHint::with_exact(0),
            // Where the endpoint says it, its `content-length` is passed on.
            Self::Http2(_) => SizeHint::default(),
        }
    }
}
