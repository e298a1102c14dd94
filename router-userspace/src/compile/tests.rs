//! Compiling whole configurations.

use proptest::prelude::*;

use super::*;

const RULES: &str = include_str!("../../../examples/bookinfo/rules.yaml");
const SERVICES: &str = include_str!("../../../examples/bookinfo/services.yaml");

fn documents(text: &str) -> Documents {
    let mut documents = Documents::default();
    documents.add_text("f.yaml", text);
    documents
}

fn codes_of(text: &str) -> Vec<String> {
    let findings = match compile(&documents(text)) {
        Ok(compiled) => compiled.findings,
        Err(findings) => findings,
    };
    findings
        .iter()
        .map(|f| format!("{} {}", f.place.line, f.code))
        .collect()
}

#[test]
fn the_demo_compiles_without_a_finding() {
    let dir = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/bookinfo");
    let documents = crate::config::load(&dir).unwrap();
    let compiled = compile(&documents).unwrap();
    assert_eq!(compiled.findings, []);
    assert_eq!(compiled.model.services.len(), 4);
    assert_eq!(compiled.model.workloads.len(), 7);
    assert_eq!(compiled.model.rules.len(), 6);
    assert_eq!(compiled.model.policies.len(), 2);
    let reviews = &compiled.model.services[3];
    assert_eq!(reviews.ports[0].endpoints.len(), 3);
    assert_eq!(
        compiled.identities[0].uid.as_deref(),
        Some("66666666-6666-6666-6666-666666666666")
    );
}

#[test]
fn an_instance_with_both_families_is_one_endpoint_that_both_can_reach() {
    let slice = |family: &str, pods: &[(&str, &str)]| {
        let mut text = format!(
            "---\napiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata:\n  name: both-{}\n  \
             labels: {{kubernetes.io/service-name: both}}\naddressType: {family}\nports: [{{port: 7000}}]\n\
             endpoints:\n",
            family.to_lowercase()
        );
        for (pod, address) in pods {
            text += &format!("- addresses: [\"{address}\"]\n  targetRef: {{kind: Pod, name: {pod}}}\n");
        }
        text
    };
    let pod = |name| format!("---\napiVersion: v1\nkind: Pod\nmetadata: {{name: {name}}}\n");
    let service = "apiVersion: v1\nkind: Service\nmetadata: {name: both}\nspec:\n  \
                   clusterIPs: [10.96.0.50, \"fd77:96::50\"]\n  ports: [{port: 7000}]\n";
    let text = service.to_owned()
        + &pod("a")
        + &pod("b")
        + &slice("IPv6", &[("a", "fd77::1"), ("b", "fd77::2")])
        + &slice("IPv4", &[("a", "10.77.0.1")]);
    let compiled = compile(&documents(&text)).unwrap();
    let endpoints = &compiled.model.services[0].ports[0].endpoints;
    let addresses: Vec<_> = endpoints.iter().map(|e| e.address.to_string()).collect();
    assert_eq!(addresses, ["10.77.0.1:7000", "[fd77::2]:7000"]);
}

#[test]
fn every_fault_of_a_document_is_reported_with_its_line() {
    let text = "destination: a\nprecedance: 1\nroute:\n- tags: {version: 1}\n  wieght: 3\nl4Fault:\n  terminates: {}\n";
    assert_eq!(
        codes_of(text),
        [
            "2 unknown-field",
            "4 wrong-type",
            "5 unknown-field",
            "7 unknown-field"
        ]
    );
}

#[test]
fn the_order_of_objects_does_not_matter() {
    let compiled = |text: &str| compile(&documents(text)).unwrap();
    let forward = compiled(SERVICES);
    let reversed: Vec<_> = SERVICES.split("---\n").collect();
    let reversed = compiled(&reversed.into_iter().rev().collect::<Vec<_>>().join("---\n"));
    assert_eq!(format!("{:?}", forward.model), format!("{:?}", reversed.model));
    assert_eq!(forward.identities, reversed.identities);
}

#[test]
fn an_error_in_the_text_silences_warnings_about_what_may_be_missing() {
    let rule = "destination: shop\n";
    assert_eq!(codes_of(rule), ["1 no-services"]);
    assert_eq!(codes_of(&format!("{rule}---\nfoo: bar\n")), ["3 unknown-kind"]);
}

#[test]
fn names_of_bare_rules_that_meet_say_where_they_come_from() {
    let mut documents = documents("destination: a\n");
    documents.add_text("f.yml", "destination: b\n");
    let findings = compile(&documents).unwrap_err();
    let duplicate = findings.iter().find(|f| f.code == "duplicate-name").unwrap();
    assert!(duplicate.hint.contains("rename the file"), "{}", duplicate.hint);
}

/// Pieces of the language and of YAML that are thrown into good text.
const PIECES: &[&str] = &[
    "\n",
    " ",
    "  ",
    "- ",
    "---\n",
    "...\n",
    ":",
    "{",
    "}",
    "[",
    "]",
    "&a ",
    "*a",
    "!t ",
    "\"",
    "'",
    "|\n",
    "#",
    "0",
    "-1",
    "1e400",
    ".nan",
    "null",
    "~",
    "true",
    "\t",
    "\u{0}",
    "\u{feff}",
    "é",
    "destination: ",
    "route:\n",
    "tags: {}\n",
    "weight: 7\n",
    "match: {}\n",
    "httpFault: {delay: {fixedDelay: 1s}}\n",
    "kind: List\n",
    "items: []\n",
    "<<: *a\n",
];

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// Damaged text gives findings with lines that exist, never a panic.
    #[test]
    fn damaged_text_never_panics(
        edits in prop::collection::vec((any::<prop::sample::Index>(), 0_usize..12, prop::sample::select(PIECES)), 1..6),
    ) {
        let mut text: Vec<char> = RULES.chars().collect();
        for (at, removed, piece) in edits {
            let at = at.index(text.len() + 1);
            let end = (at + removed).min(text.len());
            text.splice(at..end, piece.chars());
        }
        let text: String = text.into_iter().collect();
        let lines = text.lines().count() as u32;
        let findings = match compile(&documents(&text)) {
            Ok(compiled) => compiled.findings,
            Err(findings) => findings,
        };
        for finding in findings {
            prop_assert!(finding.place.line <= lines + 1, "{finding} of {lines}");
        }
    }
}

#[test]
fn a_rule_has_no_more_targets_than_slots() {
    let rule = |targets: usize| {
        let targets = "- tags: {version: v1}\n  weight: 1\n".repeat(targets);
        format!("{SERVICES}\n---\ndestination: reviews\nroute:\n{targets}")
    };
    let has_capacity = |text: &str| codes_of(text).iter().any(|code| code.ends_with(" capacity"));
    assert!(!has_capacity(&rule(router_rules::weight::MAX_SLOTS)));
    assert!(has_capacity(&rule(router_rules::weight::MAX_SLOTS + 1)));
}
