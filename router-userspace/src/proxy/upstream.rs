//! Upstream connections: opening, pooling, lending.
//!
//! It knows no rules: it is told an endpoint, a protocol and the policy that the kernel counts the connection against.

use std::{
    future::Future,
    net::SocketAddr,
    num::NonZeroU32,
    sync::{Arc, atomic::Ordering::Relaxed},
};

use bytes::Bytes;
use h2::client::SendRequest;
use http::{Request, Response};
use hyper::client::conn::http1;
use tokio::task::JoinHandle;

use self::{http2::Http2, slot::Slot};
use super::body::RequestBody;

pub(crate) use connect::{ConnectError, connect, keepalive};
pub(crate) use failed::Failed;
pub(crate) use pool::{Fresh, Pool, Wanted, limited_policy};
pub(crate) use received::Received;

mod connect;
mod failed;
mod http2;
mod pool;
mod received;
mod slot;

/// What connections of a pool have in common when one can stand for another.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Target {
    pub(crate) endpoint: SocketAddr,
    pub(crate) http2: bool,
    /// Object name of the policy whose limit counts the connection; none: no limit.
    pub(crate) policy: Option<Arc<str>>,
}

/// An open HTTP/1.1 connection.
struct Http1 {
    sender: http1::SendRequest<RequestBody>,
    /// Ends when the socket is closed.
    task: JoinHandle<()>,
    /// Requests that it was lent for.
    uses: u32,
}

/// A connection lent for one request. Dropped without [`Lease::release`], an HTTP/1.1 connection is closed.
pub(crate) struct Lease {
    connection: Option<Lent>,
    slot: Arc<Slot>,
    reused: bool,
    /// Requests after which the connection is not used again.
    uses: Option<NonZeroU32>,
}

enum Lent {
    Http1(Http1),
    /// With what opens its stream; none: that was done.
    Http2(Arc<Http2>, Option<SendRequest<Bytes>>),
}

impl Lease {
    fn http1(connection: Http1, slot: Arc<Slot>, reused: bool) -> Self {
        Self {
            connection: Some(Lent::Http1(connection)),
            slot,
            reused,
            uses: None,
        }
    }

    /// A stream of a shared connection, which counts it already.
    fn http2((connection, sender): (Arc<Http2>, SendRequest<Bytes>), slot: Arc<Slot>, reused: bool) -> Self {
        Self {
            connection: Some(Lent::Http2(connection, Some(sender))),
            slot,
            reused,
            uses: None,
        }
    }

    /// Lets the connection serve no more requests than these.
    fn limited(mut self, uses: Option<NonZeroU32>) -> Self {
        self.uses = uses;
        self
    }

    /// True when the connection served a request before, so that the endpoint may have closed it meanwhile.
    pub(crate) const fn is_reused(&self) -> bool {
        self.reused
    }

    /// Sees to it that nobody is lent the connection again: its endpoint takes no new requests on it.
    pub(crate) fn retire(&self) {
        if let Some(Lent::Http2(connection, _)) = &self.connection {
            self.slot.forget(connection);
        }
    }

    /// Sends a request; a lease of a stream serves for one. An error hands the request back when nothing of it was sent.
    pub(crate) fn send(
        &mut self,
        request: Request<RequestBody>,
    ) -> impl Future<Output = Result<Response<Received>, Failed>> {
        enum Sending<A, B> {
            Http1(A),
            Http2(B),
        }
        let sending = match self.connection.as_mut() {
            Some(Lent::Http1(connection)) => {
                Some(Sending::Http1(connection.sender.try_send_request(request)))
            }
            Some(Lent::Http2(_, sender)) => sender
                .take()
                .map(|sender| Sending::Http2(http2::send(sender, request))),
            None => None,
        };
        async move {
            match sending {
                Some(Sending::Http1(sending)) => sending
                    .await
                    .map(|response| response.map(Received::Http1))
                    .map_err(Failed::http1),
                Some(Sending::Http2(sending)) => Ok(sending?.await?.map(Received::Http2)),
                // A stream was sent with it already.
                None => Err(Failed::spent()),
            }
        }
    }

    /// Gives the connection back: its exchange is over, both bodies were whole.
    pub(crate) fn release(mut self) {
        match self.connection.take() {
            Some(Lent::Http1(connection)) if self.uses.is_none_or(|uses| connection.uses < uses.get()) => {
                self.slot.keep(connection);
            }
            Some(Lent::Http2(connection, sender)) => self.give_back(connection, sender),
            _ => {}
        }
    }

    /// Gives a stream back.
    fn give_back(&self, connection: Arc<Http2>, sender: Option<SendRequest<Bytes>>) {
        connection.streams.fetch_sub(1, Relaxed);
        // Before anybody is told: an idle connection that somebody holds cannot be closed to make room.
        drop((connection, sender));
        self.slot.vacated();
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if let Some(Lent::Http2(connection, sender)) = self.connection.take() {
            if sender.is_none() {
                connection.cancelled.fetch_add(1, Relaxed);
            }
            self.give_back(connection, sender);
        }
    }
}
