//! `router status`: how the running agent is. The kernel is asked; nothing is remembered.

mod gateways;

use std::{fmt::Write as _, path::Path};

use super::{
    agent::Pins,
    client::Admin,
    text::{Format, Paint, Table, or_dash, print},
};
use crate::{
    admin::dump::{
        ConfigStatus, HookStatus, LimitStatus, OutlierStatus, RequestStatus, ServiceStatus, Status,
        VerdictCount,
    },
    datapath,
};

#[derive(clap::Args, Debug)]
#[command(after_help = "Examples:
  router status
  router status -o json | jq '.limits'")]
pub(super) struct Args {
    #[command(flatten)]
    admin: Admin,
    #[command(flatten)]
    pins: Pins,
    /// How to print it.
    #[arg(short, long, value_enum, default_value_t)]
    output: Format,
}

pub(super) fn run(args: &Args) -> anyhow::Result<()> {
    let status: Status = args
        .admin
        .get("/status", &[])
        .inspect_err(|_| left_behind(&args.pins.pin_dir))?;
    if !args.output.write(&status)? {
        print(&render(&status, Paint::stdout()))?;
    }
    Ok(())
}

/// Without an agent, what one left in the kernel still routes: worth knowing beside the error.
fn left_behind(pin_dir: &Path) {
    let hooks = pin_dir.exists().then(|| datapath::observed_hooks(pin_dir));
    if let Some(Ok(hooks)) = hooks {
        let paint = Paint::stderr();
        let hooks: Vec<_> = hooks.into_iter().map(HookStatus::from).collect();
        eprintln!(
            "an agent's programs are pinned in {}:\n\n{}",
            pin_dir.display(),
            hook_table(&hooks, paint)
        );
    }
}

fn render(status: &Status, paint: Paint) -> String {
    let ready = match &status.waiting_for[..] {
        [] => paint.good("ready"),
        blockers => paint.bad(&format!("not ready: waiting for {}", blockers.join(", "))),
    };
    let mut text = format!("router {} (pid {})  {ready}\n", status.version, status.pid);
    config(&mut text, &status.config, paint);
    text.push('\n');
    if !status.hooks.is_empty() {
        text.push_str(&hook_table(&status.hooks, paint));
    }
    if let Some(error) = &status.hooks_error {
        let _ = writeln!(text, "{} {error}", paint.bad("hooks:"));
    }
    for section in [
        gateways::table(&status.gateways, paint),
        services(&status.services, paint),
        limits(&status.limits, paint),
        requests(&status.requests, paint),
        outliers(&status.outliers, paint),
        verdicts(&status.verdicts, paint),
    ]
    .into_iter()
    .flatten()
    {
        text.push('\n');
        text.push_str(&section);
    }
    text
}

fn config(text: &mut String, config: &ConfigStatus, paint: Paint) {
    let verdict = match (config.accepted, config.generation) {
        (true, _) => paint.good("in force"),
        (false, 0) => paint.bad("has errors; none is in force"),
        (false, _) => paint.bad("has errors; the one before stays in force"),
    };
    let read = or_dash(config.read_at.as_deref());
    let _ = writeln!(
        text,
        "configuration {}  generation {}  read {read}  {verdict}",
        config.directory, config.generation
    );
    for finding in &config.findings {
        let line = format!("  {}", finding.text);
        let _ = writeln!(
            text,
            "{}",
            if finding.severity == "error" {
                paint.bad(&line)
            } else {
                paint.odd(&line)
            }
        );
    }
}

fn hook_table(hooks: &[HookStatus], paint: Paint) -> String {
    let mut table = Table::new(["HOOK", "PROGRAM", "STATE", "PROGRAM ID"]);
    for hook in hooks {
        let state = match (hook.attached, hook.idle) {
            (true, _) => "attached",
            (false, true) => "not needed",
            (false, false) => "missing",
        };
        table.row([
            hook.hook.clone(),
            hook.program.clone(),
            state.to_owned(),
            or_dash(hook.program_id),
        ]);
    }
    let missing = |row: &[String; 4]| row[2] == "missing";
    table.render(paint, |row, line| {
        if missing(row) {
            paint.bad(line)
        } else {
            line.to_owned()
        }
    })
}

fn services(services: &[ServiceStatus], paint: Paint) -> Option<String> {
    let mut table = Table::new([
        "SERVICE",
        "PORT",
        "PROTOCOL",
        "ROUTED BY",
        "RULES",
        "ENDPOINTS",
        "ROUTED",
        "PROXIED",
        "REFUSED",
    ]);
    for service in services {
        table.row([
            service.service.clone(),
            service.port.to_string(),
            service.protocol.clone(),
            service.routed_by.clone(),
            service.rules.to_string(),
            service.endpoints.to_string(),
            or_dash(service.routed),
            or_dash(service.proxied),
            or_dash(service.refused),
        ]);
    }
    let line = |row: &[String; 9], line: &str| {
        if row[5] == "0" {
            paint.odd(line)
        } else {
            line.to_owned()
        }
    };
    (!services.is_empty()).then(|| table.render(paint, line))
}

fn limits(limits: &[LimitStatus], paint: Paint) -> Option<String> {
    let mut table = Table::new(["LIMIT OF POLICY", "SERVICE", "LABELS", "MAX", "OPEN", "REFUSED"]);
    for status in limits {
        table.row([
            status.policy.clone(),
            status.service.clone(),
            status.labels.clone(),
            status.max_connections.to_string(),
            or_dash(status.limit.map(|l| l.active)),
            or_dash(status.limit.map(|l| l.refused)),
        ]);
    }
    let line = |row: &[String; 6], line: &str| {
        if row[3] == row[4] {
            paint.odd(line)
        } else {
            line.to_owned()
        }
    };
    (!limits.is_empty()).then(|| table.render(paint, line))
}

fn outliers(outliers: &[OutlierStatus], paint: Paint) -> Option<String> {
    let mut table = Table::new([
        "OUTLIERS OF POLICY",
        "SERVICE",
        "LABELS",
        "EJECTIONS",
        "KEPT",
        "EJECTED NOW",
    ]);
    for status in outliers {
        let ejected: Vec<_> = status
            .ejected
            .iter()
            .map(|e| format!("{} until {}", e.address, e.until))
            .collect();
        table.row([
            status.policy.clone(),
            status.service.clone(),
            status.labels.clone(),
            status.ejections.to_string(),
            status.kept.to_string(),
            or_dash((!ejected.is_empty()).then(|| ejected.join(", "))),
        ]);
    }
    let line = |row: &[String; 6], line: &str| {
        if row[5] == "-" {
            line.to_owned()
        } else {
            paint.odd(line)
        }
    };
    (!outliers.is_empty()).then(|| table.render(paint, line))
}

fn requests(requests: &[RequestStatus], paint: Paint) -> Option<String> {
    let mut table = Table::new(["REQUESTS UNDER POLICY", "SERVICE", "LABELS", "LIMITS"]);
    for status in requests {
        table.row([
            status.policy.clone(),
            status.service.clone(),
            status.labels.clone(),
            status.limits.words().join(", "),
        ]);
    }
    (!requests.is_empty()).then(|| table.plain(paint))
}

fn verdicts(verdicts: &[VerdictCount], paint: Paint) -> Option<String> {
    let mut table = Table::new(["VERDICT OF THE KERNEL", "CONNECTIONS"]);
    for count in verdicts {
        table.row([count.verdict.clone(), count.connections.to_string()]);
    }
    (!verdicts.is_empty()).then(|| table.plain(paint))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admin::dump::{EjectedEndpoint, LimitDump, Problem, RequestLimitsDump, RequestUseDump};

    fn full() -> Status {
        Status {
            version: "0.1.0".into(),
            pid: 7,
            waiting_for: Vec::new(),
            config: ConfigStatus {
                directory: "/etc/router".into(),
                generation: 3,
                read_at: Some("2026-01-02T03:04:05Z".into()),
                accepted: false,
                findings: vec![Problem {
                    severity: "error".into(),
                    code: "unknown-field".into(),
                    text: "rules.yaml:12: error[unknown-field] spec.wieght: unknown field".into(),
                }],
            },
            hooks: vec![HookStatus {
                hook: "cgroup/connect4".into(),
                program: "router_connect4".into(),
                attached: true,
                program_id: Some(42),
                link_id: None,
                idle: false,
            }],
            hooks_error: None,
            gateways: Vec::new(),
            services: Vec::new(),
            limits: vec![LimitStatus {
                policy: "destination-policy mongodb".into(),
                service: "mongodb.default.svc.cluster.local".into(),
                labels: "(all)".into(),
                max_connections: 100,
                limit: Some(LimitDump {
                    max: 100,
                    active: 42,
                    refused: 3,
                }),
            }],
            requests: vec![RequestStatus {
                policy: "destination-policy reviews".into(),
                service: "reviews.default.svc.cluster.local".into(),
                labels: "(all)".into(),
                limits: RequestLimitsDump {
                    http_max_requests: Some(10),
                    http_max_pending_requests: Some(5),
                    requests: Some(RequestUseDump {
                        active: 3,
                        pending: 0,
                        retries: 0,
                        refused: 2,
                        refused_retries: 0,
                    }),
                    ..RequestLimitsDump::default()
                },
            }],
            outliers: vec![OutlierStatus {
                policy: "destination-policy reviews".into(),
                service: "reviews.default.svc.cluster.local".into(),
                labels: "(all)".into(),
                ejections: 4,
                kept: 1,
                ejected: vec![EjectedEndpoint {
                    address: "10.0.0.7:9080".parse().unwrap(),
                    until: "2026-01-02T03:04:35Z".into(),
                }],
            }],
            verdicts: vec![VerdictCount {
                verdict: "routed".into(),
                connections: 12,
            }],
        }
    }

    #[test]
    fn a_status_reads_well() {
        let expected = "\
router 0.1.0 (pid 7)  ready
configuration /etc/router  generation 3  read 2026-01-02T03:04:05Z  has errors; the one before stays in force
  rules.yaml:12: error[unknown-field] spec.wieght: unknown field

HOOK             PROGRAM          STATE     PROGRAM ID
cgroup/connect4  router_connect4  attached  42

LIMIT OF POLICY             SERVICE                            LABELS  MAX  OPEN  REFUSED
destination-policy mongodb  mongodb.default.svc.cluster.local  (all)   100  42    3

REQUESTS UNDER POLICY       SERVICE                            LABELS  LIMITS
destination-policy reviews  reviews.default.svc.cluster.local  (all)   3 of 10 requests at once, 0 of 5 waiting, 2 requests refused so far

OUTLIERS OF POLICY          SERVICE                            LABELS  EJECTIONS  KEPT  EJECTED NOW
destination-policy reviews  reviews.default.svc.cluster.local  (all)   4          1     10.0.0.7:9080 until 2026-01-02T03:04:35Z

VERDICT OF THE KERNEL  CONNECTIONS
routed                 12
";
        assert_eq!(render(&full(), Paint::plain()), expected);
    }
}
