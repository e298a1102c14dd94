//! Faults of connections that no connection can suffer.

use router_rules::{
    connection::Transport,
    model::{Match, Rule, Service},
};

use super::{Placed, has_only_tcp};
use crate::finding::{Finding, codes};

/// What is said of a rule whose destination is `service`.
pub(super) fn review(rule: &Placed<'_, Rule>, service: &Service, findings: &mut Vec<Finding>) {
    let fault = &rule.item.l4_fault;
    if fault.is_empty() {
        return;
    }
    let mut report = |field: &str, message: String, hint: &str| {
        let code = &codes::L4_FAULT_HAS_NO_EFFECT;
        findings.push(rule.position.finding(code, field, message, hint));
    };
    let alternatives = &rule.item.any_of;
    let all = |is: fn(&Match) -> bool| !alternatives.is_empty() && alternatives.iter().all(is);
    let mut carried = service.ports.iter().map(|port| port.protocol.transport());
    if !service.ports.is_empty() && carried.all(|transport| transport == Transport::Udp) {
        let message = format!(
            "{} has UDP ports only, and datagrams never pass the proxy",
            service.name
        );
        report("l4Fault", message, "");
    } else if all(is_datagrams) {
        let message = "the rule is for UDP only, and datagrams never pass the proxy";
        report("l4Fault", message.to_owned(), "");
    } else if all(Match::is_http) && !has_only_tcp(service) {
        let message = "a connection is decided before its first request, so conditions on requests keep the fault from it";
        let hint = "write a rule of its own for it, whose `match` has no `httpHeaders`";
        report("l4Fault", message.to_owned(), hint);
    } else if service.name.as_str().starts_with("*.") && !has_only_tcp(service) {
        let message = "which host a connection of HTTP means is known request by request, so it is no rule's";
        report(
            "l4Fault",
            message.to_owned(),
            "it is in force on HTTPS ports only",
        );
    }
    if fault.never_throttles() {
        let message = "every connection is terminated before its throttle begins";
        report("l4Fault.throttle", message.to_owned(), "");
    }
}

fn is_datagrams(wanted: &Match) -> bool {
    let transport = wanted.transport.as_ref().map(|wanted| wanted.transport);
    transport == Some(Transport::Udp)
}
