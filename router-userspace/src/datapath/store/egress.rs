//! The maps of destinations that are no frontend, and of who may reach nothing else: the part of
//! [`MapStore`](super::MapStore) that is about them.

use router_common::{
    net::Addr,
    network::{NetworkEntry, NetworkKey},
};

use super::Result;

/// Networks, known addresses and confined cgroups. As everywhere in a store, an operation that fails has done nothing, and
/// removing what is absent is no error.
pub trait EgressStore {
    /// Inserts or replaces a network.
    fn insert_network(&mut self, key: NetworkKey, entry: NetworkEntry) -> Result<()>;

    /// Removes a network.
    fn remove_network(&mut self, key: NetworkKey) -> Result<()>;

    /// Makes an address known.
    fn insert_address(&mut self, address: Addr) -> Result<()>;

    /// Makes an address unknown.
    fn remove_address(&mut self, address: Addr) -> Result<()>;

    /// Confines or exempts a cgroup.
    fn insert_confinement(&mut self, cgroup: u64, value: u32) -> Result<()>;

    /// Says nothing of a cgroup any more.
    fn remove_confinement(&mut self, cgroup: u64) -> Result<()>;

    /// Every network, in any order.
    ///
    /// # Errors
    ///
    /// The map could not be walked; so for the following.
    fn networks(&self) -> Result<Vec<(NetworkKey, NetworkEntry)>>;

    /// Every known address, in any order.
    fn addresses(&self) -> Result<Vec<Addr>>;

    /// Every cgroup of which something is said, in any order.
    fn confinement(&self) -> Result<Vec<(u64, u32)>>;
}
