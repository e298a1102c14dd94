//! The pinned maps, opened and mapped into memory, and the store that reconciliation writes through.

use std::{
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    path::{Path, PathBuf},
    sync::atomic::Ordering,
};

use router_common::{
    abi,
    endpoint::{Endpoint, EndpointState},
    limit::Limit,
    net::{Addr, Be16},
    reason::{Counters, Reason},
    route::{RouteWord, Subset},
    service::{FrontendKey, Service},
    settings::Settings,
    source::SourceEntry,
};

use super::{
    bpf,
    grace::GraceKeeper,
    kernel::HandoverHook,
    mapped::Mapped,
    store::{Grace, MapStore, Result, StoreError},
};
use crate::clock;

mod egress;

/// Word of [`Settings`] that holds the heartbeat.
const HEARTBEAT_WORD: usize = std::mem::offset_of!(Settings, heartbeat) / 8;

/// Every map of the kernel half.
#[derive(Debug)]
pub struct Maps {
    pub(super) frontends: OwnedFd,
    pub(super) sources: OwnedFd,
    pub(super) connections: OwnedFd,
    pub(super) networks: OwnedFd,
    pub(super) addresses: OwnedFd,
    pub(super) confinement: OwnedFd,
    pub(super) flows: OwnedFd,
    pub(super) services: Mapped<Service>,
    pub(super) slots: Mapped<u64>,
    pub(super) subsets: Mapped<Subset>,
    pub(super) endpoints: Mapped<Endpoint>,
    pub(super) endpoint_states: Mapped<EndpointState>,
    pub(super) limits: Mapped<Limit>,
    pub(super) settings: Mapped<Settings>,
    counters: Mapped<Counters>,
}

impl Maps {
    /// Opens the pins in `dir`.
    ///
    /// # Errors
    ///
    /// The pin that could not be opened or mapped, and why.
    pub fn open(dir: &Path) -> Result<Self, (PathBuf, io::Error)> {
        let open = |name: &str| {
            let path = dir.join(name);
            bpf::open_pinned(&path).map_err(|error| (path, error))
        };
        Ok(Self {
            frontends: open(abi::FRONTENDS)?,
            sources: open(abi::SOURCES)?,
            connections: open(abi::CONNECTIONS)?,
            networks: open(abi::NETWORKS)?,
            addresses: open(abi::ADDRESSES)?,
            confinement: open(abi::CONFINEMENT)?,
            flows: open(abi::FLOWS)?,
            services: map(dir, abi::SERVICES, abi::MAX_SERVICES)?,
            slots: map(dir, abi::SLOTS, abi::MAX_SLOT_CELLS)?,
            subsets: map(dir, abi::SUBSETS, abi::MAX_SUBSETS)?,
            endpoints: map(dir, abi::ENDPOINTS, abi::MAX_ENDPOINTS)?,
            endpoint_states: map(dir, abi::ENDPOINT_STATES, abi::MAX_ENDPOINT_STATES)?,
            limits: map(dir, abi::LIMITS, abi::MAX_LIMITS)?,
            settings: map(dir, abi::SETTINGS, 1)?,
            counters: map(dir, abi::COUNTERS, abi::COUNTER_SHARDS)?,
        })
    }

    /// Connections per verdict since the maps were made. Reads memory only.
    pub fn verdicts(&self) -> impl Iterator<Item = (Reason, u64)> {
        Reason::ALL.iter().map(|&reason| {
            let shards = (0..self.counters.len()).flat_map(|i| self.counters.word(i, reason as usize));
            (reason, shards.map(|count| count.load(Ordering::Relaxed)).sum())
        })
    }

    pub(super) fn beat(&self, nanoseconds: u64) {
        // It could be mapped by `open`.
        if let Ok(heartbeat) = self.settings.word(0, HEARTBEAT_WORD) {
            heartbeat.store(nanoseconds, Ordering::Release);
        }
    }

    /// Bytes that are mapped now.
    fn bytes(&self) -> usize {
        let services = self.services.bytes() + self.slots.bytes() + self.subsets.bytes();
        let endpoints = self.endpoints.bytes() + self.endpoint_states.bytes();
        services + endpoints + self.limits.bytes() + self.settings.bytes() + self.counters.bytes()
    }

    fn unmap(&mut self) {
        self.services.unmap();
        self.slots.unmap();
        self.subsets.unmap();
        self.endpoints.unmap();
        self.endpoint_states.unmap();
        self.limits.unmap();
        self.settings.unmap();
        self.counters.unmap();
    }

    pub(super) fn connections(&self) -> BorrowedFd<'_> {
        self.connections.as_fd()
    }
}

fn map<T: aya::Pod>(dir: &Path, name: &str, entries: u32) -> Result<Mapped<T>, (PathBuf, io::Error)> {
    let path = dir.join(name);
    let mapped = bpf::open_pinned(&path).and_then(|fd| {
        let mut array = Mapped::new(fd, entries);
        // That it can be mapped shows now and not in the middle of a change.
        array.word(0, 0)?;
        array.unmap();
        Ok(array)
    });
    mapped.map_err(|error| (path, error))
}

/// Bytes of the arrays that may stay mapped from one change of endpoints to the next, until what changes left is cleared
/// away.
const KEPT_MAPPED: usize = 16 << 20;

/// The kernel's maps as reconciliation writes them, in mappings of its own.
#[derive(Debug)]
pub struct KernelMaps {
    maps: Maps,
    grace: GraceKeeper,
    handover: Option<HandoverHook>,
}

impl KernelMaps {
    /// The sole writer of `maps`, which sees to it that connections which they send to the proxy are handed over. Without
    /// a hook it only reads.
    ///
    /// # Errors
    ///
    /// The thread that waits for grace periods could not be started.
    pub fn new(maps: Maps, handover: Option<HandoverHook>) -> io::Result<Self> {
        Ok(Self {
            maps,
            grace: GraceKeeper::start()?,
            handover,
        })
    }

    /// Lets go of the mappings of what was written and read: nearly all of it is not looked at again. `is_likely_again`: a
    /// change like the last one will follow, so that a little stays.
    pub fn rest(&mut self, is_likely_again: bool) {
        if !is_likely_again || self.maps.bytes() > KEPT_MAPPED {
            self.maps.unmap();
        }
    }
}

/// Index of a `u64` field in its entry.
macro_rules! word {
    ($type:ty, $field:ident) => {
        std::mem::offset_of!($type, $field) / 8
    };
}

fn within<T: aya::Pod>(map: &'static str, array: &Mapped<T>, base: u32, count: usize) -> Result<()> {
    let end = u32::try_from(count)
        .ok()
        .and_then(|count| base.checked_add(count))
        .unwrap_or(u32::MAX);
    if end <= array.len() {
        Ok(())
    } else {
        Err(StoreError::OutOfRange { map, index: end })
    }
}

/// Stores one word, with release ordering: whoever reads it sees what was written before.
fn store<T: aya::Pod>(
    map: &'static str,
    array: &Mapped<T>,
    (index, word): (u32, usize),
    value: u64,
) -> Result<()> {
    let cell = array.word(index, word).map_err(refused(map))?;
    cell.store(value, Ordering::Release);
    Ok(())
}

fn refused(map: &'static str) -> impl FnOnce(io::Error) -> StoreError {
    move |source| StoreError::Kernel { map, source }
}

impl MapStore for KernelMaps {
    fn write_endpoints(&mut self, base: u32, endpoints: &[Endpoint]) -> Result<()> {
        within(abi::ENDPOINTS, &self.maps.endpoints, base, endpoints.len())?;
        let mut numbered = (base..).zip(endpoints);
        let written = numbered.try_for_each(|(index, endpoint)| self.maps.endpoints.set(index, endpoint));
        written.map_err(refused(abi::ENDPOINTS))
    }

    fn write_subset(&mut self, index: u32, subset: &Subset) -> Result<()> {
        within(abi::SUBSETS, &self.maps.subsets, index, 1)?;
        self.maps
            .subsets
            .set(index, subset)
            .map_err(refused(abi::SUBSETS))
    }

    fn write_slots(&mut self, base: u32, cells: &[u64]) -> Result<()> {
        within(abi::SLOTS, &self.maps.slots, base, cells.len())?;
        let mut numbered = (base..).zip(cells);
        let written = numbered.try_for_each(|(index, cell)| self.maps.slots.set(index, cell));
        written.map_err(refused(abi::SLOTS))
    }

    fn write_limit(&mut self, id: u32, name: u64, max: u64) -> Result<()> {
        within(abi::LIMITS, &self.maps.limits, id, 1)?;
        store(abi::LIMITS, &self.maps.limits, (id, word!(Limit, max)), max)?;
        store(abi::LIMITS, &self.maps.limits, (id, word!(Limit, name)), name)
    }

    fn clear_limit(&mut self, id: u32) -> Result<()> {
        within(abi::LIMITS, &self.maps.limits, id, 1)?;
        let cleared = self.maps.limits.set(id, &Limit::default());
        cleared.map_err(refused(abi::LIMITS))
    }

    fn write_endpoint_state(&mut self, id: u32, addr: Addr, port: Be16) -> Result<()> {
        within(abi::ENDPOINT_STATES, &self.maps.endpoint_states, id, 1)?;
        // The counters are the kernel's: they are left out, and so is every word it may be adding to.
        let named = EndpointState {
            addr,
            port,
            ..EndpointState::default()
        };
        let mut words = word!(EndpointState, addr)..size_of::<EndpointState>() / 8;
        let written = words.try_for_each(|word| self.maps.endpoint_states.set_word(id, word, &named));
        written.map_err(refused(abi::ENDPOINT_STATES))
    }

    fn clear_endpoint_state(&mut self, id: u32) -> Result<()> {
        within(abi::ENDPOINT_STATES, &self.maps.endpoint_states, id, 1)?;
        let cleared = self.maps.endpoint_states.set(id, &EndpointState::default());
        cleared.map_err(refused(abi::ENDPOINT_STATES))
    }

    fn create_service(&mut self, index: u32, name: u64, word: RouteWord) -> Result<()> {
        within(abi::SERVICES, &self.maps.services, index, 1)?;
        let service = Service {
            route: word.0,
            name,
            ..Service::default()
        };
        let created = self.maps.services.set(index, &service);
        created.map_err(refused(abi::SERVICES))
    }

    fn publish(&mut self, index: u32, word: RouteWord) -> Result<()> {
        within(abi::SERVICES, &self.maps.services, index, 1)?;
        store(
            abi::SERVICES,
            &self.maps.services,
            (index, word!(Service, route)),
            word.0,
        )
    }

    fn forget_service(&mut self, index: u32) -> Result<()> {
        within(abi::SERVICES, &self.maps.services, index, 1)?;
        store(
            abi::SERVICES,
            &self.maps.services,
            (index, word!(Service, name)),
            0,
        )
    }

    fn insert_frontend(&mut self, key: FrontendKey, service: u32) -> Result<()> {
        bpf::update(self.maps.frontends.as_fd(), &key, &service).map_err(refused(abi::FRONTENDS))
    }

    fn remove_frontend(&mut self, key: FrontendKey) -> Result<()> {
        bpf::delete(self.maps.frontends.as_fd(), &key).map_err(refused(abi::FRONTENDS))
    }

    fn insert_source(&mut self, cgroup: u64, class: u32) -> Result<()> {
        let entry = SourceEntry { class, pad: 0 };
        bpf::update(self.maps.sources.as_fd(), &cgroup, &entry).map_err(refused(abi::SOURCES))
    }

    fn remove_source(&mut self, cgroup: u64) -> Result<()> {
        bpf::delete(self.maps.sources.as_fd(), &cgroup).map_err(refused(abi::SOURCES))
    }

    fn slot(&self, cell: u32) -> u64 {
        self.maps.slots.get(cell)
    }

    fn subset(&self, index: u32) -> Subset {
        self.maps.subsets.get(index)
    }

    fn endpoint(&self, index: u32) -> Endpoint {
        self.maps.endpoints.get(index)
    }

    fn service(&self, index: u32) -> Service {
        self.maps.services.get(index)
    }

    fn limit(&self, id: u32) -> Limit {
        self.maps.limits.get(id)
    }

    fn endpoint_state(&self, id: u32) -> EndpointState {
        self.maps.endpoint_states.get(id)
    }

    fn frontends(&self) -> Result<Vec<(FrontendKey, u32)>> {
        bpf::entries(
            self.maps.frontends.as_fd(),
            FrontendKey::tcp(Addr::default(), Be16::default()),
        )
        .map_err(refused(abi::FRONTENDS))
    }

    fn sources(&self) -> Result<Vec<(u64, u32)>> {
        let entries: Vec<(u64, SourceEntry)> =
            bpf::entries(self.maps.sources.as_fd(), 0_u64).map_err(refused(abi::SOURCES))?;
        Ok(entries
            .into_iter()
            .map(|(cgroup, entry)| (cgroup, entry.class))
            .collect())
    }

    fn begin_handover(&mut self) -> Result<()> {
        self.handover
            .as_mut()
            .map_or(Ok(()), HandoverHook::begin)
            .map_err(StoreError::Handover)
    }

    fn keep_handover(&mut self, is_needed: bool) -> Result<()> {
        let now = clock::now();
        self.handover
            .as_mut()
            .map_or(Ok(()), |hook| hook.keep(is_needed, now))
            .map_err(StoreError::Handover)
    }

    fn request_grace(&mut self) -> Result<Grace> {
        Ok(self.grace.request())
    }

    fn completed_grace(&mut self) -> Grace {
        self.grace.completed()
    }

    fn await_grace(&mut self, grace: Grace) -> Result<()> {
        self.grace.wait(grace);
        Ok(())
    }
}
