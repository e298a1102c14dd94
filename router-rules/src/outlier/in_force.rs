//! Which endpoints of a snapshot's subsets are left when some are ejected.
//!
//! It does not know why or until when they are ejected.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use crate::{Snapshot, model::Endpoint, policy::PolicyId, snapshot::Subset};

/// Ejected endpoints by the object name of the policy that they were ejected under. The name outlives snapshots.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Ejected(
    /// By policy.
    pub BTreeMap<Arc<str>, BTreeSet<SocketAddr>>,
);

/// What they mean for the subsets of one snapshot.
#[derive(Debug)]
pub struct InForce<'e> {
    by_policy: HashMap<PolicyId, OfPolicy<'e>>,
}

#[derive(Debug)]
struct OfPolicy<'e> {
    addresses: &'e BTreeSet<SocketAddr>,
    /// The instances behind those that speak HTTP, for ports of which little or nothing is seen.
    instances: HashSet<(IpAddr, Option<Arc<str>>)>,
}

fn instance(endpoint: &Endpoint) -> (IpAddr, Option<Arc<str>>) {
    (endpoint.address.ip(), endpoint.workload.clone())
}

impl Ejected {
    /// What they mean for `snapshot`: nothing where a policy is gone or ejects no more.
    pub fn in_force(&self, snapshot: &Snapshot) -> InForce<'_> {
        let mut by_policy = HashMap::new();
        if self.0.values().all(BTreeSet::is_empty) {
            return InForce { by_policy };
        }
        for (policy, id) in snapshot.policies().iter().zip((0..).map(PolicyId)) {
            if let Some(addresses) = self.0.get(&policy.origin.object)
                && policy.outlier_detection.is_some()
            {
                let instances = HashSet::new();
                by_policy.insert(id, OfPolicy { addresses, instances });
            }
        }
        // What becomes of a connection says less than what becomes of a request: it counts for its own port alone.
        let watched = snapshot.subsets().iter().filter(|s| s.protocol().is_http());
        for subset in watched {
            for id in subset.policies() {
                let Some(of) = by_policy.get_mut(&id) else {
                    continue;
                };
                let ejected = subset.endpoints().iter();
                let ejected = ejected.filter(|e| of.addresses.contains(&e.address));
                of.instances.extend(ejected.map(instance));
            }
        }
        InForce { by_policy }
    }
}

impl InForce<'_> {
    /// The endpoints of `subset` that are left under a policy. Where HTTP is not spoken little is seen, and of datagrams
    /// nothing; there an endpoint goes with the instance that it belongs to. When none would be left, all are: what may fail is better
    /// than what must.
    pub fn left<'s>(
        &self,
        subset: &'s Subset,
        policy: Option<PolicyId>,
    ) -> impl Iterator<Item = &'s Endpoint> {
        let of = policy.and_then(|id| self.by_policy.get(&id));
        let http = subset.protocol().is_http();
        let is_ejected = move |of: &OfPolicy<'_>, endpoint: &Endpoint| {
            of.addresses.contains(&endpoint.address) || (!http && of.instances.contains(&instance(endpoint)))
        };
        let of = of.filter(|of| !subset.endpoints().iter().all(|e| is_ejected(of, e)));
        let endpoints = subset.endpoints().iter();
        endpoints.filter(move |e| of.is_none_or(|of| !is_ejected(of, e)))
    }
}
