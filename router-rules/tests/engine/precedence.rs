//! The order of evaluation, one pair of neighbours at a time.

use http::{HeaderMap, HeaderValue};
use router_rules::{
    Snapshot,
    action::Target,
    id::ServiceName,
    model::{Match, Model, Protocol, Rule},
    source::SourceMatch,
};

use crate::world::{STRANGER, decided, exact, get, labels, prefix, rule, service, workload};

const REVIEWS: &str = "reviews.default";

fn snapshot(rules: Vec<Rule>) -> Snapshot {
    let model = Model {
        services: vec![service(REVIEWS, &[(80, Protocol::Http), (90, Protocol::Tcp)])],
        workloads: vec![workload("default/ratings", "version=v2", &["ratings.default"])],
        rules,
        policies: Vec::new(),
        ..Model::default()
    };
    Snapshot::build(model, 1)
}

fn on_path(object: &str, precedence: i32, path: Match) -> Rule {
    Rule {
        precedence,
        ..rule(object, REVIEWS, path, "v1")
    }
}

/// Which of `rules` decides `GET /a/b` of an unknown caller.
fn winner(rules: Vec<Rule>) -> String {
    let snapshot = snapshot(rules);
    let port = snapshot.port_of(&ServiceName::new(REVIEWS), 80).unwrap();
    let route = snapshot.route_http(port, STRANGER, &get("/a/b", &HeaderMap::new()));
    decided(&route).to_owned()
}

fn any() -> Match {
    Match::default()
}

fn path(path: &str) -> Match {
    Match {
        path: exact(path),
        ..any()
    }
}

fn below(path: &str) -> Match {
    Match {
        path: prefix(path),
        ..any()
    }
}

#[test]
fn higher_precedence_comes_first() {
    assert_eq!(winner(vec![on_path("a", 1, any()), on_path("b", 2, any())]), "b");
    assert_eq!(winner(vec![on_path("a", -1, any()), on_path("b", 0, any())]), "b");
    assert_eq!(
        winner(vec![on_path("a", i32::MIN, any()), on_path("b", i32::MAX, any())]),
        "b"
    );
}

#[test]
fn equal_precedence_is_broken_by_name() {
    assert_eq!(winner(vec![on_path("b", 1, any()), on_path("a", 1, any())]), "a");
}

#[test]
fn equal_names_keep_the_order_of_the_list() {
    // Rules of one object, as a route with several blocks makes them.
    let first = Rule {
        timeout: Some(std::time::Duration::from_secs(1)),
        ..on_path("a", 0, any())
    };
    let snapshot = snapshot(vec![first, on_path("a", 0, any())]);
    let port = snapshot.port_of(&ServiceName::new(REVIEWS), 80).unwrap();
    let route = snapshot.route_http(port, STRANGER, &get("/", &HeaderMap::new()));
    assert_eq!(route.timeout(&HeaderMap::new()).as_secs(), 1);
}

#[test]
fn precedence_beats_specificity() {
    let rules = || {
        vec![
            on_path("exact", 0, path("/a/b")),
            on_path("prefix", 1, below("/a")),
        ]
    };
    assert_eq!(winner(rules()), "prefix");
    // The same among so many rules that they are indexed.
    let others = (0..100).map(|i| on_path("other", 2, path(&format!("/other/{i}"))));
    assert_eq!(winner(rules().into_iter().chain(others).collect()), "prefix");
}

#[test]
fn a_longer_prefix_does_not_beat_an_earlier_one() {
    let many = (0..100).map(|i| on_path("other", 2, below(&format!("/a/b/{i}"))));
    let rules = [
        on_path("long", 0, below("/a/b")),
        on_path("short", 1, below("/a")),
    ];
    assert_eq!(winner(many.chain(rules).collect()), "short");
}

#[test]
fn a_catch_all_hides_what_follows() {
    let rules = vec![on_path("all", 1, any()), on_path("exact", 0, path("/a/b"))];
    assert_eq!(winner(rules), "all");
}

#[test]
fn the_first_match_ends_the_evaluation_even_without_instances() {
    let nowhere = rule("nowhere", REVIEWS, any(), "v9");
    let rules = vec![
        Rule {
            precedence: 1,
            ..nowhere
        },
        on_path("lower", 0, any()),
    ];
    let snapshot = snapshot(rules);
    let port = snapshot.port_of(&ServiceName::new(REVIEWS), 80).unwrap();
    let route = snapshot.route_http(port, STRANGER, &get("/", &HeaderMap::new()));
    assert_eq!(decided(&route), "nowhere");
    assert!(route.pick(0).unwrap().endpoints().is_empty());
}

#[test]
fn weights_of_zero_are_a_refusal_and_not_everyone() {
    let mut zero = on_path("zero", 1, any());
    zero.targets[0].weight = 0;
    let snapshot = snapshot(vec![zero, on_path("lower", 0, any())]);
    let port = snapshot.port_of(&ServiceName::new(REVIEWS), 80).unwrap();
    let route = snapshot.route_http(port, STRANGER, &get("/", &HeaderMap::new()));
    assert_eq!(decided(&route), "zero");
    assert!(route.pick(0).is_err());
}

#[test]
fn no_match_means_every_instance() {
    let snapshot = snapshot(vec![on_path("x", 0, path("/x"))]);
    let port = snapshot.port_of(&ServiceName::new(REVIEWS), 80).unwrap();
    let route = snapshot.route_http(port, STRANGER, &get("/y", &HeaderMap::new()));
    assert_eq!(decided(&route), "-");
    assert_eq!(route.pick(7).unwrap().endpoints().len(), 3);
    assert_eq!(
        route.targets().map(|(_, weight)| weight).collect::<Vec<_>>(),
        [100]
    );
}

#[test]
fn the_default_route_ignores_requests_and_callers() {
    let of_ratings = Match {
        source: Some(SourceMatch {
            service: Some(ServiceName::new("ratings.default")),
            labels: labels(""),
        }),
        ..any()
    };
    let rules = vec![
        on_path("path", 3, path("/a/b")),
        on_path("source", 2, of_ratings),
        on_path("all", 1, any()),
        on_path("never", 0, any()),
    ];
    let without = snapshot(rules[..2].to_vec());
    let with = snapshot(rules);
    for number in [80, 90] {
        let port = with.port_of(&ServiceName::new(REVIEWS), number).unwrap();
        assert_eq!(decided(&with.default_route(port)), "all");
        // A known caller has a route of its own as far as it needs no request.
        let ratings = with.class_of(with.workload("default/ratings"));
        assert_eq!(decided(&with.route_connection(port, ratings)), "source");
        assert_eq!(decided(&with.route_connection(port, STRANGER)), "all");
        assert!(port.tells_connections_apart());
        let port = without.port_of(&ServiceName::new(REVIEWS), number).unwrap();
        assert_eq!(decided(&without.default_route(port)), "-");
    }
}

#[test]
fn a_source_that_asks_for_nothing_is_no_condition() {
    let empty = Match {
        source: Some(SourceMatch {
            service: None,
            labels: labels(""),
        }),
        ..any()
    };
    let mut rule = on_path("all", 0, any());
    rule.any_of = vec![empty];
    assert_eq!(winner(vec![rule]), "all");
}

#[test]
fn one_alternative_is_enough() {
    let mut either = on_path("either", 1, path("/x"));
    either.any_of.push(below("/a"));
    assert_eq!(winner(vec![either, on_path("all", 0, any())]), "either");
}

#[test]
fn repeated_headers_are_one_value_and_bytes_are_a_value() {
    let name = http::HeaderName::from_static("foo");
    let with = |value| Match {
        headers: vec![(name.clone(), value)],
        ..any()
    };
    let rules = vec![
        on_path("joined", 2, with(exact("a,b").unwrap())),
        on_path("present", 1, with(router_rules::text::TextMatch::Present)),
    ];
    let snapshot = snapshot(rules);
    let port = snapshot.port_of(&ServiceName::new(REVIEWS), 80).unwrap();
    let decide = |values: &[&[u8]]| {
        let values = values.iter().map(|v| HeaderValue::from_bytes(v).unwrap());
        let headers = values.map(|v| (name.clone(), v)).collect();
        let route = snapshot.route_http(port, STRANGER, &get("/", &headers));
        decided(&route).to_owned()
    };
    assert_eq!(decide(&[b"a", b"b"]), "joined");
    assert_eq!(decide(&[b"b", b"a"]), "present");
    assert_eq!(decide(&[b"\xff"]), "present");
    assert_eq!(decide(&[]), "-");
}

#[test]
fn a_target_elsewhere_takes_the_port_by_number_then_name_then_the_only_one() {
    let number_of = |ports: &[(u16, Protocol)]| {
        let elsewhere = Rule {
            targets: vec![Target {
                service: ServiceName::new("elsewhere"),
                labels: labels(""),
                weight: 100,
            }],
            ..on_path("elsewhere", 0, any())
        };
        let model = Model {
            services: vec![
                service(REVIEWS, &[(80, Protocol::Http)]),
                service("elsewhere", ports),
            ],
            rules: vec![elsewhere],
            ..Model::default()
        };
        let snapshot = Snapshot::build(model, 1);
        let port = snapshot.port_of(&ServiceName::new(REVIEWS), 80).unwrap();
        let subset = snapshot.default_route(port).pick(0).unwrap();
        subset.endpoints().first().map(|e| e.address.port())
    };
    assert_eq!(
        number_of(&[(8080, Protocol::Http), (80, Protocol::Tcp)]),
        Some(80)
    );
    assert_eq!(
        number_of(&[(90, Protocol::Tcp), (8080, Protocol::Http)]),
        Some(8080)
    );
    assert_eq!(number_of(&[(90, Protocol::Tcp)]), Some(90));
    assert_eq!(number_of(&[(90, Protocol::Tcp), (91, Protocol::Grpc)]), None);
}
