//! Which policy is in force for which instances.

use router_rules::{
    Snapshot,
    id::ServiceName,
    model::{Match, Model, Protocol},
    policy::{HttpLimits, LoadBalancing, Policy},
    source::{ClassId, SourceMatch, Workload},
};

use crate::world::{labels, origin, rule, service};

const REVIEWS: &str = "reviews.default";

fn policy(object: &str, tags: &str) -> Policy {
    Policy {
        labels: labels(tags),
        load_balancing: LoadBalancing::Random,
        ..Policy::new(origin(object), ServiceName::new(REVIEWS))
    }
}

/// Policies of the instances that a rule sends to v1, and of all instances when no rule matches.
fn in_force(policies: Vec<Policy>) -> [String; 2] {
    let v1 = Match {
        path: crate::world::exact("/v1"),
        ..Match::default()
    };
    let model = Model {
        services: vec![service(REVIEWS, &[(80, Protocol::Http)])],
        rules: vec![rule("v1", REVIEWS, v1, "v1")],
        policies,
        ..Model::default()
    };
    let snapshot = Snapshot::build(model, 1);
    let port = &snapshot.ports()[0];
    let explicit = snapshot.rule(port.rules()[0]).targets()[0].0;
    [explicit, port.unrouted()].map(|id| {
        let subset = snapshot.subset(id);
        let policy = subset.policy().map(|p| snapshot.policy(p));
        assert_eq!(
            subset.load_balancing() == LoadBalancing::Random,
            policy.is_some(),
            "the policy's load balancing is in force"
        );
        policy.map_or("-".to_owned(), |p| p.origin.object.to_string())
    })
}

#[test]
fn a_policy_without_labels_is_for_all() {
    assert_eq!(in_force(vec![policy("all", "")]), ["all", "all"]);
}

#[test]
fn a_policy_with_labels_is_only_for_explicit_routes() {
    assert_eq!(in_force(vec![policy("v1", "version=v1")]), ["v1", "-"]);
    assert_eq!(in_force(vec![policy("v2", "version=v2")]), ["-", "-"]);
}

#[test]
fn more_labels_win_over_fewer() {
    let policies = vec![policy("a-all", ""), policy("v1", "version=v1")];
    assert_eq!(in_force(policies), ["v1", "a-all"]);
}

#[test]
fn ties_are_broken_by_name() {
    let policies = vec![policy("b", "version=v1"), policy("a", "version=v1")];
    assert_eq!(in_force(policies), ["a", "-"]);
}

#[test]
fn policies_of_other_services_do_not_count() {
    let other = Policy {
        destination: ServiceName::new("ratings.default"),
        ..policy("other", "")
    };
    assert_eq!(in_force(vec![other]), ["-", "-"]);
}

fn from(service: Option<&str>, tags: &str) -> SourceMatch {
    SourceMatch {
        service: service.map(ServiceName::new),
        labels: labels(tags),
    }
}

fn workload(name: &str, service: &str, tags: &str) -> Workload {
    Workload {
        name: name.into(),
        labels: labels(tags),
        services: [ServiceName::new(service)].into(),
        addresses: Default::default(),
    }
}

/// The policy in force for each of three callers and for an unknown one, of connections that no rule matches.
fn by_caller(policies: Vec<Policy>) -> [String; 4] {
    let model = Model {
        services: vec![service(REVIEWS, &[(80, Protocol::Http)])],
        workloads: vec![
            workload("shop/a1", "shop.a", "version=v1"),
            workload("shop/a2", "shop.a", "version=v2"),
            workload("shop/b", "shop.b", "version=v2"),
        ],
        policies,
        ..Model::default()
    };
    let snapshot = Snapshot::build(model, 1);
    let port = &snapshot.ports()[0];
    let every = snapshot.subset(port.unrouted());
    [Some("shop/a1"), Some("shop/a2"), Some("shop/b"), None].map(|name| {
        let caller = name.and_then(|name| snapshot.workload(name));
        let class = snapshot.class_of(caller);
        assert_eq!(class == ClassId::UNKNOWN, name.is_none());
        let route = snapshot.route_connection(port, class);
        let policy = route.policy(every).map(|id| snapshot.policy(id));
        let load_balancing = policy.map_or(LoadBalancing::default(), |p| p.load_balancing);
        assert_eq!(
            route.load_balancing(every),
            load_balancing,
            "that of the policy is in force"
        );
        policy.map_or("-".to_owned(), |p| p.origin.object.to_string())
    })
}

fn sourced(object: &str, source: SourceMatch) -> Policy {
    Policy {
        source,
        ..policy(object, "")
    }
}

#[test]
fn a_policy_with_a_source_is_for_its_callers_only() {
    let policies = vec![sourced("a", from(Some("shop.a"), ""))];
    assert_eq!(by_caller(policies), ["a", "a", "-", "-"]);
    let policies = vec![sourced("v2", from(None, "version=v2")), policy("all", "")];
    assert_eq!(by_caller(policies), ["all", "v2", "v2", "all"]);
}

#[test]
fn the_more_particular_source_wins_whatever_the_names() {
    let policies = vec![
        policy("0-all", ""),
        sourced("1-a", from(Some("shop.a"), "")),
        sourced("2-a-v2", from(Some("shop.a"), "version=v2")),
    ];
    assert_eq!(by_caller(policies), ["1-a", "2-a-v2", "0-all", "0-all"]);
}

#[test]
fn sources_of_equal_rank_are_chosen_by_name() {
    let policies = vec![
        sourced("y", from(Some("shop.a"), "")),
        sourced("x", from(None, "version=v2")),
    ];
    assert_eq!(by_caller(policies), ["y", "x", "x", "-"]);
}

#[test]
fn labels_of_instances_rank_before_sources() {
    let with_labels = policy("v1", "version=v1");
    let with_source = sourced("everyone-from-a", from(Some("shop.a"), ""));
    assert!(with_labels.rank() < with_source.rank());
}

#[test]
fn limits_on_requests_send_a_service_without_rules_to_the_proxy() {
    let needs_proxy = |policies| {
        let model = Model {
            services: vec![service(REVIEWS, &[(80, Protocol::Http)])],
            policies,
            ..Model::default()
        };
        Snapshot::build(model, 1).ports()[0].needs_proxy()
    };
    let limits = HttpLimits {
        max_requests: Some(1),
        ..HttpLimits::default()
    };
    let limited = |policy: Policy| Policy {
        http: limits,
        ..policy
    };
    assert!(!needs_proxy(vec![policy("lb", "")]));
    assert!(needs_proxy(vec![limited(policy("all", ""))]));
    assert!(needs_proxy(vec![limited(sourced("a", from(Some("shop.a"), "")))]));
    assert!(
        !needs_proxy(vec![limited(policy("v1", "version=v1"))]),
        "no rule routes to v1"
    );
}
