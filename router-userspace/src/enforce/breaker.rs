//! Requests and retries that are under way, and requests that wait: counted for each policy with limits on them, over
//! all threads of the proxy.
//!
//! Counts belong to the name of a policy and outlive snapshots, so that a reload neither forgets nor doubles anybody.
//! The limits themselves come with each question, from the snapshot that the request follows. A place costs one atomic
//! operation; only requests that wait take a lock. It does not know what connections are.

use std::{
    collections::HashMap,
    fmt,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU32, AtomicU64, Ordering::Relaxed},
    },
};

use router_rules::Snapshot;

mod budget;
mod queue;

pub use budget::{BUDGET_MIN, BUDGET_PERCENT, Budgeted, BudgetedRetry, RetryBudget};
use queue::Queue;
pub use queue::Turn;

/// What is under way under a policy.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct RequestUse {
    /// Requests that are with endpoints now.
    pub active: u32,
    /// Requests that wait for a connection now.
    pub pending: u32,
    /// Retries that are under way now.
    pub retries: u32,
    /// Requests refused so far because as many were with endpoints as may be.
    pub refused: u64,
    /// Requests refused so far because as many waited as may.
    pub refused_pending: u64,
    /// Retries not made so far because as many were under way as may be.
    pub refused_retries: u64,
}

/// The breakers of a node, by the object names of their policies.
#[derive(Debug, Default)]
pub struct Breakers(Mutex<HashMap<Arc<str>, Arc<Breaker>>>);

impl Breakers {
    /// The breaker of a policy; made when it is asked for first.
    pub fn of(&self, policy: &Arc<str>) -> Arc<Breaker> {
        self.all().entry(policy.clone()).or_default().clone()
    }

    /// What is under way under a policy; none: no request has asked yet.
    pub fn usage(&self, policy: &str) -> Option<RequestUse> {
        self.all().get(policy).map(|breaker| breaker.usage())
    }

    /// Forgets policies that `snapshot` does not have and that nothing is under way under.
    pub fn forget_absent(&self, snapshot: &Snapshot) {
        let mut all = self.all();
        if all.is_empty() {
            return;
        }
        let policies = snapshot.policies().iter().map(|p| &*p.origin.object);
        let wanted: std::collections::HashSet<&str> = policies.collect();
        // Whoever is under way, or may still begin by an older snapshot, holds the breaker.
        all.retain(|name, breaker| wanted.contains(&**name) || Arc::strong_count(breaker) > 1);
    }

    fn all(&self) -> MutexGuard<'_, HashMap<Arc<str>, Arc<Breaker>>> {
        // The map is valid after every single operation on it.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Counts of one policy.
#[derive(Default)]
pub struct Breaker {
    active: AtomicU32,
    retries: AtomicU32,
    refused: AtomicU64,
    refused_pending: AtomicU64,
    refused_retries: AtomicU64,
    queue: Queue,
}

impl fmt::Debug for Breaker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.usage().fmt(f)
    }
}

impl Breaker {
    /// Takes a place among the requests that are with endpoints, of which there may be `max`; none: no limit. Nothing
    /// is counted as refused: a request that waits asks more than once.
    pub fn begin(self: &Arc<Self>, max: Option<u32>) -> Option<Place> {
        take(&self.active, max).then(|| Place {
            breaker: self.clone(),
            silent: false,
        })
    }

    /// Takes a place among the retries that are under way, of which there may be `max`.
    pub fn retry(self: &Arc<Self>, max: u32) -> Option<RetryPlace> {
        let taken = take(&self.retries, Some(max));
        if !taken {
            self.refused_retries.fetch_add(1, Relaxed);
        }
        taken.then(|| RetryPlace(self.clone()))
    }

    /// Counts a request that was refused for want of a place.
    pub fn refuse(&self) {
        self.refused.fetch_add(1, Relaxed);
    }

    /// True when somebody waits, so that others must line up behind.
    pub fn is_waited_for(&self) -> bool {
        !self.queue.is_empty()
    }

    /// Lines up behind those that wait, of which there may be `max`.
    pub fn line_up(self: &Arc<Self>, max: u32) -> Option<Turn> {
        let turn = Queue::join(self, max);
        if turn.is_none() {
            self.refused_pending.fetch_add(1, Relaxed);
        }
        turn
    }

    /// A place or a connection has become free: whoever waits first looks again.
    pub fn vacated(&self) {
        self.queue.wake_first();
    }

    /// What is under way. The counts are read one after the other, not at one instant.
    pub fn usage(&self) -> RequestUse {
        RequestUse {
            active: self.active.load(Relaxed),
            pending: self.queue.len(),
            retries: self.retries.load(Relaxed),
            refused: self.refused.load(Relaxed),
            refused_pending: self.refused_pending.load(Relaxed),
            refused_retries: self.refused_retries.load(Relaxed),
        }
    }
}

/// Adds one unless `max` is reached. Compared before it is added, unlike in the kernel: an addition that is taken back
/// could keep out somebody for whom there is room.
fn take(count: &AtomicU32, max: Option<u32>) -> bool {
    let max = max.unwrap_or(u32::MAX);
    let add = |n: u32| (n < max).then(|| n + 1);
    count.fetch_update(Relaxed, Relaxed, add).is_ok()
}

/// A place among the requests that are with endpoints, until it is dropped.
#[derive(Debug)]
pub struct Place {
    breaker: Arc<Breaker>,
    silent: bool,
}

impl Place {
    /// Gives the place back without waking anybody: its owner is the first that waits, and would wake itself.
    pub fn give_back_silently(mut self) {
        self.silent = true;
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.breaker.active.fetch_sub(1, Relaxed);
        if !self.silent {
            self.breaker.vacated();
        }
    }
}

/// A place among the retries that are under way, until it is dropped.
#[derive(Debug)]
pub struct RetryPlace(Arc<Breaker>);

impl Drop for RetryPlace {
    fn drop(&mut self) {
        self.0.retries.fetch_sub(1, Relaxed);
    }
}

#[cfg(test)]
mod tests;
