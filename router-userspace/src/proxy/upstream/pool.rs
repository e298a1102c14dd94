//! Pools: idle HTTP/1.1 connections, last used first, and shared HTTP/2 connections, per target.
//!
//! A pool belongs to a worker, whose thread alone locks it, or is the one that all workers share for destinations with
//! a connection limit. It does not know which.

use std::{
    collections::{HashMap, HashSet},
    net::SocketAddr,
    num::NonZeroU32,
    pin::Pin,
    sync::{Arc, Mutex, atomic::Ordering::Relaxed},
    time::Duration,
};

use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use router_rules::{Snapshot, policy::PolicyId, snapshot::Route};
use tokio::{
    net::TcpStream,
    time::{Instant, timeout},
};

use super::{
    ConnectError, Http1, Http2, Lease, Target, connect,
    slot::{Slot, lock},
};
use crate::{
    enforce::{
        Enforcement,
        breaker::{Breaker, Turn},
    },
    proxy::{limits::Limits, stats::WorkerStats},
};

/// How long to wait for the socket of an evicted connection to be closed.
const EVICTION_PATIENCE: Duration = Duration::from_millis(200);

/// Connections to endpoints.
pub(crate) struct Pool {
    slots: Mutex<HashMap<Target, Arc<Slot>>>,
    limits: Limits,
    enforcement: Arc<dyn Enforcement>,
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
            let most = |connection: &Http2| self.limits.streams_per_connection.min(connection.allowed());
            let connection = slot.reuse_http2(most, uses)?;
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
        let failures = slot.failures.load(Relaxed);
        let mut opening = slot.opening.lock().await;
        // Somebody else has opened one meanwhile,
        if let Some(lease) = self.reuse(&slot, fresh, uses).await {
            return Ok(lease);
        }
        // or failed to: whoever has waited for that does not wait for as many failures as there are others before it.
        if slot.failures.load(Relaxed) != failures
            && let Some(error) = opening.as_ref().and_then(ConnectError::shared)
        {
            return Err(error);
        }
        let breaker = wanted.breaker.cloned();
        let opened = match self.claim(&slot, wanted, stats).await {
            Ok(Claimed::Reused(lease)) => return Ok(lease),
            Ok(Claimed::New(stream)) => Http2::open(stream, &self.limits, Open::new(stats, breaker)).await,
            Err(error) => Err(error),
        };
        let (connection, sender) = opened.inspect_err(|error| {
            if let Some(shared) = error.shared() {
                slot.failures.fetch_add(1, Relaxed);
                *opening = Some(shared);
            }
        })?;
        let connection = Arc::new(connection);
        if uses.is_none_or(|uses| uses.get() > 1) {
            slot.share(&connection);
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
            target,
            fresh,
            uses,
            may_crowd,
            ..
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
            None if !may_crowd => return Err(ConnectError::LimitReached),
            None => {
                let connection = slot.reuse_http2(|_| self.limits.streams_per_connection, uses);
                let lease = connection.map(|connection| Lease::http2(connection, slot.clone(), true));
                return lease.map(Claimed::Reused).ok_or(ConnectError::LimitReached);
            }
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
        let mut idle: Vec<_> = idle.collect();
        idle.sort_unstable_by_key(|(since, _)| *since);
        for (_, other) in idle {
            if Arc::ptr_eq(other, slot)
                && let Some(lease) = self.reuse(slot, fresh, uses).await
            {
                return Some(Room::Reused(lease));
            }
            // None: another thread was faster.
            if let Some(closing) = other.oldest_idle() {
                let closed = timeout(EVICTION_PATIENCE, closing).await;
                return closed.is_ok().then_some(Room::Evicted);
            }
        }
        None
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
                slot.retire();
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
    /// Whether it may wait for a stream within a connection, where there is neither another nor a line to wait in.
    pub(crate) may_crowd: bool,
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
