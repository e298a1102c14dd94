//! What the parts of a downstream connection tell each other: its stream, the requests on it, and who looks whether it
//! is slow or idle.
//!
//! It decides nothing.

use std::sync::{
    OnceLock,
    atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed},
};

use crate::proxy::error::ProxyError;

/// What a downstream connection is doing, so that one coarse timer per connection can tell a slow client from an
/// idle one without any timer per request.
#[derive(Debug, Default)]
pub(crate) struct Activity {
    in_flight: AtomicU32,
    requests: AtomicU64,
    /// A head is on its way.
    receiving: AtomicBool,
    /// Of the last HTTP/1.1 request something has not come yet.
    unfinished: AtomicBool,
    /// The head that is on its way is to be refused.
    head_overdue: AtomicBool,
    /// The connection is to end with a reset.
    aborted: AtomicBool,
    /// The connection ends, but its client may still be sending.
    refusing: AtomicBool,
    /// The request with this number is refused, unseen.
    refused: OnceLock<(u64, ProxyError)>,
    /// The body, or the connection, broke off because of this.
    broken: OnceLock<ProxyError>,
    /// A request was counted as broken off with the connection.
    break_said: AtomicBool,
    /// Number of the request that asked for another protocol, as long as it has no answer; 0: none.
    switching: AtomicU64,
    /// Bytes came before that answer.
    early: AtomicBool,
    tunnel: AtomicBool,
    /// Streams that a rule's fault resets, as long as their frames have not been sent.
    own_resets: AtomicU32,
}

/// Where in an HTTP/1.1 client's requests the bytes end that have come.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Part {
    /// Within a head.
    Head,
    /// Behind a head, and before the end of its request.
    Body,
    /// Behind a request.
    End,
}

/// What became of a request for another protocol.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Switch {
    /// The connection stays HTTP.
    None,
    /// There is no answer yet.
    Pending,
    /// The connection is a tunnel.
    Made,
}

impl Activity {
    /// Makes the connection end with a reset, so that its client cannot take the end for an answer.
    pub(crate) fn abort(&self) {
        self.aborted.store(true, Relaxed);
    }

    pub(crate) fn is_aborted(&self) -> bool {
        self.aborted.load(Relaxed)
    }

    pub(crate) fn request_begins(&self) {
        self.in_flight.fetch_add(1, Relaxed);
        self.requests.fetch_add(1, Relaxed);
        self.receiving.store(false, Relaxed);
    }

    pub(crate) fn request_ends(&self) {
        self.in_flight.fetch_sub(1, Relaxed);
    }

    /// Bytes came on an HTTP/1.1 connection, and the last of them belong to this part of a request.
    pub(crate) fn receives(&self, part: Part) {
        self.unfinished.store(part == Part::Body, Relaxed);
        if self.in_flight.load(Relaxed) == 0 {
            self.receiving.store(part == Part::Head, Relaxed);
        }
    }

    /// True when the last HTTP/1.1 request has not come to its end.
    pub(crate) fn is_unfinished(&self) -> bool {
        self.unfinished.load(Relaxed)
    }

    /// Whether part of a frame or header block has come on an HTTP/2 connection, and the rest has not.
    pub(crate) fn awaits_rest(&self, rest: bool) {
        self.receiving.store(rest, Relaxed);
    }

    /// What can be told apart from one look to the next.
    pub(crate) fn look(&self) -> Look {
        Look {
            idle: self.in_flight.load(Relaxed) == 0,
            requests: self.requests.load(Relaxed),
            receiving: self.receiving.load(Relaxed),
            refuses: self.refuses(),
        }
    }

    /// The head that is on its way took too long.
    pub(crate) fn head_is_overdue(&self) {
        self.head_overdue.store(true, Relaxed);
    }

    pub(crate) fn is_head_overdue(&self) -> bool {
        self.head_overdue.load(Relaxed)
    }

    /// The connection ends with the response that is being sent.
    pub(crate) fn refuse(&self) {
        self.refusing.store(true, Relaxed);
    }

    /// True when the connection ends because of what the client sent.
    pub(crate) fn refuses(&self) -> bool {
        self.refusing.load(Relaxed)
    }

    /// The stream refused the request with a number, counted from 1 on this connection.
    pub(crate) fn refuse_request(&self, number: u64, error: ProxyError) {
        self.refuse();
        // There is no second one: nothing is read after the first.
        let _ = self.refused.set((number, error));
    }

    /// Whether the request in flight is one that the stream refused. Only for HTTP/1.1, where there is one at a time.
    pub(crate) fn refusal(&self) -> Option<ProxyError> {
        let (number, error) = self.refused.get()?;
        (*number == self.requests.load(Relaxed)).then_some(*error)
    }

    /// The stream, or what watches it, broke off for a reason.
    pub(crate) fn break_off(&self, error: ProxyError) {
        self.refuse();
        let _ = self.broken.set(error);
    }

    /// Why the stream broke off, asked for a request that broke off with it.
    pub(crate) fn broken_off(&self) -> Option<ProxyError> {
        let error = self.broken.get().copied()?;
        self.break_said.store(true, Relaxed);
        Some(error)
    }

    /// Why the stream broke off, if no request has been told.
    pub(crate) fn unsaid_break(&self) -> Option<ProxyError> {
        let said = self.break_said.load(Relaxed);
        self.broken.get().copied().filter(|_| !said)
    }

    /// Everything of the request that asks for another protocol has come, and more, if `early`.
    pub(crate) fn switch_is_pending(&self, number: u64, early: bool) {
        self.switching.store(number, Relaxed);
        self.early.store(early, Relaxed);
    }

    /// The request in flight is answered, with a switch of protocols or not. True: the connection cannot stay HTTP,
    /// since nobody has looked at what came after the request.
    #[must_use]
    pub(crate) fn answered(&self, switched: bool) -> bool {
        let pending = self.switching.load(Relaxed);
        if pending == 0 || pending != self.requests.load(Relaxed) {
            return false;
        }
        self.tunnel.store(switched, Relaxed);
        let spoilt = !switched && self.early.load(Relaxed);
        if !spoilt {
            self.switching.store(0, Relaxed);
        }
        spoilt
    }

    /// A rule's fault resets a stream.
    pub(crate) fn resets_by_rule(&self) {
        self.own_resets.fetch_add(1, Relaxed);
    }

    /// True when a stream's reset that is being sent is a rule's.
    pub(crate) fn is_reset_by_rule(&self) -> bool {
        let one_less = |count: u32| count.checked_sub(1);
        self.own_resets.fetch_update(Relaxed, Relaxed, one_less).is_ok()
    }

    pub(crate) fn switch(&self) -> Switch {
        if self.tunnel.load(Relaxed) {
            Switch::Made
        } else if self.switching.load(Relaxed) == 0 {
            Switch::None
        } else {
            Switch::Pending
        }
    }
}

/// A look at an [`Activity`].
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(crate) struct Look {
    pub(crate) idle: bool,
    pub(crate) requests: u64,
    pub(crate) receiving: bool,
    pub(crate) refuses: bool,
}
