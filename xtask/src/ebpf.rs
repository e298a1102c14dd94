//! Builds the kernel half: router-ebpf for the BPF target, linked by bpf-linker, to `target/bpf/router.bpf.o`.
//!
//! It knows nothing of what the programs do; loading them is the agent's work.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
    time::Instant,
};

use anyhow::{Context, Result};

use crate::{
    setup::{self, Need},
    terminal, workspace,
};

/// The target of every little-endian Linux.
const TARGET: &str = "bpfel-unknown-none";

/// Where the object that `router` embeds is.
pub(crate) fn object() -> PathBuf {
    workspace::target().join("bpf/router.bpf.o")
}

/// `cargo VERB` for the kernel half, with all that its target needs.
pub(crate) fn cargo(verb: &str) -> Result<Command> {
    let mut command = workspace::cargo();
    // Flags as aya-build passes them; `\x1f` separates them.
    let flags = [
        format!("--cfg=bpf_target_arch=\"{}\"", env::consts::ARCH),
        "-Cdebuginfo=2".to_owned(),
        // v3 has the fetching atomics (kernel 5.12); the default has none.
        "-Ctarget-cpu=v3".to_owned(),
        "-Clinker=bpf-linker".to_owned(),
        "-Clink-arg=--btf".to_owned(),
    ];
    command
        .args([verb, "--package", "router-ebpf", "--release", "--target", TARGET])
        // The target has no prebuilt `core`; building it is an unstable option, hence the bootstrap variable for this
        // one command.
        .args(["-Z", "build-std=core"])
        .arg("--target-dir")
        .arg(workspace::target().join("bpf-build"))
        .env("RUSTC_BOOTSTRAP", "1")
        .env("CARGO_ENCODED_RUSTFLAGS", flags.join("\x1f"))
        .env("PATH", workspace::path_with_tools()?);
    Ok(command)
}

/// Builds the kernel half and puts the object in its place.
pub(crate) fn build() -> Result<PathBuf> {
    setup::ensure(&[Need::RustSource, Need::BpfLinker])?;
    let start = Instant::now();
    workspace::run(&mut cargo("build")?).context("the kernel half does not build")?;
    let built = workspace::target()
        .join("bpf-build")
        .join(TARGET)
        .join("release/router-ebpf");
    let object = object();
    let size = place(&built, &object)?;
    terminal::done(
        "kernel half",
        &format!(
            "{} ({size} bytes, {:.1} s)",
            workspace::relative(&object),
            start.elapsed().as_secs_f32()
        ),
    );
    Ok(object)
}

/// Copies `built` to `object` if the bytes differ: an untouched object spares everything that embeds it a build.
fn place(built: &Path, object: &Path) -> Result<usize> {
    let bytes = fs::read(built).with_context(|| built.display().to_string())?;
    if fs::read(object).ok().as_deref() != Some(&bytes) {
        fs::create_dir_all(object.with_file_name("")).context("target/bpf")?;
        // Written beside and renamed, so that a build that embeds it at this moment sees a whole object.
        let fresh = object.with_extension("new");
        fs::write(&fresh, &bytes).with_context(|| fresh.display().to_string())?;
        fs::rename(&fresh, object).with_context(|| object.display().to_string())?;
    }
    Ok(bytes.len())
}
