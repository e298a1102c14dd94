//! Maps that fail at random, before anything is done: reconciliation must converge all the same.

use std::io;

use router_common::{
    endpoint::{Endpoint, EndpointState},
    limit::Limit,
    net::{Addr, Be16},
    network::{NetworkEntry, NetworkKey},
    route::{RouteWord, Subset},
    service::{FrontendKey, Service},
};

use super::{EgressStore, FakeMaps, Grace, MapStore, Result, StoreError};

/// [`FakeMaps`] of which a share of the operations fails.
#[derive(Debug)]
pub(crate) struct FaultyMaps {
    pub(crate) maps: FakeMaps,
    rng: fastrand::Rng,
    /// Operations in a hundred that fail.
    pub(crate) percent: u32,
}

impl FaultyMaps {
    pub(crate) fn new(maps: FakeMaps, seed: u64, percent: u32) -> Self {
        Self {
            maps,
            rng: fastrand::Rng::with_seed(seed),
            percent,
        }
    }

    fn fault(&mut self) -> Result<()> {
        if self.rng.u32(..100) < self.percent {
            return Err(StoreError::Kernel {
                map: "FAULTY",
                source: io::Error::from_raw_os_error(libc::ENOMEM),
            });
        }
        Ok(())
    }
}

macro_rules! failing {
    ($($name:ident($($arg:ident: $type:ty),*) -> $result:ty;)+) => {
        $(fn $name(&mut self, $($arg: $type),*) -> Result<$result> {
            self.fault()?;
            self.maps.$name($($arg),*)
        })+
    };
}

macro_rules! reading {
    ($($name:ident($($arg:ident: $type:ty),*) -> $result:ty;)+) => {
        $(fn $name(&self, $($arg: $type),*) -> $result {
            self.maps.$name($($arg),*)
        })+
    };
}

impl EgressStore for FaultyMaps {
    failing! {
        insert_network(key: NetworkKey, entry: NetworkEntry) -> ();
        remove_network(key: NetworkKey) -> ();
        insert_address(address: Addr) -> ();
        remove_address(address: Addr) -> ();
        insert_confinement(cgroup: u64, value: u32) -> ();
        remove_confinement(cgroup: u64) -> ();
    }
    reading! {
        networks() -> Result<Vec<(NetworkKey, NetworkEntry)>>;
        addresses() -> Result<Vec<Addr>>;
        confinement() -> Result<Vec<(u64, u32)>>;
    }
}

impl MapStore for FaultyMaps {
    failing! {
        write_endpoints(base: u32, endpoints: &[Endpoint]) -> ();
        write_subset(index: u32, subset: &Subset) -> ();
        write_slots(base: u32, cells: &[u64]) -> ();
        write_limit(id: u32, name: u64, max: u64) -> ();
        clear_limit(id: u32) -> ();
        write_endpoint_state(id: u32, addr: Addr, port: Be16) -> ();
        clear_endpoint_state(id: u32) -> ();
        create_service(index: u32, name: u64, word: RouteWord) -> ();
        publish(index: u32, word: RouteWord) -> ();
        forget_service(index: u32) -> ();
        insert_frontend(key: FrontendKey, service: u32) -> ();
        remove_frontend(key: FrontendKey) -> ();
        insert_source(cgroup: u64, class: u32) -> ();
        remove_source(cgroup: u64) -> ();
        begin_handover() -> ();
        keep_handover(is_needed: bool) -> ();
        request_grace() -> Grace;
        await_grace(grace: Grace) -> ();
    }
    reading! {
        slot(cell: u32) -> u64;
        subset(index: u32) -> Subset;
        endpoint(index: u32) -> Endpoint;
        service(index: u32) -> Service;
        limit(id: u32) -> Limit;
        endpoint_state(id: u32) -> EndpointState;
        frontends() -> Result<Vec<(FrontendKey, u32)>>;
        sources() -> Result<Vec<(u64, u32)>>;
    }

    fn completed_grace(&mut self) -> Grace {
        self.maps.completed_grace()
    }
}
