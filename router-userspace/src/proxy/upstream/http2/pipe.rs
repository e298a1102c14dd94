//! A request's body on its way into a stream of HTTP/2, as fast as the endpoint's window lets it.
//!
//! It takes no more from the body than one piece that waits for the window. It does not look at bytes.

use std::{
    error::Error,
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use h2::{Reason, SendStream};
use http_body::Body as _;

use crate::proxy::body::{BodyError, RequestBody};

/// Ends when the body has been handed over, or nobody wants it any more.
pub(super) struct Pipe {
    body: RequestBody,
    stream: SendStream<Bytes>,
    /// What waits for room in the window, and whether it is the last piece.
    waiting: Option<(Bytes, bool)>,
}

/// What there is to do after a piece.
#[derive(PartialEq, Eq)]
enum Next {
    Piece,
    Nothing,
}

impl Pipe {
    pub(super) const fn new(body: RequestBody, stream: SendStream<Bytes>) -> Self {
        Self {
            body,
            stream,
            waiting: None,
        }
    }

    /// Hands over the piece that waits, when there is room. An error: the stream has ended.
    fn poll_hand_over(&mut self, cx: &mut Context<'_>) -> Poll<Result<Next, h2::Error>> {
        if let Some((piece, _)) = &self.waiting
            && !piece.is_empty()
        {
            while self.stream.capacity() == 0 {
                match ready!(self.stream.poll_capacity(cx)) {
                    Some(capacity) => {
                        capacity?;
                    }
                    None => return Poll::Ready(Ok(Next::Nothing)),
                }
            }
        }
        let Some((piece, is_last)) = self.waiting.take() else {
            return Poll::Ready(Ok(Next::Piece));
        };
        self.stream.send_data(piece, is_last)?;
        Poll::Ready(Ok(if is_last { Next::Nothing } else { Next::Piece }))
    }

    /// Takes the next piece from the body.
    fn poll_take(&mut self, cx: &mut Context<'_>) -> Poll<Result<Next, h2::Error>> {
        let frame = match ready!(Pin::new(&mut self.body).poll_frame(cx)) {
            Some(Ok(frame)) => frame,
            Some(Err(error)) => {
                self.stream.send_reset(reason(&error));
                return Poll::Ready(Ok(Next::Nothing));
            }
            None => {
                self.stream.send_data(Bytes::new(), true)?;
                return Poll::Ready(Ok(Next::Nothing));
            }
        };
        match frame.into_data() {
            Ok(piece) => {
                // Only now, and no more than one byte: what is reserved is kept from other streams.
                self.stream.reserve_capacity(1);
                self.waiting = Some((piece, self.body.is_end_stream()));
            }
            Err(frame) => {
                if let Ok(trailers) = frame.into_trailers() {
                    self.stream.reserve_capacity(0);
                    self.stream.send_trailers(trailers)?;
                    return Poll::Ready(Ok(Next::Nothing));
                }
            }
        }
        Poll::Ready(Ok(Next::Piece))
    }

    fn poll_all(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), h2::Error>> {
        loop {
            if ready!(self.poll_hand_over(cx))? == Next::Nothing
                || ready!(self.poll_take(cx))? == Next::Nothing
            {
                return Poll::Ready(Ok(()));
            }
        }
    }
}

/// Why a stream is reset whose body broke off: for the client's own reason, where it gave one. The endpoint did nothing
/// wrong, and nothing here did.
fn reason(error: &BodyError) -> Reason {
    let mut cause: Option<&(dyn Error + 'static)> = Some(error);
    while let Some(error) = cause {
        if let Some(reason) = error.downcast_ref::<h2::Error>().and_then(h2::Error::reason) {
            return reason;
        }
        cause = error.source();
    }
    Reason::CANCEL
}

impl Future for Pipe {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = self.get_mut();
        if let Poll::Ready(outcome) = this.poll_all(cx) {
            if let Err(error) = outcome {
                tracing::debug!(%error, "a request's body could not be sent");
            }
            return Poll::Ready(());
        }
        // While it waits, for the client or for the window, the endpoint may lose interest.
        this.stream.poll_reset(cx).map(drop)
    }
}
