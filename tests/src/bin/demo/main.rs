//! The bookinfo demo: pods on one node, real servers in them, the agent, and what the rules do to real traffic.
//!
//! Every row that it prints is measured, and compared with what the rules promise; a row that is off makes the exit
//! code 1. It knows the example's services and rules, and nothing of how they are routed.

mod bookinfo;
mod keep;
mod scenes;
mod table;

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
    time::Instant,
};

use anyhow::{Context, Result};
use clap::Parser;
use tests::{
    bed::{Agent, AgentOptions, scratch},
    require,
};

use self::{bookinfo::Bookinfo, table::Table};

/// The bookinfo services as pods on this machine, with their calls routed by the rules of examples/bookinfo.
#[derive(Parser)]
#[command(name = "demo")]
struct Arguments {
    /// Leave everything up after the show, and print commands to try.
    #[arg(long)]
    keep: bool,
    /// Directory of the example.
    #[arg(long, default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/bookinfo"))]
    example: PathBuf,
    /// The `router` program [default: the one inside this program].
    #[arg(long)]
    router: Option<PathBuf>,
}

fn main() -> ExitCode {
    if let Some(code) = tests::dispatch() {
        return code;
    }
    let arguments = Arguments::parse();
    if let Some(reason) = require::missing_privileges() {
        eprintln!("The demo needs network namespaces, cgroups and BPF: {reason}");
        return ExitCode::FAILURE;
    }
    match until_interrupted(move || show(&arguments)) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("{error:?}");
            ExitCode::FAILURE
        }
    }
}

/// Runs the show; when the user interrupts it, removes what it made.
fn until_interrupted(show: impl FnOnce() -> Result<bool> + Send + 'static) -> Result<bool> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let (sender, done) = tokio::sync::oneshot::channel();
        std::thread::spawn(move || sender.send(show()));
        tokio::select! {
            outcome = done => outcome.context("the demo panicked")?,
            interrupted = tokio::signal::ctrl_c() => {
                interrupted?;
                println!("\ncleaning up");
                scratch::remove_own().map(|()| true)
            }
        }
    })
}

/// Sets the stage, plays every scene, and tells whether all went as the rules say.
fn show(arguments: &Arguments) -> Result<bool> {
    let start = Instant::now();
    let mut table = Table::default();
    table.note("making the node and its pods");
    let bookinfo = Bookinfo::new(&arguments.example)?;
    table.note("starting the agent");
    let files = bookinfo.files();
    let options = AgentOptions {
        router: arguments.router.clone(),
        ..AgentOptions::default()
    };
    let agent = Agent::start_with(&bookinfo.node, &files, options)?;
    table.note(&format!(
        "{} pods and the agent are up after {:.1} s",
        bookinfo.pods.len(),
        start.elapsed().as_secs_f32()
    ));
    scenes::play(&bookinfo, &agent, &mut table)?;
    let well = table.finish(start.elapsed());
    if arguments.keep {
        let router = arguments.router.as_deref().unwrap_or(Path::new("router"));
        keep::print(&bookinfo, &agent, router)?;
        // Until the user interrupts.
        loop {
            std::thread::park();
        }
    }
    Ok(well)
}
