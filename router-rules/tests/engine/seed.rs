//! The examples of the rules language's document, as the engine sees them.

use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue, header::COOKIE};
use router_rules::{
    Snapshot,
    action::{Abort, AbortWith, Delay, DelayTime, Fault, Fraction, Retries, Target},
    id::ServiceName,
    model::{Match, Model, Protocol, Rule},
    source::{ClassId, SourceMatch},
    text::{TextMatch, WholeRegex},
};

use crate::world::{STRANGER, exact, get, labels, rule, service, workload};

const REVIEWS: &str = "reviews.default.svc.cluster.local";
const RATINGS: &str = "ratings.default.svc.cluster.local";

fn snapshot(rules: Vec<Rule>) -> Snapshot {
    let ports = [(9080, Protocol::Http)];
    let model = Model {
        services: vec![service(REVIEWS, &ports), service(RATINGS, &ports)],
        workloads: vec![
            workload("default/reviews-v1", "version=v1,app=reviews", &[REVIEWS]),
            workload("default/reviews-v2", "version=v2,app=reviews", &[REVIEWS]),
            workload("default/other-v2", "version=v2,app=other", &[]),
        ],
        rules,
        policies: Vec::new(),
        ..Model::default()
    };
    Snapshot::build(model, 1)
}

/// Version that a request of `caller` to `service` with `headers` goes to first.
fn version(snapshot: &Snapshot, service: &str, caller: ClassId, headers: &HeaderMap) -> String {
    let port = snapshot.port_of(&ServiceName::new(service), 9080).unwrap();
    let route = snapshot.route_http(port, caller, &get("/", headers));
    route.pick(0).unwrap().labels().to_string()
}

fn header(name: HeaderName, value: &'static str) -> HeaderMap {
    [(name, HeaderValue::from_static(value))].into_iter().collect()
}

fn jason() -> (HeaderName, TextMatch) {
    let regex = WholeRegex::new("^(.*?;)?(user=jason)(;.*)?$").unwrap();
    (COOKIE, TextMatch::Regex(regex))
}

fn reviews_v2() -> Option<SourceMatch> {
    Some(SourceMatch {
        service: Some(ServiceName::new(REVIEWS)),
        labels: labels("version=v2"),
    })
}

#[test]
fn all_traffic_to_one_version() {
    let snapshot = snapshot(vec![rule("reviews-default", REVIEWS, Match::default(), "v1")]);
    assert_eq!(
        version(&snapshot, REVIEWS, STRANGER, &HeaderMap::new()),
        "version=v1"
    );
    let port = snapshot.port_of(&ServiceName::new(REVIEWS), 9080).unwrap();
    let route = snapshot.default_route(port);
    assert_eq!(route.pick(0).unwrap().endpoints().len(), 1);
    assert_eq!(
        route.timeout(&HeaderMap::new()),
        Duration::from_secs(15),
        "by default, the timeout is 15 seconds"
    );
}

#[test]
fn foo_bar_goes_to_v2_and_the_rest_to_v1() {
    let foo = HeaderName::from_static("foo");
    let foo_bar = Match {
        headers: vec![(foo.clone(), exact("bar").unwrap())],
        ..Match::default()
    };
    let rules = |foo_precedence| {
        let foo_bar = Rule {
            precedence: foo_precedence,
            ..rule("foo", REVIEWS, foo_bar.clone(), "v2")
        };
        let rest = Rule {
            precedence: 1,
            ..rule("rest", REVIEWS, Match::default(), "v1")
        };
        snapshot(vec![rest, foo_bar])
    };
    let to = |snapshot: &Snapshot, headers: &HeaderMap| version(snapshot, REVIEWS, STRANGER, headers);
    let right = rules(2);
    assert_eq!(to(&right, &header(foo.clone(), "bar")), "version=v2");
    assert_eq!(to(&right, &header(foo.clone(), "Bar")), "version=v1");
    assert_eq!(to(&right, &header(foo.clone(), "bart")), "version=v1");
    assert_eq!(to(&right, &HeaderMap::new()), "version=v1");
    // "If it was lower, these rules wouldn't work as expected."
    assert_eq!(to(&rules(0), &header(foo, "bar")), "version=v1");
}

#[test]
fn the_cookie_of_jason() {
    let cookie = Match {
        headers: vec![jason()],
        ..Match::default()
    };
    let snapshot = snapshot(vec![rule("jason", REVIEWS, cookie, "v2")]);
    let to = |cookie| version(&snapshot, REVIEWS, STRANGER, &header(COOKIE, cookie));
    for taken in ["user=jason", "a=b;user=jason", "user=jason;a=b", "a;user=jason;b"] {
        assert_eq!(to(taken), "version=v2", "{taken}");
    }
    for left in ["", "user=jasonx", "xuser=jason", "a=b; user=jason", "User=jason"] {
        assert_eq!(to(left), "(all)", "{left}");
    }
}

#[test]
fn calls_of_reviews() {
    let from_reviews = Match {
        source: Some(SourceMatch {
            service: Some(ServiceName::new(REVIEWS)),
            labels: labels(""),
        }),
        ..Match::default()
    };
    let snapshot = snapshot(vec![rule("ratings", RATINGS, from_reviews, "v1")]);
    let class = |name| snapshot.class_of(snapshot.workload(name));
    let to = |class| version(&snapshot, RATINGS, class, &HeaderMap::new());
    assert_eq!(to(class("default/reviews-v1")), "version=v1");
    assert_eq!(to(class("default/reviews-v2")), "version=v1");
    assert_eq!(to(class("default/other-v2")), "(all)");
    assert_eq!(to(class("default/nobody")), "(all)");
}

#[test]
fn calls_of_reviews_v2_with_the_cookie_of_jason() {
    let both = Match {
        source: reviews_v2(),
        headers: vec![jason()],
        ..Match::default()
    };
    let tags_only = Match {
        source: reviews_v2(),
        ..Match::default()
    };
    let cookie = header(COOKIE, "user=jason");
    for (m, needs_cookie) in [(both, true), (tags_only, false)] {
        let snapshot = snapshot(vec![rule("ratings", RATINGS, m, "v1")]);
        let class = |name| snapshot.class_of(snapshot.workload(name));
        let to = |class, headers: &HeaderMap| version(&snapshot, RATINGS, class, headers);
        let v2 = class("default/reviews-v2");
        assert_eq!(to(v2, &cookie), "version=v1");
        let without = if needs_cookie { "(all)" } else { "version=v1" };
        assert_eq!(to(v2, &HeaderMap::new()), without);
        for other in ["default/reviews-v1", "default/other-v2", "default/nobody"] {
            assert_eq!(to(class(other), &cookie), "(all)", "{other}");
        }
    }
}

#[test]
fn a_quarter_to_v2_and_the_rest_to_v1() {
    let target = |tags, weight| Target {
        service: ServiceName::new(REVIEWS),
        labels: labels(tags),
        weight,
    };
    let split = Rule {
        targets: vec![target("version=v2", 25), target("version=v1", 75)],
        ..rule("split", REVIEWS, Match::default(), "v1")
    };
    let snapshot = snapshot(vec![split]);
    let port = snapshot.port_of(&ServiceName::new(REVIEWS), 9080).unwrap();
    let route = snapshot.route_http(port, STRANGER, &get("/", &HeaderMap::new()));
    let to_v2 = |cursor| route.pick(cursor).unwrap().labels().get("version") == Some("v2");
    assert_eq!((0..100_000).filter(|&n| to_v2(n)).count(), 25_000);
    for start in 0..8 {
        assert_eq!((start..start + 4).filter(|&n| to_v2(n)).count(), 1);
    }
}

#[test]
fn timeout_retries_and_faults_come_with_the_route() {
    let retries = Retries {
        attempts: 3,
        per_try_timeout: None,
    };
    let fault = Fault {
        delay: Some(Delay {
            fraction: Fraction::ALL,
            time: DelayTime::Fixed(Duration::from_secs(5)),
        }),
        abort: Some(Abort {
            fraction: Fraction::from_percent(10.0).unwrap(),
            with: AbortWith::HttpStatus(400),
        }),
    };
    let rule = Rule {
        timeout: Some(Duration::from_secs(10)),
        retries: Some(retries),
        fault,
        ..rule("ratings", RATINGS, Match::default(), "v1")
    };
    let snapshot = snapshot(vec![rule]);
    let port = snapshot.port_of(&ServiceName::new(RATINGS), 9080).unwrap();
    let route = snapshot.route_http(port, STRANGER, &get("/", &HeaderMap::new()));
    assert_eq!(route.timeout(&HeaderMap::new()), Duration::from_secs(10));
    let rule = route.rule().unwrap();
    assert_eq!(rule.retries(&HeaderMap::new()), Some(retries));
    assert_eq!(rule.fault(&HeaderMap::new()), fault);
}
