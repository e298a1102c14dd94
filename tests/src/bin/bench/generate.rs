//! The load generator: a process in the client pod that does one [`Job`] and prints what came of it.
//!
//! It knows nothing of what is between it and the servers.

mod http;
mod recorder;
mod tcp;
mod timer;
mod watch;

use std::{io::Write, process::ExitCode};

use anyhow::{Context, Result};

use crate::{
    job::{Job, Load, Measured},
    place,
};

/// Hidden argument: `generate JOB`.
pub(crate) const GENERATE: &str = "generate";
/// Hidden argument: `watch ADDRESS:PORT`.
pub(crate) const WATCH: &str = "watch";

/// Does the job given as JSON.
pub(crate) fn run(argument: &str) -> Result<ExitCode> {
    let job: Job = serde_json::from_str(argument).context("the job")?;
    tests::sys::raise_open_files();
    let measured = perform(&job)?;
    serde_json::to_writer(std::io::stdout().lock(), &measured)?;
    std::io::stdout().flush()?;
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
