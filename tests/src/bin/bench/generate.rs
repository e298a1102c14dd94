//! The load generator: a process in the client pod that reads [`Job`]s, one a line, and prints what came of each.
//!
//! It knows nothing of what is between it and the servers.

mod http;
mod recorder;
mod tcp;
mod timer;
mod watch;

use std::{
    io::{BufRead, Write},
    process::ExitCode,
};

use anyhow::{Context, Result};

use crate::{
    job::{Job, Load, Measured},
    place,
};

/// Hidden argument: `generate`.
pub(crate) const GENERATE: &str = "generate";
/// Hidden argument: `watch ADDRESS:PORT`.
pub(crate) const WATCH: &str = "watch";

/// Does the jobs that are read from standard input, until it ends.
pub(crate) fn run() -> Result<ExitCode> {
    tests::sys::raise_open_files();
    for line in std::io::stdin().lock().lines() {
        let job: Job = serde_json::from_str(&line?).context("the job")?;
        let measured = perform(&job)?;
        let mut stdout = std::io::stdout().lock();
        serde_json::to_writer(&mut stdout, &measured)?;
        writeln!(stdout)?;
        stdout.flush()?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Follows which server a connection reaches.
pub(crate) fn watch(argument: &str) -> Result<ExitCode> {
    watch::run(argument.parse().context("ADDRESS:PORT")?)?;
    Ok(ExitCode::SUCCESS)
}

fn perform(job: &Job) -> Result<Measured> {
    if !matches!(job.load, Load::Http(_)) {
        place::first()?;
    }
    match &job.load {
        Load::Http(load) => http::run(job, load),
        Load::Connect { target, until } => tcp::connect(job, *target, *until),
        Load::PingPong { target, bytes } => tcp::ping_pong(job, *target, *bytes),
        Load::Bulk { target } => tcp::bulk(job, *target),
    }
}
