//! Hosts outside the cluster as services: known by a name that somebody resolves, by an address, by a network, or by
//! the names that clients send.
//!
//! It resolves nothing: addresses are arguments.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::Arc,
};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use crate::{
    id::ServiceName,
    labels::Labels,
    model::{Endpoint, Model},
};

/// The endpoint that stands for the address and port that the client chose.
pub const ORIGINAL_DESTINATION: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0);

/// How hosts of a service outside the cluster are known.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum External {
    /// By the service's name, which is resolved: its addresses are the service's frontends and endpoints.
    Resolved,
    /// By one address, which the service has from the beginning.
    Address,
    /// By a network: every address in it, at the address that the client chose.
    Network(IpNet),
    /// By the names that clients send (`Host`, or the server name of TLS): those that end with this, which begins with a
    /// dot. At the address that the client chose.
    Below(Box<str>),
}

impl External {
    /// The networks that are not resolved to addresses.
    pub fn networks(&self) -> Vec<IpNet> {
        match self {
            Self::Resolved | Self::Address => Vec::new(),
            Self::Network(network) => vec![*network],
            Self::Below(_) => vec![
                IpNet::V4(Ipv4Net::default()),
                // The default network of either family is the one that holds every address.
                IpNet::V6(Ipv6Net::default()),
            ],
        }
    }

    /// The endpoint that a port of such a service has from the beginning.
    pub fn endpoint(&self) -> Option<Endpoint> {
        let as_chosen = matches!(self, Self::Network(_) | Self::Below(_));
        as_chosen.then(|| at(ORIGINAL_DESTINATION))
    }
}

/// An endpoint without labels or workload.
pub fn at(address: SocketAddr) -> Endpoint {
    Endpoint {
        address,
        labels: Arc::new(Labels::default()),
        workload: None,
    }
}

impl Model {
    /// Names that are to be resolved.
    pub fn unresolved(&self) -> impl Iterator<Item = &ServiceName> {
        let resolved = self.externals.iter().filter(|(_, e)| **e == External::Resolved);
        resolved.map(|(name, _)| name)
    }

    /// Gives the services that are known by a resolved name their addresses. A service whose name is not in
    /// `addresses` has none: connections to it are refused by the proxy and unknown to the kernel.
    pub fn resolve(&mut self, addresses: &BTreeMap<ServiceName, Vec<IpAddr>>) {
        for service in &mut self.services {
            if self.externals.get(&service.name) != Some(&External::Resolved) {
                continue;
            }
            service.addresses = addresses.get(&service.name).cloned().unwrap_or_default();
            for port in &mut service.ports {
                let to = |&ip: &IpAddr| at(SocketAddr::new(ip, port.number));
                port.endpoints = service.addresses.iter().map(to).collect();
            }
        }
    }
}

/// True for addresses that no client means as a destination of its own choice.
pub const fn is_unspecified(address: &IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => v4.is_unspecified(),
        IpAddr::V6(v6) => matches!(*v6, Ipv6Addr::UNSPECIFIED),
    }
}

/// True for loopback addresses, v4-mapped ones included: every host, and every pod, has them for itself, so that no service
/// outside can have one.
pub const fn is_loopback(address: &IpAddr) -> bool {
    address.to_canonical().is_loopback()
}

/// True when every address of a network is a loopback address.
pub fn is_within_loopback(network: &IpNet) -> bool {
    // 127.0.0.0/8, also in its v4-mapped form, and the only one of IPv6.
    let bits = match network {
        IpNet::V4(_) => 8,
        IpNet::V6(v6) if v6.network() == Ipv6Addr::LOCALHOST => 128,
        IpNet::V6(_) => 104,
    };
    network.prefix_len() >= bits && is_loopback(&network.network())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Port, Protocol, Service};

    #[test]
    fn resolved_addresses_are_frontends_and_endpoints() {
        let name = ServiceName::new("api.example.com");
        let mut model = Model {
            services: vec![Service {
                name: name.clone(),
                addresses: Vec::new(),
                ports: vec![Port {
                    number: 443,
                    name: None,
                    protocol: Protocol::Tcp,
                    endpoints: Vec::new(),
                }],
            }],
            externals: BTreeMap::from([(name.clone(), External::Resolved)]),
            ..Model::default()
        };
        assert_eq!(model.unresolved().collect::<Vec<_>>(), [&name]);
        let ip: IpAddr = "203.0.113.7".parse().unwrap();
        model.resolve(&BTreeMap::from([(name, vec![ip])]));
        assert_eq!(model.services[0].addresses, [ip]);
        assert_eq!(
            model.services[0].ports[0].endpoints,
            [at("203.0.113.7:443".parse().unwrap())]
        );
        model.resolve(&BTreeMap::new());
        assert!(model.services[0].ports[0].endpoints.is_empty());
    }

    #[test]
    fn loopback_is_found_in_every_spelling() {
        for (network, within) in [
            ("127.0.0.0/8", true),
            ("127.1.2.3/32", true),
            ("126.0.0.0/7", false),
            ("0.0.0.0/0", false),
            ("10.0.0.0/8", false),
            ("::1/128", true),
            ("::/127", false),
            ("::ffff:127.0.0.0/104", true),
            ("::ffff:0.0.0.0/96", false),
            ("fd00::/8", false),
        ] {
            assert_eq!(is_within_loopback(&network.parse().unwrap()), within, "{network}");
        }
    }
}
