//! What people read, letter by letter.

use super::*;
use crate::admin::dump::{Asked, Decision, KernelSubset, PolicyDump};

fn endpoint(address: &str, workload: Option<&str>, active: Option<u64>) -> EndpointDump {
    EndpointDump {
        address: address.parse().unwrap(),
        workload: workload.map(str::to_owned),
        active,
        connects: active.map(|a| a + 10),
        ejected_until: None,
    }
}

fn target(labels: &str, share: f64, endpoints: Vec<EndpointDump>) -> TargetOutcome {
    TargetOutcome {
        service: "mongodb.default.svc.cluster.local".into(),
        port: 27017,
        labels: labels.into(),
        weight: share as u32,
        share,
        load_balancing: "ROUND_ROBIN".into(),
        policy: None,
        refusal: endpoints.is_empty().then(|| "no-endpoints".to_owned()),
        endpoints,
    }
}

fn step(rule: &str, precedence: i32, outcome: Outcome, reasons: &[&str]) -> Step {
    Step {
        rule: rule.into(),
        file: "rules.yaml".into(),
        line: 1,
        precedence,
        conditions: match outcome {
            Outcome::NotMatched => vec!["source tester{version=v2}".into()],
            Outcome::Matched | Outcome::NotReached => Vec::new(),
        },
        outcome,
        reasons: reasons.iter().map(|&r| r.to_owned()).collect(),
    }
}

fn answer() -> Explanation {
    let limit = LimitDump {
        max: 100,
        active: 42,
        refused: 3,
    };
    let policy = PolicyDump {
        policy: "destination-policy mongodb".into(),
        file: "policy.yaml".into(),
        line: 4,
        service: "mongodb.default.svc.cluster.local".into(),
        labels: "version=v1".into(),
        load_balancing: "ROUND_ROBIN".into(),
        max_connections: Some(100),
        source: None,
        outlier_detection: None,
        requests: Default::default(),
        limit: Some(limit),
    };
    let no_tester = ["the caller is not tester"];
    let v1 = vec![endpoint("10.1.0.3:27017", Some("default/mongodb-v1"), Some(42))];
    Explanation {
        generation: 7,
        asked: Asked {
            from: Some("default/productpage-v1".into()),
            class: 1,
            method: None,
            destination: "tcp://mongodb:27017".into(),
            headers: Vec::new(),
        },
        service: "mongodb.default.svc.cluster.local".into(),
        port: 27017,
        protocol: "tcp".into(),
        frontends: vec!["10.0.0.2:27017".parse().unwrap()],
        routed_by: "kernel".into(),
        rules: vec![
            step("route-rule mongodb-tester", 2, Outcome::NotMatched, &no_tester),
            step("route-rule mongodb-split", 1, Outcome::Matched, &[]),
            step("route-rule mongodb-old", 0, Outcome::NotReached, &[]),
        ],
        decision: Decision {
            rule: Some("route-rule mongodb-split".into()),
            refusal: None,
            actions: Vec::new(),
            timeout_ms: None,
            retries: None,
            faults: Vec::new(),
            connection_faults: Vec::new(),
            targets: vec![
                TargetOutcome {
                    policy: Some(policy),
                    ..target("version=v1", 90.0, v1)
                },
                target("version=v2", 10.0, Vec::new()),
            ],
        },
        kernel: Some(KernelSide {
            routing: "weighted".into(),
            refusal: None,
            cursor: 23,
            subsets: vec![KernelSubset {
                slots: 10,
                balance: "ROUND_ROBIN".into(),
                limit: Some(limit),
                endpoints: vec![endpoint("10.1.0.3:27017", None, Some(42))],
            }],
        }),
        ingress: None,
    }
}

#[test]
fn a_connection_reads_well() {
    let expected = "\
tcp://mongodb:27017  from default/productpage-v1
mongodb.default.svc.cluster.local:27017 (tcp) at 10.0.0.2:27017, routed by the kernel, generation 7

PRECEDENCE  RULE                       OUTCOME                                WRITTEN AT
2           route-rule mongodb-tester  not matched: the caller is not tester  rules.yaml:1
            when source tester{version=v2}
1           route-rule mongodb-split   matched                                rules.yaml:1
0           route-rule mongodb-old     not reached                            rules.yaml:1

→ route-rule mongodb-split
   90.00 %  mongodb.default.svc.cluster.local:27017  version=v1  ROUND_ROBIN
            destination-policy mongodb (policy.yaml:4), 42 of 100 connections open, 3 refused so far
            10.1.0.3:27017  default/mongodb-v1  42 open, 52 so far
   10.00 %  mongodb.default.svc.cluster.local:27017  version=v2  ROUND_ROBIN
            refused: no-endpoints

the kernel holds: weighted
  10 slots, next is slot 3
      10 slots  ROUND_ROBIN, 42 of 100 connections open, 3 refused so far
            10.1.0.3:27017  42 open, 52 so far
";
    assert_eq!(render(&answer(), Paint::plain()), expected);
}

#[test]
fn a_request_shows_its_actions() {
    let mut answer = answer();
    answer.asked.method = Some("GET".into());
    answer.asked.headers = vec![("foo".into(), "bar".into())];
    answer.asked.from = None;
    answer.rules.clear();
    answer.kernel = None;
    answer.decision = Decision {
        rule: None,
        refusal: Some("no-weight".into()),
        actions: Vec::new(),
        timeout_ms: Some(1500),
        retries: Some("3 after the first attempt".into()),
        faults: vec!["delay of 5s for every request".into()],
        connection_faults: vec!["reset of every connection after 3s".into()],
        targets: Vec::new(),
    };
    let expected = "\
GET tcp://mongodb:27017  from an unknown caller
  foo: bar
mongodb.default.svc.cluster.local:27017 (tcp) at 10.0.0.2:27017, routed by the kernel, generation 7

no rules: every instance takes its turn

→ no rule matched: every instance takes its turn
  refused: no-weight
  timeout 1.5s
  retries 3 after the first attempt
  delay of 5s for every request
  reset of every connection after 3s
";
    assert_eq!(render(&answer, Paint::plain()), expected);
}

#[test]
fn ejections_are_marked() {
    let out = EndpointDump {
        ejected_until: Some("2026-01-02T03:04:35Z".into()),
        ..endpoint("10.1.0.3:80", Some("default/a"), None)
    };
    let text = endpoints(&[endpoint("10.1.0.20:80", Some("default/b"), None), out]);
    let lines: Vec<_> = text.lines().map(str::trim_start).collect();
    let expected = [
        "10.1.0.20:80  default/b",
        "10.1.0.3:80   default/a  ejected until 2026-01-02T03:04:35Z",
    ];
    assert_eq!(lines, expected);
    let settings = OutlierDump {
        consecutive_errors: 5,
        interval_ms: 10_000,
        base_ejection_ms: 30_000,
        max_ejection_percent: 10,
    };
    assert_eq!(ejection(settings), ", ejects up to 10 % after 5 errors in a row");
}
