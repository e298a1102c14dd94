//! The difference between what is installed and what is desired, as operations in referential order.
//!
//! Make before break: what is named is written before what names it, and nothing is removed that is still named.
//! Planning changes nothing and asks nothing: it either finds room for everything, or says what does not fit.
//! It does not know how operations are carried out ([`reconcile`](super::reconcile)).
//!
//! # Order
//!
//! 1. limits and endpoint states;
//! 2. callers that are gone become unknown, and if a class table changes, callers whose class changes as well: for
//!    the moment the proxy decides for them, which knows both their identity and the rules;
//! 3. service by service: endpoints, subsets, slot tables, class table, then the one word that switches it;
//! 4. frontends and networks get their services, or are removed;
//! 5. callers get their classes: every class table that a frontend leads to knows them by now;
//! 6. what is known beside frontends grows before step 3 and shrinks now, and cgroups are confined now;
//! 7. services are forgotten, then ids released.

use std::{collections::BTreeMap, sync::Arc};

use router_common::service::FrontendKey;

use super::{
    desired::{Desired, EndpointKey, Service},
    state::{Area, Arenas, Installed, PlacedClasses, PlacedSubset, PlacedTable, Placement, State},
};

mod classes;
mod egress;
mod placing;
mod touched;

use classes::Classes;
pub use egress::EgressOp;
pub use touched::plan_touched;

/// The desired state does not fit in the maps. Nothing was changed.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum CapacityError {
    /// There are more of something than fit.
    #[error("{needed} {what} are needed, {capacity} fit")]
    TooMany {
        /// `services`, `frontends`, `limits`, `endpoints`, `cgroups` or `source classes`.
        what: &'static str,
        /// How many there would be.
        needed: usize,
        /// How many fit.
        capacity: u32,
    },
    /// There is no room for a block.
    #[error("no room for {len} more {what}: {used} of {capacity} are in use")]
    Full {
        /// `slots`, `subsets` or `endpoint entries`.
        what: &'static str,
        /// Elements that were wanted in one piece.
        len: u32,
        /// Elements in use, those included that wait for a grace period.
        used: u32,
        /// Elements in all.
        capacity: u32,
    },
}

/// One change of a map.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum MapOp {
    /// Sets name and maximum of a limit.
    WriteLimit {
        /// Its id.
        id: u32,
        /// Hash of the policy's name.
        name: u64,
        /// Connections that may be open at once.
        max: u64,
    },
    /// Sets address and port of an endpoint's state.
    WriteEndpointState {
        /// Its id.
        id: u32,
        /// Address and port.
        key: EndpointKey,
    },
    /// Writes the endpoints of a subset, then the subset.
    WriteSubset {
        /// The subset.
        subset: PlacedSubset,
        /// Index of the subset whose cursor it takes over.
        cursor_from: Option<u32>,
    },
    /// Writes a slot table.
    WriteTable {
        /// The table.
        table: PlacedTable,
        /// Cell of the cursor that it takes over.
        cursor_from: Option<u32>,
    },
    /// Writes a class table.
    WriteClasses(PlacedClasses),
    /// Writes a service that no frontend names yet.
    CreateService(Box<Switch>),
    /// Switches a service to another routing.
    Publish(Box<Switch>),
    /// Sets the class of a cgroup.
    InsertSource {
        /// The cgroup.
        cgroup: u64,
        /// Its class.
        class: u32,
    },
    /// Makes a cgroup unknown.
    RemoveSource {
        /// The cgroup.
        cgroup: u64,
    },
    /// Leads a frontend to a service.
    InsertFrontend {
        /// The frontend.
        key: FrontendKey,
        /// Index of the service.
        service: u32,
    },
    /// Removes a frontend.
    RemoveFrontend {
        /// The frontend.
        key: FrontendKey,
    },
    /// Changes what is known beside frontends, or to whom the rest is refused.
    Egress(EgressOp),
    /// Forgets a service that no frontend names any more.
    ForgetService {
        /// Hash of its name.
        name: u64,
        /// Its index.
        index: u32,
    },
    /// Lets go of a limit; its id is freed when it counts no connection any more.
    ReleaseLimit {
        /// Hash of the policy's name.
        name: u64,
    },
    /// Lets go of an endpoint; its id is freed when it counts no connection any more.
    ReleaseEndpoint {
        /// Address and port.
        key: EndpointKey,
    },
}

/// A service and the routing it gets.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Switch {
    /// Hash of the service's name.
    pub name: u64,
    /// Index and routing.
    pub installed: Installed,
}

/// Operations in the order in which they are to be carried out.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Plan {
    /// The operations.
    pub ops: Vec<MapOp>,
    /// Services whose maps are right already, but not what the mirror says they stand for.
    pub described: Vec<Switch>,
}

impl Plan {
    /// Services that are created or switched to another routing.
    pub fn services(&self) -> usize {
        let switches = |op: &&MapOp| matches!(op, MapOp::CreateService(_) | MapOp::Publish(_));
        self.ops.iter().filter(switches).count()
    }
}

/// Plans the way from `state` to `desired`.
///
/// # Errors
///
/// [`CapacityError`]: it does not fit.
pub fn plan(state: &State, desired: &Desired) -> Result<Plan, CapacityError> {
    check_capacity(state, desired)?;
    let mut planner = Planner {
        state,
        desired,
        arenas: state.arenas.clone(),
        limits: BTreeMap::new(),
        new_endpoints: BTreeMap::new(),
        service_indexes: BTreeMap::new(),
        classes: Classes::assign(state, desired)?,
        plan: Plan::default(),
    };
    planner.ids()?;
    let switched = planner.services()?;
    planner.sources_before(&switched);
    planner.loosen();
    planner.plan.ops.extend(switched);
    planner.frontends();
    planner.networks();
    planner.sources_after();
    planner.tighten();
    planner.removals();
    Ok(planner.plan)
}

/// Says whether `desired` fits once nothing rests any more, as [`reconcile`](super::reconcile) will make it when need be.
/// Old and new routing of the services that change are in the maps together for a while.
///
/// # Errors
///
/// [`CapacityError`]: it does not fit.
pub fn admit(state: &State, desired: &Desired) -> Result<(), CapacityError> {
    plan(&state.rested(), desired).map(drop)
}

fn check_capacity(state: &State, desired: &Desired) -> Result<(), CapacityError> {
    let frontends = desired.services.values().map(|s| s.frontends.len()).sum();
    let capacity = &state.capacity;
    let counts = [
        ("services", desired.services.len(), capacity.services),
        ("frontends", frontends, capacity.frontends),
        ("limits", desired.limits.len(), state.limit_ids.capacity()),
        (
            "endpoints",
            desired.endpoints.len(),
            state.endpoint_ids.capacity(),
        ),
        ("cgroups", desired.sources.len(), capacity.sources),
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
    egress::check_capacity(state, desired)
}

/// A plan in the making: what it takes is taken here first, so that nothing is given twice.
struct Planner<'a> {
    state: &'a State,
    desired: &'a Desired,
    arenas: Arenas,
    limits: BTreeMap<u64, u32>,
    /// Ids of endpoints that had none in use.
    new_endpoints: BTreeMap<EndpointKey, u32>,
    service_indexes: BTreeMap<u64, u32>,
    classes: Classes,
    plan: Plan,
}

impl Planner<'_> {
    /// Ids of every limit, endpoint and service, with the entries of those that have none yet or were leaving.
    fn ids(&mut self) -> Result<(), CapacityError> {
        let state = self.state;
        let mut vacant = state.limit_ids.vacant();
        for (&name, limit) in &self.desired.limits {
            let known = state.limit_ids.get(&name);
            let id = known.or_else(|| vacant.next());
            let id = id.ok_or_else(|| exhausted("limits", &state.limit_ids))?;
            self.limits.insert(name, id);
            let written = state.limit_ids.in_use(&name).is_some();
            if !written || state.limit_max.get(&name) != Some(&limit.max) {
                let max = limit.max;
                self.plan.ops.push(MapOp::WriteLimit { id, name, max });
            }
        }
        let mut vacant = state.endpoint_ids.vacant();
        let in_use = state.endpoint_ids.iter().map(|(key, _)| key);
        for &key in without(self.desired.endpoints.iter(), in_use) {
            let id = state.endpoint_ids.get(&key).or_else(|| vacant.next());
            let id = id.ok_or_else(|| exhausted("endpoints", &state.endpoint_ids))?;
            self.new_endpoints.insert(key, id);
            self.plan.ops.push(MapOp::WriteEndpointState { id, key });
        }
        let mut vacant = state.service_ids.vacant();
        for &name in self.desired.services.keys() {
            let index = state.service_ids.get(&name).or_else(|| vacant.next());
            let index = index.ok_or_else(|| exhausted("services", &state.service_ids))?;
            self.service_indexes.insert(name, index);
        }
        Ok(())
    }

    /// The operations that change services' routings, each service's together.
    fn services(&mut self) -> Result<Vec<MapOp>, CapacityError> {
        let mut ops = Vec::new();
        for (&name, service) in &self.desired.services {
            let old = self.state.services.get(&name);
            if old.is_some_and(|old| self.is_current(service, old)) {
                continue;
            }
            let placement = self.place(service, old, &mut ops)?;
            let unchanged = old.is_some_and(|old| old.placement.word == placement.word);
            let switch = Switch {
                name,
                installed: Installed {
                    index: self.service_indexes[&name],
                    placement,
                    described: Some(service.clone()),
                },
            };
            if unchanged {
                self.plan.described.push(switch);
            } else if old.is_some() {
                ops.push(MapOp::Publish(Box::new(switch)));
            } else {
                ops.push(MapOp::CreateService(Box::new(switch)));
            }
        }
        Ok(ops)
    }

    /// True when the service stands for the same as before, and its class table for the same callers.
    fn is_current(&self, service: &Arc<Service>, old: &Installed) -> bool {
        let same = |described: &Arc<Service>| Arc::ptr_eq(described, service) || described == service;
        old.described.as_ref().is_some_and(same)
            && old
                .placement
                .classes
                .as_ref()
                .is_none_or(|table| self.classes.agree(table, &service.routing, &old.placement.tables))
    }

    /// Callers that go, and callers whose class changes if a class table changes too.
    fn sources_before(&mut self, switched: &[MapOp]) {
        let gone = |cgroup: &&u64| !self.desired.sources.contains_key(cgroup);
        let mut unknown: Vec<u64> = self.state.sources.keys().filter(gone).copied().collect();
        if switched.iter().any(|op| matches!(op, MapOp::WriteClasses(_))) {
            unknown.extend(&self.classes.movers);
        }
        let remove = |cgroup| MapOp::RemoveSource { cgroup };
        self.plan.ops.extend(unknown.into_iter().map(remove));
    }

    fn sources_after(&mut self) {
        for (&cgroup, class) in &self.desired.sources {
            let class = self.classes.number_of(*class);
            let moved = self.state.sources.get(&cgroup) != Some(&class);
            if moved {
                self.plan.ops.push(MapOp::InsertSource { cgroup, class });
            }
        }
    }

    fn frontends(&mut self) {
        let (state, desired) = (self.state, self.desired);
        let mut wanted = BTreeMap::new();
        for (name, service) in &desired.services {
            let index = self.service_indexes[name];
            wanted.extend(service.frontends.iter().map(|&key| (key, index)));
        }
        let ops = &mut self.plan.ops;
        let new = wanted
            .iter()
            .filter(|(key, index)| state.frontends.get(key) != Some(index));
        ops.extend(new.map(|(&key, &service)| MapOp::InsertFrontend { key, service }));
        let old = state.frontends.keys().filter(|key| !wanted.contains_key(key));
        ops.extend(old.map(|&key| MapOp::RemoveFrontend { key }));
    }

    fn removals(&mut self) {
        let (state, desired) = (self.state, self.desired);
        let ops = &mut self.plan.ops;
        let services = state
            .services
            .iter()
            .filter(|(name, _)| !desired.services.contains_key(name));
        ops.extend(services.map(|(&name, old)| MapOp::ForgetService {
            name,
            index: old.index,
        }));
        let limits = state
            .limit_ids
            .iter()
            .filter(|(name, _)| !desired.limits.contains_key(name));
        ops.extend(limits.map(|(&name, _)| MapOp::ReleaseLimit { name }));
        let in_use = state.endpoint_ids.iter().map(|(key, _)| key);
        let endpoints = without(in_use, desired.endpoints.iter());
        ops.extend(endpoints.map(|&key| MapOp::ReleaseEndpoint { key }));
    }
}

/// What is in the first sequence and not in the second; both are sorted. There are many more endpoints than changes
/// of endpoints, so they are compared in one walk.
fn without<'a, K: Ord + 'a>(
    these: impl Iterator<Item = &'a K>,
    those: impl Iterator<Item = &'a K>,
) -> impl Iterator<Item = &'a K> {
    let mut those = those.peekable();
    these.filter(move |this| {
        while those.next_if(|that| that < this).is_some() {}
        those.peek() != Some(this)
    })
}

fn exhausted<K: Ord + Clone>(what: &'static str, ids: &super::ids::Ids<K>) -> CapacityError {
    CapacityError::TooMany {
        what,
        needed: ids.held() + 1,
        capacity: ids.capacity(),
    }
}

#[cfg(test)]
mod tests;
