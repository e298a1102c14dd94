//! Which connections suffer the faults of connections.

use router_rules::{
    Snapshot,
    action::Fraction,
    connection::{Connection, Transport},
    id::ServiceName,
    l4_fault::{L4Fault, Terminate},
    model::{Match, Model, Protocol, Rule},
    text::TextMatch,
};

use crate::world::{origin, service};

const REVIEWS: &str = "reviews.shop";

fn fault() -> L4Fault {
    L4Fault {
        terminate: Some(Terminate {
            fraction: Fraction::ALL,
            after: std::time::Duration::ZERO,
        }),
        ..L4Fault::default()
    }
}

fn rule(name: &str, any_of: Vec<Match>) -> Rule {
    Rule {
        any_of,
        l4_fault: fault(),
        ..Rule::new(origin(name), ServiceName::new(REVIEWS))
    }
}

/// Whether connections to the port of the only service suffer what its only rule says, and whether the port says so.
fn strikes(protocol: Protocol, any_of: Vec<Match>) -> (bool, bool) {
    let model = Model {
        services: vec![service(REVIEWS, &[(80, protocol)])],
        rules: vec![rule("r", any_of)],
        ..Model::default()
    };
    let snapshot = Snapshot::build(model, 1);
    let port = &snapshot.ports()[0];
    let route = snapshot.route_connection(port, Connection::from(snapshot.class_of(None)));
    (route.l4_fault().is_some(), port.has_l4_faults())
}

#[test]
fn rules_for_connections_strike_them() {
    for protocol in [Protocol::Tcp, Protocol::Http, Protocol::Grpc] {
        assert_eq!(strikes(protocol, vec![]), (true, true), "{protocol:?}");
        assert_eq!(strikes(protocol, vec![Match::default()]), (true, true));
    }
}

#[test]
fn conditions_on_requests_and_datagrams_do_not() {
    let asks_for_a_path = Match {
        path: Some(TextMatch::Present),
        ..Match::default()
    };
    assert_eq!(strikes(Protocol::Http, vec![asks_for_a_path]), (false, false));
    assert_eq!(strikes(Protocol::Udp, vec![]), (false, false));
}

#[test]
fn the_first_rule_for_a_connection_decides() {
    let mut harmless = rule("a", vec![]);
    harmless.l4_fault = L4Fault::default();
    let model = Model {
        services: vec![service(REVIEWS, &[(80, Protocol::Tcp)])],
        rules: vec![harmless, rule("b", vec![])],
        ..Model::default()
    };
    let snapshot = Snapshot::build(model, 1);
    let port = snapshot.port_carried_of(Transport::Tcp, &ServiceName::new(REVIEWS), 80);
    let route = snapshot.route_connection(port.unwrap(), Connection::from(snapshot.class_of(None)));
    assert_eq!(route.l4_fault(), None);
}
