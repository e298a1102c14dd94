//! Builds `router`, with the kernel half in it, and runs it.

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
    ebpf::build()?;
    let mut cargo = workspace::cargo();
    cargo
        .args(["build", "--package", "router-userspace", "--bin", "router"])
        .arg("--target-dir")
        .arg(workspace::target());
    if profile == Profile::Release {
        cargo.arg("--release");
    }
    workspace::run(&mut cargo)?;
    Ok(workspace::target().join(profile.folder()).join("router"))
}

/// Builds both halves and becomes `router`.
pub(crate) fn run(profile: Profile, arguments: &[OsString]) -> Result<ExitCode> {
    let router = router(profile)?;
    let error = Command::new(&router).args(arguments).exec();
    Err(error).with_context(|| router.display().to_string())
}
