//! Random histories: what is followed leaves the maps as if everything had been looked at.

use std::collections::BTreeMap;

use proptest::prelude::*;
use router_common::service::FrontendKey;
use router_rules::Snapshot;

use super::*;
use crate::datapath::{
    desired::EndpointKey,
    fixture::{ADDRESSES, CAPACITY, CGROUPS, World, frontend, world},
    plan::plan,
    reconcile::reconcile,
    store::{FakeMaps, FaultyMaps, Meaning},
};

/// What becomes of a world.
#[derive(Clone, Debug)]
enum Step {
    Endpoints(u8, Vec<(u8, u8)>),
    /// The same snapshot again.
    Again,
    Caller(u64, u8),
    Other(World),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => (0_u8..3, proptest::collection::vec((1_u8..9, 1_u8..3), 0..5)).prop_map(|(n, e)| Step::Endpoints(n, e)),
        1 => Just(Step::Again),
        1 => (1..=CGROUPS, 1_u8..4).prop_map(|(cgroup, app)| Step::Caller(cgroup, app)),
        1 => world().prop_map(Step::Other),
    ]
}

fn meanings(maps: &FakeMaps) -> BTreeMap<(FrontendKey, u64), Meaning> {
    let frontends = (0..ADDRESSES).map(frontend);
    let pairs = frontends.flat_map(|f| (0..=CGROUPS).map(move |cgroup| (f, cgroup)));
    pairs
        .map(|(f, cgroup)| ((f, cgroup), maps.meaning(f, cgroup)))
        .collect()
}

fn listed(ids: &UpstreamIds, keys: &[EndpointKey]) -> Vec<Option<u32>> {
    keys.iter().map(|&key| ids.endpoints.get(key.into())).collect()
}

struct Node {
    world: World,
    snapshot: Snapshot,
    mirror: Mirror,
}

impl Node {
    fn new(world: World) -> Self {
        Self {
            snapshot: world.snapshot(),
            world,
            mirror: Mirror::new(State::new(CAPACITY)),
        }
    }

    /// True when nothing but endpoints is different.
    fn step(&mut self, step: Step) -> bool {
        let generation = self.snapshot.generation() + 1;
        match step {
            Step::Endpoints(n, endpoints) => match self.world.move_endpoints(n, endpoints) {
                Some(change) => self.snapshot = self.snapshot.with_endpoints(&change, generation).unwrap(),
                None => return true,
            },
            Step::Again => return true,
            Step::Caller(cgroup, app) => {
                self.world.callers.insert(cgroup, app);
                self.snapshot = Snapshot::build(self.world.model(), generation);
                return false;
            }
            Step::Other(world) => {
                self.world = world;
                self.snapshot = Snapshot::build(self.world.model(), generation);
                return false;
            }
        }
        true
    }

    fn reconcile(&mut self, store: &mut impl MapStore) -> Result<Report, ReconcileError> {
        let (sources, ejected) = (self.world.sources(&self.snapshot), self.world.ejected());
        let inputs = Inputs {
            snapshot: &self.snapshot,
            sources: &sources,
            on_proxy_down: self.world.on_proxy_down(),
            ejected: &ejected,
            confined: None,
        };
        self.mirror.reconcile(&inputs, store, |_| {})
    }

    fn assert_holds(&self, maps: &FakeMaps) {
        maps.check_invariants();
        let desired = self.world.desired();
        let (mut state, mut fresh) = (State::new(CAPACITY), FakeMaps::new(CAPACITY));
        reconcile(&mut state, &desired, &mut fresh).unwrap();
        assert_eq!(meanings(maps), meanings(&fresh));
        assert_eq!(
            plan(self.mirror.state(), &desired),
            Ok(Plan::default()),
            "there is more to do"
        );
        let keys: Vec<_> = desired.endpoints.iter().copied().collect();
        let (told, held) = (self.mirror.ids(), self.mirror.state().upstream_ids());
        assert_eq!(listed(told, &keys), listed(&held, &keys));
        assert_eq!(told.endpoints.ids().count(), keys.len());
        assert!(keys.iter().all(|key| self.mirror.state().is_in_use(key)));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn what_is_followed_is_what_would_be_reconciled(
        mut first in world(),
        steps in proptest::collection::vec(step(), 1..12),
        ejects in proptest::bool::weighted(0.2),
    ) {
        if !ejects {
            first.policies.values_mut().for_each(|policy| policy.ejected.clear());
        }
        let mut node = Node::new(first);
        let mut maps = FakeMaps::new(CAPACITY);
        node.reconcile(&mut maps).unwrap();
        for step in steps {
            let was_in_step = node.mirror.base.is_some();
            let is_followed = node.step(step);
            let report = node.reconcile(&mut maps).unwrap();
            node.assert_holds(&maps);
            prop_assert_eq!(report.followed, was_in_step && is_followed);
        }
        node.mirror.collect(&mut maps).unwrap();
        maps.finish_graces();
        node.mirror.collect(&mut maps).unwrap();
        prop_assert!(!node.mirror.state().has_leftovers());
    }

    #[test]
    fn faults_delay_what_is_followed(first in world(), steps in proptest::collection::vec(step(), 1..6), seed in any::<u64>()) {
        let mut node = Node::new(first);
        let mut maps = FaultyMaps::new(FakeMaps::new(CAPACITY), seed, 15);
        for step in std::iter::once(Step::Again).chain(steps) {
            node.step(step);
            let mut attempts = 0;
            while node.reconcile(&mut maps).is_err() {
                maps.maps.check_invariants();
                attempts += 1;
                prop_assert!(attempts < 2000, "does not converge");
            }
            node.assert_holds(&maps.maps);
        }
    }
}

/// Three services of two endpoints each; the first has a rule.
fn three() -> World {
    let service = |address| crate::datapath::fixture::ServiceSpec {
        addresses: vec![address],
        http: false,
        endpoints: vec![(2 * address + 1, 1), (2 * address + 2, 2)],
    };
    World {
        services: (0..3).map(|n| (n, service(n))).collect(),
        rules: vec![crate::datapath::fixture::RuleSpec {
            destination: 0,
            precedence: 0,
            source: 0,
            path: false,
            l4_fault: false,
            targets: vec![(0, 1, 1), (1, 2, 1)],
        }],
        ..World::default()
    }
}

#[test]
fn only_the_services_that_route_to_an_endpoint_are_touched() {
    let mut node = Node::new(three());
    let mut maps = FakeMaps::new(CAPACITY);
    assert_eq!(node.reconcile(&mut maps).unwrap().services, 3);
    // The second service is also a target of the first one's rule.
    for (moved, switched) in [(2, 1), (1, 2), (0, 1)] {
        assert!(node.step(Step::Endpoints(moved, vec![(7, 1), (8, 2)])));
        let report = node.reconcile(&mut maps).unwrap();
        assert_eq!(
            (report.services, report.followed),
            (switched, true),
            "service {moved}"
        );
        node.assert_holds(&maps);
    }
    assert_eq!(node.reconcile(&mut maps).unwrap().ops, 0);
}

#[test]
fn an_endpoint_of_two_services_goes_with_the_last() {
    let mut node = Node::new(three());
    let mut maps = FakeMaps::new(CAPACITY);
    node.reconcile(&mut maps).unwrap();
    let key: EndpointKey = crate::datapath::fixture::endpoint(8).into();
    for (moved, endpoints, is_there) in [
        (0, vec![(8, 1)], true),
        (2, vec![(8, 1)], true),
        (0, vec![(1, 1)], true),
        (2, vec![(5, 1)], false),
    ] {
        node.step(Step::Endpoints(moved, endpoints));
        node.reconcile(&mut maps).unwrap();
        assert_eq!(node.mirror.state().is_in_use(&key), is_there);
        node.assert_holds(&maps);
    }
}

#[test]
fn what_others_write_ends_following() {
    let mut node = Node::new(three());
    let mut maps = FakeMaps::new(CAPACITY);
    node.reconcile(&mut maps).unwrap();
    maps.frontends.remove(&frontend(1));
    assert_eq!(node.mirror.refresh(&mut maps).unwrap(), 1);
    node.step(Step::Endpoints(0, vec![(7, 1)]));
    assert!(!node.reconcile(&mut maps).unwrap().followed);
    node.assert_holds(&maps);
}
