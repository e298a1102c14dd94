//! `router explain`: where a request or connection goes and why, from a directory or from the running agent.

mod ingress;

use std::{fmt::Write as _, path::PathBuf};

use router_rules::Snapshot;

use super::{
    client::Admin,
    text::{Format, Paint, Table, hinted, or_dash, print},
};
use crate::{
    admin::{
        dump::{EndpointDump, Explanation, KernelSide, LimitDump, Outcome, OutlierDump, Step, TargetOutcome},
        ejections::Ejections,
        explain::{Question, Seen, explain},
    },
    compile,
    config::{self, LoadLimits},
    finding::Finding,
};

#[derive(clap::Args, Debug)]
#[command(after_help = "Examples:
  router explain http://reviews:9080/
  router explain --from default/productpage -H 'Foo: bar' http://reviews:9080/
  router explain --config examples/bookinfo --from productpage tcp://mongodb:27017
  router explain --ingress --from 203.0.113.7 https://shop.example.com/cart
  router explain -X POST -H 'Cookie: user=jason' -o json http://reviews.default:9080/api

Without --config the running agent answers, with what its kernel half holds.")]
pub(super) struct Args {
    /// URL, or host and port; names are completed as a pod's resolver would.
    #[arg(value_name = "URL|HOST:PORT")]
    destination: String,
    /// The request comes from outside, to the port of the node that the URL names; --from is the client's address then.
    #[arg(long)]
    ingress: bool,
    /// The calling workload [default: one that no rule knows].
    #[arg(long, value_name = "NAMESPACE/POD")]
    from: Option<String>,
    /// Method of the request [default: GET].
    #[arg(short = 'X', long, value_name = "METHOD")]
    method: Option<String>,
    /// A header field; may be repeated.
    #[arg(short = 'H', long = "header", value_name = "NAME: VALUE")]
    headers: Vec<String>,
    /// Answer from this directory instead of the running agent.
    #[arg(long, value_name = "DIR")]
    config: Option<PathBuf>,
    #[command(flatten)]
    admin: Admin,
    /// How to print the answer.
    #[arg(short, long, value_enum, default_value_t)]
    output: Format,
}

pub(super) fn run(args: &Args) -> anyhow::Result<()> {
    let explanation = match &args.config {
        Some(directory) => offline(args, directory)?,
        None => running(args)?,
    };
    if !args.output.write(&explanation)? {
        print(&render(&explanation, Paint::stdout()))?;
    }
    Ok(())
}

fn running(args: &Args) -> anyhow::Result<Explanation> {
    let mut query = vec![("destination", args.destination.as_str())];
    query.extend(args.from.as_deref().map(|from| ("from", from)));
    query.extend(args.ingress.then_some(("ingress", "true")));
    query.extend(args.method.as_deref().map(|method| ("method", method)));
    query.extend(args.headers.iter().map(|header| ("header", header.as_str())));
    args.admin.get("/explain", &query)
}

fn offline(args: &Args, directory: &std::path::Path) -> anyhow::Result<Explanation> {
    let refused = |findings: Vec<Finding>| {
        let errors: Vec<_> = findings
            .iter()
            .filter(|f| f.is_error())
            .map(ToString::to_string)
            .collect();
        let error = anyhow::anyhow!("the configuration has errors\n  {}", errors.join("\n  "));
        hinted(error, format!("`router check {}` says more", directory.display()))
    };
    let documents = config::read([directory], &LoadLimits::default());
    let compiled = compile::compile(&documents).map_err(refused)?;
    let snapshot = Snapshot::build(compiled.model, 1);
    let question = Question {
        from: args.from.clone(),
        method: args.method.clone(),
        headers: args.headers.clone(),
        destination: args.destination.clone(),
        ingress: args.ingress,
    };
    let nobody = Ejections::default();
    let seen = Seen {
        observed: None,
        ejections: &nobody,
        breakers: None,
    };
    Ok(explain(&snapshot, seen, &question)?)
}

fn render(answer: &Explanation, paint: Paint) -> String {
    let mut text = String::new();
    question(&mut text, answer, paint);
    if let Some(side) = &answer.ingress {
        ingress::render(&mut text, side, answer, paint);
        if answer.rules.is_empty() && answer.decision.targets.is_empty() {
            return text;
        }
    }
    service(&mut text, answer);
    text.push('\n');
    rules(&mut text, &answer.rules, paint);
    text.push('\n');
    decision(&mut text, answer, paint);
    if let Some(kernel) = &answer.kernel {
        text.push('\n');
        kernel_side(&mut text, kernel, paint);
    }
    text
}

fn question(text: &mut String, answer: &Explanation, paint: Paint) {
    let asked = &answer.asked;
    let method = asked.method.as_ref().map(|m| format!("{m} ")).unwrap_or_default();
    let from = asked.from.as_deref().unwrap_or("an unknown caller");
    let _ = writeln!(
        text,
        "{}  from {from}",
        paint.strong(&format!("{method}{}", asked.destination))
    );
    for (name, value) in &asked.headers {
        let _ = writeln!(text, "  {name}: {value}");
    }
}

fn service(text: &mut String, answer: &Explanation) {
    let frontends: Vec<_> = answer.frontends.iter().map(ToString::to_string).collect();
    let at = if frontends.is_empty() {
        "no address".to_owned()
    } else {
        frontends.join(", ")
    };
    let _ = writeln!(
        text,
        "{}:{} ({}) at {at}, routed by the {}, generation {}",
        answer.service, answer.port, answer.protocol, answer.routed_by, answer.generation
    );
}

fn rules(text: &mut String, steps: &[Step], paint: Paint) {
    if steps.is_empty() {
        text.push_str("no rules: every instance takes its turn\n");
        return;
    }
    table(text, steps, paint);
}

fn table(text: &mut String, steps: &[Step], paint: Paint) {
    let mut table = Table::new(["PRECEDENCE", "RULE", "OUTCOME", "WRITTEN AT"]);
    let outcome = |step: &Step| match step.outcome {
        Outcome::Matched => "matched".to_owned(),
        Outcome::NotReached => "not reached".to_owned(),
        Outcome::NotMatched => format!("not matched: {}", step.reasons.join("; ")),
    };
    for step in steps {
        table.row([
            step.precedence.to_string(),
            step.rule.clone(),
            outcome(step),
            format!("{}:{}", step.file, step.line),
        ]);
    }
    let written = table.render(paint, |row, line| match row[2].as_str() {
        "matched" => paint.good(line),
        _ => paint.faint(line),
    });
    // Conditions can be long: each rule's are below its line, which the first line, the header, has not.
    let mut lines = written.lines();
    text.extend(lines.next().map(|header| format!("{header}\n")));
    for (line, step) in lines.zip(steps) {
        let _ = writeln!(text, "{line}");
        for conditions in &step.conditions {
            let _ = writeln!(text, "            {}", paint.faint(&format!("when {conditions}")));
        }
    }
}

fn decision(text: &mut String, answer: &Explanation, paint: Paint) {
    let decision = &answer.decision;
    let rule = decision
        .rule
        .as_deref()
        .unwrap_or("no rule matched: every instance takes its turn");
    let _ = writeln!(text, "{}", paint.strong(&format!("→ {rule}")));
    if let Some(refusal) = &decision.refusal {
        let _ = writeln!(text, "  {}", paint.bad(&format!("refused: {refusal}")));
    }
    let actions = decision.actions.iter().cloned();
    let timeout = decision
        .timeout_ms
        .map(|ms| format!("timeout {:?}", std::time::Duration::from_millis(ms)));
    let retries = decision.retries.as_ref().map(|r| format!("retries {r}"));
    for action in actions
        .chain(timeout)
        .chain(retries)
        .chain(decision.faults.iter().cloned())
        .chain(decision.connection_faults.iter().cloned())
    {
        let _ = writeln!(text, "  {action}");
    }
    for target in &decision.targets {
        render_target(text, target, paint);
    }
}

fn render_target(text: &mut String, target: &TargetOutcome, paint: Paint) {
    let TargetOutcome {
        service,
        port,
        labels,
        share,
        ..
    } = target;
    let title = format!(
        "{share:>6.2} %  {service}:{port}  {labels}  {}",
        target.load_balancing
    );
    let _ = writeln!(
        text,
        "  {}",
        if *share == 0.0 { paint.faint(&title) } else { title }
    );
    if let Some(policy) = &target.policy {
        let limit = match (&policy.limit, policy.max_connections) {
            (Some(limit), _) => format!(", {}", use_of(*limit)),
            (None, Some(max)) => format!(", at most {max} connections"),
            (None, None) => String::new(),
        };
        let ejection = policy.outlier_detection.map_or_else(String::new, ejection);
        let _ = writeln!(
            text,
            "            {} ({}:{}){limit}{ejection}",
            policy.policy, policy.file, policy.line
        );
        if let Some(source) = &policy.source {
            let _ = writeln!(text, "              for calls from {source}");
        }
        let requests = policy.requests.words();
        if !requests.is_empty() {
            let _ = writeln!(text, "              {}", requests.join(", "));
        }
    }
    if let Some(refusal) = &target.refusal {
        let _ = writeln!(text, "            {}", paint.bad(&format!("refused: {refusal}")));
    }
    text.push_str(&endpoints(&target.endpoints));
}

fn ejection(settings: OutlierDump) -> String {
    format!(
        ", ejects up to {} % after {} errors in a row",
        settings.max_ejection_percent, settings.consecutive_errors
    )
}

fn use_of(limit: LimitDump) -> String {
    format!(
        "{} of {} connections open, {} refused so far",
        limit.active, limit.max, limit.refused
    )
}

fn endpoints(endpoints: &[EndpointDump]) -> String {
    let width = endpoints
        .iter()
        .map(|e| e.address.to_string().len())
        .max()
        .unwrap_or(0);
    let line = |e: &EndpointDump| {
        let address = e.address.to_string();
        let workload = e.workload.as_ref().map(|w| format!("  {w}")).unwrap_or_default();
        let in_use = e
            .active
            .map(|a| format!("  {a} open, {} so far", or_dash(e.connects)))
            .unwrap_or_default();
        let ejected = e.ejected_until.as_ref();
        let ejected = ejected
            .map(|until| format!("  ejected until {until}"))
            .unwrap_or_default();
        format!("            {address:width$}{workload}{in_use}{ejected}")
            .trim_end()
            .to_owned()
            + "\n"
    };
    endpoints.iter().map(line).collect()
}

fn kernel_side(text: &mut String, kernel: &KernelSide, paint: Paint) {
    let slots: u32 = kernel.subsets.iter().map(|s| s.slots).sum();
    let refusal = kernel
        .refusal
        .as_ref()
        .map(|r| format!(" ({r})"))
        .unwrap_or_default();
    let _ = writeln!(
        text,
        "{}",
        paint.strong(&format!("the kernel holds: {}{refusal}", kernel.routing))
    );
    if kernel.routing.starts_with("proxy") && slots > 0 {
        text.push_str("  while the proxy is down:\n");
    }
    if slots > 0 {
        let _ = writeln!(
            text,
            "  {slots} slots, next is slot {}",
            kernel.cursor % u64::from(slots)
        );
    }
    for subset in &kernel.subsets {
        let limit = subset
            .limit
            .map(|l| format!(", {}", use_of(l)))
            .unwrap_or_default();
        let _ = writeln!(text, "  {:>6} slots  {}{limit}", subset.slots, subset.balance);
        text.push_str(&endpoints(&subset.endpoints));
    }
}

#[cfg(test)]
mod tests;
