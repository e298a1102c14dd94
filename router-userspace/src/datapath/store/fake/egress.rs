//! Networks, known addresses and confined cgroups of the maps in memory.

use router_common::{
    net::Addr,
    network::{NetworkEntry, NetworkKey},
};

use super::{super::EgressStore, FakeMaps, Result};

impl EgressStore for FakeMaps {
    fn insert_network(&mut self, key: NetworkKey, entry: NetworkEntry) -> Result<()> {
        assert_ne!(
            self.services[entry.service as usize].name, 0,
            "{key:?} would name a free service"
        );
        if let Some(old) = self.networks.insert(key, entry) {
            self.guard(old.service);
        }
        self.writes += 1;
        Ok(())
    }

    fn remove_network(&mut self, key: NetworkKey) -> Result<()> {
        if let Some(old) = self.networks.remove(&key) {
            self.guard(old.service);
        }
        self.writes += 1;
        Ok(())
    }

    fn insert_address(&mut self, address: Addr) -> Result<()> {
        self.addresses.insert(address);
        self.writes += 1;
        Ok(())
    }

    fn remove_address(&mut self, address: Addr) -> Result<()> {
        self.addresses.remove(&address);
        self.writes += 1;
        Ok(())
    }

    fn insert_confinement(&mut self, cgroup: u64, value: u32) -> Result<()> {
        self.confinement.insert(cgroup, value);
        self.writes += 1;
        Ok(())
    }

    fn remove_confinement(&mut self, cgroup: u64) -> Result<()> {
        self.confinement.remove(&cgroup);
        self.writes += 1;
        Ok(())
    }

    fn networks(&self) -> Result<Vec<(NetworkKey, NetworkEntry)>> {
        Ok(self.networks.iter().map(|(&key, &entry)| (key, entry)).collect())
    }

    fn addresses(&self) -> Result<Vec<Addr>> {
        Ok(self.addresses.iter().copied().collect())
    }

    fn confinement(&self) -> Result<Vec<(u64, u32)>> {
        Ok(self
            .confinement
            .iter()
            .map(|(&cgroup, &value)| (cgroup, value))
            .collect())
    }
}
