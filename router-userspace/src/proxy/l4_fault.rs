//! Faults of connections at work: which ones are drawn, the client's stream that a throttle holds up, and the end that
//! comes before its time.
//!
//! How many bytes may go is not decided here but in [`throttle`](crate::enforce::throttle).

use std::{
    future::Future,
    io,
    os::fd::{AsFd, BorrowedFd},
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use router_rules::{l4_fault::Injected, snapshot::Route};
use socket2::SockRef;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Instant, Sleep, sleep_until, timeout_at},
};

use super::{
    error::{Kind, ProxyError},
    stats::WorkerStats,
};
use crate::enforce::throttle::{Allowance, Direction, Throttle};

/// What a connection ends with that is terminated.
pub(crate) const TERMINATED: ProxyError = ProxyError::new(
    Kind::FaultTerminate,
    "the connection was terminated by a rule's fault",
);

/// What one connection suffers, and since when it is there.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Suffering {
    injected: Injected,
    established: Instant,
}

impl Suffering {
    /// Draws for a connection on its route; none: nothing happens to it.
    pub(crate) fn draw(route: &Route<'_>, established: Instant, stats: &WorkerStats) -> Option<Self> {
        let injected = route.l4_fault()?.inject(|| fastrand::u64(..));
        if injected.throttle.is_some() {
            WorkerStats::add(&stats.connections_throttled, 1);
        }
        (injected != Injected::default()).then_some(Self {
            injected,
            established,
        })
    }

    /// When the connection is to be reset.
    pub(crate) fn end(&self) -> Option<Instant> {
        self.established.checked_add(self.injected.terminate_after?)
    }
}

/// Awaits `future`, but not beyond `end`; none: it was not done by then. Without an end nothing is added to it.
pub(crate) async fn before<F: Future>(end: Option<Instant>, future: F) -> Option<F::Output> {
    match end {
        None => Some(future.await),
        Some(end) if end <= Instant::now() => None,
        Some(end) => timeout_at(end, future).await.ok(),
    }
}

/// Makes the closing of a socket reset its connection, since its peer would see an orderly end otherwise.
pub(crate) fn reset_on_close(socket: &impl AsFd) {
    // That this fails is no reason to keep the connection.
    let _ = SockRef::from(socket).set_linger(Some(Duration::ZERO));
}

/// A client's stream that a throttle may hold up. One that suffers nothing costs a look at a pointer.
#[derive(Debug)]
pub(crate) struct Shaped<S> {
    stream: S,
    shaping: Option<Box<Shaping>>,
}

/// What a stream needs that suffers something.
#[derive(Debug)]
struct Shaping {
    throttle: Option<Throttle>,
    established: Instant,
    reading: Option<Pin<Box<Sleep>>>,
    writing: Option<Pin<Box<Sleep>>>,
    received: u64,
    sent: u64,
}

impl Shaping {
    /// How many bytes may go now; otherwise whoever asks is woken when some may.
    fn poll_allowance(&mut self, cx: &mut Context<'_>, direction: Direction) -> Poll<usize> {
        let Some(throttle) = &mut self.throttle else {
            return Poll::Ready(usize::MAX);
        };
        let timer = match direction {
            Direction::ToEndpoint => &mut self.reading,
            Direction::ToClient => &mut self.writing,
        };
        loop {
            let now = Instant::now();
            match throttle.allowance(direction, now - self.established) {
                Allowance::Bytes(bytes) => return Poll::Ready(bytes),
                Allowance::Wait(wait) => {
                    let until = now + wait;
                    let timer = timer.get_or_insert_with(|| Box::pin(sleep_until(until)));
                    timer.as_mut().reset(until);
                    ready!(timer.as_mut().poll(cx));
                }
            }
        }
    }

    fn passed(&mut self, direction: Direction, bytes: usize) {
        match direction {
            Direction::ToEndpoint => self.received += bytes as u64,
            Direction::ToClient => self.sent += bytes as u64,
        }
        if let Some(throttle) = &mut self.throttle {
            throttle.passed(direction, bytes, self.established.elapsed());
        }
    }
}

impl<S> Shaped<S> {
    pub(crate) fn new(stream: S, suffering: Option<Suffering>) -> Self {
        let mut shaped = Self {
            stream,
            shaping: None,
        };
        shaped.suffer(suffering);
        shaped
    }

    /// Decides what it suffers from now on.
    pub(crate) fn suffer(&mut self, suffering: Option<Suffering>) {
        let shaping = |suffering: Suffering| {
            Box::new(Shaping {
                throttle: suffering.injected.throttle.as_ref().map(Throttle::new),
                established: suffering.established,
                reading: None,
                writing: None,
                received: 0,
                sent: 0,
            })
        };
        self.shaping = suffering.map(shaping);
    }

    /// Bytes from and to the client so far; 0 when the stream suffers nothing.
    pub(crate) fn passed(&self) -> (u64, u64) {
        self.shaping.as_ref().map_or((0, 0), |s| (s.received, s.sent))
    }

    fn is_throttled(&self) -> bool {
        self.shaping.as_ref().is_some_and(|s| s.throttle.is_some())
    }
}

impl<S: AsFd> AsFd for Shaped<S> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Shaped<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let Self { stream, shaping } = self.get_mut();
        let Some(shaping) = shaping else {
            return Pin::new(stream).poll_read(cx, buf);
        };
        let most = ready!(shaping.poll_allowance(cx, Direction::ToEndpoint)).min(buf.remaining());
        let mut part = ReadBuf::new(buf.initialize_unfilled_to(most));
        ready!(Pin::new(stream).poll_read(cx, &mut part))?;
        let read = part.filled().len();
        buf.advance(read);
        shaping.passed(Direction::ToEndpoint, read);
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Shaped<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let Self { stream, shaping } = self.get_mut();
        let Some(shaping) = shaping else {
            return Pin::new(stream).poll_write(cx, bytes);
        };
        let most = ready!(shaping.poll_allowance(cx, Direction::ToClient)).min(bytes.len());
        let written = ready!(Pin::new(stream).poll_write(cx, &bytes[..most]))?;
        shaping.passed(Direction::ToClient, written);
        Poll::Ready(Ok(written))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if self.is_throttled() {
            let first = slices.iter().find(|slice| !slice.is_empty());
            return self.poll_write(cx, first.map_or(&[], |slice| slice));
        }
        let Self { stream, shaping } = self.get_mut();
        let written = ready!(Pin::new(stream).poll_write_vectored(cx, slices))?;
        if let Some(shaping) = shaping {
            shaping.passed(Direction::ToClient, written);
        }
        Poll::Ready(Ok(written))
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(cx)
    }
}
