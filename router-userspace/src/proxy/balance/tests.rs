//! Tests of `balance`.

use std::{collections::BTreeMap, sync::atomic::AtomicU64};

use router_rules::{
    Snapshot,
    id::{Origin, ServiceName},
    model::{Endpoint, Model, Port, Protocol, Service},
    policy::{OutlierDetection, Policy, PolicyId},
};

use super::*;
use crate::enforce::outlier::Outliers;

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
        retries: Arc::default(),
        in_flight: std::iter::repeat_with(Arc::default).take(endpoints).collect(),
        watches: Box::default(),
    }
}

/// An endpoint of the only subset.
fn chosen(
    snapshot: &Snapshot,
    state: &SubsetState,
    watch: Option<&Watch>,
    tried: &[SocketAddr],
) -> Option<Choice> {
    let subset = &snapshot.subsets()[0];
    choose(subset, state, (subset.load_balancing(), watch), tried)
}

fn ports(snapshot: &Snapshot, state: &SubsetState, tried: &[SocketAddr], count: usize) -> Vec<u16> {
    let choose = || chosen(snapshot, state, None, tried).map(|c| c.endpoint.port());
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
    assert!(chosen(&empty, &state(0), None, &[]).is_none());
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
        .filter_map(|_| chosen(&snapshot, &state, None, &[]))
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

/// A subset of five, some of which are ejected.
fn ejecting(load_balancing: LoadBalancing, ejected: &[usize]) -> (Snapshot, Watch) {
    let plain = snapshot(load_balancing, 5);
    let policy = plain.policies()[0].clone();
    let settings = OutlierDetection {
        consecutive_errors: 1,
        max_ejection_percent: 100,
        ..OutlierDetection::default()
    };
    let service = Service {
        name: policy.destination.clone(),
        addresses: Vec::new(),
        ports: vec![Port {
            number: 80,
            name: None,
            protocol: Protocol::Http,
            endpoints: plain.subsets()[0].endpoints().to_vec(),
        }],
    };
    let model = Model {
        services: vec![service],
        policies: vec![Policy {
            outlier_detection: Some(settings),
            ..policy
        }],
        ..Model::default()
    };
    let snapshot = Snapshot::build(model, 2);
    let outliers = Arc::new(Outliers::default());
    outliers.follow(&snapshot);
    let watch = outliers
        .watch(&snapshot, &snapshot.subsets()[0], PolicyId(0))
        .unwrap();
    for &index in ejected {
        watch.failed(index);
    }
    (snapshot, watch)
}

#[test]
fn ejected_endpoints_are_passed_over_and_the_others_share_evenly() {
    for load_balancing in [
        LoadBalancing::RoundRobin,
        LoadBalancing::Random,
        LoadBalancing::LeastConn,
    ] {
        let (snapshot, watch) = ejecting(load_balancing, &[0, 3]);
        let state = state(5);
        let mut counts = BTreeMap::new();
        for _ in 0..3000 {
            let choice = chosen(&snapshot, &state, Some(&watch), &[]).unwrap();
            assert_eq!(choice.endpoint.port() as usize, choice.index);
            *counts.entry(choice.index).or_insert(0) += 1;
        }
        let even = if load_balancing == LoadBalancing::RoundRobin {
            0
        } else {
            200
        };
        assert_eq!(
            counts.keys().collect::<Vec<_>>(),
            [&1, &2, &4],
            "{load_balancing:?}"
        );
        assert!(
            counts.values().all(|n: &i32| (n - 1000).abs() <= even),
            "{counts:?}"
        );
        // One that was tried comes before one that is ejected.
        let tried = [1, 2, 4].map(|port| SocketAddr::from(([10, 0, 0, 1], port)));
        let choice = chosen(&snapshot, &state, Some(&watch), &tried).unwrap();
        assert!([1, 2, 4].contains(&choice.index));
        let choice = chosen(&snapshot, &state, Some(&watch), &tried[..2]).unwrap();
        assert_eq!(choice.index, 4);
    }
}

#[test]
fn when_all_are_ejected_all_may_be_chosen() {
    let (snapshot, watch) = ejecting(LoadBalancing::RoundRobin, &[0, 1, 2, 3, 4]);
    let state = state(5);
    let chosen = (0..5).map(|_| chosen(&snapshot, &state, Some(&watch), &[]).unwrap().index);
    assert_eq!(chosen.collect::<Vec<_>>(), [0, 1, 2, 3, 4]);
}
