//! What the commands need from this machine, and how it gets there.
//!
//! Every need is looked up first and met only when it is not; a need that cannot be met is an error that says what is
//! missing, what for, and the command that brings it.

mod apt;

use std::{path::PathBuf, process::Command};

use anyhow::{Context, Result, bail};

pub(crate) use self::apt::{Purpose, update as update_package_lists};
use crate::{terminal, workspace};

/// bpf-linker's version. 0.10 links with the LLVM of the Rust toolchain; later ones want a system LLVM.
const BPF_LINKER: &str = "0.10.3";

/// Something that a command needs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Need {
    /// rustfmt and clippy.
    Lints,
    /// The standard library's sources, from which `core` is built for the BPF target.
    RustSource,
    /// The linker of the kernel half.
    BpfLinker,
    /// Debian packages.
    Packages(Purpose),
}

impl Need {
    /// Everything.
    pub(crate) const ALL: [Self; 6] = [
        Self::Lints,
        Self::RustSource,
        Self::BpfLinker,
        Self::Packages(Purpose::Kernel),
        Self::Packages(Purpose::Peers),
        Self::Packages(Purpose::Vm),
    ];

    fn meet(self) -> Result<()> {
        match self {
            Self::Lints => {
                component("rustfmt", "bin/cargo-fmt")?;
                component("clippy", "bin/cargo-clippy")
            }
            Self::RustSource => component("rust-src", "lib/rustlib/src/rust/library/Cargo.lock"),
            Self::BpfLinker => bpf_linker(),
            Self::Packages(purpose) => apt::provide(purpose),
        }
    }
}

/// Meets the needs in their order, and says at the end which could not be met.
pub(crate) fn ensure(needs: &[Need]) -> Result<()> {
    let unmet: Vec<_> = needs.iter().filter_map(|need| need.meet().err()).collect();
    if unmet.is_empty() {
        return Ok(());
    }
    let reasons: Vec<_> = unmet.iter().map(|error| format!("{error:#}")).collect();
    bail!("{}", reasons.join("\n       "));
}

/// A part of the Rust toolchain, known by a file below its root.
fn component(name: &str, file: &str) -> Result<()> {
    let root = workspace::output(
        Command::new("rustc")
            .current_dir(workspace::root())
            .args(["--print", "sysroot"]),
    )?;
    let root = PathBuf::from(root.trim());
    if root.join(file).exists() {
        terminal::done(name, &"present");
        return Ok(());
    }
    if workspace::find("rustup").is_none() {
        bail!(
            "the Rust toolchain in {} has no {name}, and there is no rustup to add it: install {name} the way that toolchain was installed, or get rustup from https://rustup.rs",
            root.display()
        );
    }
    terminal::begin(name, &"rustup component add");
    workspace::run(Command::new("rustup").current_dir(workspace::root()).args(["component", "add", name]))
        .with_context(|| format!("cannot add {name} to the Rust toolchain; `rustup component add {name}` in this folder must succeed once"))?;
    terminal::done(name, &"added");
    Ok(())
}

/// bpf-linker, pinned, below target/tools.
fn bpf_linker() -> Result<()> {
    let program = workspace::tools().join("bin/bpf-linker");
    let wanted = format!("bpf-linker {BPF_LINKER}");
    let found = workspace::output(Command::new(&program).arg("--version")).unwrap_or_default();
    if found.trim() == wanted {
        terminal::done("bpf-linker", &BPF_LINKER);
        return Ok(());
    }
    terminal::begin(
        "bpf-linker",
        &format!("cargo install {BPF_LINKER} (about two minutes, once)"),
    );
    let mut install = workspace::cargo();
    install
        .args([
            "install",
            "bpf-linker",
            "--version",
            BPF_LINKER,
            "--locked",
            "--force",
            "--root",
        ])
        .arg(workspace::tools())
        // Flags meant for our crates are not meant for it.
        .env_remove("RUSTFLAGS");
    workspace::run(&mut install).with_context(|| {
        format!("cannot install bpf-linker {BPF_LINKER}, which links the kernel half; it comes from crates.io and needs a C++ compiler's runtime (Debian: build-essential)")
    })?;
    terminal::done("bpf-linker", &BPF_LINKER);
    Ok(())
}
