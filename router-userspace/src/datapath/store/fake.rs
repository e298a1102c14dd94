//! Maps in memory for tests: they keep what the kernel would keep, walk it as the kernel does, and panic on every
//! write that a reader could see half done.
//!
//! Readers that are on their way are modelled by guards: what a route word named until it was replaced must not be
//! written before a grace period is over that was asked for after that.

use std::collections::{BTreeMap, BTreeSet};

use router_common::{
    endpoint::{Endpoint, EndpointState},
    limit::Limit,
    net::{Addr, Be16},
    network::{NetworkEntry, NetworkKey},
    route::{RouteKind, RouteWord, Subset, TABLE_HEADER},
    service::{FrontendKey, Service},
};

use super::{Grace, MapStore, Result};
use crate::datapath::state::{Area, Capacity};

mod egress;
mod walk;

pub(crate) use walk::{Meaning, Verdict};

/// Elements by area; limits and endpoint states have areas of their own here.
type Element = (Kind, u32);

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(crate) enum Kind {
    Of(Area),
    Limit,
    EndpointState,
}

#[derive(Clone, Debug)]
pub(crate) struct FakeMaps {
    pub(crate) frontends: BTreeMap<FrontendKey, u32>,
    pub(crate) sources: BTreeMap<u64, u32>,
    pub(crate) networks: BTreeMap<NetworkKey, NetworkEntry>,
    pub(crate) addresses: BTreeSet<Addr>,
    pub(crate) confinement: BTreeMap<u64, u32>,
    pub(crate) services: Vec<Service>,
    pub(crate) slots: Vec<u64>,
    pub(crate) subsets: Vec<Subset>,
    pub(crate) endpoints: Vec<Endpoint>,
    pub(crate) endpoint_states: Vec<EndpointState>,
    pub(crate) limits: Vec<Limit>,
    pub(crate) proxy_up: bool,
    /// Connections to the proxy are handed over.
    pub(crate) hands_over: bool,
    /// Grace periods end at once; else only by [`FakeMaps::finish_graces`].
    pub(crate) instant_graces: bool,
    requested: u64,
    completed: u64,
    /// What readers on their way may still read, with the grace periods requested by then.
    guards: BTreeMap<Element, u64>,
    /// Successful writes.
    pub(crate) writes: usize,
}

impl FakeMaps {
    pub(crate) fn new(capacity: Capacity) -> Self {
        Self {
            frontends: BTreeMap::new(),
            sources: BTreeMap::new(),
            networks: BTreeMap::new(),
            addresses: BTreeSet::new(),
            confinement: BTreeMap::new(),
            services: vec![Service::default(); capacity.services as usize],
            slots: vec![0; capacity.slots as usize],
            subsets: vec![Subset::default(); capacity.subsets as usize],
            endpoints: vec![Endpoint::default(); capacity.endpoints as usize],
            endpoint_states: vec![EndpointState::default(); capacity.endpoint_states as usize],
            limits: vec![Limit::default(); capacity.limits as usize],
            proxy_up: true,
            hands_over: false,
            instant_graces: true,
            requested: 0,
            completed: 0,
            guards: BTreeMap::new(),
            writes: 0,
        }
    }

    pub(crate) fn finish_graces(&mut self) {
        self.completed = self.requested;
    }

    /// Panics unless every reference leads to something that was written.
    pub(crate) fn check_invariants(&self) {
        for (key, entry) in &self.networks {
            let service = self.services[entry.service as usize];
            assert_ne!(service.name, 0, "{key:?} names a free service");
        }
        for (frontend, &service) in &self.frontends {
            let service = self.services[service as usize];
            assert_ne!(service.name, 0, "{frontend:?} names a free service");
            assert_ne!(
                service.word(),
                RouteWord::UNTOUCHED,
                "{frontend:?} names a service without routing"
            );
            assert!(
                self.hands_over || !self.sends_to_proxy(service.word()),
                "{frontend:?} is sent to the proxy, and nothing hands it over"
            );
        }
        for (kind, index) in self.reachable() {
            let at = index as usize;
            match kind {
                Kind::Of(Area::Slots) => assert!(at < self.slots.len()),
                Kind::Of(Area::Subsets) => assert!(at < self.subsets.len()),
                Kind::Of(Area::Endpoints) => {
                    let (entry, state) = (
                        self.endpoints[at],
                        self.endpoint_states[self.endpoints[at].id as usize],
                    );
                    assert_ne!(entry.id, 0, "endpoint {at} was never written");
                    assert_eq!(
                        (entry.addr, entry.port),
                        (state.addr, state.port),
                        "endpoint {at} has another's id"
                    );
                }
                Kind::Limit => assert_ne!(self.limits[at].name, 0, "limit {at} is free and named"),
                Kind::EndpointState => {
                    assert_ne!(
                        self.endpoint_states[at].port,
                        Be16::default(),
                        "endpoint {at} is free and named"
                    );
                }
            }
        }
    }

    fn reachable(&self) -> BTreeSet<Element> {
        let words = self.services.iter().map(Service::word);
        words.flat_map(|word| self.reachable_from(word)).collect()
    }

    fn reachable_from(&self, word: RouteWord) -> BTreeSet<Element> {
        let mut found = BTreeSet::new();
        let len = u32::from(word.len());
        if word.kind() == RouteKind::BySource as u8 {
            for cell in word.base()..word.base() + len {
                found.insert((Kind::Of(Area::Slots), cell));
                found.extend(self.reachable_from(RouteWord(self.slots[cell as usize])));
            }
        } else if len > 0 {
            let cells = word.base() - TABLE_HEADER..word.base() + len;
            found.extend(cells.map(|cell| (Kind::Of(Area::Slots), cell)));
            for cell in word.base()..word.base() + len {
                let index = self.slots[cell as usize] as u32;
                let subset = self.subsets[index as usize];
                found.insert((Kind::Of(Area::Subsets), index));
                found.extend((subset.limit != 0).then_some((Kind::Limit, subset.limit)));
                for at in subset.endpoints..subset.endpoints + subset.endpoint_count {
                    found.insert((Kind::Of(Area::Endpoints), at));
                    found.insert((Kind::EndpointState, self.endpoints[at as usize].id));
                }
            }
        }
        found
    }

    fn sends_to_proxy(&self, word: RouteWord) -> bool {
        if word.kind() != RouteKind::BySource as u8 {
            return word.sends_to_proxy();
        }
        let cells = word.base()..word.base() + u32::from(word.len());
        cells
            .into_iter()
            .any(|cell| RouteWord(self.slots[cell as usize]).sends_to_proxy())
    }

    fn is_reached(&self, service: u32) -> bool {
        let by_network = self.networks.values().any(|entry| entry.service == service);
        by_network || self.frontends.values().any(|&reached| reached == service)
    }

    /// Readers may be on their way to what this service names now.
    fn guard(&mut self, service: u32) {
        let stamp = self.requested;
        let word = self.services[service as usize].word();
        self.guards.extend(
            self.reachable_from(word)
                .into_iter()
                .map(|element| (element, stamp)),
        );
    }

    fn assert_unseen(&self, kind: Kind, indexes: std::ops::Range<u32>) {
        let reachable = self.reachable();
        for index in indexes {
            let element = (kind, index);
            assert!(
                !reachable.contains(&element),
                "{element:?} is written while it is named"
            );
            let guarded = self
                .guards
                .get(&element)
                .is_some_and(|&stamp| stamp >= self.completed);
            assert!(
                !guarded,
                "{element:?} is written while a reader may be on its way to it"
            );
        }
    }
}

impl MapStore for FakeMaps {
    fn write_endpoints(&mut self, base: u32, endpoints: &[Endpoint]) -> Result<()> {
        self.assert_unseen(Kind::Of(Area::Endpoints), base..base + endpoints.len() as u32);
        self.endpoints[base as usize..][..endpoints.len()].copy_from_slice(endpoints);
        self.writes += 1;
        Ok(())
    }

    fn write_subset(&mut self, index: u32, subset: &Subset) -> Result<()> {
        self.assert_unseen(Kind::Of(Area::Subsets), index..index + 1);
        self.subsets[index as usize] = *subset;
        self.writes += 1;
        Ok(())
    }

    fn write_slots(&mut self, base: u32, cells: &[u64]) -> Result<()> {
        self.assert_unseen(Kind::Of(Area::Slots), base..base + cells.len() as u32);
        self.slots[base as usize..][..cells.len()].copy_from_slice(cells);
        self.writes += 1;
        Ok(())
    }

    fn write_limit(&mut self, id: u32, name: u64, max: u64) -> Result<()> {
        let limit = &mut self.limits[id as usize];
        assert!(
            id != 0 && [0, name].contains(&limit.name),
            "limit {id} is another's"
        );
        (limit.name, limit.max) = (name, max);
        self.writes += 1;
        Ok(())
    }

    fn clear_limit(&mut self, id: u32) -> Result<()> {
        self.assert_unseen(Kind::Limit, id..id + 1);
        assert_eq!(
            self.limits[id as usize].active, 0,
            "limit {id} still counts connections"
        );
        self.limits[id as usize] = Limit::default();
        self.writes += 1;
        Ok(())
    }

    fn write_endpoint_state(&mut self, id: u32, addr: Addr, port: Be16) -> Result<()> {
        let state = &mut self.endpoint_states[id as usize];
        let free = state.port == Be16::default();
        assert!(
            id != 0 && (free || (state.addr, state.port) == (addr, port)),
            "endpoint {id} is another's"
        );
        (state.addr, state.port) = (addr, port);
        self.writes += 1;
        Ok(())
    }

    fn clear_endpoint_state(&mut self, id: u32) -> Result<()> {
        self.assert_unseen(Kind::EndpointState, id..id + 1);
        assert_eq!(
            self.endpoint_states[id as usize].active, 0,
            "endpoint {id} still counts connections"
        );
        self.endpoint_states[id as usize] = EndpointState::default();
        self.writes += 1;
        Ok(())
    }

    fn create_service(&mut self, index: u32, name: u64, word: RouteWord) -> Result<()> {
        assert!(!self.is_reached(index), "service {index} is reached");
        self.services[index as usize] = Service {
            name,
            route: word.0,
            ..Service::default()
        };
        self.writes += 1;
        Ok(())
    }

    fn publish(&mut self, index: u32, word: RouteWord) -> Result<()> {
        // Readers that were on their way when the last frontend went have been guarded since then.
        let reached = self.is_reached(index);
        if reached {
            self.guard(index);
        }
        self.services[index as usize].route = word.0;
        self.writes += 1;
        if reached {
            self.check_invariants();
        }
        Ok(())
    }

    fn forget_service(&mut self, index: u32) -> Result<()> {
        assert!(!self.is_reached(index), "service {index} is reached");
        self.services[index as usize].name = 0;
        self.writes += 1;
        Ok(())
    }

    fn insert_frontend(&mut self, key: FrontendKey, service: u32) -> Result<()> {
        assert_ne!(
            self.services[service as usize].name, 0,
            "{key:?} would name a free service"
        );
        if let Some(old) = self.frontends.insert(key, service) {
            self.guard(old);
        }
        self.writes += 1;
        Ok(())
    }

    fn remove_frontend(&mut self, key: FrontendKey) -> Result<()> {
        if let Some(old) = self.frontends.remove(&key) {
            self.guard(old);
        }
        self.writes += 1;
        Ok(())
    }

    fn insert_source(&mut self, cgroup: u64, class: u32) -> Result<()> {
        self.sources.insert(cgroup, class);
        self.writes += 1;
        Ok(())
    }

    fn remove_source(&mut self, cgroup: u64) -> Result<()> {
        self.sources.remove(&cgroup);
        self.writes += 1;
        Ok(())
    }

    fn slot(&self, cell: u32) -> u64 {
        self.slots.get(cell as usize).copied().unwrap_or_default()
    }

    fn subset(&self, index: u32) -> Subset {
        self.subsets.get(index as usize).copied().unwrap_or_default()
    }

    fn endpoint(&self, index: u32) -> Endpoint {
        self.endpoints.get(index as usize).copied().unwrap_or_default()
    }

    fn service(&self, index: u32) -> Service {
        self.services.get(index as usize).copied().unwrap_or_default()
    }

    fn limit(&self, id: u32) -> Limit {
        self.limits.get(id as usize).copied().unwrap_or_default()
    }

    fn endpoint_state(&self, id: u32) -> EndpointState {
        self.endpoint_states.get(id as usize).copied().unwrap_or_default()
    }

    fn frontends(&self) -> Result<Vec<(FrontendKey, u32)>> {
        Ok(self
            .frontends
            .iter()
            .map(|(&key, &service)| (key, service))
            .collect())
    }

    fn sources(&self) -> Result<Vec<(u64, u32)>> {
        Ok(self
            .sources
            .iter()
            .map(|(&cgroup, &class)| (cgroup, class))
            .collect())
    }

    fn begin_handover(&mut self) -> Result<()> {
        self.hands_over = true;
        Ok(())
    }

    fn keep_handover(&mut self, is_needed: bool) -> Result<()> {
        if is_needed {
            return self.begin_handover();
        }
        for (index, service) in (0..).zip(&self.services) {
            let is_sent = self.is_reached(index) && self.sends_to_proxy(service.word());
            assert!(!is_sent, "service {index} is sent to the proxy");
        }
        self.hands_over = false;
        Ok(())
    }

    fn request_grace(&mut self) -> Result<Grace> {
        self.requested += 1;
        if self.instant_graces {
            self.completed = self.requested;
        }
        Ok(Grace(self.requested))
    }

    fn completed_grace(&mut self) -> Grace {
        Grace(self.completed)
    }

    fn await_grace(&mut self, grace: Grace) -> Result<()> {
        self.completed = self.completed.max(grace.0);
        Ok(())
    }
}
