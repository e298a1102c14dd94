//! Documentation that is checked: every YAML block of the pages for users compiles without an error against the
//! demo's services, and docs/findings.md is what the list of findings and their golden cases say.
//!
//! `UPDATE_GOLDEN=1 cargo test -p tests --test docs` rewrites docs/findings.md.

use std::{fmt::Write as _, fs, path::Path};

use router_common::reason::Reason;
use router_userspace::{
    compile::compile,
    config::Documents,
    finding::{Finding, Severity, codes},
    proxy::error::Kind,
};
use tests::certificates::{Authority, Valid};

fn workspace() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("the crate is in the workspace")
}

fn read(path: &str) -> String {
    fs::read_to_string(workspace().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// The YAML blocks of a page, each with the line it begins on.
fn blocks(page: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    let mut block: Option<(usize, String)> = None;
    for (number, line) in (1..).zip(page.lines()) {
        match &mut block {
            None if line == "```yaml" => block = Some((number + 1, String::new())),
            None => {}
            Some(_) if line == "```" => found.extend(block.take()),
            Some((_, text)) => text.extend([line, "\n"]),
        }
    }
    found
}

fn errors(name: &str, text: &str) -> Vec<Finding> {
    let mut documents = Documents::default();
    documents.add_text("services.yaml", &read("examples/bookinfo/services.yaml"));
    let certificate =
        Authority::new().and_then(|authority| authority.issue(&["shop.example.com"], Valid::Now));
    let secret = certificate.expect("there is randomness").secret("shop-tls");
    documents.add_text("secrets.yaml", &secret);
    documents.add_text(name, text);
    let findings = compile(&documents).map_or_else(|findings| findings, |compiled| compiled.findings);
    findings
        .into_iter()
        .filter(|f| f.severity == Severity::Error)
        .collect()
}

#[test]
fn every_snippet_compiles() {
    for page in ["README.md", "docs/rules.md"] {
        let blocks = blocks(&read(page));
        assert!(!blocks.is_empty(), "{page} shows no YAML");
        for (line, text) in blocks {
            let errors = errors(page, &text);
            assert!(errors.is_empty(), "{page}:{line}: {errors:#?}");
        }
    }
}

#[test]
fn every_reason_is_explained() {
    let page = read("docs/operations.md");
    let of_connections = Reason::ALL.iter().map(|reason| reason.name());
    let of_requests = Kind::ALL.iter().map(|kind| kind.name());
    let missing: Vec<_> = of_connections
        .chain(of_requests)
        .filter(|name| !page.contains(&format!("`{name}`")))
        .collect();
    assert!(missing.is_empty(), "docs/operations.md does not know {missing:?}");
}

#[test]
fn the_page_of_findings_is_up_to_date() {
    let page = findings_page();
    let path = workspace().join("docs/findings.md");
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        fs::write(&path, &page).expect("docs can be written");
    }
    let written = fs::read_to_string(&path).unwrap_or_default();
    assert!(
        written == page,
        "docs/findings.md is out of date: UPDATE_GOLDEN=1 cargo test -p tests --test docs"
    );
}

/// Unit tests show these.
const NO_EXAMPLE: &str = "\nIt is about files or sizes, which no text on this page could show.\n";

/// One section per code: what it means, an input that shows it, what is said of that input, and one that is good.
fn findings_page() -> String {
    let mut page = String::from(
        "# Findings\n\nEverything that `router check` and the running agent can say of a configuration. An error keeps the \
         configuration from\nbeing put in force; a warning says that a part of it does not do what it seems to say. Codes are \
         stable.\n\nThis page is made from the list in the code and the golden tests (`UPDATE_GOLDEN=1 cargo test -p tests --test \
         docs`).\n",
    );
    for code in codes::ALL {
        let severity = match code.severity {
            Severity::Error => "error",
            Severity::Warning => "warning",
        };
        let _ = write!(
            page,
            "\n## `{}`\n\n*{severity}.* {}\n",
            code.name, code.explanation
        );
        page.push_str(&example(code.name).unwrap_or_else(|| NO_EXAMPLE.to_owned()));
    }
    page
}

/// The golden case that is named after the code.
fn example(code: &str) -> Option<String> {
    let case = workspace().join("tests/golden/diagnose").join(code);
    let input = fs::read_to_string(case.join("input.yaml")).ok()?;
    let expected = fs::read_to_string(case.join("expected.txt")).ok()?;
    let good = fs::read_to_string(case.join("good.yaml")).unwrap_or_default();
    let (input, expected, good) = (input.trim_end(), expected.trim_end(), good.trim_end());
    let bad = format!("\n```yaml\n{input}\n```\n\n```text\n{expected}\n```\n");
    Some(match good {
        "" => bad,
        good => format!("{bad}\nNothing is said of this:\n\n```yaml\n{good}\n```\n"),
    })
}
