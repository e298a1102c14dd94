//! Small registries and rules, written down briefly.

use std::net::SocketAddr;

use http::{HeaderMap, Method};
use router_rules::{
    action::Target,
    id::{Origin, ServiceName},
    labels::Labels,
    matcher::Request,
    model::{Endpoint, Match, Port, Protocol, Rule, Service},
    snapshot::Route,
    source::{Addresses, ClassId, Workload},
    text::TextMatch,
};

/// `version=v1,zone=a`, or nothing.
pub(crate) fn labels(text: &str) -> Labels {
    text.split_terminator(',')
        .filter_map(|pair| pair.split_once('='))
        .collect()
}

/// A service with three instances on every port: versions v1, v2, v3.
pub(crate) fn service(name: &str, ports: &[(u16, Protocol)]) -> Service {
    let endpoint = |number: u16, i: u8| Endpoint {
        address: SocketAddr::from(([10, 1, 0, i], number)),
        labels: labels(&format!("version=v{i}")).into(),
        workload: None,
    };
    let port = |&(number, protocol): &(u16, Protocol)| Port {
        number,
        name: Some(protocol.name().to_owned()),
        protocol,
        endpoints: (1..=3).map(|i| endpoint(number, i)).collect(),
    };
    Service {
        name: ServiceName::new(name),
        addresses: Vec::new(),
        ports: ports.iter().map(port).collect(),
    }
}

pub(crate) fn workload(name: &str, tags: &str, services: &[&str]) -> Workload {
    Workload {
        name: name.into(),
        labels: labels(tags),
        services: services.iter().map(|s| ServiceName::new(s)).collect(),
        addresses: Addresses::default(),
    }
}

pub(crate) fn origin(object: &str) -> Origin {
    Origin {
        object: object.into(),
        file: "rules.yaml".into(),
        line: 1,
    }
}

/// A rule with one alternative that sends everything to one version of its destination.
pub(crate) fn rule(object: &str, destination: &str, m: Match, version: &str) -> Rule {
    let destination = ServiceName::new(destination);
    Rule {
        any_of: if m.is_empty() { Vec::new() } else { vec![m] },
        targets: vec![Target {
            service: destination.clone(),
            labels: labels(&format!("version={version}")),
            weight: 100,
        }],
        ..Rule::new(origin(object), destination)
    }
}

pub(crate) fn exact(text: &str) -> Option<TextMatch> {
    Some(TextMatch::Exact(text.to_owned()))
}

pub(crate) fn prefix(text: &str) -> Option<TextMatch> {
    Some(TextMatch::Prefix(text.to_owned()))
}

/// `GET path` with `headers`.
pub(crate) fn get<'a>(path: &'a str, headers: &'a HeaderMap) -> Request<'a> {
    Request {
        method: &Method::GET,
        path,
        scheme: "http",
        authority: "reviews",
        headers,
    }
}

/// Name of the rule that decided; `-` when none did.
pub(crate) fn decided<'s>(route: &Route<'s>) -> &'s str {
    route.rule().map_or("-", |rule| &*rule.origin().object)
}

/// An unknown caller.
pub(crate) const STRANGER: ClassId = ClassId::UNKNOWN;
