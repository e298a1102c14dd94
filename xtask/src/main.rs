//! `cargo xtask`: builds, checks, tests and shows the workspace.
//!
//! One file per command. It knows where things are and how they are built, and nothing of what the product does.

mod ebpf;
mod harness;
mod programs;
mod setup;
mod terminal;
mod test;
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
  cargo xtask test                         every test that this machine can run
  cargo xtask test weights --tier unit     unit tests whose name contains \"weights\"
  cargo xtask test --vm                    the netns tests on Linux 6.1 and 6.12 in virtual machines
  cargo xtask test limits --vm 6.1         one of them, on one kernel
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
    /// Run every test that this machine can run.
    Test(test::Options),
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
        Command::Test(options) => return test::run(&options),
        Command::Run { release, arguments } => return programs::run(Profile::of(release), &arguments),
    }
    Ok(ExitCode::SUCCESS)
}
