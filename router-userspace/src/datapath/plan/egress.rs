//! Operations on networks, known addresses and confined cgroups.
//!
//! Nothing is confined before what it may reach is there, and what it may reach goes after what confines it.

use std::collections::BTreeMap;

use router_common::{
    net::Addr,
    network::{NetworkEntry, NetworkKey},
};

use super::{CapacityError, MapOp, Planner, without};
use crate::datapath::{desired::Desired, state::State};

/// One change of the maps that say which destinations are known and to whom others are refused.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum EgressOp {
    /// Leads a network to a service.
    InsertNetwork(NetworkKey, NetworkEntry),
    /// Removes a network.
    RemoveNetwork(NetworkKey),
    /// Makes an address known.
    InsertAddress(Addr),
    /// Makes an address unknown.
    RemoveAddress(Addr),
    /// Confines or exempts a cgroup.
    Confine(u64, u32),
    /// Says nothing of a cgroup any more.
    Unconfine(u64),
}

pub(super) fn check_capacity(state: &State, desired: &Desired) -> Result<(), CapacityError> {
    let networks = desired.services.values().map(|s| s.networks.len()).sum();
    let capacity = &state.capacity;
    let counts = [
        ("networks", networks, capacity.networks),
        ("known addresses", desired.addresses.len(), capacity.addresses),
        (
            "confined cgroups",
            desired.confinement.len(),
            capacity.confinement,
        ),
    ];
    for (what, needed, capacity) in counts {
        if needed > capacity as usize {
            return Err(CapacityError::TooMany {
                what,
                needed,
                capacity,
            });
        }
    }
    Ok(())
}

impl Planner<'_> {
    /// Before any connection is routed otherwise than before: more becomes known, fewer are confined.
    pub(super) fn loosen(&mut self) {
        let (state, desired) = (self.state, self.desired);
        let mut ops: Vec<EgressOp> = Vec::new();
        let gone = state
            .confinement
            .keys()
            .filter(|c| !desired.confinement.contains_key(c));
        ops.extend(gone.map(|&cgroup| EgressOp::Unconfine(cgroup)));
        let new = without(desired.addresses.iter(), state.addresses.iter());
        ops.extend(new.map(|&address| EgressOp::InsertAddress(address)));
        self.plan.ops.extend(ops.into_iter().map(MapOp::Egress));
    }

    /// When every service has its routing.
    pub(super) fn networks(&mut self) {
        let (state, desired) = (self.state, self.desired);
        let mut wanted = BTreeMap::new();
        for (name, service) in &desired.services {
            let entry = |flags| NetworkEntry {
                service: self.service_indexes[name],
                flags,
            };
            wanted.extend(service.networks.iter().map(|n| (n.key, entry(n.flags))));
        }
        let mut ops: Vec<EgressOp> = Vec::new();
        let new = wanted
            .iter()
            .filter(|(key, entry)| state.networks.get(key) != Some(entry));
        ops.extend(new.map(|(&key, &entry)| EgressOp::InsertNetwork(key, entry)));
        let old = state.networks.keys().filter(|key| !wanted.contains_key(key));
        ops.extend(old.map(|&key| EgressOp::RemoveNetwork(key)));
        self.plan.ops.extend(ops.into_iter().map(MapOp::Egress));
    }

    /// When everything that may be reached is there.
    pub(super) fn tighten(&mut self) {
        let (state, desired) = (self.state, self.desired);
        let mut ops: Vec<EgressOp> = Vec::new();
        let moved = desired
            .confinement
            .iter()
            .filter(|(cgroup, value)| state.confinement.get(cgroup) != Some(value));
        ops.extend(moved.map(|(&cgroup, &value)| EgressOp::Confine(cgroup, value)));
        let old = without(state.addresses.iter(), desired.addresses.iter());
        ops.extend(old.map(|&address| EgressOp::RemoveAddress(address)));
        self.plan.ops.extend(ops.into_iter().map(MapOp::Egress));
    }
}
