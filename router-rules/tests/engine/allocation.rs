//! Deciding allocates nothing, however many rules there are.

use http::{HeaderMap, HeaderName, HeaderValue};
use router_rules::{
    Snapshot,
    model::{Match, Model, Protocol, Rule},
};

use crate::world::{STRANGER, exact, get, prefix, rule, service};

const REVIEWS: &str = "reviews.default";

/// One rule of each kind, `n` times, and one without conditions.
fn rules(n: u32) -> Vec<Rule> {
    let matches = |i: u32| {
        let header = HeaderName::try_from(format!("x-{}", i % 7)).unwrap();
        let value = exact(&i.to_string()).unwrap();
        [
            Match {
                path: exact(&format!("/exact/{i}")),
                ..Match::default()
            },
            Match {
                path: prefix(&format!("/{}", "p/".repeat(i as usize % 100))),
                method: exact("POST"),
                ..Match::default()
            },
            Match {
                headers: vec![(header, value)],
                ..Match::default()
            },
        ]
    };
    let alternatives = (0..n).flat_map(matches);
    let rules = alternatives.map(|m| Rule {
        precedence: 1,
        ..rule("narrow", REVIEWS, m, "v1")
    });
    rules
        .chain([rule("wide", REVIEWS, Match::default(), "v1")])
        .collect()
}

#[test]
fn deciding_allocates_nothing() {
    let model = Model {
        services: vec![service(REVIEWS, &[(80, Protocol::Http)])],
        rules: rules(300),
        ..Model::default()
    };
    let snapshot = Snapshot::build(model, 1);
    let port = &snapshot.ports()[0];
    let headers: HeaderMap = (0..7)
        .map(|i| {
            let name = HeaderName::try_from(format!("x-{i}")).unwrap();
            (name, HeaderValue::from_static("none"))
        })
        .collect();
    let paths = [
        "/exact/17",
        "/p/p/p/p/p/p/p/p/p/p/p/p/p/p/p/p/p/p/p/p/p/p/p?q",
        "/",
    ];
    for path in paths {
        let request = get(path, &headers);
        let mut targets = 0;
        let allocated = allocation_counter::measure(|| {
            let route = snapshot.route_http(port, STRANGER, &request);
            targets = route.targets().len();
            let _ = route.pick(3);
            let _ = snapshot.route_connection(port, STRANGER);
            let _ = snapshot.default_route(port);
        });
        assert_eq!((targets, allocated.count_total), (1, 0), "{path}");
    }
}
