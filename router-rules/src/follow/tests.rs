//! Random models of a few services: a change followed is the changed model built.

use std::collections::BTreeMap;

use proptest::prelude::*;

use crate::{
    EndpointChange, Snapshot,
    action::Target,
    connection::Transport,
    id::{Origin, ServiceName},
    labels::Labels,
    model::{Endpoint, Model, Port, Protocol, Rule, Service},
};

fn name(service: usize) -> ServiceName {
    ServiceName::new(["a", "b", "c"][service])
}

fn labels(version: usize) -> Labels {
    [("version", ["v1", "v2"][version])].into_iter().collect()
}

/// Instances by their numbers.
fn endpoints(numbers: &[u8], port: u16) -> Vec<Endpoint> {
    let endpoint = |&n: &u8| Endpoint {
        address: ([10, 1, 0, n], port).into(),
        labels: labels(usize::from(n) % 2).into(),
        workload: Some(format!("pod{n}").into()),
    };
    numbers.iter().map(endpoint).collect()
}

fn model(instances: &[Vec<u8>]) -> Model {
    let port = |service: usize, number: u16| Port {
        number,
        name: None,
        protocol: if number == 80 {
            Protocol::Http
        } else {
            Protocol::Tcp
        },
        endpoints: endpoints(&instances[service], number),
    };
    let service = |service: usize| Service {
        name: name(service),
        addresses: vec![[10, 0, 0, service as u8].into()],
        ports: (0..=service as u16).map(|n| port(service, 80 + n)).collect(),
    };
    let rule = |from: usize, to: usize| {
        let origin = Origin {
            object: format!("rule {from} {to}").into(),
            file: "rules.yaml".into(),
            line: 1,
        };
        Rule {
            targets: vec![Target {
                service: name(to),
                labels: labels(to % 2),
                weight: 1,
            }],
            ..Rule::new(origin, name(from))
        }
    };
    Model {
        services: (0..3).map(service).collect(),
        rules: vec![rule(0, 0), rule(0, 1), rule(2, 1)],
        ..Model::default()
    }
}

fn change(service: usize, numbers: &[u8]) -> EndpointChange {
    let ports = 80..=80 + service as u16;
    let ports = ports.map(|number| ((Transport::Tcp, number), endpoints(numbers, number)));
    EndpointChange {
        endpoints: BTreeMap::from([(name(service), ports.collect())]),
        workloads: BTreeMap::new(),
    }
}

/// Everything there is to a snapshot. Maps have no order, so lines have none.
fn shown(snapshot: &Snapshot) -> Vec<String> {
    let mut lines: Vec<_> = format!("{snapshot:#?}").lines().map(str::to_owned).collect();
    lines.sort_unstable();
    lines
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]
    #[test]
    fn a_change_followed_is_the_changed_model_built(
        first in proptest::collection::vec(proptest::collection::vec(0_u8..8, 0..4), 3),
        changes in proptest::collection::vec((0_usize..3, proptest::collection::vec(0_u8..8, 0..4)), 1..6),
    ) {
        let mut model = model(&first);
        let mut snapshot = Snapshot::build(model.clone(), 1);
        let start = snapshot.clone();
        for (generation, (service, numbers)) in (2..).zip(changes) {
            let before = snapshot.clone();
            let change = change(service, &numbers);
            model.change_endpoints(&change);
            snapshot = snapshot.with_endpoints(&change, generation).unwrap();
            prop_assert_eq!(shown(&snapshot), shown(&Snapshot::build(model.clone(), generation)));
            let moved = snapshot.moved_since(&before).unwrap();
            let since_first = snapshot.moved_since(&start).unwrap();
            for subset in snapshot.subsets() {
                let is_other = |than: &Snapshot| subset.endpoints() != than.subset(subset.id()).endpoints();
                prop_assert_eq!(moved.contains(&subset.id()), is_other(&before));
                prop_assert_eq!(since_first.contains(&subset.id()), is_other(&start));
            }
            prop_assert_eq!(snapshot.moved_since(&Snapshot::build(model.clone(), generation)), None);
        }
    }

    #[test]
    fn ports_to_a_subset_are_those_whose_rules_name_it(first in proptest::collection::vec(proptest::collection::vec(0_u8..8, 0..4), 3)) {
        let snapshot = Snapshot::build(model(&first), 1);
        for subset in snapshot.subsets() {
            let uses = |port: &&crate::snapshot::Port| {
                let rules = port.rules().iter().flat_map(|&rule| snapshot.rule(rule).targets());
                port.unrouted() == subset.id() || rules.into_iter().any(|(of, _)| *of == subset.id())
            };
            let naive: Vec<_> = snapshot.ports().iter().filter(uses).map(|port| port.id()).collect();
            let indexed: Vec<_> = snapshot.ports_to(subset.id()).map(|port| port.id()).collect();
            prop_assert_eq!(indexed, naive);
        }
    }
}
