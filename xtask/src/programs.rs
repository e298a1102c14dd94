//! Builds `router`, with the kernel half in it, and the demo; runs them.

use std::{
    ffi::OsString,
    os::unix::process::CommandExt,
    path::PathBuf,
    process::{Command, ExitCode},
};

use anyhow::{Context, Result};

use crate::{ebpf, workspace};

/// How the user half is compiled. The kernel half is always optimised.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Profile {
    /// Quick to build.
    Dev,
    /// Quick to run.
    Release,
}

impl Profile {
    pub(crate) fn of(release: bool) -> Self {
        if release { Self::Release } else { Self::Dev }
    }

    fn folder(self) -> &'static str {
        match self {
            Self::Dev => "debug",
            Self::Release => "release",
        }
    }
}

/// Builds both halves; returns where `router` is.
pub(crate) fn router(profile: Profile) -> Result<PathBuf> {
    build(profile, &["router"])?;
    Ok(binary(profile, "router"))
}

/// Builds both halves and becomes `router`.
pub(crate) fn run(profile: Profile, arguments: &[OsString]) -> Result<ExitCode> {
    let router = router(profile)?;
    let error = Command::new(&router).args(arguments).exec();
    Err(error).with_context(|| router.display().to_string())
}

/// Builds both halves and the demo, and becomes the demo. `keep` leaves what it made in place.
pub(crate) fn demo(keep: bool) -> Result<ExitCode> {
    let profile = Profile::Dev;
    build(profile, &["router", "demo"])?;
    let mut demo = Command::new(binary(profile, "demo"));
    demo.current_dir(workspace::root())
        .arg("--router")
        .arg(binary(profile, "router"));
    if keep {
        demo.arg("--keep");
    }
    Err(demo.exec()).with_context(|| workspace::shown(&demo))
}

/// All crates are named each time, so that every call builds with the same features.
pub(crate) fn build(profile: Profile, binaries: &[&str]) -> Result<()> {
    ebpf::build()?;
    let mut cargo = workspace::cargo();
    cargo
        .args(["build", "--workspace", "--exclude", "router-ebpf", "--target-dir"])
        .arg(workspace::target());
    for binary in binaries {
        cargo.args(["--bin", binary]);
    }
    if profile == Profile::Release {
        cargo.arg("--release");
    }
    workspace::run(&mut cargo)
}

/// Where a binary of a profile is.
pub(crate) fn binary(profile: Profile, name: &str) -> PathBuf {
    workspace::target().join(profile.folder()).join(name)
}
