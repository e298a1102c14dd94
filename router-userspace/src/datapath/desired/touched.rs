//! What the maps should hold otherwise when nothing but endpoints changed: the services that route to them.
//!
//! It is what [`desired`](super::desired) would say of these services, and when that is not certain it says nothing. It
//! does not know what is installed.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use router_rules::{
    Snapshot,
    model::Endpoint,
    outlier::Ejected,
    policy::PolicyId,
    snapshot::{Port, PortId},
    source::ClassId,
};

use super::{Desired, EndpointKey, OnProxyDown, Service, is_known, limits, routing, services_of};

/// Everything that the desired state is made from.
#[derive(Clone, Copy, Debug)]
pub struct Inputs<'i> {
    /// The configuration.
    pub snapshot: &'i Snapshot,
    /// Class of every cgroup that belongs to a workload.
    pub sources: &'i BTreeMap<u64, ClassId>,
    /// What becomes of connections that need the proxy while it is down.
    pub on_proxy_down: OnProxyDown,
    /// Endpoints to keep away from.
    pub ejected: &'i Ejected,
    /// Cgroups that may reach only what is known (`true`), or everything all the same; none: nobody is confined.
    pub confined: Option<&'i BTreeMap<u64, bool>>,
}

impl Inputs<'_> {
    /// What the maps should hold.
    pub fn desired(&self) -> Desired {
        let desired = super::desired(self.snapshot, self.sources, self.on_proxy_down, self.ejected);
        match self.confined {
            Some(cgroups) => desired.confining(self.snapshot, cgroups),
            None => desired,
        }
    }
}

/// What is remembered of a desired state, to know what is different in the next one.
#[derive(Clone, Debug)]
pub struct Base {
    snapshot: Snapshot,
    sources: BTreeMap<u64, ClassId>,
    on_proxy_down: OnProxyDown,
    confined: Option<BTreeMap<u64, bool>>,
    limit_of: BTreeMap<PolicyId, u64>,
    /// Endpoints of several service ports, with the number of these ports.
    shared: HashMap<EndpointKey, u32>,
}

/// The difference between two desired states.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Touched {
    /// Generation of the snapshot.
    pub generation: u64,
    /// Services that may be others than before.
    pub services: Vec<Service>,
    /// Endpoints that come.
    pub come: BTreeSet<EndpointKey>,
    /// Endpoints that go.
    pub gone: BTreeSet<EndpointKey>,
}

impl Base {
    /// Remembers what `desired` was made from. None when it cannot be followed: who is ejected depends on more than the
    /// services that a change touches.
    pub fn new(inputs: &Inputs<'_>, desired: &Desired) -> Option<Self> {
        if !is_nobody(inputs.ejected) {
            return None;
        }
        Some(Self {
            snapshot: inputs.snapshot.clone(),
            sources: inputs.sources.clone(),
            on_proxy_down: inputs.on_proxy_down,
            confined: inputs.confined.cloned(),
            limit_of: limits(inputs.snapshot).1,
            shared: shared(inputs.snapshot, desired.endpoints.len()),
        })
    }

    /// What is different in the desired state of `inputs`, where `in_use` says which endpoints there are. None when more
    /// than endpoints is different. After that, `inputs` are what is remembered.
    pub fn touched(&mut self, inputs: &Inputs<'_>, in_use: impl Fn(&EndpointKey) -> bool) -> Option<Touched> {
        let is_alike = is_nobody(inputs.ejected)
            && self.on_proxy_down == inputs.on_proxy_down
            && self.sources == *inputs.sources
            && self.confined.as_ref() == inputs.confined;
        if !is_alike {
            return None;
        }
        let snapshot = inputs.snapshot;
        let mut touched = Touched {
            generation: snapshot.generation(),
            ..Touched::default()
        };
        let moved = snapshot.moved_since(&self.snapshot)?;
        let ports = moved.iter().flat_map(|&subset| snapshot.ports_to(subset));
        let ports: BTreeMap<PortId, &Port> = ports.map(|port| (port.id(), port)).collect();
        let in_force = inputs.ejected.in_force(snapshot);
        let routing = routing::Inputs {
            snapshot,
            limit_of: &self.limit_of,
            in_force: &in_force,
            on_proxy_down: self.on_proxy_down,
        };
        for port in ports.into_values().filter(|port| is_known(snapshot, port)) {
            touched.services.extend(services_of(routing, port));
        }
        let before = std::mem::replace(&mut self.snapshot, snapshot.clone());
        for subset in moved.into_iter().map(|id| snapshot.subset(id)) {
            if subset.labels().is_empty() {
                let then = before.subset(subset.id()).endpoints();
                self.count((then, subset.endpoints()), &mut touched, &in_use);
            }
        }
        Some(touched)
    }

    /// Counts the endpoints of a service port. Every endpoint of a subset is one of its port's.
    fn count(
        &mut self,
        (before, now): (&[Endpoint], &[Endpoint]),
        touched: &mut Touched,
        in_use: &impl Fn(&EndpointKey) -> bool,
    ) {
        let (before, now) = (keys(before), keys(now));
        for &key in now.difference(&before) {
            let is_there = match (touched.come.contains(&key), touched.gone.contains(&key)) {
                (true, _) => true,
                (_, true) => false,
                _ => in_use(&key),
            };
            if is_there {
                *self.shared.entry(key).or_insert(1) += 1;
            } else if !touched.gone.remove(&key) {
                touched.come.insert(key);
            }
        }
        for key in before.difference(&now) {
            match self.shared.get_mut(key) {
                Some(2) => {
                    self.shared.remove(key);
                }
                Some(ports) => *ports -= 1,
                None if touched.come.remove(key) => {}
                None => {
                    touched.gone.insert(*key);
                }
            }
        }
    }
}

fn is_nobody(ejected: &Ejected) -> bool {
    ejected.0.values().all(BTreeSet::is_empty)
}

fn keys(endpoints: &[Endpoint]) -> BTreeSet<EndpointKey> {
    endpoints.iter().map(|endpoint| endpoint.address.into()).collect()
}

/// The endpoints of several service ports, when there are `distinct` endpoints in all.
fn shared(snapshot: &Snapshot, distinct: usize) -> HashMap<EndpointKey, u32> {
    let ports = || {
        snapshot
            .subsets()
            .iter()
            .filter(|subset| subset.labels().is_empty())
    };
    let mut shared = HashMap::new();
    if ports().map(|subset| subset.endpoints().len()).sum::<usize>() == distinct {
        return shared;
    }
    for key in ports().flat_map(|subset| keys(subset.endpoints())) {
        *shared.entry(key).or_insert(0) += 1;
    }
    shared.retain(|_, ports| *ports > 1);
    shared
}
