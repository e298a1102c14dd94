//! Whether a model fits in the kernel's maps, asked before anything changes.

use std::collections::{HashMap, HashSet};

use router_common::abi;
use router_rules::{
    id::ServiceName,
    labels::Labels,
    model::{Port, Rule, Service},
    policy::Policy,
};

use super::{Placed, registry::Registry};
use crate::finding::{Finding, Place, codes};

/// Arenas hold the old and the new configuration during a change, so each may fill half of one.
pub(super) const OLD_AND_NEW: u64 = 2;

pub(super) fn check(
    registry: &Registry,
    rules: &[Placed<'_, Rule>],
    policies: &[Placed<'_, Policy>],
    findings: &mut Vec<Finding>,
) {
    let services = &registry.services;
    let frontends = services.iter().map(|s| s.addresses.len() * s.ports.len()).sum();
    let ports = services.iter().map(|s| s.ports.len()).sum();
    let distinct: HashSet<_> = services
        .iter()
        .flat_map(|s| &s.ports)
        .flat_map(|p| &p.endpoints)
        .map(|e| e.address)
        .collect();
    let limits = policies
        .iter()
        .filter(|p| p.item.max_connections.is_some())
        .count();
    let (subsets, entries) = subsets(services, rules);
    let needs: [(&str, usize, u64, &str); 6] = [
        (
            "frontends (addresses × ports)",
            frontends,
            u64::from(abi::MAX_FRONTENDS),
            "MAX_FRONTENDS",
        ),
        (
            "service ports",
            ports,
            u64::from(abi::MAX_SERVICES),
            "MAX_SERVICES",
        ),
        // Ids 0 of endpoints and limits are never used.
        (
            "distinct endpoints",
            distinct.len(),
            u64::from(abi::MAX_ENDPOINT_STATES) - 1,
            "MAX_ENDPOINT_STATES",
        ),
        (
            "connection limits",
            limits,
            u64::from(abi::MAX_LIMITS) - 1,
            "MAX_LIMITS",
        ),
        (
            "subsets",
            subsets,
            u64::from(abi::MAX_SUBSETS) / OLD_AND_NEW,
            "MAX_SUBSETS",
        ),
        (
            "endpoints of all subsets",
            entries,
            u64::from(abi::MAX_ENDPOINTS) / OLD_AND_NEW,
            "MAX_ENDPOINTS",
        ),
    ];
    for (what, needed, limit, name) in needs {
        if needed as u64 > limit {
            let place = Place {
                file: "".into(),
                line: 0,
                field: String::new(),
            };
            let message = format!("{needed} {what} are configured, {limit} fit ({name})");
            let hint = "nothing was changed; configure less on this node";
            findings.push(Finding::new(&codes::CAPACITY, place, message, hint));
        }
    }
}

/// Number of subsets and of their endpoint entries: every service port as a whole, and every labelled part of it that
/// a rule routes to.
fn subsets(services: &[Service], rules: &[Placed<'_, Rule>]) -> (usize, usize) {
    let mut labelled: HashMap<&ServiceName, HashSet<&Labels>> = HashMap::new();
    for target in rules.iter().flat_map(|r| &r.item.targets) {
        if !target.labels.is_empty() {
            labelled
                .entry(&target.service)
                .or_default()
                .insert(&target.labels);
        }
    }
    let (mut subsets, mut entries) = (0, 0);
    for service in services {
        let parts = labelled.get(&service.name);
        for port in &service.ports {
            subsets += 1 + parts.map_or(0, HashSet::len);
            entries += self::entries(port, parts.into_iter().flatten().copied());
        }
    }
    (subsets, entries)
}

/// Endpoint entries of a port's subsets: of the port as a whole, and of every part that carries labels which rules route
/// to.
pub(super) fn entries<'l>(port: &Port, routed: impl IntoIterator<Item = &'l Labels>) -> usize {
    let carriers = |labels: &Labels| port.endpoints.iter().filter(|e| labels.select(&e.labels)).count();
    port.endpoints.len() + routed.into_iter().map(carriers).sum::<usize>()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use router_rules::model::{Endpoint, Protocol};

    use super::*;

    fn service(number: u32, endpoints: u32) -> Service {
        let address = |n: u32| std::net::IpAddr::from(std::net::Ipv4Addr::from_bits(n));
        let endpoint = |n| Endpoint {
            address: (address(n), 80).into(),
            labels: Arc::new(Labels::default()),
            workload: None,
        };
        Service {
            name: ServiceName::new(&format!("s{number}")),
            addresses: vec![address(number)],
            ports: vec![Port {
                number: 80,
                name: None,
                protocol: Protocol::Tcp,
                endpoints: (0..endpoints).map(|n| endpoint(number * endpoints + n)).collect(),
            }],
        }
    }

    fn names(services: u32, endpoints: u32) -> Vec<String> {
        let registry = Registry {
            services: (0..services).map(|n| service(n, endpoints)).collect(),
            workloads: Vec::new(),
            identities: Vec::new(),
            externals: Default::default(),
            addresses: Vec::new(),
        };
        let mut findings = Vec::new();
        check(&registry, &[], &[], &mut findings);
        let name = |f: Finding| f.message.split(['(', ')']).nth_back(1).map(str::to_owned);
        findings.into_iter().filter_map(name).collect()
    }

    #[test]
    fn what_does_not_fit_names_its_limit() {
        assert_eq!(names(5000, 20), [""; 0]);
        assert_eq!(names(abi::MAX_SERVICES, 1), [""; 0]);
        assert_eq!(names(abi::MAX_SERVICES + 1, 1), ["MAX_SERVICES"]);
        assert_eq!(names(26, 10_082), [""; 0]);
        assert_eq!(names(27, 10_082), ["MAX_ENDPOINT_STATES", "MAX_ENDPOINTS"]);
    }
}
