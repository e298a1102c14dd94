//! What the maps should hold of destinations that are no frontend: networks of external services, addresses that are
//! known, and the cgroups that may reach nothing else.
//!
//! It does not know which services exist: a network is one of a service's places, as a frontend is.

use std::collections::{BTreeMap, BTreeSet};

use ipnet::IpNet;
use router_common::{
    net::{Addr, Be16},
    network::{BITS_BEFORE_ADDR, CONFINED, EXEMPT, NetworkAddr, NetworkKey, UNKNOWN_ONLY},
    service::PROTOCOL_TCP,
};
use router_rules::{Snapshot, external::External, snapshot::Port};

use super::Desired;

/// Bits of a v4-mapped address in front of the IPv4 address.
const BITS_BEFORE_V4: u32 = 96;

/// A network of a service with its flags.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Network {
    /// Where it is in the trie.
    pub key: NetworkKey,
    /// [`UNKNOWN_ONLY`] or 0.
    pub flags: u32,
}

impl Network {
    fn new(network: &IpNet, port: u16, flags: u32) -> Self {
        let before = match network {
            // The network of every address is that of both families; the one of IPv4 lies in it.
            IpNet::V4(_) => BITS_BEFORE_V4,
            IpNet::V6(_) => 0,
        };
        Self {
            key: NetworkKey {
                bits: BITS_BEFORE_ADDR + before + u32::from(network.prefix_len()),
                of: NetworkAddr {
                    port: Be16::from_port(port),
                    protocol: PROTOCOL_TCP,
                    pad: 0,
                    addr: Addr::from_ip(network.network()),
                },
            },
            flags,
        }
    }
}

/// The networks of a port that it is the owner of.
pub(super) fn networks(snapshot: &Snapshot, port: &Port) -> Vec<Network> {
    let Some(external) = port.external() else {
        return Vec::new();
    };
    let flags = match external {
        External::Below(_) => UNKNOWN_ONLY,
        External::Resolved | External::Address | External::Network(_) => 0,
    };
    let own = |network: &IpNet| {
        let owner = snapshot.port_of_network(network, port.number());
        owner.is_some_and(|owner| owner.id() == port.id())
    };
    let networks = external.networks().into_iter().filter(own);
    networks
        .map(|network| Network::new(&network, port.number(), flags))
        .collect()
}

/// Known addresses, when a network is only for those that are not.
pub(super) fn addresses(snapshot: &Snapshot) -> BTreeSet<Addr> {
    let by_name = |port: &Port| matches!(port.external(), Some(External::Below(_)));
    if snapshot.ports().iter().any(by_name) {
        all_addresses(snapshot)
    } else {
        BTreeSet::new()
    }
}

fn all_addresses(snapshot: &Snapshot) -> BTreeSet<Addr> {
    let addresses = snapshot.addresses().iter();
    addresses.map(|&address| Addr::from_ip(address)).collect()
}

impl Desired {
    /// The same, with unknown destinations refused to the processes of cgroups that are confined (`true`; `false` exempts
    /// what is below a confined one).
    #[must_use]
    pub fn confining(mut self, snapshot: &Snapshot, cgroups: &BTreeMap<u64, bool>) -> Self {
        self.addresses = all_addresses(snapshot);
        let value = |confined: bool| if confined { CONFINED } else { EXEMPT };
        self.confinement = cgroups.iter().map(|(&cgroup, &c)| (cgroup, value(c))).collect();
        self
    }
}
