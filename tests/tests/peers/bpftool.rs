//! bpftool: what the kernel holds, by a program that is not ours.

use std::{path::Path, process::Command, time::Duration};

use anyhow::{Context, Result, ensure};
use router_common::abi::{MAPS, PROGRAMS};
use serde_json::Value;
use tests::{
    bed::Agent,
    cluster::{Cluster, limit, split},
    harness::Test,
    wait,
};

use crate::nginx::run;

pub(crate) const TESTS: &[Test] = &[(
    "bpftool_sees_all_of_it_and_after_uninstall_nothing",
    all_or_nothing,
)];

const SOON: Duration = Duration::from_secs(20);

/// What the kernel holds of one agent, by id.
#[derive(PartialEq, Eq, Debug, Default)]
struct Held {
    programs: Vec<u64>,
    maps: Vec<u64>,
}

fn all_or_nothing() -> Result<()> {
    let cluster = Cluster::new()?;
    // Something is proxied, so that the hand-over is attached.
    let proxied = split("web", &[("v1", 50), ("v2", 50)]);
    let mut agent = cluster.agent(&(proxied + &limit("store", 10)))?;
    let held = held(&agent)?;
    ensure!(held.programs.len() == PROGRAMS.len(), "{held:?}");
    ensure!(held.maps.len() >= MAPS.len(), "{held:?}");
    let cgroup = cluster.node.scratch().cgroup();
    let attached = attached(cgroup)?;
    ensure!(
        held.programs.iter().all(|id| attached.contains(id)),
        "{held:?} but attached: {attached:?}"
    );
    agent.terminate()?;
    let pin_dir = cluster.node.scratch().pins().to_string_lossy().into_owned();
    let output = agent.router(&["uninstall", "--pin-dir", &pin_dir])?;
    ensure!(output.status.success(), "{output:?}");
    ensure!(
        attached_now(cgroup)?.is_empty(),
        "still attached: {:?}",
        attached_now(cgroup)
    );
    // The kernel frees programs and maps a moment after the last reference is gone.
    let gone = wait::until("programs and maps to be gone", SOON, || {
        let programs = ids(&["prog", "show"]).ok()?;
        let maps = ids(&["map", "show"]).ok()?;
        let left = held.programs.iter().any(|id| programs.contains(id))
            || held.maps.iter().any(|id| maps.contains(id));
        (!left).then_some(())
    });
    gone.with_context(|| format!("{held:?}"))
}

/// The programs that the agent says it attached, and the maps that they use.
fn held(agent: &Agent<'_>) -> Result<Held> {
    let status = agent.status()?;
    let hooks = status["hooks"].as_array().context("no hooks")?;
    let mut held = Held::default();
    for id in hooks.iter().filter_map(|hook| hook["programId"].as_u64()) {
        let program = bpftool(&["prog", "show", "id", &id.to_string()])?;
        held.programs.push(id);
        held.maps.extend(
            program["map_ids"]
                .as_array()
                .into_iter()
                .flatten()
                .filter_map(Value::as_u64),
        );
    }
    held.maps.sort_unstable();
    held.maps.dedup();
    Ok(held)
}

/// Ids of the programs attached to a cgroup; at least one.
fn attached(cgroup: &Path) -> Result<Vec<u64>> {
    let ids = attached_now(cgroup)?;
    ensure!(!ids.is_empty(), "nothing is attached to {}", cgroup.display());
    Ok(ids)
}

fn attached_now(cgroup: &Path) -> Result<Vec<u64>> {
    let listed = bpftool(&["cgroup", "show", &cgroup.to_string_lossy()])?;
    Ok(listed
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|p| p["id"].as_u64())
        .collect())
}

/// Ids in a list that bpftool prints.
fn ids(arguments: &[&str]) -> Result<Vec<u64>> {
    let listed = bpftool(arguments)?;
    Ok(listed
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|o| o["id"].as_u64())
        .collect())
}

fn bpftool(arguments: &[&str]) -> Result<Value> {
    let mut command = Command::new("/usr/sbin/bpftool");
    command.arg("-j").args(arguments);
    let output = run(command)?;
    if output.stdout.iter().all(u8::is_ascii_whitespace) {
        return Ok(Value::Null);
    }
    serde_json::from_slice(&output.stdout).with_context(|| format!("bpftool {arguments:?}"))
}
