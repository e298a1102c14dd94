//! Ports found by address: frontends, then networks of external services; and by the names that clients send.

use std::{
    cmp::Reverse,
    collections::{BTreeSet, HashMap},
    net::{IpAddr, SocketAddr},
};

use ipnet::IpNet;

use super::{Port, PortId, Snapshot};
use crate::{connection::Transport, external::External};

/// What a client speaks, as far as it tells which host it means.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Spoken {
    /// HTTP in plain text: the name is in `Host` or `:authority`.
    Http,
    /// TLS: the name is the server name of the client's first message.
    Tls,
}

impl Snapshot {
    /// The TCP port that is reached at a frontend, else in the smallest network that holds the address. Of the ports that
    /// only names tell apart ([`Port::is_named`]) one stands for all; [`Snapshot::port_below`] says which is meant.
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
                .find(|(network, id)| network.contains(&frontend.ip()) && self.is_meant(*id, frontend.ip()))
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
    /// The port that is reached by a name which clients send, `host` or `host:port`: the longest domain that the host is
    /// below, of those where `spoken` is expected.
    pub fn port_below(&self, host: &str, port: u16, spoken: Spoken) -> Option<&Port> {
        let host = host_alone(host);
        let named = self.named_ports(port).filter(|port| port.expects(spoken));
        let candidates = named.filter_map(|port| match &port.external {
            Some(External::Below(domain)) if ends_with(host, domain) => Some((domain.len(), port)),
            _ => None,
        });
        candidates.max_by_key(|(len, _)| *len).map(|(_, port)| port)
    }
    /// True when `spoken` is expected from clients of unknown addresses on a port.
    pub fn expects(&self, port: u16, spoken: Spoken) -> bool {
        self.named_ports(port).any(|port| port.expects(spoken))
    }
    /// The domains that hosts on a port may be below, each as it was written.
    pub fn domains_at(&self, port: u16) -> Vec<&str> {
        let named = self.named_ports(port).map(|port| port.service.as_str());
        // Each is there for both families.
        named.collect::<BTreeSet<_>>().into_iter().collect()
    }
    /// Where what is below no domain goes when it may: the dialled address, without rules and policies. There is none
    /// without ports that only names tell apart.
    pub fn elsewhere(&self) -> Option<&Port> {
        self.elsewhere.as_deref()
    }

    fn named_ports(&self, port: u16) -> impl Iterator<Item = &Port> {
        let of_port = self.by_network.get(&port).into_iter().flatten();
        let ports = of_port.map(|(_, id)| &self.ports[id.0 as usize]);
        ports.filter(|port| port.is_named())
    }
    /// False for addresses that nobody means who speaks to a host below a domain: those that are known otherwise, and
    /// link-local ones, behind which clouds keep credentials.
    fn is_meant(&self, port: PortId, address: IpAddr) -> bool {
        let is_named = self.ports[port.0 as usize].is_named();
        !is_named || !(is_link_local(address) || self.knows(address))
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

impl Port {
    /// True when only what clients send tells whether they mean this service.
    pub const fn is_named(&self) -> bool {
        matches!(self.external, Some(External::Below(_)))
    }
    /// True for [`Snapshot::elsewhere`].
    pub const fn is_elsewhere(&self) -> bool {
        // No service has a port 0.
        self.number == 0
    }
    /// True when `spoken` is what clients of such a port are to speak.
    pub const fn expects(&self, spoken: Spoken) -> bool {
        match spoken {
            Spoken::Http => self.protocol.is_http(),
            Spoken::Tls => !self.protocol.is_http(),
        }
    }
}

/// Without a port and the dot of the root.
fn host_alone(host: &str) -> &str {
    let host = match host.rsplit_once(':') {
        Some((host, port)) if port.bytes().all(|b| b.is_ascii_digit()) => host,
        _ => host,
    };
    host.strip_suffix('.').unwrap_or(host)
}

fn is_link_local(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => v4.is_link_local(),
        IpAddr::V6(v6) => v6.is_unicast_link_local(),
    }
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
    fn hosts_are_told_from_their_ports() {
        for (written, host) in [
            ("a.example.com:443", "a.example.com"),
            ("a.example.com.", "a.example.com"),
            ("a.example.com.:80", "a.example.com"),
            ("a.example.com:", "a.example.com"),
            ("a.example.com:x", "a.example.com:x"),
            ("", ""),
        ] {
            assert_eq!(host_alone(written), host, "{written}");
        }
    }

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
