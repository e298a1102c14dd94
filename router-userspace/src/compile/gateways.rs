//! 0.1 ingress rules → gateways of the model. It does not know whether a port can be listened on.

mod tls;

use std::collections::BTreeMap;

use router_rules::{
    connection::Transport,
    external::External,
    gateway::{Gateway, GatewayRule},
    id::ServiceName,
    model::{Match, Protocol, Rule, Service},
};

use super::{Placed, origin, registry::Registry, review, rules::Compiler, secrets::Secrets};
use crate::{
    config::{Document, Many, Position, rules_v1alpha1::IngressRule},
    finding::{Finding, codes},
};

/// Port of rules that name none.
const PLAIN_PORT: i64 = 80;
/// The same with a secret.
const SECURE_PORT: i64 = 443;

/// Ports that the agent itself listens on unless it is told otherwise: the proxy's and the admin address's.
const OWN_PORTS: [u16; 2] = [15_001, 15_021];

/// Ports that ingress rules may open: each is a listener for every address and thread.
const MAX_PORTS: usize = 64;

/// A rule, the port that it is for, and where it was written.
type Compiled<'d> = (u16, GatewayRule, &'d Position);

pub(super) fn compile(
    documents: &Many<Document<IngressRule>>,
    registry: &Registry,
    secrets: &mut Secrets<'_>,
    findings: &mut Vec<Finding>,
) -> Vec<Gateway> {
    let mut rules: Vec<Compiled<'_>> = Vec::new();
    for document in documents {
        let mut compiler = Compiler::new(document, findings);
        if let Some((port, rule)) = compiler.ingress(&document.body, registry, secrets) {
            rules.push((port, rule, &document.position));
        }
    }
    rules.sort_by(|(_, a, _), (_, b, _)| a.rank().cmp(&b.rank()));
    hidden(&rules, findings);
    let mut by_port: BTreeMap<u16, Vec<Compiled<'_>>> = BTreeMap::new();
    for rule in rules {
        by_port.entry(rule.0).or_default().push(rule);
    }
    for (port, rules) in &by_port {
        tls::review(*port, rules, findings);
    }
    if let Some((_, rules)) = by_port.iter().nth(MAX_PORTS) {
        let message = format!(
            "ingress rules open {} ports, {MAX_PORTS} are possible",
            by_port.len()
        );
        let hint = "let rules share a port, and tell them apart by `authority` and `uri`";
        let position = rules.first().map(|(_, _, position)| *position);
        findings.extend(position.map(|p| p.finding(&codes::CAPACITY, "port", message, hint)));
    }
    let gateway = |(port, rules): (u16, Vec<Compiled<'_>>)| Gateway {
        port,
        rules: rules.into_iter().map(|(_, rule, _)| rule).collect(),
    };
    by_port.into_iter().map(gateway).collect()
}

/// Rules behind others of their port that take everything they could match.
fn hidden(rules: &[Compiled<'_>], findings: &mut Vec<Finding>) {
    let placed: Vec<_> = rules
        .iter()
        .map(|(port, rule, position)| Placed {
            item: Rule {
                precedence: rule.precedence,
                any_of: rule.any_of.clone(),
                ..Rule::new(
                    rule.origin.clone(),
                    ServiceName::new(&format!("ingress port {port}")),
                )
            },
            position,
        })
        .collect();
    review::hidden(&placed, findings);
}

impl Compiler<'_> {
    fn ingress(
        &mut self,
        rule: &IngressRule,
        registry: &Registry,
        secrets: &mut Secrets<'_>,
    ) -> Option<(u16, GatewayRule)> {
        let secret = rule.tls_secret.as_deref().filter(|secret| !secret.is_empty());
        let usual = if secret.is_some() { SECURE_PORT } else { PLAIN_PORT };
        let credential = secret.map(|written| self.credential(secrets, written));
        let port = self.port_number("port", rule.port.or(Some(usual)));
        if let Some(own) = port.filter(|port| OWN_PORTS.contains(port)) {
            let message = format!("the agent itself listens on port {own}");
            self.report(&codes::INGRESS_PORT_TAKEN, "port", message, "take another port");
        }
        let any_of = rule
            .r#match
            .as_ref()
            .map(|condition| self.alternatives(condition))
            .unwrap_or_default();
        any_of.iter().for_each(|m| self.impossible_outside(m));
        let (service, service_port) = self.leads_to(rule, registry)?;
        // Without the certificate it would be a rule for plain text.
        let credential = match credential {
            Some(read) => Some(read?),
            None => None,
        };
        let rule = GatewayRule {
            origin: origin(self.position()),
            precedence: rule.precedence.unwrap_or(0),
            any_of,
            service,
            service_port,
            credential,
        };
        Some((port?, rule))
    }

    /// Reports conditions that no request from outside meets.
    fn impossible_outside(&mut self, condition: &Match) {
        let hint = "remove the condition, or ask for `tcp.sourceSubnet`";
        if condition.source.is_some() {
            let message = "callers from outside are no workloads that anybody knows, so this never matches";
            self.report(&codes::IMPOSSIBLE_MATCH, "match.source", message, hint);
        }
        if condition
            .transport
            .as_ref()
            .is_some_and(|t| t.transport == Transport::Udp)
        {
            let message = "ingress ports speak HTTP over TCP, so this never matches";
            self.report(&codes::IMPOSSIBLE_MATCH, "match.udp", message, "remove it");
        }
    }

    /// The service and its port that requests go to.
    fn leads_to(&mut self, rule: &IngressRule, registry: &Registry) -> Option<(ServiceName, u16)> {
        let Some(reference) = &rule.destination else {
            let hint = "add `destination:` with the name of a service";
            let message = "the ingress rule names no destination";
            self.report(&codes::MISSING_DESTINATION, "", message, hint);
            return None;
        };
        let name = self.destination(Some(reference))?;
        if rule.destination_port.is_some() && rule.destination_port_name.is_some() {
            let hint = "keep one of `destinationPort` and `destinationPortName`";
            let message = "the port is given by number and by name";
            self.report(&codes::CONFLICTING_FIELDS, "destinationPortName", message, hint);
            return None;
        }
        let number = match rule.destination_port {
            Some(_) => Some(self.port_number("destinationPort", rule.destination_port)?),
            None => None,
        };
        if let Some(External::Network(_) | External::Below(_)) = registry.externals.get(&name) {
            let message = format!("{name} is many hosts, and a request from outside names none of them");
            let hint = "name a service, a domain or an address";
            self.report(&codes::INVALID_VALUE, "destination", message, hint);
            return None;
        }
        let Some(service) = registry.services.iter().find(|service| service.name == name) else {
            let message = format!("there is no service {name}");
            let hint = "requests that match are refused (503 `no-service`)";
            self.report(&codes::UNKNOWN_SERVICE, "destination", message, hint);
            return Some((name, number.unwrap_or_default()));
        };
        let port = self.port_of(rule, number, service)?;
        Some((name, port))
    }

    fn port_of(&mut self, rule: &IngressRule, number: Option<u16>, service: &Service) -> Option<u16> {
        let by_name = rule.destination_port_name.as_deref();
        let carried = || {
            service
                .ports
                .iter()
                .filter(|p| p.protocol.transport() == Transport::Tcp)
        };
        let mut named = carried().filter(|p| match (number, by_name) {
            (Some(number), _) => p.number == number,
            (None, Some(name)) => p.name.as_deref() == Some(name),
            (None, None) => true,
        });
        let (found, several) = (named.next(), named.next().is_some());
        if several {
            let message = format!("{} has {} TCP ports", service.name, carried().count());
            let hint = format!("add `destinationPort`: it has {}", ports_of(service));
            self.report(&codes::MISSING_FIELD, "destinationPort", message, hint);
            return None;
        }
        let field = if by_name.is_some() {
            "destinationPortName"
        } else {
            "destinationPort"
        };
        let Some(port) = found else {
            let message = format!("{} has no such TCP port", service.name);
            let hint = format!(
                "it has {}; requests that match are refused (503 `no-service`)",
                ports_of(service)
            );
            self.report(&codes::UNKNOWN_PORT, field, message, hint);
            return Some(number.unwrap_or_default());
        };
        if port.protocol == Protocol::Tcp {
            let message = format!(
                "port {} of {} speaks TCP; requests are sent there in HTTP/1.1",
                port.number, service.name
            );
            let hint = "name the port http-…, http2-… or grpc-…, or set its appProtocol";
            self.report(&codes::HTTP_MATCH_ON_TCP_PORT, field, message, hint);
        }
        Some(port.number)
    }
}

/// `80 (http), 9090`
fn ports_of(service: &Service) -> String {
    let ports = service.ports.iter();
    let written = ports.map(|port| match &port.name {
        Some(name) => format!("{} ({name})", port.number),
        None => port.number.to_string(),
    });
    written.collect::<Vec<_>>().join(", ")
}
