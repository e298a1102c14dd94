//! What is installed: the mirror of the part of the maps that userspace owns, with ids, places and what is waiting for
//! its grace period.
//!
//! It changes only by what was really done, one operation at a time ([`reconcile`](super::reconcile)), or all at once
//! from the maps that an earlier agent left ([`State::adopt`]). It knows nothing of counters, which the kernel owns.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::Arc,
};

use router_common::{
    abi,
    net::Addr,
    network::{NetworkEntry, NetworkKey},
    route::TABLE_HEADER,
    service::FrontendKey,
};

use super::{
    UpstreamIds,
    arena::{Arena, Block},
    desired::{Desired, EndpointKey, Limit, Service},
    ids::{Ids, Leaving},
    store::Grace,
};

mod adopt;
mod placement;

pub use adopt::{AdoptError, Adopted};
pub use placement::{PlacedClasses, PlacedSubset, PlacedTable, Placement};

/// Names of one service that are looked at: two hashes of 64 bits are hardly ever the same.
const MAX_VARIATIONS: usize = 4;

/// How much fits: the maps' sizes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Capacity {
    /// Frontends.
    pub frontends: u32,
    /// Services.
    pub services: u32,
    /// Cells of the slot arena.
    pub slots: u32,
    /// Subsets.
    pub subsets: u32,
    /// Endpoint entries.
    pub endpoints: u32,
    /// Endpoint states; id 0 is never used.
    pub endpoint_states: u32,
    /// Limits; id 0 is never used.
    pub limits: u32,
    /// Cgroups.
    pub sources: u32,
    /// Networks.
    pub networks: u32,
    /// Known addresses.
    pub addresses: u32,
    /// Confined and exempt cgroups.
    pub confinement: u32,
}

impl Default for Capacity {
    fn default() -> Self {
        Self {
            frontends: abi::MAX_FRONTENDS,
            services: abi::MAX_SERVICES,
            slots: abi::MAX_SLOT_CELLS,
            subsets: abi::MAX_SUBSETS,
            endpoints: abi::MAX_ENDPOINTS,
            endpoint_states: abi::MAX_ENDPOINT_STATES,
            limits: abi::MAX_LIMITS,
            sources: abi::MAX_SOURCES,
            networks: abi::MAX_NETWORKS,
            addresses: abi::MAX_ADDRESSES,
            confinement: abi::MAX_CONFINEMENT,
        }
    }
}

/// The arrays whose room is given out in blocks.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Area {
    /// [`abi::SLOTS`].
    Slots,
    /// [`abi::SUBSETS`].
    Subsets,
    /// [`abi::ENDPOINTS`].
    Endpoints,
}

/// The three arenas.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Arenas {
    slots: Arena,
    subsets: Arena,
    endpoints: Arena,
}

impl Arenas {
    fn new(capacity: &Capacity) -> Self {
        Self {
            // A block of cells is a whole number of cache lines: cursors share none with other tables.
            slots: Arena::new(capacity.slots, TABLE_HEADER),
            subsets: Arena::new(capacity.subsets, 1),
            endpoints: Arena::new(capacity.endpoints, 1),
        }
    }

    /// The arena of an area.
    pub const fn of(&self, area: Area) -> &Arena {
        match area {
            Area::Slots => &self.slots,
            Area::Subsets => &self.subsets,
            Area::Endpoints => &self.endpoints,
        }
    }

    /// The arena of an area, to take from.
    pub const fn of_mut(&mut self, area: Area) -> &mut Arena {
        match area {
            Area::Slots => &mut self.slots,
            Area::Subsets => &mut self.subsets,
            Area::Endpoints => &mut self.endpoints,
        }
    }
}

/// A service in the maps.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Installed {
    /// Its index.
    pub index: u32,
    /// Its routing. Subsets and tables are in the order of `described` when that is known.
    pub placement: Placement,
    /// What it stands for; unknown when an earlier agent installed it and no reconciliation has seen it yet.
    pub described: Option<Arc<Service>>,
}

/// What nothing names any more, but a program that is running now may still see.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Departed {
    pub(super) blocks: Vec<(Area, Block)>,
    pub(super) services: Vec<(u64, Leaving)>,
    pub(super) classes: BTreeSet<u32>,
    pub(super) counted: Vec<Counted>,
}

impl Departed {
    fn is_empty(&self) -> bool {
        self.blocks.is_empty()
            && self.services.is_empty()
            && self.classes.is_empty()
            && self.counted.is_empty()
    }
}

/// An id in which open connections may still count.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Counted {
    Limit(u64, Leaving),
    Endpoint(EndpointKey, Leaving),
}

/// The mirror of what is installed.
#[derive(Clone, Debug)]
pub struct State {
    pub(super) capacity: Capacity,
    /// Services by the hash of their names.
    pub(super) services: BTreeMap<u64, Installed>,
    pub(super) frontends: BTreeMap<FrontendKey, u32>,
    /// Class of each cgroup. The numbers are the kernel's and outlive snapshots, whose classes are renumbered.
    pub(super) sources: BTreeMap<u64, u32>,
    pub(super) networks: BTreeMap<NetworkKey, NetworkEntry>,
    /// Addresses that are known beside frontends.
    pub(super) addresses: BTreeSet<Addr>,
    /// What is said of cgroups' reach.
    pub(super) confinement: BTreeMap<u64, u32>,
    pub(super) service_ids: Ids<u64>,
    pub(super) limit_ids: Ids<u64>,
    pub(super) endpoint_ids: Ids<EndpointKey>,
    /// Maxima of the limits that are in use, as written.
    pub(super) limit_max: BTreeMap<u64, u64>,
    /// What the limits stand for, from the latest desired state.
    pub(super) limits: BTreeMap<u64, Limit>,
    pub(super) generation: u64,
    /// Counts the times that services came, went, or were told what they stand for.
    edition: u64,
    pub(super) arenas: Arenas,
    /// Blocks that were written and that nothing names yet.
    pub(super) unnamed: BTreeSet<(Area, Block)>,
    /// What departed since the latest grace period was asked for.
    pub(super) departed: Departed,
    /// What departed before a grace period was asked for, oldest first.
    pub(super) resting: VecDeque<(Grace, Departed)>,
    /// Ids out of the kernel's sight, freed once they count no open connection.
    pub(super) idle: Vec<Counted>,
}

impl Default for State {
    fn default() -> Self {
        Self::new(Capacity::default())
    }
}

impl State {
    /// Nothing is installed in maps of this capacity.
    pub fn new(capacity: Capacity) -> Self {
        Self {
            services: BTreeMap::new(),
            frontends: BTreeMap::new(),
            sources: BTreeMap::new(),
            networks: BTreeMap::new(),
            addresses: BTreeSet::new(),
            confinement: BTreeMap::new(),
            service_ids: Ids::new(0, capacity.services),
            limit_ids: Ids::new(1, capacity.limits),
            endpoint_ids: Ids::new(1, capacity.endpoint_states),
            limit_max: BTreeMap::new(),
            limits: BTreeMap::new(),
            generation: 0,
            edition: 0,
            arenas: Arenas::new(&capacity),
            unnamed: BTreeSet::new(),
            departed: Departed::default(),
            resting: VecDeque::new(),
            idle: Vec::new(),
            capacity,
        }
    }

    /// Generation of the snapshot that was reconciled last without an error; 0: none.
    pub const fn generation(&self) -> u64 {
        self.generation
    }

    /// Another when other services are installed, or other names of theirs are known.
    pub const fn edition(&self) -> u64 {
        self.edition
    }

    /// Installed services in the order of their names' hashes.
    pub fn services(&self) -> impl Iterator<Item = &Installed> {
        self.services.values()
    }

    /// True when connections of some caller to some service are sent to the proxy.
    pub fn sends_to_proxy(&self) -> bool {
        self.services
            .values()
            .any(|service| service.placement.sends_to_proxy())
    }

    /// The service at an index of the services map.
    pub fn service_at(&self, index: u32) -> Option<&Installed> {
        self.services.values().find(|s| s.index == index)
    }

    /// The service that a frontend leads to.
    pub fn service_of(&self, frontend: FrontendKey) -> Option<&Installed> {
        let index = *self.frontends.get(&frontend)?;
        self.service_at(index)
    }

    /// Elements that are in use or waiting for a grace period, of all elements.
    pub const fn usage(&self, area: Area) -> (u32, u32) {
        let arena = self.arenas.of(area);
        (arena.used(), arena.capacity())
    }

    /// True when something waits for a grace period, or for connections to end.
    pub fn has_leftovers(&self) -> bool {
        self.is_resting() || !self.idle.is_empty()
    }

    /// True when something waits for a grace period.
    pub fn is_resting(&self) -> bool {
        !self.departed.is_empty() || !self.resting.is_empty()
    }

    /// Limits that are installed: id and what the limit stands for, when known.
    pub fn limits(&self) -> impl Iterator<Item = (u32, Option<&Limit>)> {
        self.limit_ids
            .iter()
            .map(|(name, id)| (id, self.limits.get(name)))
    }

    /// Ids by policy and by endpoint, for whoever opens connections that are to be counted.
    pub fn upstream_ids(&self) -> UpstreamIds {
        self.ids_of(self.limits.iter())
    }

    /// True when [`State::upstream_ids`] would be `ids`, which have all of them and perhaps more: as many, then.
    pub(super) fn has_ids(&self, ids: &UpstreamIds) -> bool {
        let limits = self
            .limits
            .keys()
            .filter(|name| self.limit_ids.in_use(name).is_some());
        ids.endpoints.ids().count() == self.endpoint_ids.used() && ids.limits.len() == limits.count()
    }

    /// As [`State::upstream_ids`], with what `desired` has beyond that, as far as it has ids already.
    pub(super) fn upstream_ids_towards(&self, desired: &Desired) -> UpstreamIds {
        self.ids_of(self.limits.iter().chain(&desired.limits))
    }

    fn ids_of<'l>(&self, limits: impl Iterator<Item = (&'l u64, &'l Limit)>) -> UpstreamIds {
        let id = |(name, limit): (&u64, &Limit)| Some((limit.policy.clone(), self.limit_ids.in_use(name)?));
        UpstreamIds {
            limits: Arc::new(limits.filter_map(id).collect()),
            endpoints: self.endpoint_ids.iter().map(|(&key, id)| (key, id)).collect(),
        }
    }

    /// True for an endpoint that is in use.
    pub fn is_in_use(&self, endpoint: &EndpointKey) -> bool {
        self.endpoint_ids.in_use(endpoint).is_some()
    }

    /// The name of an installed service that stands for the same frontends as `service` did.
    pub(super) fn name_of(&self, service: &Service) -> Option<u64> {
        let is_it = |name: &u64| {
            let described = self.services.get(name).and_then(|s| s.described.as_ref());
            described.is_some_and(|described| described.is_called_like(service))
        };
        super::desired::names(&service.label())
            .take(MAX_VARIATIONS)
            .find(is_it)
    }

    /// Class of a cgroup in the kernel's numbers; 0: unknown.
    pub fn class_of(&self, cgroup: u64) -> u32 {
        self.sources.get(&cgroup).copied().unwrap_or_default()
    }

    /// Class numbers that may not be given to another meaning yet.
    pub(super) fn resting_classes(&self) -> BTreeSet<u32> {
        let resting = self.resting.iter().flat_map(|(_, departed)| &departed.classes);
        resting.chain(&self.departed.classes).copied().collect()
    }

    /// A block was written that nothing names yet.
    pub(super) fn wrote(&mut self, area: Area, block: Block) {
        let taken = self.arenas.of_mut(area).claim(block);
        debug_assert!(taken, "{area:?} {block:?} was in use");
        if taken && block.len > 0 {
            self.unnamed.insert((area, block));
        }
    }

    /// Frees the blocks that were written but never named.
    pub(super) fn abandon(&mut self) {
        for (area, block) in std::mem::take(&mut self.unnamed) {
            self.arenas.of_mut(area).free(block);
        }
    }

    /// A service has this routing from now on.
    pub(super) fn published(&mut self, name: u64, installed: Installed) {
        let new: BTreeSet<_> = installed.placement.blocks().collect();
        self.unnamed.retain(|block| !new.contains(block));
        let is_described = installed.described.is_some();
        let old = self.services.insert(name, installed);
        if old
            .as_ref()
            .is_none_or(|old| old.described.is_some() != is_described)
        {
            self.edition += 1;
        }
        if let Some(old) = old {
            let left = old.placement.blocks().filter(|block| !new.contains(block));
            self.departed.blocks.extend(left);
        }
    }

    /// A service is reached by nobody any more.
    pub(super) fn forgot(&mut self, name: u64) {
        self.edition += 1;
        if let Some(old) = self.services.remove(&name) {
            self.departed.blocks.extend(old.placement.blocks());
        }
        let leaving = self.service_ids.leave(&name);
        self.departed.services.extend(leaving.map(|l| (name, l)));
    }

    /// A cgroup has this class from now on; 0: it is unknown.
    pub(super) fn classified(&mut self, cgroup: u64, class: u32) {
        let old = if class == 0 {
            self.sources.remove(&cgroup)
        } else {
            self.sources.insert(cgroup, class)
        };
        if let Some(old) = old.filter(|&old| old != class) {
            self.departed.classes.insert(old);
        }
    }

    /// From now on the generation is that of a snapshot with other endpoints.
    pub(super) const fn followed(&mut self, generation: u64) {
        self.generation = generation;
    }

    /// From now on the limits and the generation stand for what `desired` says.
    pub(super) fn reconciled(&mut self, desired: &Desired) {
        self.generation = desired.generation;
        self.limits.clone_from(&desired.limits);
        // Entries that came in order left half of the room empty.
        self.endpoint_ids.pack();
        self.services = std::mem::take(&mut self.services).into_iter().collect();
        self.frontends = std::mem::take(&mut self.frontends).into_iter().collect();
    }

    /// Hands what departed over to a grace period that was asked for after it departed.
    pub(super) fn rest(&mut self, grace: Grace) {
        self.resting
            .push_back((grace, std::mem::take(&mut self.departed)));
    }

    /// The mirror as it will be when every grace period is over, while connections are still open.
    pub(super) fn rested(&self) -> Self {
        let mut rested = self.clone();
        let resting = std::mem::take(&mut rested.resting)
            .into_iter()
            .map(|(_, departed)| departed);
        let departed: Vec<_> = resting.chain([std::mem::take(&mut rested.departed)]).collect();
        for departed in departed {
            for (area, block) in departed.blocks {
                rested.arenas.of_mut(area).free(block);
            }
            rested.idle.extend(departed.counted);
            for (name, leaving) in departed.services {
                if rested.service_ids.is_leaving(&name, leaving) {
                    rested.service_ids.forget(&name);
                }
            }
        }
        rested
    }

    /// True when a grace period is to be asked for.
    pub(super) fn wants_grace(&self) -> bool {
        !self.departed.is_empty()
    }
}
