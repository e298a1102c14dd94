//! `router check`: validates configuration without an agent and without a kernel.

use std::{
    io::{self, Write},
    path::PathBuf,
    process::ExitCode,
};

use serde::Serialize;

use super::output::{self, Palette, counted};
use crate::{
    clock, compile,
    config::{self, Documents, LoadLimits},
    finding::Finding,
};

/// Validates configuration offline: rules, policies and the registry, as the agent would compile them.
///
/// Exit status: 0 when the configuration can be put in force, 1 when it cannot, 2 when the command line is wrong.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// Files, directories (their *.yaml, *.yml and *.json), or - for standard input; checked together, as one
    /// configuration.
    #[arg(required = true, value_name = "PATH")]
    paths: Vec<PathBuf>,
    /// How findings are printed.
    #[arg(short, long, value_enum, default_value_t = Format::Text)]
    output: Format,
    /// Fail on warnings too.
    #[arg(long)]
    strict: bool,
}

/// How findings are printed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, clap::ValueEnum)]
pub enum Format {
    /// For people.
    Text,
    /// For programs.
    Json,
}

/// Numbers of objects that were read.
#[derive(Debug, Serialize)]
struct Objects {
    route_rules: usize,
    destination_policies: usize,
    ingress_rules: usize,
    egress_rules: usize,
    services: usize,
    endpoint_slices: usize,
    pods: usize,
    secrets: usize,
}

#[derive(Debug, Serialize)]
struct Report<'r> {
    errors: usize,
    warnings: usize,
    objects: Objects,
    findings: &'r [Finding],
}

/// Runs the command.
pub fn run(args: &Args) -> ExitCode {
    let documents = config::read(&args.paths, &LoadLimits::default());
    let findings = match compile::compile(&documents) {
        Ok(compiled) => compiled.findings_at(clock::wall_seconds()),
        Err(findings) => findings,
    };
    let text = match args.output {
        Format::Text => people(&documents, &findings, Palette::for_stdout()),
        Format::Json => programs(&documents, &findings),
    };
    if let Err(error) = io::stdout().lock().write_all(text.as_bytes()) {
        // A reader such as `head` that had enough is no failure of the check.
        if error.kind() != io::ErrorKind::BrokenPipe {
            eprintln!("router check: cannot write: {error}");
            return ExitCode::FAILURE;
        }
    }
    let fails = |finding: &Finding| finding.is_error() || args.strict;
    if findings.iter().any(fails) {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    }
}

fn objects(documents: &Documents) -> Objects {
    Objects {
        route_rules: documents.route_rules.len(),
        destination_policies: documents.destination_policies.len(),
        ingress_rules: documents.ingress_rules.len(),
        egress_rules: documents.egress_rules.len(),
        services: documents.services.len(),
        endpoint_slices: documents.endpoint_slices.len(),
        pods: documents.pods.len(),
        secrets: documents.secrets.len(),
    }
}

fn people(documents: &Documents, findings: &[Finding], palette: Palette) -> String {
    let mut text = String::new();
    for finding in findings {
        text.push_str(&output::finding(finding, palette));
        text.push('\n');
    }
    let objects = objects(documents);
    let mut counts = vec![
        counted(objects.route_rules, "route rule"),
        counted(objects.destination_policies, "destination policy"),
    ];
    // Most configurations have neither.
    let edges = [
        (objects.ingress_rules, "ingress rule"),
        (objects.egress_rules, "egress rule"),
    ];
    let present = edges.into_iter().filter(|&(number, _)| number > 0);
    counts.extend(present.map(|(number, what)| counted(number, what)));
    counts.extend([
        counted(objects.services, "service"),
        counted(objects.endpoint_slices, "endpoint slice"),
        counted(objects.pods, "pod"),
    ]);
    if objects.secrets > 0 {
        counts.push(counted(objects.secrets, "secret"));
    }
    text.push_str(&format!("{}: {}\n", counts.join(", "), output::tally(findings)));
    text
}

fn programs(documents: &Documents, findings: &[Finding]) -> String {
    let errors = findings.iter().filter(|f| f.is_error()).count();
    let report = Report {
        errors,
        warnings: findings.len() - errors,
        objects: objects(documents),
        findings,
    };
    // Texts and numbers are always JSON.
    let mut text = serde_json::to_string_pretty(&report).unwrap_or_default();
    text.push('\n');
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_carries_codes_and_places() {
        let mut documents = Documents::default();
        documents.add_text("r.yaml", "destination: a\nl4Fault: {terminates: {}}\n");
        let findings = compile::compile(&documents).unwrap_err();
        let report: serde_json::Value = serde_json::from_str(&programs(&documents, &findings)).unwrap();
        assert_eq!(report["errors"], 1);
        assert_eq!(report["findings"][0]["code"], "unknown-field");
        assert_eq!(report["findings"][0]["place"]["line"], 2);
    }
}
