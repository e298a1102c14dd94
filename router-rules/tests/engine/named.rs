//! Ports that only the names tell apart which clients send.

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use http::HeaderMap;
use router_rules::{
    Snapshot,
    external::{External, ORIGINAL_DESTINATION, at},
    id::ServiceName,
    matcher::Request,
    model::{Model, Port, Protocol, Service},
    snapshot::Spoken,
    source::ClassId,
};

fn external(name: &str, external: External, ports: &[(u16, Protocol)]) -> (Service, External) {
    let port = |&(number, protocol): &(u16, Protocol)| Port {
        number,
        name: None,
        protocol,
        endpoints: vec![at(ORIGINAL_DESTINATION)],
    };
    let service = Service {
        name: ServiceName::new(name),
        addresses: Vec::new(),
        ports: ports.iter().map(port).collect(),
    };
    (service, external)
}

fn below(domain: &str, ports: &[(u16, Protocol)]) -> (Service, External) {
    external(
        domain,
        External::Below(domain.trim_start_matches('*').into()),
        ports,
    )
}

fn snapshot(externals: Vec<(Service, External)>) -> Snapshot {
    let named = externals.iter().map(|(s, e)| (s.name.clone(), e.clone()));
    let model = Model {
        externals: named.collect::<BTreeMap<_, _>>(),
        services: externals.into_iter().map(|(service, _)| service).collect(),
        addresses: vec![ip("10.1.0.1")],
        ..Model::default()
    };
    Snapshot::build(model, 1)
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

#[test]
fn the_longest_domain_of_what_is_spoken_is_meant() {
    let snapshot = snapshot(vec![
        below("*.example.com", &[(443, Protocol::Tcp), (80, Protocol::Http)]),
        below("*.eu.example.com", &[(443, Protocol::Tcp)]),
        below("*.de.eu.example.com", &[(443, Protocol::Grpc)]),
    ]);
    let meant = |host: &str, port, spoken| {
        let port = snapshot.port_below(host, port, spoken)?;
        Some(port.service().as_str())
    };
    assert_eq!(meant("a.example.com", 443, Spoken::Tls), Some("*.example.com"));
    assert_eq!(
        meant("a.EU.example.com.", 443, Spoken::Tls),
        Some("*.eu.example.com")
    );
    assert_eq!(
        meant("a.de.eu.example.com", 443, Spoken::Tls),
        Some("*.eu.example.com")
    );
    assert_eq!(
        meant("a.de.eu.example.com:443", 443, Spoken::Http),
        Some("*.de.eu.example.com")
    );
    assert_eq!(meant("a.eu.example.com", 80, Spoken::Http), Some("*.example.com"));
    for (host, port, spoken) in [
        ("example.com", 443, Spoken::Tls),
        ("a.example.org", 443, Spoken::Tls),
        ("a.example.com", 443, Spoken::Http),
        ("a.example.com", 80, Spoken::Tls),
        ("a.example.com", 8080, Spoken::Http),
    ] {
        assert_eq!(meant(host, port, spoken), None, "{host}:{port}");
    }
    assert_eq!(
        snapshot.domains_at(443),
        ["*.de.eu.example.com", "*.eu.example.com", "*.example.com"]
    );
    assert!(snapshot.expects(443, Spoken::Http) && !snapshot.expects(80, Spoken::Tls));
}

#[test]
fn networks_and_what_is_known_come_first() {
    let network = External::Network("203.0.113.0/24".parse().unwrap());
    let snapshot = snapshot(vec![
        below("*.example.com", &[(443, Protocol::Tcp)]),
        external("203.0.113.0/24", network, &[(443, Protocol::Tcp)]),
    ]);
    let at = |address: &str| {
        let port = snapshot.port_at(ip(address), 443)?;
        Some((port.service().as_str(), port.is_named()))
    };
    assert_eq!(at("203.0.113.7"), Some(("203.0.113.0/24", false)));
    assert_eq!(at("192.0.2.7"), Some(("*.example.com", true)));
    assert_eq!(at("2001:db8::7"), Some(("*.example.com", true)));
    for unopened in ["10.1.0.1", "169.254.169.254", "fe80::1"] {
        assert_eq!(at(unopened), None, "{unopened}");
    }
}

#[test]
fn elsewhere_is_the_dialled_address_without_rules_or_limits() {
    assert!(snapshot(Vec::new()).elsewhere().is_none());
    let snapshot = snapshot(vec![below("*.example.com", &[(80, Protocol::Http)])]);
    let port = snapshot.elsewhere().unwrap();
    assert!(port.is_elsewhere());
    // It is no service's, so neither names nor addresses lead to it.
    assert!(
        snapshot
            .ports()
            .iter()
            .all(|p| p.id() != port.id() && !p.is_elsewhere())
    );
    let headers = HeaderMap::new();
    let request = Request {
        method: &http::Method::GET,
        path: "/",
        scheme: "http",
        authority: "www.example.org",
        headers: &headers,
    };
    let route = snapshot.route_http(port, ClassId::UNKNOWN, &request);
    let subset = route.pick(0).unwrap();
    let endpoints: Vec<SocketAddr> = subset.endpoints().iter().map(|e| e.address).collect();
    assert_eq!(endpoints, [ORIGINAL_DESTINATION]);
    assert!(route.rule().is_none() && route.policy(subset).is_none());
    assert_eq!(route.timeout(&headers), Duration::ZERO);
}
