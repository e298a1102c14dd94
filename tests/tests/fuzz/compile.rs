//! YAML → documents → model → snapshot: nothing panics, and equal texts are told equal things.

use std::{fs, path::Path};

use router_rules::Snapshot;
use router_userspace::{compile::compile, config::Documents};

pub const WORDS: &[&str] = &[
    "\n",
    "- ",
    "  ",
    ": ",
    "{",
    "}",
    "[",
    "]",
    "---\n",
    "...\n",
    "&a ",
    "*a",
    "!!str ",
    "|\n",
    "'",
    "\"",
    "#",
    "null",
    "0",
    "-1",
    "1e309",
    ".nan",
    "18446744073709551616",
    "true",
    "~",
    "\u{feff}",
    "\u{0}",
    "\t",
    "destination: reviews\n",
    "route:\n",
    "match:\n",
    "tags: {version: v1}\n",
    "labels: {}\n",
    "weight: 0\n",
    "precedence: 2147483648\n",
    "httpHeaders: {uri: {regex: '(a|b)*'}}\n",
    "regex: '[[:alpha:]\\\\d'\n",
    "regex: '(?<n>\\\\u{41})'\n",
    "httpFault: {abort: {percent: 100, grpcStatus: 1}}\n",
    "source: a.b\n",
    "type: route-rule\n",
    "spec:\n",
    "apiVersion: v1\n",
    "kind: Service\n",
    "kind: List\n",
    "items:\n",
    "metadata: {name: a}\n",
    "timeout: 1s\n",
    "redirect: {uri: /}\n",
    "rewrite: {authority: '::1'}\n",
    "mirror: {name: b}\n",
    "corsPolicy: {allowOrigin: ['*']}\n",
];

/// What ends a line for YAML 1.1, section 4.2; more than for [`str::lines`].
const LINE_BREAKS: [char; 5] = ['\n', '\r', '\u{85}', '\u{2028}', '\u{2029}'];

/// The examples and golden cases.
pub fn seeds() -> Vec<Vec<u8>> {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut seeds = Vec::new();
    for folder in ["golden/compile", "golden/diagnose"] {
        let mut cases: Vec<_> = fs::read_dir(tests.join(folder))
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .collect();
        cases.sort();
        seeds.extend(
            cases
                .iter()
                .filter_map(|case| fs::read(case.join("input.yaml")).ok()),
        );
    }
    seeds.push(fs::read(tests.join("../examples/bookinfo/rules.yaml")).unwrap());
    seeds
}

const SERVICES: &str = include_str!("../../../examples/bookinfo/services.yaml");

pub fn check(input: &[u8]) -> u64 {
    let text = String::from_utf8_lossy(input);
    let compiled = || {
        let mut documents = Documents::default();
        documents.add_text("input.yaml", &text);
        documents.add_text("services.yaml", SERVICES);
        compile(&documents)
    };
    let (model, findings) = match compiled() {
        Ok(compiled) => (Some(compiled.model), compiled.findings),
        Err(findings) => (None, findings),
    };
    let lines = u32::try_from(text.matches(LINE_BREAKS).count()).unwrap() + 2;
    for finding in findings
        .iter()
        .filter(|finding| &*finding.place.file == "input.yaml")
    {
        assert!(
            finding.place.line <= lines,
            "{finding} is behind the last of {lines} lines"
        );
        assert!(!finding.message.is_empty(), "{finding:?} says nothing");
    }
    if let Some(model) = model {
        let again = compiled().expect("it compiled before");
        assert_eq!(model, again.model, "the same text has two meanings");
        let snapshot = Snapshot::build(model, 1);
        for port in snapshot.ports() {
            let _ = snapshot.default_route(port).pick(0);
        }
    }
    // Which kinds of findings there are.
    findings.iter().fold(1, |mark, finding| {
        let code = finding
            .code
            .bytes()
            .fold(7_u64, |hash, byte| hash.wrapping_mul(31) ^ u64::from(byte));
        mark | 1 << (code % 63)
    })
}
