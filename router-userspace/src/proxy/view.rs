//! A snapshot with the proxy's own state beside it: whose turn it is, and how many requests each endpoint has.
//!
//! Turns are shared by all workers, so that shares are exact over the whole proxy, and outlive the snapshot: a rule
//! or subset that is still there in the next one goes on where it was. State is made when it is first needed, so a
//! new snapshot costs nothing for services that the proxy never sees.

use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak,
        atomic::{AtomicU32, AtomicU64, Ordering::Relaxed},
    },
};

use arc_swap::ArcSwap;
use router_rules::{
    Snapshot,
    chunks::Chunks,
    id::ServiceName,
    labels::Labels,
    policy::PolicyId,
    snapshot::{Route, Subset, SubsetId},
};

use super::admission::RequestLimits;
use crate::{
    enforce::{
        breaker::{Breaker, Breakers, RetryBudget},
        outlier::{Outliers, Watch},
    },
    live::Live,
};

/// A counter that is taken by adding to it.
pub(crate) type Cursor = Arc<AtomicU64>;

/// A snapshot and the state of its rules and subsets.
#[derive(Debug)]
pub(crate) struct View {
    pub(crate) snapshot: Arc<Snapshot>,
    rules: Arc<[OnceLock<Cursor>]>,
    subsets: Chunks<OnceLock<Arc<SubsetState>>>,
    /// By policy.
    breakers: Arc<[OnceLock<Arc<Breaker>>]>,
}

/// What load balancing keeps of a subset.
#[derive(Debug)]
pub(crate) struct SubsetState {
    /// Whose turn it is.
    pub(crate) cursor: Cursor,
    /// Requests in flight, per endpoint in the subset's order; empty unless the policy asks for it.
    pub(crate) in_flight: Box<[Arc<AtomicU32>]>,
    /// Bounds retries where the policy does not.
    pub(crate) retries: Arc<RetryBudget>,
    /// Its endpoints as each policy sees them that may be in force and ejects.
    pub(crate) watches: Box<[(PolicyId, Watch)]>,
}

impl SubsetState {
    /// The endpoints as `policy` sees them; none: it ejects nobody.
    pub(crate) fn watch(&self, policy: Option<PolicyId>) -> Option<&Watch> {
        if self.watches.is_empty() {
            return None;
        }
        let mut watches = self.watches.iter();
        watches.find_map(|(id, watch)| (Some(*id) == policy).then_some(watch))
    }
}

/// Identity of a rule on a port, from one snapshot to the next.
type RuleKey = (Arc<str>, ServiceName, u16);
/// Identity of a subset, from one snapshot to the next.
type SubsetKey = (ServiceName, u16, Labels);

/// State that outlives a snapshot.
#[derive(Debug, Default)]
struct Carried {
    rules: HashMap<RuleKey, Cursor>,
    subsets: HashMap<SubsetKey, (Cursor, Arc<RetryBudget>)>,
    in_flight: HashMap<SocketAddr, Weak<AtomicU32>>,
}

impl Carried {
    fn forget_absent(&mut self, snapshot: &Snapshot) {
        self.rules
            .retain(|(_, service, port), _| snapshot.port_of(service, *port).is_some());
        self.subsets
            .retain(|(service, port, _), _| snapshot.port_of(service, *port).is_some());
        self.forget_endpoints();
    }

    fn forget_endpoints(&mut self) {
        self.in_flight.retain(|_, count| count.strong_count() > 0);
    }

    fn in_flight(&mut self, endpoint: SocketAddr) -> Arc<AtomicU32> {
        if let Some(count) = self.in_flight.get(&endpoint).and_then(Weak::upgrade) {
            return count;
        }
        let count = Arc::default();
        self.in_flight.insert(endpoint, Arc::downgrade(&count));
        count
    }
}

/// The view of the snapshot in force.
#[derive(Debug)]
pub(crate) struct Views {
    live: Arc<Live>,
    current: ArcSwap<View>,
    carried: Mutex<Carried>,
    outliers: Arc<Outliers>,
    breakers: Arc<Breakers>,
}

impl Views {
    pub(crate) fn new(live: Arc<Live>, outliers: Arc<Outliers>) -> Self {
        let first = View::of(live.load());
        outliers.follow(&first.snapshot);
        Self {
            live,
            current: ArcSwap::from_pointee(first),
            carried: Mutex::default(),
            outliers,
            breakers: Arc::default(),
        }
    }

    pub(crate) fn outliers(&self) -> &Outliers {
        &self.outliers
    }

    /// The view of the snapshot in force now. A request loads it once and keeps it.
    pub(crate) fn load(&self) -> Arc<View> {
        let snapshot = self.live.load();
        let view = self.current.load();
        if Arc::ptr_eq(&view.snapshot, &snapshot) {
            return Arc::clone(&view);
        }
        drop(view);
        self.renew(snapshot)
    }

    fn renew(&self, snapshot: Arc<Snapshot>) -> Arc<View> {
        let mut carried = self.carried();
        // Another worker may have been first; a stale one must not put an older snapshot back.
        let view = self.current.load_full();
        if Arc::ptr_eq(&view.snapshot, &snapshot) {
            return view;
        }
        let moved = snapshot.moved_since(&view.snapshot);
        let renewed = Arc::new(match &moved {
            Some(moved) => view.with(snapshot, moved),
            None => View::of(snapshot),
        });
        if Arc::ptr_eq(&self.live.load(), &renewed.snapshot) {
            match moved {
                Some(moved) => self.follow(&renewed.snapshot, &moved, &mut carried),
                None => {
                    carried.forget_absent(&renewed.snapshot);
                    self.breakers.forget_absent(&renewed.snapshot);
                    self.outliers.follow(&renewed.snapshot);
                }
            }
            self.current.store(renewed.clone());
        }
        renewed
    }

    /// Forgets endpoints that are gone, when nothing else is different.
    fn follow(&self, snapshot: &Snapshot, moved: &[SubsetId], carried: &mut Carried) {
        let moved = || moved.iter().map(|&id| snapshot.subset(id));
        if moved().any(Subset::counts_load) {
            carried.forget_endpoints();
        }
        self.outliers
            .follow_policies(snapshot, moved().flat_map(Subset::policies));
    }

    fn carried(&self) -> MutexGuard<'_, Carried> {
        // The maps are valid after every single operation on them.
        self.carried.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The turn of a request that took `route`: every turn is taken exactly once.
    pub(crate) fn take_turn(&self, view: &View, route: &Route<'_>) -> u64 {
        let Some(rule) = route.rule() else {
            return 0;
        };
        let cursor = view.rules[rule.id().0 as usize].get_or_init(|| {
            let port = route.port();
            let key = (
                rule.origin().object.clone(),
                port.service().clone(),
                port.number(),
            );
            self.carried().rules.entry(key).or_default().clone()
        });
        cursor.fetch_add(1, Relaxed)
    }

    /// Limits on requests of the policy in force at a subset of `view`; none when it has none.
    pub(crate) fn request_limits<'v>(
        &self,
        view: &'v View,
        route: &Route<'_>,
        subset: &Subset,
    ) -> Option<RequestLimits<'v>> {
        let id = route.policy(subset)?;
        let policy = view.snapshot.policy(id);
        if policy.http.is_empty() {
            return None;
        }
        let breaker = &view.breakers[id.0 as usize];
        Some(RequestLimits {
            limits: policy.http,
            breaker: breaker.get_or_init(|| self.breakers.of(&policy.origin.object)),
        })
    }

    /// The breakers of all policies.
    pub(crate) const fn breakers(&self) -> &Arc<Breakers> {
        &self.breakers
    }

    /// The state of a subset of `view`.
    pub(crate) fn subset<'v>(&self, view: &'v View, subset: &Subset) -> &'v SubsetState {
        view.subsets[subset.id().0 as usize].get_or_init(|| {
            let mut carried = self.carried();
            let key = (subset.service().clone(), subset.port(), subset.labels().clone());
            let (cursor, retries) = carried.subsets.entry(key).or_default().clone();
            let endpoints = if subset.counts_load() {
                subset.endpoints()
            } else {
                &[]
            };
            let watch = |id| Some((id, self.outliers.watch(&view.snapshot, subset, id)?));
            Arc::new(SubsetState {
                cursor,
                in_flight: endpoints.iter().map(|e| carried.in_flight(e.address)).collect(),
                retries,
                watches: subset.policies().filter_map(watch).collect(),
            })
        })
    }
}

impl View {
    fn of(snapshot: Arc<Snapshot>) -> Self {
        Self {
            rules: std::iter::repeat_with(OnceLock::new)
                .take(snapshot.rule_count())
                .collect(),
            subsets: std::iter::repeat_with(OnceLock::new)
                .take(snapshot.subsets().len())
                .collect(),
            breakers: std::iter::repeat_with(OnceLock::new)
                .take(snapshot.policies().len())
                .collect(),
            snapshot,
        }
    }

    /// The view of another snapshot in which nothing but the endpoints of subsets `moved`.
    fn with(&self, snapshot: Arc<Snapshot>, moved: &[SubsetId]) -> Self {
        let mut subsets = self.subsets.clone();
        for id in moved {
            if let Some(state) = subsets.get_mut(id.0 as usize) {
                // It is in the order of the endpoints; what outlives them is carried.
                *state = OnceLock::new();
            }
        }
        Self {
            rules: self.rules.clone(),
            subsets,
            breakers: self.breakers.clone(),
            snapshot,
        }
    }
}
