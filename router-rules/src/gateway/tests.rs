//! Which rule lets a request in, and which certificate is shown.

use http::{HeaderMap, Method};

use super::*;
use crate::{
    explain::{self, Outcome},
    model::{Model, Port, Protocol, Rule, Service},
    source::SourceMatch,
    text::TextMatch,
};

fn origin(object: &str) -> Origin {
    Origin {
        object: object.into(),
        file: "rules.yaml".into(),
        line: 1,
    }
}

fn service(name: &str) -> Service {
    Service {
        name: ServiceName::new(name),
        addresses: Vec::new(),
        ports: vec![Port {
            number: 80,
            name: None,
            protocol: Protocol::Http,
            endpoints: Vec::new(),
        }],
    }
}

fn credential(secret: &str, names: &[&str]) -> Arc<Credential> {
    Arc::new(Credential {
        secret: secret.into(),
        names: names.iter().map(|&name| name.to_owned()).collect(),
        validity: Validity { from: 0, until: 1 },
        chain: Vec::new(),
        key: Key::new(b"hush".to_vec()),
    })
}

fn entry(name: &str, precedence: i32, any_of: Vec<Match>, service: &str) -> GatewayRule {
    GatewayRule {
        origin: origin(name),
        precedence,
        any_of,
        service: ServiceName::new(service),
        service_port: 80,
        credential: None,
    }
}

fn path(prefix: &str) -> Match {
    Match {
        path: Some(TextMatch::Prefix(prefix.to_owned())),
        ..Match::default()
    }
}

fn host(exact: &str) -> Match {
    Match {
        authority: Some(TextMatch::Exact(exact.to_owned())),
        ..Match::default()
    }
}

fn snapshot(rules: Vec<GatewayRule>) -> Snapshot {
    let model = Model {
        services: vec![service("shop"), service("blog")],
        rules: vec![
            Rule {
                precedence: 1,
                any_of: vec![Match {
                    source: Some(SourceMatch {
                        service: Some(ServiceName::new("blog")),
                        ..SourceMatch::default()
                    }),
                    ..Match::default()
                }],
                ..Rule::new(origin("from-blog"), ServiceName::new("shop"))
            },
            Rule::new(origin("everybody"), ServiceName::new("shop")),
        ],
        gateways: vec![Gateway { port: 8080, rules }],
        ..Model::default()
    };
    Snapshot::build(model, 1)
}

const NOBODY: Connection = Connection {
    class: ClassId::UNKNOWN,
    client: None,
    dialled: None,
};

fn ask<'a>(headers: &'a HeaderMap, authority: &'a str, path: &'a str) -> Request<'a> {
    Request {
        method: &Method::GET,
        path,
        scheme: "http",
        authority,
        headers,
    }
}

/// The rule that lets in, the service and its own rule; or what is wrong.
fn enter(snapshot: &Snapshot, authority: &str, path: &str) -> (String, String) {
    let headers = HeaderMap::new();
    let request = ask(&headers, authority, path);
    let entrance = snapshot.gateway(8080).unwrap();
    let entered = snapshot.enter(entrance, NOBODY, &request);
    let steps = explain::entrance_steps(snapshot, entrance, NOBODY, &request);
    let matched = steps.iter().find(|(_, outcome)| *outcome == Outcome::Matched);
    let explained = matched.map(|(rule, _)| rule.origin().object.to_string());
    let (rule, went) = match entered {
        Ok(Entered { rule, route }) => {
            let own = route.rule().map_or("-", |rule| &*rule.origin().object);
            (Some(rule), format!("{} {own}", route.port().service()))
        }
        Err(Astray::NoRule) => (None, "no rule".to_owned()),
        Err(Astray::NoService(rule)) => (Some(rule), "no service".to_owned()),
    };
    let rule = rule.map(|rule| rule.origin().object.to_string());
    assert_eq!(rule, explained, "explain says what happens");
    (rule.unwrap_or_default(), went)
}

#[test]
fn the_first_rule_that_matches_names_the_service_whose_rules_decide() {
    let snapshot = snapshot(vec![
        entry("c", 0, Vec::new(), "blog"),
        entry("b", 0, vec![host("shop.test")], "shop"),
        entry("a", 5, vec![path("/gone")], "gone"),
    ]);
    let said = |rule: &str, went: &str| (rule.to_owned(), went.to_owned());
    assert_eq!(enter(&snapshot, "shop.test", "/"), said("b", "shop everybody"));
    // The gateway's own port beside the host is no part of it; another is.
    assert_eq!(
        enter(&snapshot, "shop.test:8080", "/"),
        said("b", "shop everybody")
    );
    assert_eq!(enter(&snapshot, "shop.test:80", "/"), said("c", "blog -"));
    assert_eq!(enter(&snapshot, "shop.test", "/gone/1"), said("a", "no service"));
    assert!(snapshot.gateway(80).is_none());
}

#[test]
fn without_a_rule_that_matches_nothing_does() {
    let snapshot = snapshot(vec![entry("b", 0, vec![host("shop.test")], "shop")]);
    assert_eq!(enter(&snapshot, "other.test", "/").1, "no rule");
    assert_eq!(enter(&snapshot, "[::1]", "/").1, "no rule");
}

#[test]
fn among_many_rules_the_index_finds_the_one_that_a_walk_finds() {
    let rules = (0..200).map(|n| entry(&format!("r{n:03}"), 0, vec![host(&format!("h{n}.test"))], "shop"));
    let snapshot = snapshot(rules.collect());
    for n in [0, 7, 199] {
        assert_eq!(enter(&snapshot, &format!("h{n}.test"), "/").0, format!("r{n:03}"));
    }
    assert_eq!(enter(&snapshot, "h200.test", "/").1, "no rule");
}

#[test]
fn the_scheme_is_what_the_port_speaks_whatever_the_client_says() {
    let secure = |precedence, scheme: &str| GatewayRule {
        credential: Some(credential("default/a", &[])),
        ..entry(
            scheme,
            precedence,
            vec![Match {
                scheme: Some(TextMatch::Exact(scheme.to_owned())),
                ..Match::default()
            }],
            "shop",
        )
    };
    let tls = snapshot(vec![secure(1, "http"), secure(0, "https")]);
    assert_eq!(enter(&tls, "shop.test", "/").0, "https");
    assert!(tls.gateway(8080).unwrap().is_secure());
}

#[test]
fn certificates_are_chosen_by_name() {
    let all = [
        credential("first", &["shop.test"]),
        credential("wild", &["*.test", "*.shop.test"]),
        credential("exact", &["Blog.test"]),
    ];
    let chosen = |host| &*all[choose(&all, host).unwrap()].secret;
    assert_eq!(chosen(Some("shop.test")), "first");
    assert_eq!(chosen(Some("SHOP.test.")), "first");
    assert_eq!(chosen(Some("blog.test")), "exact");
    assert_eq!(chosen(Some("news.test")), "wild");
    assert_eq!(chosen(Some("a.shop.test")), "wild");
    // A wildcard stands for one label.
    assert_eq!(chosen(Some("a.b.shop.test")), "first");
    assert_eq!(chosen(Some("test")), "first");
    assert_eq!(chosen(Some(".test")), "first");
    assert_eq!(chosen(None), "first");
    assert_eq!(choose(&[], None), None);
    assert!(all[1].is_for("x.test") && !all[1].is_for("x.y.test"));
}

#[test]
fn each_secret_of_a_port_is_there_once_in_the_order_of_the_rules() {
    let rule = |name: &str, precedence, secret: &str| GatewayRule {
        credential: Some(credential(secret, &[])),
        ..entry(name, precedence, Vec::new(), "shop")
    };
    let snapshot = snapshot(vec![rule("a", 0, "x"), rule("b", 2, "y"), rule("c", 1, "x")]);
    let entrance = snapshot.gateway(8080).unwrap();
    let secrets: Vec<_> = entrance.credentials().iter().map(|c| &*c.secret).collect();
    assert_eq!(secrets, ["y", "x"]);
}

#[test]
fn keys_are_not_shown() {
    let snapshot = snapshot(vec![GatewayRule {
        credential: Some(credential("x", &[])),
        ..entry("a", 0, Vec::new(), "shop")
    }]);
    let shown = format!("{snapshot:?}");
    assert!(shown.contains("Key(…)"));
    for form in ["hush", "104, 117, 115, 104"] {
        assert!(!shown.contains(form), "{form}");
    }
}
