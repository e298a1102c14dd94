//! Desired states of small configurations. What the maps make of them is tested elsewhere.

use super::*;
use crate::datapath::fixture::{PolicySpec, RuleSpec, ServiceSpec, World, frontend, name};

fn world(http: bool, endpoints: &[(u8, u8)]) -> World {
    let spec = ServiceSpec {
        addresses: vec![0],
        http,
        endpoints: endpoints.to_vec(),
    };
    World {
        services: [(0, spec)].into(),
        ..World::default()
    }
}

fn rule(source: u8, path: bool, targets: &[(u8, u32)]) -> RuleSpec {
    RuleSpec {
        destination: 0,
        precedence: i32::from(source),
        source,
        path,
        l4_fault: false,
        targets: targets
            .iter()
            .map(|&(version, weight)| (0, version, weight))
            .collect(),
    }
}

fn only(world: &World) -> Service {
    let desired = world.desired();
    let mut services = desired.services.values();
    let service = Service::clone(services.next().unwrap());
    assert!(services.next().is_none());
    service
}

#[test]
fn names_hash_alike_in_every_version() {
    assert_eq!(hash("a"), 0xaf63_dc4c_8601_ec8c);
    assert_eq!(hash("foobar"), 0x8594_4171_f739_67e8);
    let mut map = BTreeMap::new();
    assert_ne!(insert_named(&mut map, "x", 1), insert_named(&mut map, "x", 2));
}

#[test]
fn a_port_without_rules_is_balanced_over_every_instance() {
    for http in [false, true] {
        let service = only(&world(http, &[(2, 1), (1, 2), (2, 1)]));
        assert_eq!(service.routing, Routing::Uniform(Route::Weighted(0)));
        assert_eq!(service.label(), format!("{}:80/tcp", name(0)));
        assert_eq!(service.frontends, [frontend(0)]);
        assert_eq!(service.tables[0].slots, [0]);
        let hosts = service.subsets[0]
            .endpoints
            .iter()
            .map(|&key| SocketAddr::from(key).to_string());
        assert_eq!(hosts.collect::<Vec<_>>(), ["10.0.0.1:9080", "10.0.0.2:9080"]);
    }
}

#[test]
fn http_with_rules_goes_to_the_proxy_and_by_the_default_route_while_it_is_down() {
    let mut world = world(true, &[(1, 1), (2, 2)]);
    world.rules = vec![rule(0, false, &[(1, 25), (2, 75)]), rule(1, true, &[(2, 100)])];
    let service = only(&world);
    assert_eq!(service.routing, Routing::Uniform(Route::Proxy(Some(0))));
    assert_eq!(service.tables[0].rule.as_deref(), Some("route-rule 0"));
    assert_eq!(service.tables[0].slots.len(), 4);
    world.reject = true;
    assert_eq!(
        only(&world).routing,
        Routing::Uniform(Route::ProxyOrRefuse(Some(0)))
    );
}

#[test]
fn tcp_rules_by_source_make_a_class_table_and_unknown_callers_take_the_slow_path() {
    let mut world = world(false, &[(1, 1), (2, 2)]);
    world.rules = vec![rule(1, false, &[(2, 100)])];
    world.callers = [(1, 1), (2, 2)].into();
    let service = only(&world);
    let Routing::BySource {
        unknown: Route::Proxy(Some(default)),
        classes,
    } = &service.routing
    else {
        panic!("{:?}", service.routing);
    };
    let desired = world.desired();
    let [chosen, other] = [1, 2].map(|cgroup| desired.sources[&cgroup].0 as usize - 1);
    assert_eq!(classes[other], Route::Weighted(*default));
    let table = classes[chosen].table().unwrap();
    assert_eq!(
        service.tables[table as usize].rule.as_deref(),
        Some("route-rule 0")
    );
}

#[test]
fn connections_with_faults_go_to_the_proxy_and_others_stay_in_the_kernel() {
    let mut world = world(false, &[(1, 1), (2, 2)]);
    let faulty = RuleSpec {
        l4_fault: true,
        ..rule(1, false, &[(2, 100)])
    };
    world.rules = vec![rule(0, false, &[(1, 100)]), faulty.clone()];
    world.callers = [(1, 1), (2, 2)].into();
    let desired = world.desired();
    let service = only(&world);
    let route = |cgroup| service.routing.of_class(desired.sources[&cgroup]);
    let rule_of = |route: Route| service.tables[route.table().unwrap() as usize].rule.clone();
    assert!(matches!(route(1), Route::Proxy(Some(_))), "{:?}", service.routing);
    assert_eq!(
        rule_of(route(1)).as_deref(),
        Some("route-rule 1"),
        "while it is down"
    );
    assert!(matches!(route(2), Route::Weighted(_)), "{:?}", service.routing);
    // For everybody, and what is refused anyway needs no proxy for it.
    let routing = |targets: &[(u8, u32)]| {
        let mut world = world.clone();
        world.rules = vec![RuleSpec {
            l4_fault: true,
            ..rule(0, false, targets)
        }];
        only(&world).routing
    };
    assert_eq!(routing(&[(2, 100)]), Routing::Uniform(Route::Proxy(Some(0))));
    assert_eq!(
        routing(&[(9, 100)]),
        Routing::Uniform(Route::Refuse(Reason::NoEndpoints))
    );
}

#[test]
fn a_source_condition_that_nobody_meets_today_keeps_the_slow_path_for_unknown_callers() {
    let mut world = world(false, &[(1, 1)]);
    world.rules = vec![rule(1, false, &[(1, 100)])];
    assert!(matches!(
        only(&world).routing,
        Routing::BySource {
            unknown: Route::Proxy(Some(0)),
            ..
        }
    ));
}

#[test]
fn refusals_have_their_reasons() {
    let refused = |world: &World| match only(world).routing {
        Routing::Uniform(Route::Refuse(reason)) => Some(reason),
        _ => None,
    };
    assert_eq!(refused(&world(false, &[])), Some(Reason::NoEndpoints));
    let mut zero = world(false, &[(1, 1)]);
    zero.rules = vec![rule(0, false, &[(1, 0)])];
    assert_eq!(refused(&zero), Some(Reason::NoWeight));
    // Instances that get no weight do not help.
    zero.rules = vec![rule(0, false, &[(1, 0), (2, 5)])];
    assert_eq!(refused(&zero), Some(Reason::NoEndpoints));
    // One subset without instances among others keeps its share, which is refused.
    zero.rules = vec![rule(0, false, &[(1, 5), (2, 5)])];
    let service = only(&zero);
    assert_eq!(service.routing, Routing::Uniform(Route::Weighted(0)));
    assert_eq!(
        service
            .subsets
            .iter()
            .map(|s| s.endpoints.len())
            .collect::<Vec<_>>(),
        [1, 0]
    );
    // The proxy answers for itself: no default route is no refusal by the kernel.
    let mut http = world(true, &[(1, 1)]);
    http.rules = vec![rule(0, false, &[(1, 0)])];
    assert_eq!(only(&http).routing, Routing::Uniform(Route::Proxy(None)));
}

#[test]
fn weight_zero_is_known_but_takes_no_room() {
    let mut world = world(false, &[(1, 1), (2, 2)]);
    world.rules = vec![rule(0, false, &[(1, 0), (2, 7)])];
    let service = only(&world);
    let targets: Vec<_> = service.tables[0]
        .targets
        .iter()
        .map(|t| (t.weight, t.subset))
        .collect();
    assert_eq!(targets, [(0, None), (7, Some(0))]);
    assert_eq!((service.tables[0].slots.len(), service.subsets.len()), (1, 1));
    assert_eq!(service.subsets[0].of.labels.to_string(), "version=v2");
}

#[test]
fn a_policy_limits_the_subsets_it_applies_to() {
    let mut world = world(false, &[(1, 1), (2, 2)]);
    world.rules = vec![rule(0, false, &[(1, 1), (2, 1)])];
    let policy = PolicySpec {
        destination: 0,
        version: 1,
        source: 0,
        load_balancing: LoadBalancing::LeastConn,
        max: Some(3),
        ejected: Vec::new(),
    };
    world.policies = [(7, policy)].into();
    let desired = world.desired();
    let [(&limit, limited)] = desired.limits.iter().collect::<Vec<_>>()[..] else {
        panic!("{:?}", desired.limits);
    };
    assert_eq!((&*limited.policy, limited.max), ("policy 7", 3));
    let service = only(&world);
    let subset = |n: usize| (service.subsets[n].limit, service.subsets[n].balance);
    assert_eq!(subset(0), (Some(limit), Balance::LeastConn));
    assert_eq!(subset(1), (None, Balance::RoundRobin));
    // The other version's connections count too: an endpoint can be in both subsets.
    assert!(service.subsets.iter().all(|subset| subset.counted));
}

#[test]
fn open_connections_are_counted_where_somebody_acts_on_their_number() {
    let mut world = world(false, &[(1, 1), (2, 2)]);
    let counted = |world: &World| -> Vec<bool> { only(world).subsets.iter().map(|s| s.counted).collect() };
    assert_eq!(counted(&world), [false]);
    let policy = PolicySpec {
        destination: 0,
        version: 1,
        source: 0,
        load_balancing: LoadBalancing::Random,
        max: Some(3),
        ejected: Vec::new(),
    };
    world.policies = [(7, policy)].into();
    assert_eq!(counted(&world), [false]);
    world.rules = vec![rule(0, false, &[(1, 1), (2, 1)])];
    assert_eq!(counted(&world), [true, false]);
}

#[test]
fn callers_with_a_policy_of_their_own_have_a_table_of_their_own() {
    let mut world = world(false, &[(1, 1), (2, 1)]);
    let policy = PolicySpec {
        destination: 0,
        version: 0,
        source: 1,
        load_balancing: LoadBalancing::Random,
        max: Some(3),
        ejected: Vec::new(),
    };
    world.policies = [(7, policy)].into();
    // Nobody with a policy of their own is here yet; an unknown caller may be one all the same.
    world.callers = [(21, 2)].into();
    let service = only(&world);
    let Routing::BySource { unknown, classes } = &service.routing else {
        panic!("{:?}", service.routing);
    };
    assert_eq!(*unknown, Route::Proxy(Some(0)));
    assert_eq!(classes[..], [Route::Weighted(0)]);
    world.callers = [(11, 1), (21, 2)].into();
    let (service, sources) = (only(&world), world.desired().sources);
    let subset = |cgroup: u64| {
        let table = service.routing.of_class(sources[&cgroup]).table().unwrap();
        let slots = &service.tables[table as usize].slots;
        let subset = &service.subsets[slots[0] as usize];
        (
            slots.len(),
            subset.limit.is_some(),
            subset.balance,
            subset.endpoints.len(),
        )
    };
    assert_eq!(subset(11), (1, true, Balance::Random, 2));
    assert_eq!(subset(21), (1, false, Balance::RoundRobin, 2));
}

#[test]
fn of_two_services_at_one_address_the_first_has_it() {
    let mut world = world(false, &[(1, 1)]);
    world.services.insert(1, world.services[&0].clone());
    let desired = world.desired();
    let has_it = |n| {
        let mut services = desired.services.values();
        !services
            .find(|s| s.service == name(n))
            .unwrap()
            .frontends
            .is_empty()
    };
    assert_eq!([0, 1].map(has_it), [true, false]);
}

#[test]
fn the_proxys_endpoints_are_counted_too() {
    let mut world = world(true, &[(1, 1), (2, 2)]);
    world.rules = vec![rule(0, false, &[(1, 1)]), rule(1, true, &[(2, 1)])];
    assert_eq!(only(&world).subsets.len(), 1);
    assert_eq!(world.desired().endpoints.len(), 2);
}

#[test]
fn connections_keep_away_from_ejected_endpoints_while_others_are_left() {
    for http in [false, true] {
        let mut world = world(http, &[(1, 1), (2, 1), (3, 2)]);
        world.rules = vec![rule(0, false, &[(1, 50), (2, 50)])];
        let hosts = |ejected: &[u8]| {
            let mut world = world.clone();
            let policy = PolicySpec {
                destination: 0,
                version: 0,
                source: 0,
                load_balancing: LoadBalancing::RoundRobin,
                max: None,
                ejected: ejected.to_vec(),
            };
            world.policies = [(0, policy)].into();
            let host = |key: &EndpointKey| SocketAddr::from(*key).to_string();
            let of = |subset: &Subset| subset.endpoints.iter().map(host).collect::<Vec<_>>();
            // The proxy's connections to any of them are still counted.
            assert_eq!(world.desired().endpoints.len(), 3);
            only(&world).subsets.iter().map(of).collect::<Vec<_>>()
        };
        let [one, two, three] = ["10.0.0.1:9080", "10.0.0.2:9080", "10.0.0.3:9080"];
        assert_eq!(hosts(&[2]), [vec![one], vec![three]]);
        assert_eq!(hosts(&[9]), [vec![one, two], vec![three]]);
        // A subset is never emptied: then it has all that it had.
        assert_eq!(hosts(&[1, 2, 3]), [vec![one, two], vec![three]]);
    }
}
