//! Golden tests: YAML → compiled model, and bad YAML → findings, as text files that a reviewer can read.
//!
//! `UPDATE_GOLDEN=1 cargo test -p tests --test golden` rewrites the expected texts. Every case is read together with
//! `golden/registry.yaml`, unless its first line is `# registry: none`.

#![expect(
    clippy::unwrap_used,
    reason = "a test that cannot read its own cases has failed"
)]

use std::{
    collections::BTreeSet,
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
    sync::OnceLock,
};

use router_rules::{
    Snapshot,
    action::{AbortWith, DelayTime, Target},
    gateway::{Credential, GatewayRule},
    l4_fault::{L4Fault, Terminate, Throttle},
    labels::Labels,
    model::{Match, Model, Rule},
};
use router_userspace::{
    cli::output::{self, Palette},
    compile::{Compiled, compile},
    config::Documents,
    finding::{Finding, codes},
};
use tests::certificates::{Authority, Issued, Valid};

/// Codes whose inputs are no YAML text of reasonable size; unit tests of config and compile produce them.
const NOT_IN_GOLDEN: [&str; 4] = ["no-configuration", "unreadable-file", "too-large", "capacity"];

#[test]
fn yaml_compiles_to_the_expected_model() {
    let cases = cases("compile");
    assert!(cases.len() >= 30, "the examples of the seed are missing");
    let differences: Vec<_> = cases
        .iter()
        .filter_map(|case| difference(case, &compiled(case)))
        .collect();
    assert!(differences.is_empty(), "{}", differences.join("\n"));
}

#[test]
fn bad_yaml_gives_the_expected_findings() {
    let differences: Vec<_> = cases("diagnose")
        .iter()
        .filter_map(|case| difference(case, &diagnosed(case)))
        .collect();
    assert!(differences.is_empty(), "{}", differences.join("\n"));
}

#[test]
fn every_code_has_a_case() {
    let shown: BTreeSet<_> = cases("diagnose")
        .iter()
        .flat_map(|case| findings(&read(case)).1)
        .map(|finding| finding.code)
        .collect();
    let missing: Vec<_> = codes::ALL
        .iter()
        .map(|code| code.name)
        .filter(|name| !shown.contains(name) && !NOT_IN_GOLDEN.contains(name))
        .collect();
    assert!(missing.is_empty(), "no case in golden/diagnose shows {missing:?}");
}

/// Beside every case that is named after a code: how it is written instead, which nothing is said of.
#[test]
fn every_code_has_a_good_example() {
    let mut wrong = Vec::new();
    let has_one = |name: &str| !NOT_IN_GOLDEN.contains(&name);
    for code in codes::ALL.iter().filter(|code| has_one(code.name)) {
        let case = golden().join("diagnose").join(code.name);
        let good = fs::read_to_string(case.join("good.yaml"));
        let said = good.map(|text| listed(&findings(&documents(&text)).1));
        if said.as_deref().ok() != Some("") {
            wrong.push(format!("{}/good.yaml: {said:?}", case.display()));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_model_becomes_a_snapshot() {
    for case in cases("compile") {
        if let Ok(compiled) = findings(&read(&case)).0 {
            let ports: usize = compiled.model.services.iter().map(|s| s.ports.len()).sum();
            assert_eq!(
                Snapshot::build(compiled.model, 1).ports().len(),
                ports,
                "{}",
                case.display()
            );
        }
    }
}

fn golden() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("golden")
}

/// The directories below `golden/of`, in the order of their names.
fn cases(of: &str) -> Vec<PathBuf> {
    let mut cases: Vec<_> = fs::read_dir(golden().join(of))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.is_dir())
        .collect();
    cases.sort();
    cases
}

fn read(case: &Path) -> Documents {
    documents(&fs::read_to_string(case.join("input.yaml")).unwrap())
}

fn documents(input: &str) -> Documents {
    let mut documents = Documents::default();
    documents.add_text("input.yaml", input);
    if !input.starts_with("# registry: none") {
        let registry = fs::read_to_string(golden().join("registry.yaml")).unwrap();
        documents.add_text("registry.yaml", &registry);
        documents.add_text("secrets.yaml", secrets());
    }
    documents
}

/// The Secrets that cases name; no key is kept anywhere.
fn secrets() -> &'static str {
    static SECRETS: OnceLock<String> = OnceLock::new();
    SECRETS.get_or_init(|| {
        let authority = Authority::new().unwrap();
        let issue = |valid| authority.issue(&["shop.example.com"], valid).unwrap();
        let own = issue(Valid::Now);
        let mismatched = Issued {
            certificate_pem: issue(Valid::Now).certificate_pem,
            ..issue(Valid::Now)
        };
        [
            own.secret("shop-tls"),
            issue(Valid::Formerly).secret("expired-tls"),
            issue(Valid::Later).secret("future-tls"),
            mismatched.secret("mismatched-tls"),
        ]
        .join("---\n")
    })
}

/// The time of every case: 2026 begins.
const NOW: u64 = 1_767_225_600;

fn findings(documents: &Documents) -> (Result<Compiled, ()>, Vec<Finding>) {
    match compile(documents) {
        Ok(compiled) => {
            let findings = compiled.findings_at(NOW);
            (Ok(compiled), findings)
        }
        Err(findings) => (Err(()), findings),
    }
}

fn compiled(case: &Path) -> String {
    let (compiled, findings) = findings(&read(case));
    let mut text = listed(&findings);
    if let Ok(compiled) = compiled {
        text.push_str(&model(&compiled.model, case));
    }
    text
}

fn diagnosed(case: &Path) -> String {
    let (compiled, findings) = findings(&read(case));
    let verdict = if compiled.is_ok() {
        "put in force"
    } else {
        "refused"
    };
    format!("{}{verdict}: {}\n", listed(&findings), output::tally(&findings))
}

fn listed(findings: &[Finding]) -> String {
    findings
        .iter()
        .map(|finding| output::finding(finding, Palette::Plain) + "\n")
        .collect()
}

/// What differs from `case/expected.txt`, after rewriting it when asked to.
fn difference(case: &Path, actual: &str) -> Option<String> {
    let file = case.join("expected.txt");
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        fs::write(&file, actual).unwrap();
        return None;
    }
    let expected = fs::read_to_string(&file).unwrap_or_default();
    (expected != actual).then(|| {
        format!(
            "{}:\n--- expected\n{expected}--- actual\n{actual}",
            file.display()
        )
    })
}

/// The model as text. The registry's own services are left out unless the case is about the registry.
fn model(model: &Model, case: &Path) -> String {
    let mut text = String::new();
    let is_registry = case
        .file_name()
        .is_some_and(|n| n.to_string_lossy().starts_with("registry"));
    for service in &model.services {
        let external = model.externals.get(&service.name);
        if external.is_none() && !is_registry {
            continue;
        }
        let _ = writeln!(text, "service {} at {:?}", service.name, service.addresses);
        if let Some(external) = external {
            let _ = writeln!(text, "  outside the cluster: {external:?}");
        }
        for port in &service.ports {
            let _ = writeln!(
                text,
                "  port {} {} {}",
                port.number,
                port.name.as_deref().unwrap_or("(unnamed)"),
                port.protocol.name()
            );
            for endpoint in &port.endpoints {
                let workload = endpoint.workload.as_deref().unwrap_or("(unknown)");
                let _ = writeln!(text, "    {} {workload} {}", endpoint.address, endpoint.labels);
            }
        }
    }
    for workload in model.workloads.iter().filter(|_| is_registry) {
        let services: Vec<_> = workload.services.iter().map(|s| s.as_str()).collect();
        let _ = writeln!(
            text,
            "workload {} {} of {services:?} at {:?}",
            workload.name, workload.labels, workload.addresses
        );
    }
    for item in &model.rules {
        rule(item, &mut text);
    }
    for gateway in &model.gateways {
        for rule in &gateway.rules {
            entry(gateway.port, rule, &mut text);
        }
    }
    for policy in &model.policies {
        let _ = writeln!(text, "policy {}", policy.origin);
        let _ = writeln!(text, "  destination {} {}", policy.destination, policy.labels);
        if !policy.source.is_empty() {
            let _ = writeln!(text, "  for calls from {}", policy.source);
        }
        let _ = writeln!(text, "  balance {}", policy.load_balancing.name());
        if let Some(max) = policy.max_connections {
            let _ = writeln!(text, "  at most {max} connections");
        }
        if let Some(outlier) = policy.outlier_detection {
            let _ = writeln!(
                text,
                "  eject up to {} % after {} errors in a row for {:?}, sweep every {:?}",
                outlier.max_ejection_percent,
                outlier.consecutive_errors,
                outlier.base_ejection,
                outlier.interval
            );
        }
        if !policy.http.is_empty() {
            let _ = writeln!(text, "  {:?}", policy.http);
        }
    }
    text
}

fn entry(port: u16, rule: &GatewayRule, text: &mut String) {
    let _ = writeln!(text, "port {port} of the node: {}", rule.origin);
    if let Some(Credential { secret, names, .. }) = rule.credential.as_deref() {
        let _ = writeln!(text, "  shows {secret} for {names:?}");
    }
    let (service, to) = (&rule.service, rule.service_port);
    let _ = writeln!(text, "  to port {to} of {service} precedence {}", rule.precedence);
    for condition in &rule.any_of {
        conditions(condition, text);
    }
}

fn rule(rule: &Rule, text: &mut String) {
    let _ = writeln!(text, "rule {}", rule.origin);
    let _ = writeln!(
        text,
        "  destination {} precedence {}",
        rule.destination, rule.precedence
    );
    for condition in &rule.any_of {
        conditions(condition, text);
    }
    for Target {
        service,
        labels,
        weight,
    } in &rule.targets
    {
        let service = if *service == rule.destination {
            String::new()
        } else {
            format!(" of {service}")
        };
        let _ = writeln!(text, "  {weight} to {labels}{service}");
    }
    actions(rule, text);
    l4_fault(&rule.l4_fault, text);
}

fn actions(rule: &Rule, text: &mut String) {
    if let Some(redirect) = &rule.redirect {
        let _ = writeln!(
            text,
            "  redirect {} to host {:?} path {:?}",
            redirect.status, redirect.authority, redirect.uri
        );
    }
    if !rule.rewrite.is_empty() {
        let _ = writeln!(
            text,
            "  rewrite to host {:?} path {:?}",
            rule.rewrite.authority, rule.rewrite.uri
        );
    }
    for (name, value) in &rule.append_headers {
        let _ = writeln!(text, "  append {name}: {value:?}");
    }
    if let Some(cors) = &rule.cors {
        let _ = writeln!(text, "  cors {cors:?}");
    }
    for mirror in &rule.mirrors {
        let (percent, service) = (mirror.fraction.percent(), &mirror.service);
        let _ = writeln!(text, "  mirror {percent}% to {} of {service}", mirror.labels);
    }
    if !rule.overrides.is_empty() {
        let _ = writeln!(text, "  requests may say: {:?}", rule.overrides);
    }
    if let Some(timeout) = rule.timeout {
        let _ = writeln!(text, "  timeout {timeout:?}");
    }
    if let Some(retries) = rule.retries {
        let each = retries
            .per_try_timeout
            .map_or_else(String::new, |limit| format!(" of at most {limit:?}"));
        let _ = writeln!(text, "  {} retries{each}", retries.attempts);
    }
    if let Some(delay) = rule.fault.delay {
        let _ = writeln!(
            text,
            "  delay {}% by {}",
            delay.fraction.percent(),
            match delay.time {
                DelayTime::Fixed(time) => format!("{time:?}"),
                DelayTime::Exponential { mean } => format!("{mean:?} on average"),
            }
        );
    }
    if let Some(abort) = rule.fault.abort {
        let _ = writeln!(
            text,
            "  abort {}% with {}",
            abort.fraction.percent(),
            match abort.with {
                AbortWith::HttpStatus(status) => status.to_string(),
                AbortWith::GrpcStatus(status) => format!("gRPC {}", status.name()),
                AbortWith::Http2Error(code) => format!("reset {}", code.name()),
            }
        );
    }
}

fn l4_fault(fault: &L4Fault, text: &mut String) {
    if let Some(Throttle { fraction, shape }) = fault.throttle {
        let _ = writeln!(
            text,
            "  throttle {}% of connections to {:?} bit/s for the client, {:?} for the endpoint; {:?}, for {:?}",
            fraction.percent(),
            shape.to_client,
            shape.to_endpoint,
            shape.start,
            shape.duration
        );
    }
    if let Some(Terminate { fraction, after }) = fault.terminate {
        let percent = fraction.percent();
        let _ = writeln!(text, "  terminate {percent}% of connections after {after:?}");
    }
}

fn conditions(condition: &Match, text: &mut String) {
    if let Some(source) = &condition.source {
        let service = source.service.as_ref().map_or("any service", |s| s.as_str());
        let labels = if source.labels.is_empty() {
            Labels::default()
        } else {
            source.labels.clone()
        };
        let _ = writeln!(text, "  when source is {service} {labels}");
    }
    if let Some(wanted) = &condition.transport {
        let _ = writeln!(text, "  when it is {}", wanted.transport);
        for (end, subnets) in [("from", &wanted.sources), ("to", &wanted.destinations)] {
            if !subnets.is_empty() {
                let _ = writeln!(text, "  when it is {end} {subnets}");
            }
        }
    }
    let parts = [
        ("path", &condition.path),
        ("method", &condition.method),
        ("scheme", &condition.scheme),
        ("authority", &condition.authority),
    ];
    for (part, wanted) in parts {
        if let Some(wanted) = wanted {
            let _ = writeln!(text, "  when {part} is {wanted}");
        }
    }
    for (header, wanted) in &condition.headers {
        let _ = writeln!(text, "  when header {header} is {wanted}");
    }
}
