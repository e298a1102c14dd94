//! Which policy is in force for which instances.

use router_rules::{
    Snapshot,
    id::ServiceName,
    model::{Match, Model, Protocol},
    policy::{LoadBalancing, Policy},
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
