//! `cargo xtask bench`: the router and what a user would run instead, on the same machine, in the same run, on the same
//! work.
//!
//! Pods are namespaces and cgroups, as in the tests. It knows nothing of the product's internals: the agent is driven
//! through its command line.

mod cases;
mod clock;
mod cluster;
mod control;
mod figures;
mod floor;
mod generate;
mod goals;
mod job;
mod place;
mod publish;
mod run;
mod serve;
mod stage;
mod system;
mod table;
mod usage;

use std::{path::PathBuf, process::ExitCode};

use anyhow::{Result, bail};
use clap::Parser;

use crate::{
    cases::{CASES, Case},
    control::{Control, Repeats},
    figures::Results,
    publish::{Machine, Report},
    run::Effort,
    system::{Programs, System},
};

/// Names of the cases of the control plane.
const CONTROL: [&str; 2] = ["control-small", "control-large"];

/// Compare the router with what a user would run instead.
#[derive(Parser)]
struct Arguments {
    /// A rough and short run, which shows that everything works.
    #[arg(long)]
    quick: bool,
    /// Run this case only; may be given again.
    #[arg(long = "case", value_name = "NAME")]
    cases: Vec<String>,
    /// Systems to compare [default: all that are installed].
    #[arg(long, value_enum, value_delimiter = ',')]
    systems: Vec<System>,
    /// List the cases and end.
    #[arg(long)]
    list: bool,
    /// The `router` program.
    #[arg(long)]
    router: PathBuf,
    /// The `envoy` program.
    #[arg(long)]
    envoy: Option<PathBuf>,
    /// Where every round is written.
    #[arg(long, value_name = "FILE")]
    json: PathBuf,
    /// A page whose measured part is written anew.
    #[arg(long, value_name = "FILE")]
    publish: Option<PathBuf>,
}

fn main() -> ExitCode {
    if let Some(code) = tests::dispatch() {
        return code;
    }
    let arguments: Vec<String> = std::env::args().collect();
    let texts: Vec<_> = arguments.iter().map(String::as_str).collect();
    let outcome = match texts.as_slice() {
        [_, generate::GENERATE] => generate::run(),
        [_, generate::WATCH, target] => generate::watch(target),
        [_, serve::SERVE, name] => serve::run(name),
        [_, floor::FLOOR, listen, v1, v2] => floor::run(listen, [v1, v2]),
        _ => run(&Arguments::parse()),
    };
    outcome.unwrap_or_else(|error| {
        eprintln!("error: {error:#}");
        ExitCode::FAILURE
    })
}

fn run(arguments: &Arguments) -> Result<ExitCode> {
    let cases = chosen(arguments)?;
    if arguments.list {
        CASES
            .iter()
            .for_each(|case| println!("{:16} {}", case.name, case.title));
        CONTROL.iter().for_each(|name| println!("{name}"));
        return Ok(ExitCode::SUCCESS);
    }
    if let Some(missing) = tests::require::missing_privileges() {
        bail!("benchmarks make network namespaces and cgroups: {missing}");
    }
    let machine = Machine::here()?;
    if machine.is_noisy() {
        eprintln!("  this machine is doing other work: times will be worse than they are, and scatter");
    }
    let programs = Programs {
        router: arguments.router.clone(),
        envoy: arguments.envoy.clone(),
    };
    let systems = installed(arguments, &programs)?;
    let effort = if arguments.quick {
        Effort::QUICK
    } else {
        Effort::FULL
    };
    let outcomes = run::cases(&cases, &systems, &programs, effort)?;
    let control = measure_control(arguments, &systems, &programs)?;
    let versions = systems
        .iter()
        .map(|s| (s.name().to_owned(), s.version(&programs).unwrap_or_default()));
    let report = Report {
        machine,
        versions: versions.collect(),
        effort,
        is_quick: arguments.quick,
        goals: goals::all(&Results(&outcomes), &control),
        control,
        outcomes,
    };
    report
        .tables()
        .iter()
        .for_each(|table| print!("{}", table.plain()));
    report.write_json(&arguments.json)?;
    run::verify(&report.outcomes)?;
    if let Some(page) = &arguments.publish {
        report.write_page(page)?;
    }
    Ok(ExitCode::SUCCESS)
}

fn measure_control(arguments: &Arguments, systems: &[System], programs: &Programs) -> Result<Control> {
    let mut control = Control::default();
    if !systems.contains(&System::Router) {
        return Ok(control);
    }
    let wanted = |name: &str| arguments.cases.is_empty() || arguments.cases.iter().any(|c| c == name);
    if wanted(CONTROL[0]) {
        control::small(programs, &mut control)?;
    }
    if wanted(CONTROL[1]) {
        let repeats = if arguments.quick {
            Repeats::QUICK
        } else {
            Repeats::FULL
        };
        control::large(programs, repeats, &mut control)?;
    }
    Ok(control)
}

/// The cases that the arguments name, or those of a quick or full run.
fn chosen(arguments: &Arguments) -> Result<Vec<Case>> {
    for name in &arguments.cases {
        let is_known = CASES.iter().any(|case| case.name == name) || CONTROL.contains(&name.as_str());
        if !is_known {
            bail!("no case {name}; --list shows them");
        }
    }
    let wanted = |case: &&Case| match arguments.cases.as_slice() {
        [] => case.is_quick || !arguments.quick,
        names => names.iter().any(|name| name == case.name),
    };
    Ok(CASES.iter().filter(wanted).copied().collect())
}

/// The systems to compare; one that was asked for must be there.
fn installed(arguments: &Arguments, programs: &Programs) -> Result<Vec<System>> {
    let mut systems = Vec::new();
    for system in System::ALL {
        let is_asked = arguments.systems.contains(&system);
        if !arguments.systems.is_empty() && !is_asked {
            continue;
        }
        match system.version(programs) {
            Some(_) => systems.push(system),
            None if is_asked => bail!("{} is not installed", system.name()),
            None => eprintln!("  without {}: it is not installed", system.name()),
        }
    }
    Ok(systems)
}
