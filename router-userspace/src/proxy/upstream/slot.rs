//! The connections of one target: idle ones of HTTP/1.1, last used first, and shared ones of HTTP/2.
//!
//! It opens none, and does not know which targets there are besides.

use std::{
    num::NonZeroU32,
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicBool, AtomicU32, Ordering::Relaxed},
    },
    time::Duration,
};

use bytes::Bytes;
use h2::client::SendRequest;
use tokio::time::{Instant, timeout};

use super::{ConnectError, Http1, Http2, Target};
use crate::enforce::breaker::Breaker;

/// How long to wait for a connection that has just served a request to be ready for the next.
const READY_PATIENCE: Duration = Duration::from_millis(20);

/// The connections of one target.
pub(super) struct Slot {
    pub(super) target: Target,
    bound: usize,
    /// Last used last.
    idle: Mutex<Vec<(Instant, Http1)>>,
    shared: Mutex<Vec<(Instant, Arc<Http2>)>>,
    /// Held while an HTTP/2 connection is opened, so that others wait for it instead of opening their own. It holds how
    /// that failed last.
    pub(super) opening: tokio::sync::Mutex<Option<ConnectError>>,
    /// How often it failed.
    pub(super) failures: AtomicU32,
    /// The configuration has no use for it any more: nothing is kept.
    retired: AtomicBool,
    /// Told when a connection or stream is free again; none: nobody waits here.
    pub(super) breaker: OnceLock<Arc<Breaker>>,
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Every critical section here is a single operation on a collection.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Slot {
    pub(super) fn new(target: Target, bound: usize) -> Self {
        Self {
            target,
            bound,
            idle: Mutex::default(),
            shared: Mutex::default(),
            opening: tokio::sync::Mutex::default(),
            failures: AtomicU32::new(0),
            retired: AtomicBool::new(false),
            breaker: OnceLock::new(),
        }
    }

    /// A connection or a stream is free again.
    pub(super) fn vacated(&self) {
        if let Some(breaker) = self.breaker.get() {
            breaker.vacated();
        }
    }

    /// Keeps a connection for the next request.
    pub(super) fn keep(&self, connection: Http1) {
        if connection.sender.is_closed() {
            return;
        }
        let mut idle = lock(&self.idle);
        // Under the lock, so that nothing is kept after `retire` has closed what was.
        if self.retired.load(Relaxed) {
            return;
        }
        if idle.len() >= self.bound {
            idle.remove(0);
        }
        idle.push((Instant::now(), connection));
        drop(idle);
        self.vacated();
    }

    /// The idle connection used last, of those that have served fewer than `uses` requests.
    fn pop(&self, uses: Option<NonZeroU32>) -> Option<Http1> {
        let mut idle = lock(&self.idle);
        let fit = |(_, c): &(Instant, Http1)| uses.is_none_or(|uses| c.uses < uses.get());
        let place = idle.iter().rposition(fit)?;
        let (_, mut connection) = idle.remove(place);
        connection.uses = connection.uses.saturating_add(1);
        Some(connection)
    }

    /// An idle connection that is still open.
    pub(super) async fn reuse_http1(&self, uses: Option<NonZeroU32>) -> Option<Http1> {
        while let Some(mut connection) = self.pop(uses) {
            if connection.sender.is_ready() {
                return Some(connection);
            }
            // Its last response has just ended and its task has not had its turn yet, or it was closed.
            if matches!(
                timeout(READY_PATIENCE, connection.sender.ready()).await,
                Ok(Ok(()))
            ) {
                return Some(connection);
            }
        }
        None
    }

    /// Keeps a connection that others may open streams on.
    pub(super) fn share(&self, connection: &Arc<Http2>) {
        let mut shared = lock(&self.shared);
        // Beyond the bound it serves the request that it was opened for.
        if !self.retired.load(Relaxed) && shared.len() < self.bound {
            shared.push((Instant::now(), connection.clone()));
        }
    }

    /// The configuration has no use for it any more: what is idle is closed, and what is in use afterwards.
    pub(super) fn retire(&self) {
        self.retired.store(true, Relaxed);
        lock(&self.idle).clear();
        lock(&self.shared).clear();
    }

    /// A stream of a connection with fewer than `most` allows it, which is taken. One that has served its last request is lent no
    /// more.
    pub(super) fn reuse_http2(
        &self,
        most: impl Fn(&Http2) -> usize,
        uses: Option<NonZeroU32>,
    ) -> Option<(Arc<Http2>, SendRequest<Bytes>)> {
        let mut shared = lock(&self.shared);
        let spent = |count: u32| uses.is_some_and(|uses| count >= uses.get());
        // Under a limit there may be no place for another connection.
        let is_replaceable = |c: &Http2| self.target.policy.is_none() || c.streams.load(Relaxed) == 0;
        let is_over =
            |c: &Http2| c.is_closed() || spent(c.uses.load(Relaxed)) || c.is_worn() && is_replaceable(c);
        shared.retain(|(_, connection)| !is_over(connection));
        loop {
            let place = shared
                .iter()
                .position(|(_, connection)| connection.streams.load(Relaxed) < most(connection))?;
            let Some(sender) = shared[place].1.sender() else {
                // It ends with its last stream.
                shared.remove(place);
                continue;
            };
            let (used, connection) = &mut shared[place];
            *used = Instant::now();
            connection.streams.fetch_add(1, Relaxed);
            let count = connection.uses.fetch_add(1, Relaxed) + 1;
            let connection = connection.clone();
            if spent(count) {
                shared.remove(place);
            }
            return Some((connection, sender));
        }
    }

    /// Lends a shared connection to nobody from now on.
    pub(super) fn forget(&self, connection: &Arc<Http2>) {
        lock(&self.shared).retain(|(_, other)| !Arc::ptr_eq(other, connection));
    }

    /// Since when its longest idle connection has been idle; none: there is none.
    pub(super) fn idle_since(&self) -> Option<Instant> {
        let http1 = lock(&self.idle).first().map(|(used, _)| *used);
        let unused = |(used, c): &(Instant, Arc<Http2>)| (c.streams.load(Relaxed) == 0).then_some(*used);
        let http2 = lock(&self.shared).iter().filter_map(unused).min();
        http1.into_iter().chain(http2).min()
    }

    /// Takes the connection out that has been idle longest, if there is any.
    pub(super) fn oldest_idle(&self) -> Option<tokio::task::JoinHandle<()>> {
        let mut idle = lock(&self.idle);
        if !idle.is_empty() {
            let (_, Http1 { sender, task, .. }) = idle.remove(0);
            drop(sender);
            return Some(task);
        }
        drop(idle);
        let mut shared = lock(&self.shared);
        // Whoever has just given back its last stream may hold it for a moment.
        let unused = |c: &Arc<Http2>| c.streams.load(Relaxed) == 0 && Arc::strong_count(c) == 1;
        let position = shared.iter().position(|(_, c)| unused(c))?;
        let (_, connection) = shared.remove(position);
        drop(shared);
        Arc::into_inner(connection).map(Http2::close)
    }

    pub(super) fn close_idle(&self, before: Instant) {
        lock(&self.idle).retain(|(used, connection)| *used > before && !connection.sender.is_closed());
        lock(&self.shared).retain(|(used, connection)| {
            !connection.is_closed() && (*used > before || connection.streams.load(Relaxed) > 0)
        });
    }

    pub(super) fn is_unused(slot: &Arc<Self>) -> bool {
        Arc::strong_count(slot) == 1 && lock(&slot.idle).is_empty() && lock(&slot.shared).is_empty()
    }
}
