//! Everything that judges the code without running it: format, lints of both halves, tidy, documentation.

use std::process::ExitCode;

use anyhow::Result;

use crate::{
    ebpf,
    setup::{self, Need},
    terminal, tidy, workspace,
};

/// A module's documentation names its parts, and these may be private: it is read with private items shown.
const RUSTDOC: &str = "-D warnings -A rustdoc::private-intra-doc-links";

/// Runs every check, whatever the earlier ones found, so that one run shows all there is to mend.
pub(crate) fn run() -> Result<ExitCode> {
    setup::ensure(&[Need::Lints, Need::RustSource, Need::BpfLinker])?;
    let mut failed = Vec::new();
    let mut step = |name: &'static str, run: &dyn Fn() -> Result<bool>| -> Result<()> {
        terminal::heading(name);
        if !run()? {
            terminal::failed(name, &"see above");
            failed.push(name);
        }
        Ok(())
    };
    step("format", &format)?;
    step("tidy", &|| Ok(tidy::run(false)? == ExitCode::SUCCESS))?;
    step("clippy, user half", &clippy)?;
    step("clippy, kernel half", &clippy_kernel)?;
    step("documentation", &documentation)?;
    if failed.is_empty() {
        terminal::done("check", &"nothing to mend");
        return Ok(ExitCode::SUCCESS);
    }
    terminal::failed("check", &failed.join(", "));
    Ok(ExitCode::FAILURE)
}

fn format() -> Result<bool> {
    Ok(workspace::cargo()
        .args(["fmt", "--all", "--check"])
        .status()?
        .success())
}

fn clippy() -> Result<bool> {
    let mut cargo = workspace::cargo();
    cargo.args([
        "clippy",
        "--workspace",
        "--exclude",
        "router-ebpf",
        "--all-targets",
        "--keep-going",
        "--",
        "-D",
        "warnings",
    ]);
    Ok(cargo.status()?.success())
}

fn clippy_kernel() -> Result<bool> {
    Ok(ebpf::cargo("clippy")?
        .args(["--", "-D", "warnings"])
        .status()?
        .success())
}

fn documentation() -> Result<bool> {
    let mut cargo = workspace::cargo();
    cargo.args([
        "doc",
        "--workspace",
        "--exclude",
        "router-ebpf",
        "--no-deps",
        "--keep-going",
        "--document-private-items",
    ]);
    Ok(cargo.env("RUSTDOCFLAGS", RUSTDOC).status()?.success())
}
