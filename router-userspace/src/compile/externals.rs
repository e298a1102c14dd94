//! 0.1 egress rules → services outside the cluster. It does not know how names are resolved.

use std::{
    collections::{BTreeMap, HashMap},
    net::{IpAddr, SocketAddr},
};

use ipnet::IpNet;
use router_rules::{
    external::{External, at, is_loopback, is_unspecified, is_within_loopback},
    id::ServiceName,
    model::{Port, Protocol, Rule, Service},
    policy::Policy,
};

use super::{Placed, names, registry::Registry, rules::Compiler};
use crate::{
    config::{
        Document, Many, Position,
        rules_v1alpha1::{EgressPort, EgressRule, ServiceReference},
    },
    finding::{Finding, codes},
};

/// Adds the services of egress rules to those of the registry.
pub(super) fn compile(
    documents: &Many<Document<EgressRule>>,
    registry: &mut Registry,
    findings: &mut Vec<Finding>,
) {
    let mut rules: Vec<_> = documents.iter().collect();
    rules.sort_by(|a, b| (&a.namespace, &a.name).cmp(&(&b.namespace, &b.name)));
    let mut found: BTreeMap<ServiceName, (Service, &Position)> = BTreeMap::new();
    for document in rules {
        let mut compiler = Compiler::new(document, findings);
        let Some((name, external)) = compiler.external(document.body.destination.as_ref()) else {
            continue;
        };
        compiler.no_egress_proxy(&document.body);
        if registry.services.iter().any(|service| service.name == name) {
            compiler.shadows(&name);
            continue;
        }
        let (service, _) = found
            .entry(name.clone())
            .or_insert_with(|| (service(&name), &document.position));
        compiler.ports(&document.body, &external, service);
        registry.externals.insert(name, external);
    }
    let frontends = frontends(&registry.services);
    for (service, position) in found.values() {
        conflicts(service, position, &frontends, findings);
    }
    let services = found.into_values().map(|(service, _)| service);
    registry.services.extend(services);
}

fn service(name: &ServiceName) -> Service {
    let address: Option<IpAddr> = name.as_str().parse().ok();
    Service {
        name: name.clone(),
        addresses: address.into_iter().collect(),
        ports: Vec::new(),
    }
}

impl Compiler<'_> {
    /// The hosts that an egress rule is about.
    fn external(&mut self, destination: Option<&ServiceReference>) -> Option<(ServiceName, External)> {
        let text = match destination {
            None => {
                let hint = "add `destination: {service: …}` with a domain, an address or a network";
                let message = "the egress rule names no destination";
                self.report(&codes::MISSING_DESTINATION, "", message, hint);
                return None;
            }
            Some(ServiceReference::Name(name)) => name.as_str(),
            Some(ServiceReference::Structured(structured)) => {
                let is_service = structured.name.is_some()
                    || structured.namespace.is_some()
                    || structured.domain.is_some()
                    || structured
                        .labels
                        .as_ref()
                        .is_some_and(|labels| !labels.is_empty());
                match &structured.service {
                    Some(service) if !is_service => service.as_str(),
                    _ => {
                        let hint = "write destination: {service: api.example.com}";
                        let message =
                            "hosts outside the cluster have neither names, namespaces nor labels in it";
                        self.report(&codes::INVALID_EGRESS_DESTINATION, "destination", message, hint);
                        return None;
                    }
                }
            }
        };
        match parse(text) {
            Ok(found) => Some(found),
            Err(hint) => {
                let message = format!("`{text}` is neither a domain, `*.domain`, an address nor a network");
                self.report(&codes::INVALID_EGRESS_DESTINATION, "destination", message, hint);
                None
            }
        }
    }

    fn no_egress_proxy(&mut self, rule: &EgressRule) {
        if rule.use_egress_proxy == Some(true) {
            let message = "traffic through an egress proxy is not supported: it would leave from this node";
            let hint = "remove `useEgressProxy`, or set it to false";
            self.report(&codes::NOT_SUPPORTED_YET, "useEgressProxy", message, hint);
        }
    }

    fn shadows(&mut self, name: &ServiceName) {
        let message = format!("{name} is a service of the registry");
        let hint = "workloads may reach it without an egress rule; remove the rule";
        self.report(&codes::EGRESS_TO_SERVICE, "destination", message, hint);
    }

    fn ports(&mut self, rule: &EgressRule, external: &External, service: &mut Service) {
        let ports = rule.ports.as_deref().unwrap_or_default();
        if ports.is_empty() {
            let hint = "add `ports: [{port: 443, protocol: HTTPS}]`";
            let message = "the egress rule opens no port";
            self.report(&codes::MISSING_FIELD, "ports", message, hint);
        }
        for (index, port) in ports.iter().enumerate() {
            let field = format!("ports[{index}]");
            let Some((number, protocol)) = self.port(&field, port, external) else {
                continue;
            };
            if service.ports.iter().any(|known| known.number == number) {
                let message = format!("the port {number} of {} is open already", service.name);
                self.report(
                    &codes::DUPLICATE_PORT,
                    &format!("{field}.port"),
                    message,
                    "keep one of the two",
                );
                continue;
            }
            let own = service
                .addresses
                .iter()
                .map(|&ip| at(SocketAddr::new(ip, number)));
            service.ports.push(Port {
                number,
                name: None,
                protocol,
                endpoints: own.chain(external.endpoint()).collect(),
            });
        }
    }

    fn port(&mut self, field: &str, port: &EgressPort, external: &External) -> Option<(u16, Protocol)> {
        let number = self.port_number(&format!("{field}.port"), port.port);
        let Some(written) = &port.protocol else {
            let hint = "one of HTTP, HTTPS, GRPC, HTTP2, TCP, MONGO";
            self.report(&codes::MISSING_FIELD, field, "the port has no protocol", hint);
            return None;
        };
        let protocol = match written.to_ascii_uppercase().as_str() {
            "HTTP" => Protocol::Http,
            "HTTP2" => Protocol::Http2,
            "GRPC" => Protocol::Grpc,
            // What is inside of TLS is the client's and the server's business.
            "HTTPS" => Protocol::Tcp,
            "TCP" | "MONGO" if matches!(external, External::Below(_)) => {
                let message =
                    format!("{written} names no host, so nobody could tell which connections are meant");
                let hint = "name the hosts one by one, or by their network";
                self.report(&codes::INVALID_VALUE, &format!("{field}.protocol"), message, hint);
                return None;
            }
            "TCP" | "MONGO" => Protocol::Tcp,
            _ => {
                let message = format!("there is no protocol `{written}`");
                let hint = "one of HTTP, HTTPS, GRPC, HTTP2, TCP, MONGO";
                self.report(&codes::INVALID_VALUE, &format!("{field}.protocol"), message, hint);
                return None;
            }
        };
        Some((number?, protocol))
    }

    /// A port number out of a field. Reports when it is none.
    pub(super) fn port_number(&mut self, field: &str, written: Option<i64>) -> Option<u16> {
        let number = written.and_then(|n| u16::try_from(n).ok()).filter(|&n| n > 0);
        if number.is_none() {
            let message = match written {
                Some(written) => format!("{written} is no port"),
                None => "the port has no number".to_owned(),
            };
            self.report(&codes::INVALID_VALUE, field, message, "ports are 1 to 65535");
        }
        number
    }
}

const LOOPBACK: &str = "loopback addresses are those of each workload itself";

/// The hosts that a text means; else a hint.
fn parse(text: &str) -> Result<(ServiceName, External), &'static str> {
    if let Some(name) = names::external(text) {
        let external = match (name.as_str().parse::<IpAddr>(), name.as_str().parse::<IpNet>()) {
            (Ok(address), _) if is_unspecified(&address) => return Err("this address is nobody's"),
            (Ok(address), _) if is_loopback(&address) => return Err(LOOPBACK),
            (_, Ok(network)) if is_within_loopback(&network) => return Err(LOOPBACK),
            (Ok(_), _) => External::Address,
            (_, Ok(network)) if network.trunc() != network => {
                return Err("a network's address has no bits behind its prefix");
            }
            (_, Ok(network)) => External::Network(network),
            _ => External::Below(name.as_str().trim_start_matches('*').into()),
        };
        let is_below = |domain: &str| domain.strip_prefix('.').is_some_and(is_domain);
        return match &external {
            External::Below(domain) if !is_below(domain) => Err("write it as *.example.com"),
            _ => Ok((name, external)),
        };
    }
    let name = ServiceName::new(text);
    if name.as_str().contains('*') {
        Err("a `*` stands in front of a domain and its dot: *.example.com")
    } else if is_domain(name.as_str()) && name.as_str().contains('.') {
        Ok((name, External::Resolved))
    } else {
        Err("write the whole domain, such as api.example.com")
    }
}

fn is_domain(name: &str) -> bool {
    name.len() <= 253 && name.split('.').all(names::is_part)
}

/// Addresses and ports of the registry's services.
fn frontends(services: &[Service]) -> HashMap<SocketAddr, ServiceName> {
    let of = |service: &Service| {
        let of_address = |&ip: &IpAddr| {
            let ports = service.ports.iter();
            ports
                .map(|port| (SocketAddr::new(ip, port.number), service.name.clone()))
                .collect::<Vec<_>>()
        };
        service.addresses.iter().flat_map(of_address).collect::<Vec<_>>()
    };
    services.iter().flat_map(of).collect()
}

fn conflicts(
    service: &Service,
    position: &Position,
    frontends: &HashMap<SocketAddr, ServiceName>,
    findings: &mut Vec<Finding>,
) {
    for &ip in &service.addresses {
        for port in &service.ports {
            let frontend = SocketAddr::new(ip, port.number);
            if let Some(owner) = frontends.get(&frontend) {
                let message = format!("{frontend} belongs to {owner} already");
                let hint = "workloads may reach it without an egress rule; remove the rule";
                findings.push(position.finding(&codes::FRONTEND_CONFLICT, "destination", message, hint));
            }
        }
    }
}

/// A name of two parts may be a service's and its namespace's, and was completed so: `example.com` became
/// `example.com.svc.cluster.local`. Where no service has that name and an egress rule has the short one, it was meant.
pub(super) fn as_written(
    registry: &Registry,
    rules: &mut [Placed<'_, Rule>],
    policies: &mut [Placed<'_, Policy>],
) {
    let completed: HashMap<ServiceName, &ServiceName> = registry
        .externals
        .keys()
        .filter_map(|name| Some((names::completed(name)?, name)))
        .filter(|(full, _)| registry.services.iter().all(|service| service.name != *full))
        .collect();
    if completed.is_empty() {
        return;
    }
    let mend = |name: &mut ServiceName| {
        if let Some(&written) = completed.get(name) {
            *name = written.clone();
        }
    };
    for rule in rules {
        mend(&mut rule.item.destination);
        rule.item
            .targets
            .iter_mut()
            .for_each(|target| mend(&mut target.service));
    }
    for policy in policies {
        mend(&mut policy.item.destination);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn destinations_are_told_apart() {
        let external = |text: &str| parse(text).map(|(_, external)| external);
        assert_eq!(external("api.example.com"), Ok(External::Resolved));
        assert_eq!(external("API.Example.com."), Ok(External::Resolved));
        assert_eq!(external("203.0.113.7"), Ok(External::Address));
        assert_eq!(external("2001:db8::1"), Ok(External::Address));
        let network = "203.0.113.0/24".parse().unwrap();
        assert_eq!(external("203.0.113.0/24"), Ok(External::Network(network)));
        assert_eq!(
            external("*.example.com"),
            Ok(External::Below(".example.com".into()))
        );
        for bad in [
            "",
            "*",
            "*.",
            "a.*.com",
            "*example.com",
            "db",
            "203.0.113.7/24",
            "0.0.0.0",
            "a b.com",
            "1.2.3.4/33",
        ] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }
}
