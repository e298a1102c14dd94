//! Requests from outside, explained.

use crate::{
    admin::{
        dump::{Explanation, Outcome, SnapshotDump},
        ejections::Ejections,
        explain::{ExplainError, Question, Seen, explain},
    },
    compile::compile,
    config::Documents,
};
use router_rules::Snapshot;

const CONFIGURATION: &str = "\
apiVersion: v1
kind: Service
metadata: {name: shop}
spec:
  clusterIP: 10.0.0.1
  ports: [{name: http, port: 80}]
---
type: ingress-rule
name: office
spec:
  port: 8080
  precedence: 1
  match:
    tcp: {sourceSubnet: [192.0.2.0/24]}
  destination: {name: shop}
---
type: ingress-rule
name: public
spec:
  port: 8080
  match:
    request: {headers: {authority: {exact: shop.test}}}
  destination: {name: shop}
---
type: ingress-rule
name: gone
spec:
  port: 8080
  match:
    request: {headers: {authority: {exact: gone.test}}}
  destination: {name: gone}
---
type: route-rule
name: from-inside
spec:
  destination: shop
  precedence: 1
  match: {source: shop}
---
type: route-rule
name: everybody
spec:
  destination: shop
";

fn snapshot() -> Snapshot {
    let mut documents = Documents::default();
    documents.add_text("all.yaml", CONFIGURATION);
    Snapshot::build(compile(&documents).unwrap().model, 1)
}

fn ask(destination: &str, from: Option<&str>) -> Result<Explanation, ExplainError> {
    let question = Question {
        destination: destination.to_owned(),
        from: from.map(str::to_owned),
        ingress: true,
        ..Question::default()
    };
    let seen = Seen {
        observed: None,
        ejections: &Ejections::default(),
        breakers: None,
    };
    explain(&snapshot(), seen, &question)
}

#[test]
fn both_steps_of_the_decision_are_explained() {
    let answer = ask("http://shop.test:8080/cart", None).unwrap();
    let ingress = answer.ingress.unwrap();
    assert_eq!(ingress.rule.as_deref(), Some("ingress-rule public"));
    let outcomes: Vec<_> = ingress.rules.iter().map(|step| step.outcome).collect();
    assert_eq!(
        outcomes,
        [Outcome::NotMatched, Outcome::NotMatched, Outcome::Matched]
    );
    assert_eq!(answer.service, "shop.default.svc.cluster.local");
    assert_eq!(answer.decision.rule.as_deref(), Some("route-rule everybody"));
    let outcomes: Vec<_> = answer.rules.iter().map(|step| step.outcome).collect();
    assert_eq!(outcomes, [Outcome::NotMatched, Outcome::Matched]);
    assert_eq!(answer.decision.targets.len(), 1);
    // The client's address decides where it is known.
    let from_office = ask("http://shop.test:8080/", Some("192.0.2.7")).unwrap();
    let rule = from_office.ingress.unwrap().rule;
    assert_eq!(rule.as_deref(), Some("ingress-rule office"));
}

#[test]
fn refusals_at_the_port_have_their_reason() {
    for (destination, rule, reason) in [
        ("http://other.test:8080/", None, "no-route"),
        ("http://gone.test:8080/", Some("ingress-rule gone"), "no-service"),
    ] {
        let answer = ask(destination, None).unwrap();
        assert_eq!(answer.ingress.unwrap().rule.as_deref(), rule);
        assert_eq!(answer.decision.refusal.as_deref(), Some(reason));
        assert!(answer.decision.targets.is_empty() && answer.rules.is_empty());
    }
    let error = ask("http://shop.test/", None).unwrap_err().to_string();
    let expected = "no ingress rule is for port 80 of the node (there are rules for 8080)";
    assert_eq!(error, expected);
    assert_eq!(ask("tcp://shop.test:8080", None), Err(ExplainError::NotHttp));
}

#[test]
fn the_dump_has_the_rules_in_their_order() {
    let dump = SnapshotDump::new(&snapshot(), &Ejections::default());
    let [gateway] = &dump.gateways[..] else {
        panic!("{dump:?}");
    };
    assert_eq!((gateway.port, &*gateway.scheme), (8080, "http"));
    let rules: Vec<_> = gateway.rules.iter().map(|rule| &*rule.rule).collect();
    assert_eq!(
        rules,
        ["ingress-rule office", "ingress-rule gone", "ingress-rule public"]
    );
    assert_eq!(gateway.rules[0].conditions, ["from 192.0.2.0/24"]);
}
