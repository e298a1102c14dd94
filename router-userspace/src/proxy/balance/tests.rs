//! Tests of `balance`.

use std::{collections::BTreeMap, sync::atomic::AtomicU64};

use router_rules::{
    Snapshot,
    id::{Origin, ServiceName},
    model::{Endpoint, Model, Port, Protocol, Service},
    policy::Policy,
};

use super::*;

fn snapshot(load_balancing: LoadBalancing, endpoints: u16) -> Snapshot {
    let name = ServiceName::new("a");
    let endpoint = |number| Endpoint {
        address: SocketAddr::from(([10, 0, 0, 1], number)),
        labels: Arc::default(),
        workload: None,
    };
    let origin = Origin {
        object: "destination-policy a".into(),
        file: "a.yaml".into(),
        line: 1,
    };
    let model = Model {
        services: vec![Service {
            name: name.clone(),
            addresses: vec!["10.9.9.9".parse().unwrap()],
            ports: vec![Port {
                number: 80,
                name: None,
                protocol: Protocol::Http,
                endpoints: (0..endpoints).map(endpoint).collect(),
            }],
        }],
        policies: vec![Policy {
            load_balancing,
            ..Policy::new(origin, name)
        }],
        ..Model::default()
    };
    Snapshot::build(model, 1)
}

fn state(endpoints: usize) -> SubsetState {
    SubsetState {
        cursor: Arc::new(AtomicU64::new(0)),
        in_flight: std::iter::repeat_with(Arc::default).take(endpoints).collect(),
    }
}

fn ports(snapshot: &Snapshot, state: &SubsetState, tried: &[SocketAddr], count: usize) -> Vec<u16> {
    let choose = || choose(&snapshot.subsets()[0], state, tried).map(|c| c.endpoint.port());
    std::iter::repeat_with(choose)
        .map_while(|port| port)
        .take(count)
        .collect()
}

#[test]
fn round_robin_takes_turns() {
    let snapshot = snapshot(LoadBalancing::RoundRobin, 3);
    assert_eq!(ports(&snapshot, &state(0), &[], 7), [0, 1, 2, 0, 1, 2, 0]);
    let empty = super::tests::snapshot(LoadBalancing::RoundRobin, 0);
    assert!(choose(&empty.subsets()[0], &state(0), &[]).is_none());
}

#[test]
fn random_takes_every_endpoint_about_as_often() {
    let snapshot = snapshot(LoadBalancing::Random, 4);
    let mut counts = BTreeMap::new();
    for port in ports(&snapshot, &state(0), &[], 4000) {
        *counts.entry(port).or_insert(0) += 1;
    }
    // Seven standard deviations.
    assert!(
        counts.len() == 4 && counts.values().all(|n| (808..=1192).contains(n)),
        "{counts:?}"
    );
}

#[test]
fn least_conn_prefers_the_less_loaded_and_gives_back() {
    let snapshot = snapshot(LoadBalancing::LeastConn, 2);
    let state = state(2);
    let held: Vec<_> = (0..10)
        .filter_map(|_| choose(&snapshot.subsets()[0], &state, &[]))
        .collect();
    let loads: Vec<_> = state.in_flight.iter().map(|n| n.load(Relaxed)).collect();
    assert_eq!(loads, [5, 5]);
    drop(held);
    assert!(state.in_flight.iter().all(|n| n.load(Relaxed) == 0));
}

#[test]
fn endpoints_that_failed_are_avoided_while_there_are_others() {
    for load_balancing in [
        LoadBalancing::RoundRobin,
        LoadBalancing::Random,
        LoadBalancing::LeastConn,
    ] {
        let snapshot = snapshot(load_balancing, 3);
        let address = |number| SocketAddr::from(([10, 0, 0, 1], number));
        let chosen = ports(&snapshot, &state(3), &[address(0), address(2)], 50);
        assert_eq!(chosen, [1; 50], "{load_balancing:?}");
        assert_eq!(
            ports(&snapshot, &state(3), &[address(0), address(1), address(2)], 5).len(),
            5
        );
    }
}
