//! Finds test targets and builds those that run outside `cargo test`, by cargo's own JSON.

use std::{
    path::PathBuf,
    process::{Command, Stdio},
};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::{terminal, workspace};

/// How a test binary is linked.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Linkage {
    /// As everything that runs here.
    Dynamic,
    /// Whole, for guests that have no libraries.
    Static,
}

/// The guests' target.
const STATIC_TARGET: &str = "x86_64-unknown-linux-gnu";

/// Names of the integration tests of every crate.
pub(super) fn integration_tests() -> Result<Vec<String>> {
    let metadata = workspace::metadata()?;
    let packages = metadata["packages"].as_array().into_iter().flatten();
    let targets = packages.flat_map(|package| package["targets"].as_array().into_iter().flatten());
    let tests = targets.filter(|target| target["kind"][0] == "test");
    Ok(tests
        .filter_map(|target| target["name"].as_str().map(str::to_owned))
        .collect())
}

/// Builds the test target `name` of the tests crate; returns its binary.
pub(super) fn build(name: &str, linkage: Linkage) -> Result<PathBuf> {
    let mut cargo = workspace::cargo();
    cargo.args([
        "test",
        "--no-run",
        "--workspace",
        "--exclude",
        "router-ebpf",
        "--test",
        name,
    ]);
    cargo
        .arg("--message-format=json-render-diagnostics")
        .stderr(Stdio::inherit());
    if linkage == Linkage::Static {
        link_statically(&mut cargo);
        terminal::begin("static build", &format!("{name}, for the guests"));
    }
    let output = cargo.output().with_context(|| workspace::shown(&cargo))?;
    if !output.status.success() {
        bail!("{} failed ({})", workspace::shown(&cargo), output.status);
    }
    executable(&String::from_utf8_lossy(&output.stdout), name)
        .with_context(|| format!("cargo built no test binary {name}"))
}

/// A folder of its own, so that the two kinds of build do not displace each other.
fn link_statically(cargo: &mut Command) {
    cargo
        .args(["--target", STATIC_TARGET, "--target-dir"])
        .arg(workspace::target().join("static"))
        .env("CARGO_ENCODED_RUSTFLAGS", "-Ctarget-feature=+crt-static")
        // The binary goes into the guest's memory.
        .env("CARGO_PROFILE_DEV_DEBUG", "false")
        // The guest's processor is emulated: code that is not optimised at all takes minutes there.
        .env("CARGO_PROFILE_DEV_OPT_LEVEL", "1");
}

/// The binary of the target `name` in cargo's messages.
fn executable(messages: &str, name: &str) -> Option<PathBuf> {
    messages
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok())
        .filter(|message| message["reason"] == "compiler-artifact" && message["target"]["name"] == name)
        .find_map(|message| message["executable"].as_str().map(PathBuf::from))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_binary_is_found_by_its_targets_name() {
        let messages = r#"{"reason":"compiler-artifact","target":{"name":"tests"},"executable":null}
{"reason":"compiler-artifact","target":{"name":"netns"},"executable":"/t/netns-1"}
{"reason":"build-finished","success":true}"#;
        assert_eq!(executable(messages, "netns"), Some(PathBuf::from("/t/netns-1")));
        assert_eq!(executable(messages, "peers"), None);
    }
}
