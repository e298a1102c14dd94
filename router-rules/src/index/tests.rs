//! How many alternatives are evaluated, counted: the reason for which the index exists.

use std::cell::Cell;

use http::{HeaderMap, HeaderName, HeaderValue, Method};

use super::*;
use crate::{
    Snapshot,
    id::{Origin, ServiceName},
    model::{Match, Model, Port, Protocol, Rule as Written, Service},
    source::{SourceMatch, Workload},
    text::{TextMatch, WholeRegex},
};

const RULES: usize = 10_000;
const USER: HeaderName = HeaderName::from_static("user");

/// A service with one rule per item, which is its alternatives, and one caller of version 7.
fn of_alternatives(rules: impl Iterator<Item = Vec<Match>>) -> Snapshot {
    let name = ServiceName::new("reviews");
    let origin = |line: usize| Origin {
        object: format!("route-rule {line:05}").into(),
        file: "rules.yaml".into(),
        line: line as u32,
    };
    let port = Port {
        number: 80,
        name: None,
        protocol: Protocol::Http,
        endpoints: Vec::new(),
    };
    let rules = rules.enumerate().map(|(i, any_of)| Written {
        any_of,
        ..Written::new(origin(i), name.clone())
    });
    let model = Model {
        rules: rules.collect(),
        services: vec![Service {
            name: name.clone(),
            addresses: Vec::new(),
            ports: vec![port],
        }],
        workloads: vec![Workload {
            name: "default/caller".into(),
            labels: [("version", "7")].into_iter().collect(),
            services: [name].into_iter().collect(),
            addresses: Default::default(),
        }],
        policies: Vec::new(),
        ..Model::default()
    };
    Snapshot::build(model, 1)
}

/// As [`of_alternatives`], with one alternative per rule.
fn snapshot(rules: impl Iterator<Item = Match>) -> Snapshot {
    of_alternatives(rules.map(|m| vec![m]))
}

/// Alternatives evaluated, and position of the rule that matched, for `GET path` of user `user`.
fn evaluated(snapshot: &Snapshot, path: &str, user: Option<&str>) -> (usize, Option<usize>) {
    let values = user.into_iter().map(|v| HeaderValue::from_str(v).unwrap());
    let headers: HeaderMap = values.map(|value| (USER, value)).collect();
    let request = Request {
        method: &Method::GET,
        path,
        scheme: "http",
        authority: "host-7",
        headers: &headers,
    };
    let (sources, caller) = (
        &snapshot.sources,
        snapshot.class_of(snapshot.workload("default/caller")),
    );
    let count = Cell::new(0);
    let port = &snapshot.ports()[0];
    let found = port.index.first(sources, caller, &request, |entry| {
        count.set(count.get() + 1);
        let rule = snapshot.rule(port.rules()[entry.rule as usize]);
        rule.any_of[entry.alternative as usize].hold(sources, &caller.into(), &request)
    });
    (count.get(), found)
}

fn text(i: usize) -> String {
    format!("/items/{i}")
}

fn path(i: usize) -> Match {
    Match {
        path: Some(TextMatch::Exact(text(i))),
        ..Match::default()
    }
}

fn user(i: usize, base: Match) -> Match {
    Match {
        headers: vec![(USER, TextMatch::Exact(i.to_string()))],
        ..base
    }
}

#[test]
fn rules_that_differ_in_one_exact_thing_cost_as_one() {
    let last = RULES - 1;
    let by_path = snapshot((0..RULES).map(path));
    assert_eq!(evaluated(&by_path, &text(last), None), (1, Some(last)));
    assert_eq!(evaluated(&by_path, "/else", None), (0, None));

    let by_user = snapshot((0..RULES).map(|i| user(i, Match::default())));
    assert_eq!(evaluated(&by_user, "/", Some("9999")), (1, Some(last)));
    assert_eq!(evaluated(&by_user, "/", Some("nobody")), (0, None));

    let by_authority = snapshot((0..RULES).map(|i| Match {
        authority: Some(TextMatch::Exact(format!("host-{i}"))),
        ..Match::default()
    }));
    assert_eq!(evaluated(&by_authority, "/", None), (1, Some(7)));
}

#[test]
fn rules_that_differ_in_a_prefix_cost_as_one() {
    let by_prefix = snapshot((0..RULES).map(|i| Match {
        path: Some(TextMatch::Prefix(text(i) + "/")),
        ..Match::default()
    }));
    assert_eq!(evaluated(&by_prefix, "/items/9999/x?y", None), (1, Some(9999)));
    assert_eq!(evaluated(&by_prefix, "/items/9999", None), (0, None));
}

#[test]
fn rules_that_differ_in_the_caller_cost_as_one() {
    let by_source = snapshot((0..RULES).map(|i| Match {
        source: Some(SourceMatch {
            service: None,
            labels: [("version", i.to_string())].into_iter().collect(),
        }),
        ..Match::default()
    }));
    assert_eq!(evaluated(&by_source, "/", None), (1, Some(7)));
}

#[test]
fn what_all_rules_share_does_not_hide_what_they_differ_in() {
    let same_path = snapshot((0..RULES).map(|i| user(i, path(0))));
    assert_eq!(evaluated(&same_path, &text(0), Some("9999")), (1, Some(9999)));
    let same_user = snapshot((0..RULES).map(|i| user(0, path(i))));
    assert_eq!(evaluated(&same_user, &text(9999), Some("0")), (1, Some(9999)));
}

#[test]
fn a_header_that_is_absent_costs_nothing() {
    let regexes = ["a.*", "b.*", "[0-9]+"].map(|r| TextMatch::Regex(WholeRegex::new(r).unwrap()));
    let by_regex = snapshot((0..RULES).map(|i| Match {
        headers: vec![(USER, regexes[i % 3].clone())],
        ..Match::default()
    }));
    assert_eq!(evaluated(&by_regex, "/", None), (0, None));
    assert_eq!(evaluated(&by_regex, "/", Some("1")), (3, Some(2)));
}

#[test]
fn one_rule_with_many_alternatives_costs_as_one() {
    let many = of_alternatives([(0..RULES).map(path).collect()].into_iter());
    assert_eq!(evaluated(&many, "/items/9999", None), (1, Some(0)));
}

#[test]
fn few_rules_are_walked() {
    let few = snapshot((0..WALKED).map(path));
    assert!(few.ports()[0].index.keyed.is_none());
    assert_eq!(
        evaluated(&few, &text(WALKED - 1), None),
        (WALKED, Some(WALKED - 1))
    );
}
