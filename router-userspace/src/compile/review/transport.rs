//! Conditions on transports and subnets that no port and no address of the rule's destination meets.

use std::net::IpAddr;

use router_rules::{
    connection::TransportMatch,
    model::{Rule, Service},
};

use super::Placed;
use crate::finding::{Finding, codes};

/// What is said of a rule whose destination is `service`.
pub(super) fn review(rule: &Placed<'_, Rule>, service: &Service, findings: &mut Vec<Finding>) {
    if service.ports.is_empty() {
        return;
    }
    for wanted in rule.item.any_of.iter().filter_map(|m| m.transport.as_ref()) {
        if let Some(finding) = transport(rule, service, wanted).or_else(|| destination(rule, service, wanted))
        {
            findings.push(finding);
        }
    }
}

/// True when it is certain that `wide` holds wherever `narrow` holds.
pub(super) fn implies(narrow: Option<&TransportMatch>, wide: Option<&TransportMatch>) -> bool {
    let Some(wide) = wide else { return true };
    narrow.is_some_and(|narrow| {
        narrow.transport == wide.transport
            && wide.sources.cover(&narrow.sources)
            && wide.destinations.cover(&narrow.destinations)
    })
}

fn transport(rule: &Placed<'_, Rule>, service: &Service, wanted: &TransportMatch) -> Option<Finding> {
    let mut carried = service.ports.iter().map(|port| port.protocol.transport());
    if carried.any(|transport| transport == wanted.transport) {
        return None;
    }
    let name = wanted.transport.name();
    let message = format!(
        "{} has no {} port, so this can never match",
        service.name,
        name.to_uppercase()
    );
    let field = format!("match.{name}");
    Some(
        rule.position
            .finding(&codes::UNMATCHED_TRANSPORT, &field, message, ""),
    )
}

fn destination(rule: &Placed<'_, Rule>, service: &Service, wanted: &TransportMatch) -> Option<Finding> {
    let is_in = |address: &IpAddr| wanted.destinations.contain(*address);
    if wanted.destinations.is_empty() || service.addresses.iter().any(is_in) {
        return None;
    }
    let addresses: Vec<_> = service.addresses.iter().map(ToString::to_string).collect();
    let message = if addresses.is_empty() {
        format!("{} has no address of its own that could be dialled", service.name)
    } else {
        format!(
            "{} is reached at {}, which is not in {}",
            service.name,
            addresses.join(", "),
            wanted.destinations
        )
    };
    let hint = "it is the address that clients dial, the service's, not that of an endpoint";
    let field = format!("match.{}.destinationSubnet", wanted.transport);
    Some(
        rule.position
            .finding(&codes::UNMATCHED_DESTINATION, &field, message, hint),
    )
}
