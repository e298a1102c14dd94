//! Explanations of a small configuration, with and without a kernel.

use std::{io, net::SocketAddr, num::NonZeroU64, sync::Arc, time::Duration};

use router_common::reason::Reason;
use router_rules::{
    action::{Fraction, Mirror, Target},
    connection::Transport,
    cors::Cors,
    id::{Origin, ServiceName},
    l4_fault::{L4Fault, Shape, Start, Terminate, Throttle},
    labels::Labels,
    model::{self, Model, Protocol},
    policy::{LoadBalancing, Policy},
    source::{SourceMatch, Workload},
    text::TextMatch,
};

use super::*;
use crate::observe::{EndpointUse, HeldSubset, Hook, LimitUse, MapContents, ServiceUse};

fn labels(version: &str) -> Labels {
    [("version", version)].into_iter().collect()
}

fn origin(object: &str, line: u32) -> Origin {
    Origin {
        object: object.into(),
        file: "rules.yaml".into(),
        line,
    }
}

fn service(
    name: &str,
    address: &str,
    port: u16,
    protocol: Protocol,
    pods: &[(&str, &str)],
) -> model::Service {
    let endpoint = |(address, version): &(&str, &str)| model::Endpoint {
        address: address.parse().unwrap(),
        labels: Arc::new(labels(version)),
        workload: Some(format!("default/{name}-{version}").into()),
    };
    model::Service {
        name: ServiceName::new(&format!("{name}.default.svc.cluster.local")),
        addresses: vec![address.parse().unwrap()],
        ports: vec![model::Port {
            number: port,
            name: None,
            protocol,
            endpoints: pods.iter().map(endpoint).collect(),
        }],
    }
}

fn rule(name: &str, destination: &str, precedence: i32, targets: &[(&str, u32)]) -> model::Rule {
    let destination = ServiceName::new(&format!("{destination}.default.svc.cluster.local"));
    let target = |&(version, weight): &(&str, u32)| Target {
        service: destination.clone(),
        labels: labels(version),
        weight,
    };
    model::Rule {
        precedence,
        targets: targets.iter().map(target).collect(),
        ..model::Rule::new(
            origin(&format!("route-rule {name}"), precedence.unsigned_abs()),
            destination.clone(),
        )
    }
}

fn snapshot() -> Snapshot {
    let reviews = [("10.1.0.1:9080", "v1"), ("10.1.0.2:9080", "v2")];
    let mongodb = [("10.1.0.3:27017", "v1"), ("10.1.0.4:27017", "v2")];
    let foo = model::Match {
        source: Some(SourceMatch {
            service: Some(ServiceName::new("productpage.default.svc.cluster.local")),
            labels: Labels::default(),
        }),
        headers: vec![("foo".parse().unwrap(), TextMatch::Exact("bar".into()))],
        ..model::Match::default()
    };
    let mongodb_name = ServiceName::new("mongodb.default.svc.cluster.local");
    Snapshot::build(
        Model {
            services: vec![
                service("reviews", "10.0.0.1", 9080, Protocol::Http, &reviews),
                service("mongodb", "10.0.0.2", 27017, Protocol::Tcp, &mongodb),
            ],
            workloads: vec![Workload {
                addresses: Default::default(),
                name: "default/productpage-v1".into(),
                labels: labels("v1"),
                services: [ServiceName::new("productpage.default.svc.cluster.local")].into(),
            }],
            rules: vec![
                model::Rule {
                    any_of: vec![foo],
                    ..rule("reviews-foo", "reviews", 2, &[("v2", 100)])
                },
                rule("reviews-default", "reviews", 1, &[("v1", 25), ("v3", 75)]),
                rule("mongodb-split", "mongodb", 1, &[("v1", 90), ("v2", 10)]),
            ],
            policies: vec![Policy {
                labels: labels("v1"),
                load_balancing: LoadBalancing::LeastConn,
                max_connections: Some(100),
                ..Policy::new(origin("destination-policy mongodb-limit", 9), mongodb_name)
            }],
            ..Model::default()
        },
        7,
    )
}

fn ask(destination: &str, from: Option<&str>, headers: &[&str]) -> Result<Explanation, ExplainError> {
    let question = Question {
        from: from.map(str::to_owned),
        method: None,
        headers: headers.iter().map(|&h| h.to_owned()).collect(),
        destination: destination.to_owned(),
        ingress: false,
    };
    let seen = Seen {
        observed: Some(&Kernel),
        ejections: &Ejections::default(),
        breakers: None,
    };
    explain(&snapshot(), seen, &question)
}

/// A kernel that has seen some traffic to mongodb.
struct Kernel;

impl Observed for Kernel {
    fn hooks(&self) -> io::Result<Vec<Hook>> {
        Ok(Vec::new())
    }
    fn verdicts(&self) -> Vec<(Reason, u64)> {
        Vec::new()
    }
    fn service(&self, _port: &Port) -> Option<ServiceUse> {
        None
    }
    fn limit(&self, policy: &str) -> Option<LimitUse> {
        (policy == "destination-policy mongodb-limit").then_some(LimitUse {
            max: 100,
            active: 42,
            refused: 3,
        })
    }
    fn endpoint(&self, _address: SocketAddr) -> Option<EndpointUse> {
        Some(EndpointUse {
            active: 1,
            connects: 2,
        })
    }
    fn held(&self, _transport: Transport, frontend: SocketAddr, _caller: Option<&str>) -> Option<Held> {
        (frontend.port() == 27017).then(|| Held {
            routing: Routing::Weighted,
            cursor: 5,
            subsets: vec![HeldSubset {
                slots: 9,
                counted: true,
                balance: "LEAST_CONN",
                limit: None,
                endpoints: Vec::new(),
            }],
        })
    }
    fn maps(&self) -> io::Result<Vec<MapContents>> {
        Ok(Vec::new())
    }
}

#[test]
fn the_first_rule_that_matches_ends_the_search() {
    let answer = ask("http://reviews:9080/", Some("productpage-v1"), &["Foo: bar"]).unwrap();
    assert_eq!(answer.decision.rule.as_deref(), Some("route-rule reviews-foo"));
    assert_eq!(answer.routed_by, "proxy");
    let outcomes: Vec<_> = answer.rules.iter().map(|r| r.outcome).collect();
    assert_eq!(outcomes, [Outcome::Matched, Outcome::NotReached]);
    assert_eq!(
        answer.decision.targets[0].endpoints[0].address.to_string(),
        "10.1.0.2:9080"
    );
    assert_eq!(answer.decision.timeout_ms, Some(15_000));
}

#[test]
fn rules_that_do_not_match_say_why() {
    let answer = ask(
        "reviews.default:9080",
        Some("default/productpage-v1"),
        &["foo: baz"],
    )
    .unwrap();
    assert_eq!(answer.rules[0].outcome, Outcome::NotMatched);
    assert_eq!(
        answer.rules[0].reasons,
        ["header foo is \"baz\", not exact \"bar\""]
    );
    let unknown = ask("10.0.0.1:9080", None, &["foo: bar"]).unwrap();
    assert_eq!(
        unknown.rules[0].reasons,
        ["the caller is not productpage.default.svc.cluster.local"]
    );
    let targets = &unknown.decision.targets;
    assert_eq!(targets.iter().map(|t| t.share).collect::<Vec<_>>(), [25.0, 75.0]);
    assert_eq!(targets[1].refusal.as_deref(), Some("no-endpoints"));
}

#[test]
fn rules_show_their_conditions() {
    let answer = ask("http://reviews:9080/", None, &[]).unwrap();
    assert_eq!(
        answer.rules[0].conditions,
        ["header foo exact \"bar\", source productpage.default.svc.cluster.local"]
    );
    assert!(answer.rules[1].conditions.is_empty());
    let dump = crate::admin::dump::SnapshotDump::new(&snapshot(), &Ejections::default());
    let dumped = dump.ports.iter().flat_map(|port| &port.rules);
    let dumped: Vec<_> = dumped.map(|rule| rule.conditions.clone()).collect();
    assert_eq!(dumped, [answer.rules[0].conditions.clone(), vec![], vec![]]);
}

/// Reviews for pages of one origin, copied to v2.
fn shared() -> Snapshot {
    let reviews = [("10.1.0.1:9080", "v1"), ("10.1.0.2:9080", "v2")];
    Snapshot::build(
        Model {
            services: vec![service("reviews", "10.0.0.1", 9080, Protocol::Http, &reviews)],
            rules: vec![model::Rule {
                cors: Some(Cors {
                    origins: vec![TextMatch::Exact("https://shop.example".into())],
                    methods: Some("GET".parse().unwrap()),
                    max_age: Some(std::time::Duration::from_secs(60)),
                    credentials: true,
                    ..Cors::default()
                }),
                mirrors: vec![Mirror {
                    service: ServiceName::new("reviews.default.svc.cluster.local"),
                    labels: labels("v2"),
                    fraction: Fraction::from_percent(12.5).unwrap(),
                }],
                ..rule("shared", "reviews", 1, &[("v1", 100)])
            }],
            ..Model::default()
        },
        1,
    )
}

#[test]
fn preflights_go_nowhere_and_copies_are_shown() {
    let decide = |method: &str, origin: &str| {
        let question = Question {
            method: Some(method.to_owned()),
            headers: vec![
                format!("origin: {origin}"),
                "access-control-request-method: GET".into(),
            ],
            destination: "reviews:9080".into(),
            ..Question::default()
        };
        let seen = Seen {
            observed: None,
            ejections: &Ejections::default(),
            breakers: None,
        };
        explain(&shared(), seen, &question).unwrap().decision
    };
    let preflight = decide("OPTIONS", "https://shop.example");
    assert_eq!(
        preflight.actions,
        [
            "answer the preflight with 200",
            "access-control-allow-origin: https://shop.example",
            "access-control-allow-credentials: true",
            "access-control-allow-methods: GET",
            "access-control-max-age: 60",
        ]
    );
    assert!(preflight.targets.is_empty() && preflight.timeout_ms.is_none());
    let copy = "copy 12.5 % of requests to reviews.default.svc.cluster.local:9080 version=v2";
    let actual = decide("GET", "https://shop.example");
    assert_eq!(
        actual.actions,
        ["let pages of https://shop.example read the response", copy]
    );
    for method in ["GET", "OPTIONS"] {
        let other = decide(method, "https://evil.example");
        assert_eq!((other.actions, other.targets.len()), (vec![copy.to_owned()], 1));
    }
    let dump = crate::admin::dump::SnapshotDump::new(&shared(), &Ejections::default());
    let actions = &dump.ports[0].rules[0].actions;
    assert_eq!(
        actions["cors"],
        "origins exact \"https://shop.example\"; methods GET; for 60s; with credentials"
    );
    assert_eq!(actions["mirror"], copy.trim_start_matches("copy "));
}

#[test]
fn connections_show_the_limit_and_what_the_kernel_holds() {
    let answer = ask("tcp://mongodb:27017", None, &[]).unwrap();
    assert_eq!((answer.routed_by.as_str(), answer.asked.method), ("kernel", None));
    let target = &answer.decision.targets[0];
    let limit = target.policy.as_ref().unwrap().limit.unwrap();
    assert_eq!((limit.max, limit.active, limit.refused), (100, 42, 3));
    assert_eq!(target.load_balancing, "LEAST_CONN");
    let kernel = answer.kernel.unwrap();
    assert_eq!(
        (kernel.routing.as_str(), kernel.cursor, kernel.subsets[0].slots),
        ("weighted", 5, 9)
    );
}

#[test]
fn faults_of_connections_are_told_apart_from_those_of_requests() {
    let mut tcp = rule("all", "mongodb", 0, &[("v1", 1)]);
    tcp.l4_fault = L4Fault {
        throttle: Some(Throttle {
            fraction: Fraction::from_percent(12.5).unwrap(),
            shape: Shape {
                to_client: NonZeroU64::new(8000),
                to_endpoint: NonZeroU64::new(64_000),
                start: Start::AfterBytes(512),
                duration: Some(Duration::from_secs(10)),
            },
        }),
        terminate: None,
    };
    // A connection is decided by the rule that asks for nothing of its requests.
    let mut some = rule("some", "reviews", 2, &[("v1", 1)]);
    some.any_of = vec![model::Match {
        path: Some(TextMatch::Exact("/new".into())),
        ..model::Match::default()
    }];
    let mut rest = rule("rest", "reviews", 1, &[("v1", 1)]);
    rest.l4_fault.terminate = Some(Terminate {
        fraction: Fraction::ALL,
        after: Duration::ZERO,
    });
    let model = Model {
        services: vec![
            service("mongodb", "10.0.0.2", 27017, Protocol::Tcp, &[]),
            service("reviews", "10.0.0.1", 9080, Protocol::Http, &[]),
        ],
        rules: vec![tcp, some, rest],
        ..Model::default()
    };
    let snapshot = Snapshot::build(model, 1);
    let ask = |destination: &str| {
        let seen = Seen {
            observed: None,
            ejections: &Ejections::default(),
            breakers: None,
        };
        let question = Question {
            destination: destination.to_owned(),
            ..Question::default()
        };
        explain(&snapshot, seen, &question).unwrap()
    };
    let tcp = ask("tcp://mongodb:27017");
    assert_eq!(
        (tcp.routed_by.as_str(), tcp.decision.connection_faults),
        (
            "proxy",
            vec![
                "throttle of 12.5 % of connections: 8000 bit/s to the client, 64000 bit/s to the endpoint; \
                 after 512 bytes to the endpoint; for 10s"
                    .to_owned()
            ]
        )
    );
    let http = ask("http://reviews:9080/new");
    assert_eq!(http.decision.rule.as_deref(), Some("route-rule some"));
    assert_eq!(
        http.decision.connection_faults,
        ["reset of every connection at once"]
    );
    let dump = crate::admin::dump::SnapshotDump::new(&snapshot, &Ejections::default());
    let routed: Vec<_> = dump.ports.iter().map(|p| p.routed_by.as_str()).collect();
    assert_eq!(routed, ["by-rule", "proxy"]);
}

#[test]
fn questions_about_nothing_are_refused_with_a_hint() {
    let refused =
        |destination, from, headers: &[&str]| ask(destination, from, headers).unwrap_err().to_string();
    assert_eq!(
        refused("http://review:9080/", None, &[]),
        "no service is called review (did you mean reviews.default.svc.cluster.local?)"
    );
    assert!(refused("http://reviews:80/", None, &[]).contains("has no tcp port 80 (it has 9080/tcp)"));
    assert!(refused("10.9.9.9:80", None, &[]).contains("not-a-service"));
    assert!(refused("reviews", Some("nobody"), &[]).contains("there are default/productpage-v1"));
    assert!(refused("reviews", None, &["no colon"]).contains("no header field"));
}

#[test]
fn explanations_survive_json() {
    let answer = ask("tcp://mongodb:27017", Some("productpage-v1"), &[]).unwrap();
    let text = serde_json::to_string(&answer).unwrap();
    assert_eq!(serde_json::from_str::<Explanation>(&text).unwrap(), answer);
}
