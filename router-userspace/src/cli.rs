//! The command line: arguments, exit codes, errors with hints. Each command has its file.
//!
//! Exit codes: 0 done, 1 it failed or was refused, 2 the arguments make no sense.

pub mod check;
pub mod output;

use std::{ffi::OsString, process::ExitCode};

use clap::{Parser, Subcommand};

mod agent;
mod client;
mod dump;
mod explain;
mod objects;
mod status;
mod text;
mod uninstall;
mod units;

use objects::{apply, delete, diff, get};
use text::print_error;

/// Exit code for arguments that make no sense.
const USAGE: u8 = 2;

const EXAMPLES: &str = "\
Examples:
  router check examples/bookinfo          what is wrong with a configuration
  router agent --config /etc/router       route this node's connections
  router explain --from default/productpage -H 'Foo: bar' http://reviews:9080/
  router status                           hooks, services, limits of the running agent
  router uninstall                        take everything out of the kernel";

/// eBPF-accelerated node-level L4/L7 router.
#[derive(Parser, Debug)]
#[command(name = "router", version, about, after_help = EXAMPLES, propagate_version = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand, Debug)]
enum Command {
    /// Run the agent: route the connections of this node's pods.
    Agent(Box<agent::Args>),
    /// Validate configuration files without an agent.
    Check(check::Args),
    /// Say where a request or connection goes, and why.
    Explain(explain::Args),
    /// Put new rules and policies into a configuration directory.
    Create(apply::Args),
    /// Replace rules and policies of a configuration directory.
    Replace(apply::Args),
    /// Print the rules and policies of a configuration directory.
    Get(get::Args),
    /// Take rules and policies out of a configuration directory.
    Delete(delete::Args),
    /// Show what applying a file to a configuration directory would change.
    Diff(diff::Args),
    /// Show how the running agent is: configuration, hooks, services, limits.
    Status(status::Args),
    /// Print what the kernel holds, or the compiled configuration.
    Dump(dump::Args),
    /// Remove every link, pin, map and address of an agent that was stopped.
    Uninstall(uninstall::Args),
}

/// Runs `router` with the given arguments, the program's name first.
pub fn run(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let cli = match Cli::try_parse_from(arguments) {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version are errors to clap. A closed terminal is nothing to report.
            let _ = error.print();
            return if error.use_stderr() {
                ExitCode::from(USAGE)
            } else {
                ExitCode::SUCCESS
            };
        }
    };
    let result = match cli.command {
        Command::Check(args) => return check::run(&args),
        Command::Create(args) => return apply::run(&args, apply::Verb::Create),
        Command::Replace(args) => return apply::run(&args, apply::Verb::Replace),
        Command::Get(args) => return get::run(&args),
        Command::Delete(args) => return delete::run(args),
        Command::Diff(args) => return diff::run(&args),
        Command::Agent(args) => agent::run(*args),
        Command::Explain(args) => explain::run(&args),
        Command::Status(args) => status::run(&args),
        Command::Dump(args) => dump::run(&args),
        Command::Uninstall(args) => uninstall::run(&args),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            print_error(&error);
            ExitCode::FAILURE
        }
    }
}

#[cfg(test)]
mod tests;
