//! A snapshot from the one before it, when nothing but endpoints changed: most changes of a large cluster are of this
//! kind, and nearly all of the snapshot stays.
//!
//! What it makes is what [`Snapshot::build`] would make of the changed model; when that is not certain it makes
//! nothing. It does not know how a change is recognised, nor what there is to say about it.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
};

use crate::{
    connection::Transport,
    id::ServiceName,
    model::{Endpoint, Model},
    snapshot::{Port, PortId, Rule, Snapshot, Subset, SubsetId},
    source::Services,
};

/// Services whose instances are others than before; everything else about them is the same.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct EndpointChange {
    /// The instances now, by service, and transport and number of the port: every port of each service.
    pub endpoints: BTreeMap<ServiceName, BTreeMap<(Transport, u16), Vec<Endpoint>>>,
    /// Callers, by name, that are instances of other services than before.
    pub workloads: BTreeMap<Arc<str>, Membership>,
}

/// What a caller is an instance of, and was not before, or the other way round.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Membership {
    /// Services that it is an instance of no more.
    pub left: BTreeSet<ServiceName>,
    /// Services that it is an instance of now.
    pub joined: BTreeSet<ServiceName>,
}

impl Membership {
    fn apply(&self, services: &mut Services) {
        let stays = services.iter().filter(|service| !self.left.contains(service));
        *services = stays.chain(&self.joined).cloned().collect();
    }
}

/// Which subsets a service has, and which ports route to a subset.
#[derive(Debug, Default)]
pub(crate) struct Users {
    /// Subsets of each service, also those of ports that it does not have.
    of_service: HashMap<ServiceName, Box<[SubsetId]>>,
    /// Where the ports of each subset begin in `ports`; one more than there are subsets.
    first: Box<[u32]>,
    ports: Box<[PortId]>,
}

impl Users {
    pub(crate) fn new(ports: &[Port], rules: &[Rule], subsets: &[Subset]) -> Self {
        let mut of_service: HashMap<&ServiceName, Vec<SubsetId>> = HashMap::new();
        for subset in subsets {
            of_service.entry(&subset.service).or_default().push(subset.id);
        }
        let mut pairs = Vec::new();
        for port in ports {
            let rules = port.rules.iter().map(|id| &rules[id.0 as usize]);
            let targets = rules.flat_map(|rule| &*rule.targets);
            let all = std::iter::once(&port.unrouted).chain(targets);
            pairs.extend(all.map(|&(subset, _)| (subset, port.id)));
        }
        pairs.sort_unstable();
        pairs.dedup();
        let begin = |subset: u32| pairs.partition_point(|(of, _)| of.0 < subset) as u32;
        Self {
            first: (0..=subsets.len() as u32).map(begin).collect(),
            ports: pairs.iter().map(|&(_, port)| port).collect(),
            of_service: of_service
                .into_iter()
                .map(|(service, subsets)| (service.clone(), subsets.into()))
                .collect(),
        }
    }
}

impl Snapshot {
    /// The snapshot after `change`. None when more than endpoints would differ: a rule asks whether a caller is an
    /// instance of such a service, or something is unknown here.
    pub fn with_endpoints(&self, change: &EndpointChange, generation: u64) -> Option<Self> {
        let is_asked_for = |service| self.sources.asks_for_service(service);
        if change.endpoints.keys().any(is_asked_for) {
            return None;
        }
        let mut after = Self {
            generation,
            ..self.clone()
        };
        for (service, ports) in &change.endpoints {
            after.move_service(service, ports)?;
        }
        for (name, membership) in &change.workloads {
            let id = self.workload(name)?;
            membership.apply(&mut after.workloads.get_mut(id.0 as usize)?.services);
        }
        Some(after)
    }

    /// Subsets that have other endpoints than in `earlier`. None when more may be different: the two were not made from
    /// one build by [`Snapshot::with_endpoints`].
    pub fn moved_since(&self, earlier: &Self) -> Option<Vec<SubsetId>> {
        if !Arc::ptr_eq(&self.users, &earlier.users) {
            return None;
        }
        let differing = self.subsets.differing(&earlier.subsets);
        let moved = differing.filter(|(now, then)| now.endpoints != then.endpoints);
        Some(moved.map(|(now, _)| now.id).collect())
    }

    /// Every subset of a service.
    pub fn subsets_of(&self, service: &ServiceName) -> impl Iterator<Item = &Subset> {
        let ids = self.users.of_service.get(service);
        ids.into_iter().flatten().map(|&id| self.subset(id))
    }

    /// The ports that route connections to a subset, by a rule or without one.
    pub fn ports_to(&self, subset: SubsetId) -> impl Iterator<Item = &Port> {
        let at = |index: u32| self.users.first.get(index as usize).map_or(0, |&at| at as usize);
        let ids = self.users.ports.get(at(subset.0)..at(subset.0 + 1));
        ids.unwrap_or_default()
            .iter()
            .map(|id| &self.ports[id.0 as usize])
    }

    fn move_service(
        &mut self,
        service: &ServiceName,
        ports: &BTreeMap<(Transport, u16), Vec<Endpoint>>,
    ) -> Option<()> {
        let users = Arc::clone(&self.users);
        for &id in users.of_service.get(service)? {
            let subset = self.subset(id);
            // A port that the service does not have has no instances.
            let Some(endpoints) = ports.get(&(subset.protocol.transport(), subset.port)) else {
                continue;
            };
            let selected = endpoints.iter().filter(|e| subset.labels.select(&e.labels));
            if !selected.clone().eq(&*subset.endpoints) {
                let selected = selected.cloned().collect();
                self.subsets.get_mut(id.0 as usize)?.endpoints = selected;
            }
        }
        Some(())
    }
}

impl Model {
    /// Makes `change` in the model that a snapshot was built from.
    pub fn change_endpoints(&mut self, change: &EndpointChange) {
        for service in &mut self.services {
            let Some(ports) = change.endpoints.get(&service.name) else {
                continue;
            };
            for port in &mut service.ports {
                if let Some(endpoints) = ports.get(&(port.protocol.transport(), port.number)) {
                    port.endpoints.clone_from(endpoints);
                }
            }
        }
        for workload in &mut self.workloads {
            if let Some(membership) = change.workloads.get(&workload.name) {
                membership.apply(&mut workload.services);
            }
        }
    }
}

#[cfg(test)]
mod tests;
