//! Networks, known addresses and confined cgroups in the kernel's maps.

use std::os::fd::AsFd as _;

use router_common::{
    abi,
    net::Addr,
    network::{NetworkEntry, NetworkKey},
};

use super::{KernelMaps, bpf, refused};
use crate::datapath::store::{EgressStore, Result};

/// Value of a known address.
const KNOWN: u32 = 1;

impl EgressStore for KernelMaps {
    fn insert_network(&mut self, key: NetworkKey, entry: NetworkEntry) -> Result<()> {
        bpf::update(self.maps.networks.as_fd(), &key, &entry).map_err(refused(abi::NETWORKS))
    }

    fn remove_network(&mut self, key: NetworkKey) -> Result<()> {
        bpf::delete(self.maps.networks.as_fd(), &key).map_err(refused(abi::NETWORKS))
    }

    fn insert_address(&mut self, address: Addr) -> Result<()> {
        bpf::update(self.maps.addresses.as_fd(), &address, &KNOWN).map_err(refused(abi::ADDRESSES))
    }

    fn remove_address(&mut self, address: Addr) -> Result<()> {
        bpf::delete(self.maps.addresses.as_fd(), &address).map_err(refused(abi::ADDRESSES))
    }

    fn insert_confinement(&mut self, cgroup: u64, value: u32) -> Result<()> {
        bpf::update(self.maps.confinement.as_fd(), &cgroup, &value).map_err(refused(abi::CONFINEMENT))
    }

    fn remove_confinement(&mut self, cgroup: u64) -> Result<()> {
        bpf::delete(self.maps.confinement.as_fd(), &cgroup).map_err(refused(abi::CONFINEMENT))
    }

    fn networks(&self) -> Result<Vec<(NetworkKey, NetworkEntry)>> {
        bpf::entries(self.maps.networks.as_fd(), NetworkKey::default()).map_err(refused(abi::NETWORKS))
    }

    fn addresses(&self) -> Result<Vec<Addr>> {
        let entries: Vec<(Addr, u32)> =
            bpf::entries(self.maps.addresses.as_fd(), Addr::default()).map_err(refused(abi::ADDRESSES))?;
        Ok(entries.into_iter().map(|(address, _)| address).collect())
    }

    fn confinement(&self) -> Result<Vec<(u64, u32)>> {
        bpf::entries(self.maps.confinement.as_fd(), 0_u64).map_err(refused(abi::CONFINEMENT))
    }
}
