//! What is said of two configurations.

use super::*;
use crate::{cli::text::Paint, compile::compile, config::Documents};

const SERVICES: &str = "
apiVersion: v1
kind: Service
metadata: {name: web}
spec:
  clusterIP: 10.0.0.1
  selector: {app: web}
  ports: [{name: http, port: 80}]
---
apiVersion: v1
kind: Service
metadata: {name: db}
spec:
  clusterIP: 10.0.0.2
  selector: {app: db}
  ports: [{name: tcp, port: 5432}]
";

fn model(rules: &str) -> Model {
    let mut documents = Documents::default();
    documents.add_text("services.yaml", SERVICES);
    documents.add_text("rules.yaml", rules);
    compile(&documents).unwrap().model
}

fn rule(name: &str, spec: &str) -> String {
    format!("---\ntype: route-rule\nname: {name}\nspec: {{destination: web, {spec}}}\n")
}

fn effect(before: &str, after: &str) -> Effect {
    between(model(before), model(after))
}

#[test]
fn what_stays_is_not_shown() {
    let rules = rule("a", "route: [{tags: {version: v1}}]");
    let moved = format!("# elsewhere\n\n{rules}");
    assert_eq!(effect(&rules, &moved).ports, []);
    assert_eq!(
        effect(&rules, &moved).render(Paint::plain()),
        "no route differs\n"
    );
}

#[test]
fn weights_policies_and_actions_have_arrows() {
    let weights =
        |v1, v2| format!("route: [{{tags: {{v: a}}, weight: {v1}}}, {{tags: {{v: b}}, weight: {v2}}}]");
    let keep = rule("keep", "precedence: 9, match: {httpHeaders: {a: {exact: b}}}");
    let before = keep.clone() + &rule("split", &weights(75, 25));
    let after = keep
        + &rule(
            "split",
            &format!(
                "{}, httpReqTimeout: {{simpleTimeout: {{timeout: 5s}}}}",
                weights(1, 2)
            ),
        )
        + "---\ntype: destination-policy\nname: p\nspec: {destination: web, tags: {v: a}, loadBalancing: RANDOM,\n  \
           circuitBreaker: {simpleCb: {maxConnections: 1}}}\n";
    let text = effect(&before, &after).render(Paint::plain());
    assert_eq!(
        text,
        "\
web.default.svc.cluster.local:80  routed by: proxy
    route-rule keep
  ~ route-rule split
        timeout     15s → 5s
      ~ v=a  75 % → 33.33 %  ROUND_ROBIN → RANDOM  - → at most 1 connection  0 endpoints
      ~ v=b  25 % → 66.67 %  ROUND_ROBIN  0 endpoints
"
    );
}

#[test]
fn rules_come_go_and_match_otherwise() {
    let matching = |value| format!("match: {{httpHeaders: {{a: {{exact: {value}}}}}}}");
    let before = rule("other", &matching("b")) + &rule("old", "precedence: 2, route: [{tags: {v: a}}]");
    let after =
        rule("new", "precedence: 3, httpFault: {abort: {httpStatus: 500}}") + &rule("other", &matching("c"));
    let text = effect(&before, &after).render(Paint::plain());
    assert_eq!(
        text,
        "\
web.default.svc.cluster.local:80  routed by: proxy
  + route-rule new
        precedence  3
        timeout     15s
        faults      abort with status 500 for every request
        every instance  100 %  ROUND_ROBIN  0 endpoints
  ~ route-rule other
        match       header a exact \"b\" → header a exact \"c\"
        every instance  100 %  ROUND_ROBIN  0 endpoints
  - route-rule old
        precedence  2
        timeout     15s
        v=a  100 %  ROUND_ROBIN  0 endpoints
"
    );
}

#[test]
fn the_first_rule_moves_a_port_to_the_proxy_and_takes_everything() {
    let db = "---\ntype: destination-policy\nname: p\nspec: {destination: db, loadBalancing: RANDOM}\n";
    let text = effect("", &(rule("first", "precedence: 1") + db)).render(Paint::plain());
    assert_eq!(
        text,
        "\
db.default.svc.cluster.local:5432  routed by: kernel
  ~ otherwise every instance  ROUND_ROBIN → RANDOM  0 endpoints

web.default.svc.cluster.local:80  routed by: kernel → proxy
  + route-rule first
        precedence  1
        timeout     15s
        every instance  100 %  ROUND_ROBIN  0 endpoints
  - otherwise every instance  ROUND_ROBIN  0 endpoints
"
    );
    let json = serde_json::to_value(effect("", &rule("first", ""))).unwrap();
    let port = &json["ports"][0];
    assert_eq!(
        port["routed_by"],
        serde_json::json!({"before": "kernel", "after": "proxy"})
    );
    assert_eq!(port["rules"][0]["fate"], "added");
    assert_eq!(port["rules"][0]["targets"][0]["attributes"][0]["after"], "100 %");
}

#[test]
fn copies_and_allowed_origins_are_part_of_what_differs() {
    let mirror = "mirror: {name: web, labels: {v: b}}";
    let cors = "corsPolicy: {allowOrigin: ['https://a.example'], allowCredentials: true}";
    let before = rule("a", mirror);
    let after = rule("a", cors);
    let text = effect(&before, &after).render(Paint::plain());
    assert_eq!(
        text,
        "\
web.default.svc.cluster.local:80  routed by: proxy
  ~ route-rule a
        cors        - → origins exact \"https://a.example\"; with credentials
        mirror      every request to web.default.svc.cluster.local:80 v=b, where there is no endpoint → -
        every instance  100 %  ROUND_ROBIN  0 endpoints
"
    );
}

#[test]
fn ejection_is_part_of_what_differs() {
    let policy = |percent: u32| {
        format!(
            "---\ntype: destination-policy\nname: p\nspec: {{destination: web,\n  \
             circuitBreaker: {{simpleCb: {{httpMaxEjectionPercent: {percent}}}}}}}\n"
        )
    };
    let text = effect(&policy(10), &policy(50)).render(Paint::plain());
    let arrow = "up to 10 % after 5 errors in a row, for 30s or more → up to 50 % after";
    assert!(text.contains(arrow), "{text}");
    // Nobody else sees statuses.
    let text = effect("", &policy(10)).render(Paint::plain());
    assert!(text.contains("kernel → proxy"), "{text}");
}
