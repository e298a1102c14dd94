//! `cargo xtask`: builds, checks, tests and shows the workspace.
//!
//! One file per command. It knows where things are and how they are built, and nothing of what the product does.

mod bench;
mod check;
mod ebpf;
mod harness;
mod programs;
mod setup;
mod terminal;
mod test;
mod tidy;
mod vm;
mod workspace;

use std::{ffi::OsString, process::ExitCode};

use anyhow::Result;
use clap::{Parser, Subcommand};

use crate::{programs::Profile, setup::Need};

/// Build, check, test and show the router.
///
/// Every command first sets up what it needs and this machine lacks, and says so.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", after_help = EXAMPLES)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

const EXAMPLES: &str = "\
Examples:
  cargo xtask setup                        install all that the other commands need
  cargo xtask build --release              build both halves; the result is target/release/router
  cargo xtask demo                         watch it work; --keep leaves it up
  cargo xtask check                        what a change must pass, besides the tests
  cargo xtask test                         every test that this machine can run
  cargo xtask test weights --tier unit     unit tests whose name contains \"weights\"
  cargo xtask test --vm                    the netns tests on Linux 6.1 and 6.12 in virtual machines
  cargo xtask test limits --vm 6.1         one of them, on one kernel
  cargo xtask fuzz heads --seconds 600     one fuzz target for ten minutes
  cargo xtask bench --quick                rough times next to what a user would run instead
  cargo xtask run -- check examples        build, then `router check examples`
";

#[derive(Subcommand)]
enum Command {
    /// Install what the other commands need: rust-src, bpf-linker, Debian packages.
    Setup,
    /// Build the kernel half, embed it, build `router`.
    Build {
        /// Optimise; the result is target/release/router.
        #[arg(long)]
        release: bool,
    },
    /// Build the kernel half alone, to target/bpf/router.bpf.o.
    BuildEbpf,
    /// Format, tidy, lints of both halves, documentation: everything but tests.
    Check,
    /// Check what no compiler checks: imports, file heads and lengths, the kernel ABI's number, licences.
    Tidy {
        /// Record the present layouts of router-common under the present ABI_VERSION.
        #[arg(long)]
        bless_abi: bool,
    },
    /// Show what the router does, with pods, traffic and counts, on this machine. Needs root and BPF.
    Demo {
        /// Leave everything up for playing, and print the commands to try.
        #[arg(long)]
        keep: bool,
    },
    /// Run every test that this machine can run.
    Test(test::Options),
    /// Throw inputs at a fuzz target until the time is over: compile, matching, values, heads or boundaries.
    ///
    /// What fails is written to tests/fuzz/TARGET/, where every later run begins with it.
    Fuzz {
        /// The target [default: all].
        target: Option<String>,
        /// For how long.
        #[arg(long, default_value_t = 60)]
        seconds: u64,
    },
    /// Measure the router next to what a user would run instead. Needs root and BPF.
    Bench(bench::Options),
    /// Build, then run `router` with the arguments after `--`.
    Run {
        /// Optimise.
        #[arg(long)]
        release: bool,
        /// Arguments of `router`.
        #[arg(last = true)]
        arguments: Vec<OsString>,
    },
}

fn main() -> ExitCode {
    match run(Arguments::parse().command) {
        Ok(code) => code,
        Err(error) => {
            terminal::failure(&format!("{error:#}"));
            ExitCode::FAILURE
        }
    }
}

fn run(command: Command) -> Result<ExitCode> {
    match command {
        Command::Setup => setup::ensure(&Need::ALL)?,
        Command::BuildEbpf => drop(ebpf::build()?),
        Command::Build { release } => {
            let router = programs::router(Profile::of(release))?;
            terminal::done("router", &workspace::relative(&router));
        }
        Command::Check => return check::run(),
        Command::Tidy { bless_abi } => return tidy::run(bless_abi),
        Command::Demo { keep } => return programs::demo(keep),
        Command::Test(options) => return test::run(&options),
        Command::Fuzz { target, seconds } => {
            let counts = test::fuzz::run(target.as_deref(), seconds, None)?;
            anyhow::ensure!(counts.passed > 0 || counts.failed > 0, "there is no such target");
            if counts.failed > 0 {
                return Ok(ExitCode::FAILURE);
            }
        }
        Command::Bench(options) => return bench::run(&options),
        Command::Run { release, arguments } => return programs::run(Profile::of(release), &arguments),
    }
    Ok(ExitCode::SUCCESS)
}
