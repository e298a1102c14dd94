//! Compiling whole configurations.

use super::*;

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
fn every_fault_of_a_document_is_reported_with_its_line() {
    let text =
        "destination: a\nprecedance: 1\nroute:\n- tags: {version: 1}\n  wieght: 3\nredirect:\n  uri: /\n";
    assert_eq!(
        codes_of(text),
        [
            "2 unknown-field",
            "4 wrong-type",
            "5 unknown-field",
            "6 not-supported-yet"
        ]
    );
}
