//! Outlier detection of the node: counts what attempts say about endpoints, ejects those that fail, takes them back.
//!
//! One for all threads of the proxy. An attempt that succeeds costs two loads, one that fails an addition; only a streak
//! of failures and the sweeps take a lock. Who is ejected is decided by [`router_rules::outlier`]; what counts as a
//! failure is the proxy's business, and what the kernel makes of it the datapath's.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    fmt,
    net::SocketAddr,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use router_rules::{
    Snapshot,
    connection::Transport,
    outlier::{Detector, Ejected, Streak, Verdict},
    policy::{OutlierDetection, PolicyId},
    snapshot::Subset,
};
use tracing::info;

use crate::clock;

/// How long a sweep may be put off when no policy asks for it earlier: a policy that comes is noticed after this time.
const SWEEP_AT_LEAST_EVERY: Duration = Duration::from_secs(1);

/// What there is to know of one policy's ejections.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PolicyOutliers {
    /// Object name of the policy.
    pub policy: Arc<str>,
    /// Ejections since the policy came.
    pub ejections: u64,
    /// Endpoints that failed often enough and stayed all the same, because of the policy's share.
    pub kept: u64,
    /// Endpoints that are ejected now, each with the time until it is to come back.
    pub ejected: Vec<(SocketAddr, Duration)>,
}

/// Outlier detection of every policy that asks for it.
pub struct Outliers {
    now: Box<dyn Fn() -> Duration + Send + Sync>,
    changed: Box<dyn Fn() -> bool + Send + Sync>,
    /// A change that nobody could be told of yet.
    untold: AtomicBool,
    policies: Mutex<BTreeMap<Arc<str>, Arc<Policy>>>,
}

impl Default for Outliers {
    /// By the machine's clock, for a node on which nobody else wants to know.
    fn default() -> Self {
        Self::new(clock::kernel, || true)
    }
}

impl fmt::Debug for Outliers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Outliers").finish_non_exhaustive()
    }
}

/// A policy's endpoints. Bounded by the policy's subsets.
#[derive(Debug)]
struct Policy {
    name: Arc<str>,
    /// Failures in a row after which an endpoint may be ejected.
    limit: AtomicU32,
    /// Number of endpoints that are ejected, so that picking one need not look further while there are none.
    ejected: AtomicU32,
    ejections: AtomicU64,
    kept: AtomicU64,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    detector: Detector,
    endpoints: HashMap<SocketAddr, Arc<Endpoint>>,
}

/// What the proxy's threads touch.
#[derive(Debug)]
struct Endpoint {
    address: SocketAddr,
    streak: Streak,
    ejected: AtomicBool,
}

impl Endpoint {
    fn new(address: SocketAddr) -> Arc<Self> {
        Arc::new(Self {
            address,
            streak: Streak::default(),
            ejected: AtomicBool::new(false),
        })
    }
}

impl Outliers {
    /// `now` is a monotonic clock. `changed` is called when endpoints were ejected or came back; it must not block, and
    /// is called again later when it says that it could not pass that on.
    pub fn new(
        now: impl Fn() -> Duration + Send + Sync + 'static,
        changed: impl Fn() -> bool + Send + Sync + 'static,
    ) -> Self {
        Self {
            now: Box::new(now),
            changed: Box::new(changed),
            untold: AtomicBool::new(false),
            policies: Mutex::default(),
        }
    }

    /// Follows another snapshot: policies and endpoints that it still has keep what is known of them, others are
    /// forgotten.
    pub fn follow(&self, snapshot: &Snapshot) {
        let now = (self.now)();
        // Policies of one name in two namespaces are one here, as they are in the kernel's maps.
        let mut wanted: BTreeMap<&Arc<str>, (OutlierDetection, Vec<PolicyId>)> = BTreeMap::new();
        for (policy, id) in snapshot.policies().iter().zip((0..).map(PolicyId)) {
            if let Some(settings) = policy.outlier_detection {
                let (_, ids) = wanted
                    .entry(&policy.origin.object)
                    .or_insert_with(|| (settings, Vec::new()));
                ids.push(id);
            }
        }
        let mut policies = lock(&self.policies);
        let mut earlier = std::mem::take(&mut *policies);
        for (name, (settings, ids)) in wanted {
            let watched = earlier
                .remove(name)
                .unwrap_or_else(|| Arc::new(Policy::new(name.clone(), settings, now)));
            watched.follow(settings, watched_by(snapshot, &ids).into_iter());
            policies.insert(name.clone(), watched);
        }
    }

    /// Follows a snapshot in which nothing is different but endpoints of subsets that `policies` are for.
    pub fn follow_policies(&self, snapshot: &Snapshot, policies: impl Iterator<Item = PolicyId>) {
        let ejecting = policies.map(|id| snapshot.policy(id));
        let ejecting = ejecting.filter(|policy| policy.outlier_detection.is_some());
        let names: BTreeSet<_> = ejecting.map(|policy| &policy.origin.object).collect();
        for name in names {
            let all = snapshot.policies().iter().zip((0..).map(PolicyId));
            let same = all.filter(|(policy, _)| policy.origin.object == *name);
            let mut settings = None;
            let ejects = |(policy, id): (&router_rules::policy::Policy, _)| {
                settings = settings.or(policy.outlier_detection);
                policy.outlier_detection.map(|_| id)
            };
            let ids: Vec<_> = same.filter_map(ejects).collect();
            let policy = lock(&self.policies).get(name).cloned();
            if let Some((policy, settings)) = policy.zip(settings) {
                policy.follow(settings, watched_by(snapshot, &ids).into_iter());
            }
        }
    }

    /// What the proxy needs to report attempts at endpoints of `subset` under a policy; none when the policy ejects
    /// nobody.
    pub fn watch(self: &Arc<Self>, snapshot: &Snapshot, subset: &Subset, policy: PolicyId) -> Option<Watch> {
        let of = snapshot.policy(policy);
        of.outlier_detection.filter(|_| is_seen(subset))?;
        let policy = lock(&self.policies).get(&of.origin.object).cloned()?;
        let state = lock(&policy.state);
        let known = |address| {
            let known = state.endpoints.get(&address).cloned();
            known.unwrap_or_else(|| Endpoint::new(address))
        };
        let endpoints = subset.endpoints().iter().map(|e| known(e.address)).collect();
        drop(state);
        Some(Watch {
            outliers: Arc::clone(self),
            policy,
            endpoints,
        })
    }

    /// Takes endpoints back whose time is over. To be called again after what it returns, at the latest.
    pub fn sweep(&self) -> Duration {
        let now = (self.now)();
        let policies: Vec<_> = lock(&self.policies).values().cloned().collect();
        let mut next = SWEEP_AT_LEAST_EVERY;
        let mut changed = self.untold.load(Relaxed);
        for policy in policies {
            let mut state = lock(&policy.state);
            for address in state.detector.sweep(now) {
                policy.takes_back(&state, address);
                changed = true;
            }
            next = next.min(state.detector.next_sweep().saturating_sub(now));
        }
        if changed {
            self.tell();
        }
        next
    }

    /// Who is ejected now.
    pub fn ejected(&self) -> Ejected {
        let policies: Vec<_> = lock(&self.policies).values().cloned().collect();
        let ejected = |policy: &Arc<Policy>| {
            let state = lock(&policy.state);
            let addresses = state.detector.ejected().map(|(address, _)| address).collect();
            (policy.name.clone(), addresses)
        };
        let failing = policies.iter().filter(|p| p.ejected.load(Relaxed) > 0);
        Ejected(failing.map(ejected).collect())
    }

    /// Endpoints of a subset that connections under a policy are to keep away from, as the kernel does. For those that
    /// are not watched one by one: it looks at the whole snapshot when somebody is ejected.
    pub fn avoided(&self, snapshot: &Snapshot, subset: &Subset, policy: Option<PolicyId>) -> Vec<SocketAddr> {
        if policy.is_none_or(|id| snapshot.policy(id).outlier_detection.is_none()) {
            return Vec::new();
        }
        let ejected = self.ejected();
        let in_force = ejected.in_force(snapshot);
        let left: HashSet<_> = in_force.left(subset, policy).map(|e| e.address).collect();
        let all = subset.endpoints().iter().map(|e| e.address);
        all.filter(|address| !left.contains(address)).collect()
    }

    /// What there is to know, by policy.
    pub fn report(&self) -> Vec<PolicyOutliers> {
        let now = (self.now)();
        let policies: Vec<_> = lock(&self.policies).values().cloned().collect();
        let report = |policy: &Arc<Policy>| PolicyOutliers {
            policy: policy.name.clone(),
            ejections: policy.ejections.load(Relaxed),
            kept: policy.kept.load(Relaxed),
            ejected: lock(&policy.state)
                .detector
                .ejected()
                .map(|(address, back)| (address, back.saturating_sub(now)))
                .collect(),
        };
        policies.iter().map(report).collect()
    }

    fn failed(&self, policy: &Policy, address: SocketAddr) {
        let mut state = lock(&policy.state);
        match state.detector.failed(address, (self.now)()) {
            Verdict::Ejected(lasts) => {
                policy.ejects(&state, address);
                drop(state);
                let errors = policy.limit.load(Relaxed);
                info!(policy = %policy.name, endpoint = %address, errors, at_least = ?lasts, "endpoint ejected");
                self.tell();
            }
            Verdict::EnoughEjected => {
                policy.kept.fetch_add(1, Relaxed);
            }
            Verdict::AlreadyEjected | Verdict::Unknown => {}
        }
    }

    fn tell(&self) {
        self.untold.store(!(self.changed)(), Relaxed);
    }
}

/// The subsets whose requests and connections one of the policies looks at.
fn watched_by<'s>(snapshot: &'s Snapshot, policies: &[PolicyId]) -> Vec<&'s Subset> {
    let services: BTreeSet<_> = policies
        .iter()
        .map(|&id| &snapshot.policy(id).destination)
        .collect();
    let subsets = services
        .into_iter()
        .flat_map(|service| snapshot.subsets_of(service));
    subsets.filter(|subset| is_watched(subset, policies)).collect()
}

/// True when one of the policies looks at the subset's requests or connections.
fn is_watched(subset: &Subset, policies: &[PolicyId]) -> bool {
    let in_force = || subset.policies().any(|id| policies.contains(&id));
    is_seen(subset) && !subset.endpoints().is_empty() && in_force()
}

/// True when the proxy may see what becomes of attempts at the subset's endpoints; datagrams never pass it.
fn is_seen(subset: &Subset) -> bool {
    subset.protocol().transport() == Transport::Tcp
}

impl Policy {
    fn new(name: Arc<str>, settings: OutlierDetection, now: Duration) -> Self {
        Self {
            name,
            limit: AtomicU32::new(settings.consecutive_errors),
            ejected: AtomicU32::new(0),
            ejections: AtomicU64::new(0),
            kept: AtomicU64::new(0),
            state: Mutex::new(State {
                detector: Detector::new(settings, now),
                endpoints: HashMap::new(),
            }),
        }
    }

    fn follow<'s>(&self, settings: OutlierDetection, subsets: impl Iterator<Item = &'s Subset> + Clone) {
        let mut state = lock(&self.state);
        let addresses = |subset: &'s Subset| subset.endpoints().iter().map(|e| &e.address);
        state.detector.follow(settings, subsets.clone().map(addresses));
        let mut earlier = std::mem::take(&mut state.endpoints);
        for &address in subsets.flat_map(addresses) {
            let known = || earlier.remove(&address).unwrap_or_else(|| Endpoint::new(address));
            state.endpoints.entry(address).or_insert_with(known);
        }
        self.limit.store(settings.consecutive_errors, Relaxed);
        self.count_ejected(&state);
    }

    fn ejects(&self, state: &State, address: SocketAddr) {
        if let Some(endpoint) = state.endpoints.get(&address) {
            endpoint.ejected.store(true, Relaxed);
        }
        self.ejections.fetch_add(1, Relaxed);
        self.count_ejected(state);
    }

    fn takes_back(&self, state: &State, address: SocketAddr) {
        if let Some(endpoint) = state.endpoints.get(&address) {
            // What was under way while it was ejected says nothing about it now.
            endpoint.streak.end();
            endpoint.ejected.store(false, Relaxed);
        }
        self.count_ejected(state);
        info!(policy = %self.name, endpoint = %address, "ejected endpoint comes back");
    }

    fn count_ejected(&self, state: &State) {
        let ejected = state.detector.ejected().count();
        self.ejected
            .store(u32::try_from(ejected).unwrap_or(u32::MAX), Relaxed);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing that holds a lock here can panic halfway through a change.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A subset under a policy that ejects. Endpoints are named by their place in the subset.
#[derive(Debug)]
pub struct Watch {
    outliers: Arc<Outliers>,
    policy: Arc<Policy>,
    endpoints: Box<[Arc<Endpoint>]>,
}

impl Watch {
    /// True when the policy has ejected an endpoint, of this subset or another.
    pub fn has_ejected(&self) -> bool {
        self.policy.ejected.load(Relaxed) > 0
    }

    /// True when the endpoint is ejected.
    pub fn is_ejected(&self, index: usize) -> bool {
        self.endpoints
            .get(index)
            .is_some_and(|endpoint| endpoint.ejected.load(Relaxed))
    }

    /// An attempt at the endpoint succeeded.
    pub fn succeeded(&self, index: usize) {
        if let Some(endpoint) = self.endpoints.get(index) {
            endpoint.streak.end();
        }
    }

    /// An attempt at the endpoint failed.
    pub fn failed(&self, index: usize) {
        if let Some(endpoint) = self.endpoints.get(index)
            && endpoint.streak.failed(self.policy.limit.load(Relaxed))
        {
            self.outliers.failed(&self.policy, endpoint.address);
        }
    }
}

#[cfg(test)]
mod tests;
