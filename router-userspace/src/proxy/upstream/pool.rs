//! Pools: idle HTTP/1.1 connections, last used first, and shared HTTP/2 connections, per target.
//!
//! A pool belongs to a worker, whose thread alone locks it, or is the one that all workers share for destinations with
//! a connection limit. It does not know which.

use std::{
    collections::{HashMap, HashSet},
    net::SocketAddr,
    num::NonZeroU32,
    pin::Pin,
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use bytes::Bytes;
use h2::client::SendRequest;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use router_rules::{Snapshot, policy::PolicyId, snapshot::Route};
use tokio::{
    net::TcpStream,
    time::{Instant, timeout},
};

use super::{ConnectError, Http1, Http2, Lease, Target, connect};
use crate::{
    enforce::{
        Enforcement,
        breaker::{Breaker, Turn},
    },
    proxy::{limits::Limits, stats::WorkerStats},
};

/// How long to wait for a connection that has just served a request to be ready for the next.
const READY_PATIENCE: Duration = Duration::from_millis(20);

/// How long to wait for the socket of an evicted connection to be closed.
const EVICTION_PATIENCE: Duration = Duration::from_millis(200);

/// Connections to endpoints.
pub(crate) struct Pool {
    slots: Mutex<HashMap<Target, Arc<Slot>>>,
    limits: Limits,
    enforcement: Arc<dyn Enforcement>,
}

/// The connections of one target.
pub(super) struct Slot {
    target: Target,
    bound: usize,
    /// Last used last.
    idle: Mutex<Vec<(Instant, Http1)>>,
    shared: Mutex<Vec<(Instant, Arc<Http2>)>>,
    /// Held while an HTTP/2 connection is opened, so that others wait for it instead of opening their own.
    opening: tokio::sync::Mutex<()>,
    /// The configuration has no use for it any more: nothing is kept.
    retired: AtomicBool,
    /// Told when a connection or stream is free again; none: nobody waits here.
    breaker: OnceLock<Arc<Breaker>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Every critical section here is a single operation on a collection.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Slot {
    fn new(target: Target, bound: usize) -> Self {
        Self {
            target,
            bound,
            idle: Mutex::default(),
            shared: Mutex::default(),
            opening: tokio::sync::Mutex::default(),
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
        if connection.sender.is_closed() || self.retired.load(Relaxed) {
            return;
        }
        let mut idle = lock(&self.idle);
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
    async fn reuse_http1(&self, uses: Option<NonZeroU32>) -> Option<Http1> {
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

    /// A connection with a stream to spare, which is taken. One that has served its last request is lent no more.
    fn reuse_http2(
        &self,
        streams: usize,
        uses: Option<NonZeroU32>,
    ) -> Option<(Arc<Http2>, SendRequest<Bytes>)> {
        let mut shared = lock(&self.shared);
        let spent = |count: u32| uses.is_some_and(|uses| count >= uses.get());
        shared.retain(|(_, connection)| !connection.is_closed() && !spent(connection.uses.load(Relaxed)));
        loop {
            let place = shared
                .iter()
                .position(|(_, connection)| connection.streams.load(Relaxed) < streams)?;
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
    fn idle_since(&self) -> Option<Instant> {
        let http1 = lock(&self.idle).first().map(|(used, _)| *used);
        let unused = |(used, c): &(Instant, Arc<Http2>)| (c.streams.load(Relaxed) == 0).then_some(*used);
        let http2 = lock(&self.shared).iter().filter_map(unused).min();
        http1.into_iter().chain(http2).min()
    }

    /// Takes the connection out that has been idle longest, if there is any.
    fn oldest_idle(&self) -> Option<tokio::task::JoinHandle<()>> {
        let mut idle = lock(&self.idle);
        if !idle.is_empty() {
            let (_, Http1 { sender, task, .. }) = idle.remove(0);
            drop(sender);
            return Some(task);
        }
        drop(idle);
        let mut shared = lock(&self.shared);
        let position = shared.iter().position(|(_, c)| c.streams.load(Relaxed) == 0)?;
        let (_, connection) = shared.remove(position);
        drop(shared);
        Arc::into_inner(connection).map(Http2::close)
    }

    fn close_idle(&self, before: Instant) {
        lock(&self.idle).retain(|(used, connection)| *used > before && !connection.sender.is_closed());
        lock(&self.shared).retain(|(used, connection)| {
            !connection.is_closed() && (*used > before || connection.streams.load(Relaxed) > 0)
        });
    }

    fn is_unused(slot: &Arc<Self>) -> bool {
        Arc::strong_count(slot) == 1 && lock(&slot.idle).is_empty() && lock(&slot.shared).is_empty()
    }
}

impl Pool {
    pub(crate) fn new(limits: Limits, enforcement: Arc<dyn Enforcement>) -> Self {
        Self {
            slots: Mutex::default(),
            limits,
            enforcement,
        }
    }

    /// Lends a connection; a new one when there is none idle, or when `fresh` is asked for.
    ///
    /// # Errors
    ///
    /// There is none idle and no new one could be opened.
    pub(crate) async fn lend(
        &self,
        wanted: Wanted<'_>,
        stats: &Arc<WorkerStats>,
    ) -> Result<Lease, ConnectError> {
        let slot = self.slot(wanted.target);
        if let Some(breaker) = wanted.breaker {
            slot.breaker.get_or_init(|| breaker.clone());
        }
        let (fresh, uses) = (wanted.fresh, wanted.uses);
        let lease = match self.reuse(&slot, fresh, uses).await {
            Some(lease) => lease,
            None => self.open(slot, wanted, stats).await?,
        };
        Ok(lease.limited(uses))
    }

    /// A connection of `slot` that is open already.
    async fn reuse(&self, slot: &Arc<Slot>, fresh: Fresh, uses: Option<NonZeroU32>) -> Option<Lease> {
        if slot.target.http2 {
            // Whoever asks for a fresh one has retired the one that its endpoint leaves.
            let connection = slot.reuse_http2(self.limits.streams_per_connection, uses)?;
            return Some(Lease::http2(connection, slot.clone(), true));
        }
        if fresh == Fresh::Yes {
            return None;
        }
        let connection = slot.reuse_http1(uses).await?;
        Some(Lease::http1(connection, slot.clone(), true))
    }

    /// As [`Pool::open_http1`] or [`Pool::open_http2`], on the heap: few requests need it, and all would have to be as
    /// large.
    fn open<'w>(
        &'w self,
        slot: Arc<Slot>,
        wanted: Wanted<'w>,
        stats: &'w Arc<WorkerStats>,
    ) -> Pin<Box<dyn Future<Output = Result<Lease, ConnectError>> + Send + 'w>> {
        if wanted.target.http2 {
            Box::pin(self.open_http2(slot, wanted, stats))
        } else {
            Box::pin(self.open_http1(slot, wanted, stats))
        }
    }

    async fn open_http1(
        &self,
        slot: Arc<Slot>,
        wanted: Wanted<'_>,
        stats: &Arc<WorkerStats>,
    ) -> Result<Lease, ConnectError> {
        let breaker = wanted.breaker.cloned();
        let stream = match self.claim(&slot, wanted, stats).await? {
            Claimed::Reused(lease) => return Ok(lease),
            Claimed::New(stream) => stream,
        };
        let connection = self.handshake_http1(stream, Open::new(stats, breaker)).await?;
        Ok(Lease::http1(connection, slot, false))
    }

    async fn open_http2(
        &self,
        slot: Arc<Slot>,
        wanted: Wanted<'_>,
        stats: &Arc<WorkerStats>,
    ) -> Result<Lease, ConnectError> {
        let (fresh, uses) = (wanted.fresh, wanted.uses);
        let opening = slot.opening.lock().await;
        // Somebody else has opened one meanwhile.
        if let Some(lease) = self.reuse(&slot, fresh, uses).await {
            return Ok(lease);
        }
        let breaker = wanted.breaker.cloned();
        let stream = match self.claim(&slot, wanted, stats).await? {
            Claimed::Reused(lease) => return Ok(lease),
            Claimed::New(stream) => stream,
        };
        let (connection, sender) = Http2::open(stream, &self.limits, Open::new(stats, breaker))
            .await
            .map_err(std::io::Error::other)?;
        let connection = Arc::new(connection);
        if !slot.retired.load(Relaxed) && uses.is_none_or(|uses| uses.get() > 1) {
            lock(&slot.shared).push((Instant::now(), connection.clone()));
        }
        drop(opening);
        Ok(Lease::http2((connection, sender), slot, false))
    }

    fn slot(&self, target: &Target) -> Arc<Slot> {
        let mut slots = lock(&self.slots);
        if let Some(slot) = slots.get(target) {
            return slot.clone();
        }
        let slot = Arc::new(Slot::new(target.clone(), self.limits.idle_per_endpoint));
        slots.insert(target.clone(), slot.clone());
        slot
    }

    /// Connects. When the limit is reached, an idle connection of the same policy makes room, once. With a place, the
    /// turn is over: the next need not wait until the endpoint has answered.
    async fn claim(
        &self,
        slot: &Arc<Slot>,
        wanted: Wanted<'_>,
        stats: &WorkerStats,
    ) -> Result<Claimed, ConnectError> {
        let Wanted {
            target, fresh, uses, ..
        } = wanted;
        let policy = target.policy.as_deref();
        let enforcement = &*self.enforcement;
        let turn = wanted.turn;
        // Who waits asks the kernel only when it may say yes: a `connect` in vain counts as one that was refused.
        let in_vain = turn.is_some() && policy.is_some_and(|policy| !enforcement.has_room(policy));
        if !in_vain {
            let admitted = || *turn = None;
            match connect(enforcement, target.endpoint, policy, &self.limits, admitted).await {
                Err(ConnectError::LimitReached) => {}
                outcome => return outcome.map(Claimed::New),
            }
        }
        match self.make_room(slot, fresh, uses).await {
            Some(Room::Reused(lease)) => return Ok(Claimed::Reused(lease)),
            Some(Room::Evicted) => WorkerStats::add(&stats.evictions, 1),
            None => return Err(ConnectError::LimitReached),
        }
        let admitted = || *turn = None;
        let stream = connect(enforcement, target.endpoint, policy, &self.limits, admitted).await?;
        Ok(Claimed::New(stream))
    }

    /// Closes the connection that has been idle longest of those that the same policy counts, and waits until its socket
    /// is gone. One of `slot` itself, which another thread has given back since it was looked for, is lent instead. None:
    /// nothing is idle.
    async fn make_room(&self, slot: &Arc<Slot>, fresh: Fresh, uses: Option<NonZeroU32>) -> Option<Room> {
        let slots: Vec<Arc<Slot>> = lock(&self.slots)
            .values()
            .filter(|other| other.target.policy == slot.target.policy)
            .cloned()
            .collect();
        let idle = slots.iter().filter_map(|slot| Some((slot.idle_since()?, slot)));
        let (_, longest) = idle.min_by_key(|(since, _)| *since)?;
        if Arc::ptr_eq(longest, slot)
            && let Some(lease) = self.reuse(slot, fresh, uses).await
        {
            return Some(Room::Reused(lease));
        }
        let closed = timeout(EVICTION_PATIENCE, longest.oldest_idle()?).await;
        closed.is_ok().then_some(Room::Evicted)
    }

    async fn handshake_http1(&self, stream: TcpStream, open: Open) -> Result<Http1, ConnectError> {
        let (sender, connection) = http1::Builder::new()
            .max_buf_size(self.limits.http1_buffer)
            .handshake(TokioIo::new(stream))
            .await
            .map_err(std::io::Error::other)?;
        let task = tokio::spawn(async move {
            if let Err(error) = connection.with_upgrades().await {
                tracing::trace!(%error, "upstream connection ended");
            }
            drop(open);
        });
        Ok(Http1 {
            sender,
            task,
            // For the request that it was opened for.
            uses: 1,
        })
    }

    /// Closes connections that have been idle for `time`.
    pub(crate) fn close_idle(&self, time: Duration) {
        let Some(before) = Instant::now().checked_sub(time) else {
            return;
        };
        let mut slots = lock(&self.slots);
        slots.retain(|_, slot| {
            slot.close_idle(before);
            !Slot::is_unused(slot)
        });
    }

    /// True when there are, or were, connections to one of the endpoints.
    pub(crate) fn knows_any(&self, endpoints: &HashSet<SocketAddr>) -> bool {
        let slots = lock(&self.slots);
        slots.keys().any(|target| endpoints.contains(&target.endpoint))
    }

    /// Closes idle connections to targets that `snapshot` has no use for; those in use are closed afterwards.
    pub(crate) fn retire_absent(&self, snapshot: &Snapshot) {
        let mut slots = lock(&self.slots);
        if slots.is_empty() {
            return;
        }
        let mut wanted = HashSet::new();
        for subset in snapshot.subsets() {
            // Callers that no policy is for share the pool of what has no limit.
            let mut counted_by = vec![None];
            counted_by.extend(
                subset
                    .policies()
                    .filter_map(|policy| counting(snapshot, policy))
                    .map(Some),
            );
            for policy in counted_by {
                let target = |endpoint: &router_rules::model::Endpoint| Target {
                    endpoint: endpoint.address,
                    http2: subset.protocol().is_http2(),
                    policy: policy.clone(),
                };
                let known = subset
                    .endpoints()
                    .iter()
                    .map(target)
                    .filter(|t| slots.contains_key(t));
                wanted.extend(known);
            }
        }
        slots.retain(|target, slot| {
            let wanted = wanted.contains(target);
            if !wanted {
                slot.retired.store(true, Relaxed);
            }
            wanted
        });
    }
}

/// The policy that counts connections to a subset of a route, when it has a limit.
pub(crate) fn limited_policy(
    snapshot: &Snapshot,
    route: &Route<'_>,
    subset: &router_rules::snapshot::Subset,
) -> Option<Arc<str>> {
    counting(snapshot, route.policy(subset)?)
}

fn counting(snapshot: &Snapshot, policy: PolicyId) -> Option<Arc<str>> {
    let policy = snapshot.policy(policy);
    policy.max_connections.map(|_| policy.origin.object.clone())
}

/// Whether an idle connection will do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Fresh {
    No,
    Yes,
}

/// A request for a connection.
pub(crate) struct Wanted<'w> {
    pub(crate) target: &'w Target,
    pub(crate) fresh: Fresh,
    /// Told when the connection is free again, or closed.
    pub(crate) breaker: Option<&'w Arc<Breaker>>,
    /// Requests that a connection may serve; none: any number.
    pub(crate) uses: Option<NonZeroU32>,
    /// The turn of a request that waits. It is over when there is a connection, or a place for one.
    pub(crate) turn: &'w mut Option<Turn>,
}

/// What came of a claim to a connection.
enum Claimed {
    New(TcpStream),
    Reused(Lease),
}

/// How there is room under a limit that was reached.
enum Room {
    Evicted,
    /// There need not be any: a connection of the same target is free.
    Reused(Lease),
}

/// Counts an upstream connection while its socket is open.
struct Open {
    stats: Arc<WorkerStats>,
    breaker: Option<Arc<Breaker>>,
}

impl Open {
    fn new(stats: &Arc<WorkerStats>, breaker: Option<Arc<Breaker>>) -> Self {
        WorkerStats::add(&stats.upstream_opened, 1);
        Self {
            stats: stats.clone(),
            breaker,
        }
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        WorkerStats::add(&self.stats.upstream_closed, 1);
        if let Some(breaker) = &self.breaker {
            breaker.vacated();
        }
    }
}
