//! Who is ejected and until when, for answers of the admin address. It knows nothing of why.

use std::{collections::BTreeMap, net::SocketAddr, sync::Arc};

use router_rules::{
    Snapshot,
    model::{Endpoint, Protocol},
    policy::PolicyId,
};

use crate::{
    clock,
    enforce::outlier::{Outliers, PolicyOutliers},
};

/// Ejected endpoints at one moment, by policy, each with the time of its return.
#[derive(Clone, Debug, Default)]
pub struct Ejections(BTreeMap<Arc<str>, BTreeMap<SocketAddr, String>>);

impl Ejections {
    /// Those of now.
    pub fn now(outliers: &Outliers) -> Self {
        Self(
            outliers
                .report()
                .into_iter()
                .map(|of| (of.policy.clone(), returns(&of)))
                .collect(),
        )
    }

    /// Until when an endpoint is ejected under one of the policies: RFC 3339, UTC. Where HTTP is not spoken, it is with
    /// its instance.
    pub(super) fn until(
        &self,
        snapshot: &Snapshot,
        policies: impl IntoIterator<Item = PolicyId>,
        (protocol, endpoint): (Protocol, &Endpoint),
    ) -> Option<String> {
        if self.0.is_empty() {
            return None;
        }
        let address = endpoint.address;
        let of = |id| {
            let ejected = self.0.get(&snapshot.policy(id).origin.object)?;
            let is_instance =
                |other: &SocketAddr| other.ip() == address.ip() && speaks_http(snapshot, *other);
            let instance = || ejected.iter().find(|(other, _)| is_instance(other));
            let with_instance = || instance().filter(|_| !protocol.is_http()).map(|(_, until)| until);
            ejected.get(&address).or_else(with_instance).cloned()
        };
        policies.into_iter().find_map(of)
    }
}

/// True when requests are sent to an endpoint.
fn speaks_http(snapshot: &Snapshot, address: SocketAddr) -> bool {
    let spoken_to = snapshot.subsets().iter().filter(|s| s.protocol().is_http());
    let mut endpoints = spoken_to.flat_map(|subset| subset.endpoints());
    endpoints.any(|endpoint| endpoint.address == address)
}

/// Endpoints that a policy has ejected, each with the time of its return, to the second.
pub(super) fn returns(of: &PolicyOutliers) -> BTreeMap<SocketAddr, String> {
    let now = clock::wall();
    let time = |&(address, wait)| {
        let second = jiff::Timestamp::try_from(now + wait).map_or(0, jiff::Timestamp::as_second);
        let at = jiff::Timestamp::from_second(second).unwrap_or_default();
        (address, at.to_string())
    };
    of.ejected.iter().map(time).collect()
}
