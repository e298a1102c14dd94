//! The same tests on other kernels: boots stock Debian kernels in QEMU and runs one static test binary there as root.
//!
//! Plain emulation (TCG): it needs neither KVM nor root, and it says nothing about speed. It knows nothing of what
//! the binary tests.

mod initramfs;
mod kernel;
mod machine;
mod package;

use std::{path::Path, time::Duration};

use anyhow::{Context, Result};

use self::initramfs::Initramfs;
pub(crate) use self::kernel::{Kernel, KernelName};
use crate::{
    harness::Counts,
    setup::{self, Need, Purpose},
    terminal, workspace,
};

/// Kernels that are booted when none is named: the oldest that is supported, and the newest of Debian stable.
pub(crate) const DEFAULT_KERNELS: [&str; 2] = ["6.1", "6.12"];

/// Modules that the guest loads, in this order; those that a kernel has built in are not in its package.
const MODULES: [&str; 6] = ["veth", "dummy", "llc", "stp", "bridge", "tls"];

/// What runs in the guest, and for how long at most.
pub(crate) struct Payload<'a> {
    /// A static binary.
    pub(crate) binary: &'a Path,
    /// Its arguments.
    pub(crate) arguments: &'a [String],
    /// From power-on to power-off.
    pub(crate) limit: Duration,
}

/// Gets what it takes to boot `name`.
///
/// # Errors
///
/// QEMU is missing and cannot be installed, or the kernel cannot be had.
pub(crate) fn prepare(name: &KernelName) -> Result<Kernel> {
    setup::ensure(&[Need::Packages(Purpose::Vm)])?;
    package::busybox()?;
    Kernel::fetch(name)
}

/// Boots `kernel` and runs the payload in it; its output appears under the kernel's name.
///
/// # Errors
///
/// The guest ended without handing back an exit code (a panic, a hang).
pub(crate) fn run(kernel: &Kernel, payload: &Payload<'_>) -> Result<Counts> {
    let folder = workspace::target().join("vm");
    let image = folder.join(format!("{}.cpio", kernel.version));
    guest(kernel, payload)?
        .write(&image)
        .with_context(|| image.display().to_string())?;
    terminal::begin(
        "vm",
        &format!(
            "booting Linux {} (at most {} s)",
            kernel.version,
            payload.limit.as_secs()
        ),
    );
    let counts = machine::boot(kernel, &image, payload.limit);
    let _ = std::fs::remove_file(&image);
    counts.with_context(|| format!("on Linux {}", kernel.version))
}

/// The guest's whole file system.
fn guest(kernel: &Kernel, payload: &Payload<'_>) -> Result<Initramfs> {
    let mut image = Initramfs::default();
    for folder in ["bin", "proc", "sys", "dev", "tmp", "run", "modules"] {
        image.folder(folder);
    }
    image.character_device("dev/console", 5, 1);
    image.program("bin/busybox", &package::busybox()?)?;
    image.link("bin/sh", "busybox");
    image.program("bin/payload", payload.binary)?;
    let mut loaded = Vec::new();
    for module in MODULES {
        if let Some(bytes) = kernel.module(module)? {
            image.file(&format!("modules/{module}.ko"), 0o644, bytes);
            loaded.push(module);
        }
    }
    image.file(
        "init",
        0o755,
        machine::init_script(&loaded, payload.arguments).into_bytes(),
    );
    Ok(image)
}
