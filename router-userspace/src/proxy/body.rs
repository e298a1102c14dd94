//! Bodies on their way: counted, never collected, except for a bounded copy where a request may be sent again.
//!
//! It knows no routes and no pools; what happens when a response ends is the business of what it carries.

use std::{
    pin::Pin,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use tokio::{sync::Notify, time::Instant};

pub(crate) use allowance::Allowance;
pub(crate) use copy::{Copied, Progress};
pub(crate) use replay::Replay;
pub(crate) use response::{ResponseBody, Upstream};

use super::{
    error::{Kind, ProxyError},
    headers,
};

mod allowance;
mod copy;
mod replay;
mod response;

/// How far a request's body has come. Shared by the body, which moves into the upstream connection, and the exchange.
#[derive(Debug, Default)]
pub(crate) struct Transfer {
    bytes: AtomicU64,
    /// The attempt that is under way has asked for it.
    asked: AtomicBool,
    /// When the body ended, failed or was given up.
    settled: OnceLock<Instant>,
    whole: AtomicBool,
    failed: AtomicBool,
    /// What was wrong with it, where the client did more than go away.
    fault: OnceLock<ProxyError>,
    settling: Notify,
}

impl Transfer {
    /// Bytes received so far.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes.load(Relaxed)
    }

    /// An attempt begins, and has not asked for the body yet.
    pub(crate) fn attempt_begins(&self) {
        self.asked.store(false, Relaxed);
    }

    /// True when the attempt under way has asked for the body.
    pub(crate) fn is_asked(&self) -> bool {
        self.asked.load(Relaxed)
    }

    /// True when the body was forwarded to its end.
    pub(crate) fn is_whole(&self) -> bool {
        self.whole.load(Relaxed)
    }

    /// True when the client broke off.
    pub(crate) fn is_failed(&self) -> bool {
        self.failed.load(Relaxed)
    }

    /// What was wrong with a failed body; none: its client has gone.
    pub(crate) fn fault(&self) -> Option<ProxyError> {
        self.fault.get().copied()
    }

    fn fail(&self, fault: Option<ProxyError>) {
        if let Some(error) = fault {
            let _ = self.fault.set(error);
        }
        self.failed.store(true, Relaxed);
        self.settle();
    }

    /// Resolves when nothing more is awaited from the client, with the moment when that was.
    pub(crate) async fn settled(&self) -> Instant {
        loop {
            let notified = self.settling.notified();
            if let Some(&at) = self.settled.get() {
                return at;
            }
            notified.await;
        }
    }

    fn settle(&self) {
        if self.settled.set(Instant::now()).is_ok() {
            self.settling.notify_waiters();
        }
    }
}

/// A request's body while it streams through.
pub(crate) struct Metered {
    body: Incoming,
    transfer: Arc<Transfer>,
    allowance: Allowance,
    /// Copies on their way to mirrors.
    taps: Vec<copy::Tap>,
}

impl Metered {
    pub(crate) fn new(body: Incoming, transfer: Arc<Transfer>) -> Self {
        Self {
            body,
            transfer,
            allowance: Allowance::unbounded(),
            taps: Vec::new(),
        }
    }

    /// A copy of what will pass, of which at most `bound` bytes wait to be read; beyond it the copy is lost.
    pub(crate) fn copy(&mut self, bound: usize) -> Copied {
        let (tap, copied) = copy::copy(self.body.size_hint(), bound);
        self.taps.push(tap);
        copied
    }

    /// Bounds the time that the client may take.
    pub(crate) fn allow(&mut self, allowance: Allowance) {
        self.allowance = allowance;
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        self.transfer.asked.store(true, Relaxed);
        let Poll::Ready(frame) = Pin::new(&mut self.body).poll_frame(cx) else {
            ready!(self.allowance.poll_used_up(cx));
            let error = ProxyError::new(Kind::BodyTimeout, "the request's body took too long");
            return Poll::Ready(Some(Err(self.refuse(error))));
        };
        match &frame {
            Some(Ok(frame)) => {
                let length = frame.data_ref().map_or(0, Bytes::len);
                self.allowance.receives(length);
                self.transfer.bytes.fetch_add(length as u64, Relaxed);
                if let Some(trailers) = frame.trailers_ref()
                    && let Err(error) = headers::check_trailers(trailers)
                {
                    return Poll::Ready(Some(Err(self.refuse(error))));
                }
                for tap in &self.taps {
                    tap.show(frame);
                }
                if self.body.is_end_stream() || frame.is_trailers() {
                    self.end();
                }
            }
            Some(Err(_)) => {
                self.transfer.fail(None);
                self.taps.clear();
            }
            None => self.end(),
        }
        Poll::Ready(frame.map(|result| result.map_err(BodyError::Client)))
    }

    fn refuse(&mut self, error: ProxyError) -> BodyError {
        self.transfer.fail(Some(error));
        self.taps.clear();
        BodyError::Refused(error)
    }

    fn end(&self) {
        self.transfer.whole.store(true, Relaxed);
        self.transfer.settle();
        for tap in &self.taps {
            tap.end();
        }
    }
}

impl Drop for Metered {
    fn drop(&mut self) {
        self.transfer.settle();
    }
}

/// The body that an upstream connection sends. Small, because it is moved with the request's head, and most have none.
pub(crate) enum RequestBody {
    Empty,
    Stream(Box<Metered>),
    /// One attempt's reading of a body that may be sent again.
    Replay(Box<replay::Reading>),
    /// A mirror's copy of another request's body.
    Copied(Box<Copied>),
}

/// Why a request's body broke off.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BodyError {
    #[error("the client's body broke off: {0}")]
    Client(#[source] hyper::Error),
    #[error("the client's body was refused: {0}")]
    Refused(#[source] ProxyError),
    #[error("another attempt took over")]
    Superseded,
    #[error("the copy fell behind")]
    Behind,
    #[error("the original broke off")]
    Original,
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match self.get_mut() {
            Self::Empty => Poll::Ready(None),
            Self::Stream(body) => body.poll(cx),
            Self::Replay(reading) => reading.poll(cx),
            Self::Copied(copied) => copied.poll(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Empty => true,
            Self::Stream(body) => body.body.is_end_stream(),
            Self::Replay(reading) => reading.is_end(),
            Self::Copied(copied) => copied.is_end(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Empty => SizeHint::with_exact(0),
            Self::Stream(body) => body.body.size_hint(),
            Self::Replay(reading) => reading.size_hint(),
            Self::Copied(copied) => copied.size_hint(),
        }
    }
}
