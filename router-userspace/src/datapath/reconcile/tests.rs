//! Reconciliation step by step, with connections made through the fake maps. Random histories are with the plan.

use std::collections::BTreeMap;

use router_common::reason::Reason;
use router_rules::policy::LoadBalancing;

use super::*;
use crate::datapath::{
    fixture::{CAPACITY, PolicySpec, RuleSpec, ServiceSpec, World, endpoint, frontend},
    plan::admit,
    state::Capacity,
    store::{FakeMaps, Verdict},
};

fn service(address: u8, endpoints: &[(u8, u8)]) -> ServiceSpec {
    ServiceSpec {
        addresses: vec![address],
        http: false,
        endpoints: endpoints.to_vec(),
    }
}

fn split(source: u8, v1: u32, v2: u32) -> RuleSpec {
    RuleSpec {
        destination: 0,
        precedence: i32::from(source),
        source,
        path: false,
        l4_fault: false,
        targets: vec![(0, 1, v1), (0, 2, v2)],
    }
}

fn limited(max: u32) -> BTreeMap<usize, PolicySpec> {
    let policy = PolicySpec {
        destination: 0,
        version: 0,
        source: 0,
        load_balancing: LoadBalancing::RoundRobin,
        max: Some(max),
        ejected: Vec::new(),
    };
    [(0, policy)].into()
}

fn two_versions() -> World {
    World {
        services: [(0, service(0, &[(1, 1), (2, 2)])), (1, service(1, &[(3, 1)]))].into(),
        rules: vec![split(0, 25, 75)],
        ..World::default()
    }
}

struct Node {
    state: State,
    maps: FakeMaps,
}

impl Node {
    fn new(world: &World) -> Self {
        let mut node = Self {
            state: State::new(CAPACITY),
            maps: FakeMaps::new(CAPACITY),
        };
        node.apply(world);
        node
    }

    fn apply(&mut self, world: &World) -> Report {
        reconcile(&mut self.state, &world.desired(), &mut self.maps).unwrap()
    }

    /// Connections of `n` that reach host 1, host 2.
    fn shares(&mut self, cgroup: u64, n: usize) -> [usize; 2] {
        let mut shares = [0; 2];
        for _ in 0..n {
            let verdict = self.maps.connect(frontend(0), cgroup);
            let Verdict::Routed {
                endpoint: reached, ..
            } = verdict
            else {
                panic!("{verdict:?}");
            };
            let host = [1, 2].iter().position(|&host| reached == endpoint(host).into());
            shares[host.unwrap()] += 1;
            self.maps.close(verdict);
        }
        shares
    }
}

#[test]
fn shares_are_exact_across_changes_that_do_not_concern_them() {
    let mut world = two_versions();
    let mut node = Node::new(&world);
    let mut total = [0; 2];
    let mut connect = |node: &mut Node| {
        let [v1, v2] = node.shares(0, 1001);
        total = [total[0] + v1, total[1] + v2];
    };
    connect(&mut node);
    // Another policy: subsets and table are written anew, and take over the cursors.
    world.policies = limited(9);
    assert!(node.apply(&world).ops > 0);
    connect(&mut node);
    world.policies = limited(8);
    node.apply(&world);
    connect(&mut node);
    world.policies.clear();
    node.apply(&world);
    connect(&mut node);
    assert_eq!(total, [1001, 3003]);
}

#[test]
fn weight_zero_gets_nothing_at_once() {
    let mut world = two_versions();
    let mut node = Node::new(&world);
    assert_eq!(node.shares(0, 400), [100, 300]);
    world.rules = vec![split(0, 0, 100)];
    node.apply(&world);
    assert_eq!(node.shares(0, 10_000), [0, 10_000]);
}

#[test]
fn each_class_has_its_own_exact_shares() {
    let mut world = two_versions();
    world.rules = vec![split(0, 1, 1), split(1, 1, 3), split(2, 1, 3)];
    world.callers = [(1, 1), (2, 2), (3, 3)].into();
    let mut node = Node::new(&world);
    for _ in 0..100 {
        assert_eq!(node.shares(1, 4), [1, 3]);
        assert_eq!(node.shares(2, 4), [1, 3]);
        assert_eq!(node.shares(3, 2), [1, 1]);
    }
    assert_eq!(node.maps.connect(frontend(0), 77), Verdict::Proxied);
    node.maps.proxy_up = false;
    assert_eq!(node.shares(77, 2), [1, 1]);
}

#[test]
fn only_what_changed_is_written() {
    let mut world = two_versions();
    let mut node = Node::new(&world);
    assert_eq!(node.apply(&world).ops, 0);
    let before = node.maps.clone();
    let other = node.state.service_of(frontend(1)).cloned();
    world.services.insert(0, service(0, &[(1, 1), (2, 2), (4, 2)]));
    let report = node.apply(&world);
    // The endpoint's state, the subset with its endpoints, the table that names it, and the word.
    assert_eq!((report.ops, report.services), (4, 1));
    assert_eq!(node.maps.writes - before.writes, 5);
    assert_eq!(node.state.service_of(frontend(1)).cloned(), other);
}

#[test]
fn renumbered_classes_touch_no_cgroup() {
    let mut world = two_versions();
    world.rules = vec![split(0, 1, 1), split(2, 1, 3)];
    world.callers = [(1, 1), (2, 2), (3, 3)].into();
    let mut node = Node::new(&world);
    let sources = node.maps.sources.clone();
    // The pods come in another order of classes once a rule tells the first one apart.
    world.rules.push(split(1, 0, 1));
    let ops = crate::datapath::plan::plan(&node.state, &world.desired())
        .unwrap()
        .ops;
    let touched = |op: &&MapOp| matches!(op, MapOp::InsertSource { .. });
    assert_eq!(ops.iter().filter(touched).count(), 1);
    node.apply(&world);
    let kept = sources
        .iter()
        .filter(|(cgroup, class)| node.maps.sources.get(cgroup) == Some(class));
    assert_eq!(kept.count(), 2);
    assert_eq!(node.shares(1, 3), [0, 3]);
    assert_eq!(node.shares(2, 4), [1, 3]);
}

#[test]
fn a_limit_holds_and_its_id_rests_while_connections_are_open() {
    let mut world = two_versions();
    world.policies = limited(2);
    let mut node = Node::new(&world);
    let open = [0; 2].map(|_| node.maps.connect(frontend(0), 0));
    assert_eq!(
        node.maps.connect(frontend(0), 0),
        Verdict::Refused(Reason::LimitReached)
    );
    let (id, _) = node.state.limits().next().unwrap();
    world.policies.clear();
    node.apply(&world);
    assert!(node.state.has_leftovers());
    assert_eq!(
        (node.state.limits().count(), node.maps.limits[id as usize].active),
        (0, 2)
    );
    // Another policy does not get the id; the same one gets it back with its count.
    let mut other = world.clone();
    other.policies = [(1, limited(5)[&0].clone())].into();
    node.apply(&other);
    assert_ne!(node.state.limits().next().unwrap().0, id);
    world.policies = limited(2);
    node.apply(&world);
    assert_eq!(node.state.limits().next().unwrap().0, id);
    assert_eq!(
        node.maps.connect(frontend(0), 0),
        Verdict::Refused(Reason::LimitReached)
    );
    world.policies.clear();
    node.apply(&world);
    open.into_iter().for_each(|verdict| node.maps.close(verdict));
    collect(&mut node.state, &mut node.maps).unwrap();
    assert!(!node.state.has_leftovers());
    assert_eq!(node.maps.limits[id as usize].name, 0);
}

#[test]
fn nothing_is_reused_before_its_grace_period_is_over() {
    // The fake panics when a block is written that a reader may be on its way to.
    let mut world = two_versions();
    let mut node = Node::new(&world);
    node.maps.instant_graces = false;
    let used = node.state.usage(Area::Slots).0;
    for weight in 1..6 {
        world.rules = vec![split(0, weight, 7)];
        assert!(node.apply(&world).leftovers);
    }
    assert!(node.state.usage(Area::Slots).0 > used + 5 * 8);
    node.maps.finish_graces();
    collect(&mut node.state, &mut node.maps).unwrap();
    assert!(!node.state.has_leftovers());
    assert!(node.state.usage(Area::Slots).0 <= used + 16);
}

#[test]
fn a_change_waits_for_room_rather_than_fail() {
    let capacity = Capacity {
        slots: 72,
        ..CAPACITY
    };
    let mut world = two_versions();
    let mut node = Node {
        state: State::new(capacity),
        maps: FakeMaps::new(capacity),
    };
    node.maps.instant_graces = false;
    for weight in 1..20 {
        world.rules = vec![split(0, weight % 3 + 1, 7)];
        node.apply(&world);
        assert_eq!(
            node.shares(0, (weight % 3 + 8) as usize),
            [weight as usize % 3 + 1, 7]
        );
    }
}

#[test]
fn what_does_not_fit_changes_nothing() {
    let capacity = Capacity {
        slots: 256,
        services: 1,
        ..CAPACITY
    };
    let mut world = two_versions();
    let mut node = Node {
        state: State::new(capacity),
        maps: FakeMaps::new(capacity),
    };
    let error = reconcile(&mut node.state, &world.desired(), &mut node.maps).unwrap_err();
    assert_eq!(error.to_string(), "2 services are needed, 1 fit");
    world.services.remove(&1);
    node.apply(&world);
    let (writes, services) = (
        node.maps.writes,
        node.state.services().cloned().collect::<Vec<_>>(),
    );
    world.rules = vec![split(0, 499, 501)];
    assert!(admit(&node.state, &world.desired()).is_err());
    let error = reconcile(&mut node.state, &world.desired(), &mut node.maps).unwrap_err();
    assert!(
        error.to_string().starts_with("no room for 1008 more slots: "),
        "{error}"
    );
    assert_eq!(node.maps.writes, writes);
    assert!(node.state.services().cloned().eq(services));
}

#[test]
fn a_service_that_comes_back_keeps_its_index_while_it_rests() {
    let world = two_versions();
    let mut node = Node::new(&world);
    node.maps.instant_graces = false;
    let index = node.state.service_of(frontend(0)).unwrap().index;
    let mut without = world.clone();
    without.services.remove(&0);
    node.apply(&without);
    assert_eq!(node.maps.connect(frontend(0), 0), Verdict::NotAService);
    node.apply(&world);
    assert_eq!(node.state.service_of(frontend(0)).unwrap().index, index);
    node.maps.finish_graces();
    collect(&mut node.state, &mut node.maps).unwrap();
    assert_eq!(node.shares(0, 4), [1, 3]);
    assert_eq!(node.apply(&world), Report::default());
}

#[test]
fn upstream_ids_are_those_of_the_maps() {
    let mut world = two_versions();
    world.policies = limited(4);
    let node = Node::new(&world);
    let ids = node.state.upstream_ids();
    assert_eq!(node.maps.limits[ids.limits["policy 0"] as usize].max, 4);
    let state = node.maps.endpoint_states[ids.endpoints.get(endpoint(3)).unwrap() as usize];
    assert_eq!((state.addr.to_ip(), state.port.port()), (endpoint(3).ip(), 9080));
}

#[test]
fn what_others_write_is_put_right() {
    let mut world = two_versions();
    world.callers = [(1, 1), (2, 2)].into();
    world.rules.push(split(1, 1, 0));
    let mut node = Node::new(&world);
    assert_eq!(refresh(&mut node.state, &mut node.maps).unwrap(), 0);
    let before = (
        node.maps.frontends.clone(),
        node.maps.sources.clone(),
        node.maps.services.clone(),
    );
    node.maps.frontends.remove(&frontend(0));
    node.maps.frontends.insert(frontend(3), 0);
    node.maps.sources.remove(&1);
    node.maps.services[0].route = 0;
    assert_eq!(refresh(&mut node.state, &mut node.maps).unwrap(), 4);
    node.apply(&world);
    assert_eq!(
        (
            node.maps.frontends.clone(),
            node.maps.sources.clone(),
            node.maps.services.clone()
        ),
        before
    );
    assert_eq!(node.apply(&world), Report::default());
}

#[test]
fn limits_have_their_ids_when_the_proxy_is_told() {
    let mut world = two_versions();
    let mut node = Node::new(&world);
    world.policies = limited(3);
    let mut told = None;
    let desired = world.desired();
    let report = reconcile_around(&mut node.state, &desired, &mut node.maps, |ids| told = Some(ids)).unwrap();
    let told = told.unwrap();
    let id = *told.limits.values().next().unwrap();
    assert_eq!(
        (report.services, told.limits.len(), node.maps.limit(id).max),
        (1, 1, 3)
    );
    assert_eq!(told.endpoints.ids().count(), desired.endpoints.len());
}

#[test]
fn nobody_is_told_of_what_does_not_fit() {
    let capacity = Capacity {
        services: 1,
        ..CAPACITY
    };
    let (mut state, mut maps) = (State::new(capacity), FakeMaps::new(capacity));
    let desired = two_versions().desired();
    let result = reconcile_around(&mut state, &desired, &mut maps, |_| {
        unreachable!("it does not fit")
    });
    assert!(matches!(result, Err(ReconcileError::Capacity(_))));
}

#[test]
fn a_class_table_that_cannot_be_read_may_lead_to_the_proxy() {
    let mut world = two_versions();
    world.services.get_mut(&0).unwrap().http = true;
    world.callers = [(1, 1)].into();
    world.rules.push(RuleSpec {
        path: true,
        ..split(1, 1, 0)
    });
    let Node { state, mut maps } = Node::new(&world);
    assert!(state.sends_to_proxy());
    let ids = state.upstream_ids();
    let damaged = ids.endpoints.get(endpoint(1)).unwrap() as usize;
    maps.endpoint_states[damaged] = Default::default();
    let mut adopted = State::adopt(&mut maps, CAPACITY).unwrap();
    assert_eq!(adopted.unreadable.len(), 1);
    // The maps check that nothing is sent to the proxy without the hand-over.
    for _ in 0..2 {
        assert_eq!(refresh(&mut adopted.state, &mut maps).unwrap(), 0);
        maps.keep_handover(adopted.state.sends_to_proxy()).unwrap();
    }
}
