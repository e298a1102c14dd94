//! Ports found by address: frontends, then networks of external services; and by the names that clients send.

use std::{
    cmp::Reverse,
    collections::HashMap,
    net::{IpAddr, SocketAddr},
};

use ipnet::IpNet;

use super::{Port, PortId, Snapshot};
use crate::{connection::Transport, external::External};

impl Snapshot {
    /// The TCP port that is reached at a frontend, else in the smallest network that holds the address.
    pub fn port_at(&self, address: IpAddr, port: u16) -> Option<&Port> {
        self.port_carried_at(Transport::Tcp, SocketAddr::new(address, port))
    }
    /// The port that is reached at a frontend over `transport`, else, over TCP, in the smallest network that holds the
    /// address.
    pub fn port_carried_at(&self, transport: Transport, frontend: SocketAddr) -> Option<&Port> {
        let in_network = || {
            let of_port = self.by_network.get(&frontend.port())?;
            let mut networks = of_port.iter().filter(|_| transport == Transport::Tcp);
            networks
                .find(|(network, _)| network.contains(&frontend.ip()))
                .map(|(_, id)| id)
        };
        let found = self.by_frontend.get(&(transport, frontend)).or_else(in_network);
        found.map(|id| &self.ports[id.0 as usize])
    }
    /// The owner of a network at a port.
    pub fn port_of_network(&self, network: &IpNet, port: u16) -> Option<&Port> {
        let mut networks = self.by_network.get(&port)?.iter();
        let found = networks.find(|(of, _)| of == network)?;
        Some(&self.ports[found.1.0 as usize])
    }
    /// The port that is reached by a name which clients send: the longest domain that the name is below.
    pub fn port_below(&self, host: &str, port: u16) -> Option<&Port> {
        let below = |port: &Port| match &port.external {
            Some(External::Below(domain)) if ends_with(host, domain) => Some(domain.len()),
            _ => None,
        };
        let ports = self.by_network.get(&port)?.iter();
        let candidates = ports.filter_map(|(_, id)| {
            let port = &self.ports[id.0 as usize];
            Some((below(port)?, port))
        });
        candidates.max_by_key(|(len, _)| *len).map(|(_, port)| port)
    }
    /// Addresses that are known although they may be no frontend's, ordered.
    pub fn addresses(&self) -> &[IpAddr] {
        &self.addresses
    }
    /// True for the addresses of services, endpoints, workloads and nodes of the cluster.
    pub fn knows(&self, address: IpAddr) -> bool {
        self.addresses.binary_search(&address).is_ok()
    }
}

/// Puts the longest prefixes first.
pub(crate) fn ordered(
    mut networks: HashMap<u16, Vec<(IpNet, PortId)>>,
) -> HashMap<u16, Vec<(IpNet, PortId)>> {
    for of_port in networks.values_mut() {
        of_port.sort_by_key(|(network, _)| Reverse(network.prefix_len()));
    }
    networks
}

/// True when `host` ends with `domain`, which is in lower case, and has something in front of it.
fn ends_with(host: &str, domain: &str) -> bool {
    let at = host.len().checked_sub(domain.len()).filter(|&at| at > 0);
    at.and_then(|at| host.get(at..))
        .is_some_and(|end| end.eq_ignore_ascii_case(domain))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_domain_is_not_below_itself() {
        assert!(ends_with("www.example.com", ".example.com"));
        assert!(ends_with("A.B.EXAMPLE.com", ".example.com"));
        for host in [
            "example.com",
            ".example.com",
            "www.example.org",
            "badexample.com",
            "",
            "é.com",
        ] {
            assert!(!ends_with(host, ".example.com"), "{host}");
        }
    }
}
