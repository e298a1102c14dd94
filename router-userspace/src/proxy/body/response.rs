//! A response's body on its way to the client. It carries what must live as long: the exchange, the upstream
//! connection, the deadline.
//!
//! It changes no byte.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};

use crate::proxy::{
    error::{Kind, ProxyError},
    exchange::Exchange,
    forward::{Deadline, UnderWay},
    upstream::{Lease, Received},
};

/// The body of a response to a client.
pub(crate) struct ResponseBody {
    source: Source,
    exchange: Option<Exchange>,
}

enum Source {
    /// Made by the proxy; given out once.
    Own(Bytes),
    Upstream(Upstream),
}

/// An endpoint's body, with what it holds until its end.
pub(crate) struct Upstream {
    pub(crate) body: Received,
    /// The connection, which can serve another request afterwards.
    pub(crate) lease: Option<Lease>,
    pub(crate) under_way: UnderWay,
    pub(crate) deadline: Deadline,
    /// Made when the body is first waited for: most never are.
    pub(crate) expiry: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
}

impl ResponseBody {
    /// A body of the proxy's own.
    pub(crate) fn own(text: Bytes, mut exchange: Exchange) -> Self {
        exchange.sent = text.len() as u64;
        Self {
            source: Source::Own(text),
            exchange: Some(exchange),
        }
    }

    /// No body, for a connection that becomes a tunnel and keeps the exchange for itself.
    pub(crate) const fn none() -> Self {
        Self {
            source: Source::Own(Bytes::new()),
            exchange: None,
        }
    }

    /// An endpoint's body.
    pub(crate) fn upstream(upstream: Upstream, exchange: Exchange) -> Self {
        let mut body = Self {
            source: Source::Upstream(upstream),
            exchange: Some(exchange),
        };
        if body.is_end_stream() {
            body.end();
        }
        body
    }

    /// The response is complete: the connection is free for the next request.
    fn end(&mut self) {
        let Some(mut exchange) = self.exchange.take() else {
            return;
        };
        exchange.complete();
        if let Source::Upstream(upstream) = &mut self.source {
            upstream.under_way = UnderWay::default();
            upstream.body.stop_upload();
            let whole = exchange.request.as_ref().is_none_or(|request| request.is_whole());
            if let Some(lease) = upstream.lease.take().filter(|_| whole) {
                lease.release();
            }
        }
    }

    fn fail(&mut self, error: &ProxyError) {
        if let Some(mut exchange) = self.exchange.take() {
            exchange.fail(error);
        }
        if let Source::Upstream(upstream) = &mut self.source {
            upstream.under_way = UnderWay::default();
            upstream.body.stop_upload();
            upstream.lease = None;
        }
    }
}

impl Upstream {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, ProxyError>>> {
        if let Poll::Ready(frame) = Pin::new(&mut self.body).poll_frame(cx) {
            let broken = |_| ProxyError::new(Kind::UpstreamReset, "the response broke off");
            return Poll::Ready(frame.map(|result| result.map_err(broken)));
        }
        let deadline = &self.deadline;
        let expiry = self
            .expiry
            .get_or_insert_with(|| Box::pin(deadline.clone().passed()));
        ready!(expiry.as_mut().poll(cx));
        let error = ProxyError::new(Kind::RequestTimeout, "the response took too long");
        Poll::Ready(Some(Err(error)))
    }
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = ProxyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, ProxyError>>> {
        let this = self.get_mut();
        let upstream = match &mut this.source {
            Source::Own(text) => {
                let text = std::mem::take(text);
                this.end();
                return Poll::Ready((!text.is_empty()).then(|| Ok(Frame::data(text))));
            }
            Source::Upstream(upstream) => upstream,
        };
        let frame = ready!(upstream.poll(cx));
        match &frame {
            Some(Ok(frame)) => {
                if let (Some(exchange), Some(bytes)) = (&mut this.exchange, frame.data_ref()) {
                    exchange.sent += bytes.len() as u64;
                }
                if frame.is_trailers() || this.is_end_stream() {
                    this.end();
                }
            }
            Some(Err(error)) => this.fail(error),
            None => this.end(),
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        match &self.source {
            Source::Own(text) => text.is_empty(),
            Source::Upstream(upstream) => upstream.body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.source {
            Source::Own(text) => SizeHint::with_exact(text.len() as u64),
            Source::Upstream(upstream) => upstream.body.size_hint(),
        }
    }
}
