//! What a privileged test needs of the machine, and a loud answer when it is missing.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::sys;

/// Environment variable that turns a skip into a failure: `root` for everything that needs privileges, `peers` for
/// everything that needs programs of others; a comma separates.
pub const REQUIRE: &str = "ROUTER_TEST_REQUIRE";

/// Environment variable: percentage of the full number of connections and requests (100 unless told), for machines
/// that are emulated.
pub const SCALE: &str = "ROUTER_TEST_SCALE";

/// Where the BPF file system is.
pub const BPFFS: &str = "/sys/fs/bpf";

/// Why privileged tests cannot run here; `None` when they can.
pub fn missing_privileges() -> Option<String> {
    privileges().err().map(|error| format!("{error:#}"))
}

fn privileges() -> Result<()> {
    if !sys::is_root() {
        bail!("not root: run as root, or in the VM with `cargo xtask test --vm`");
    }
    let cgroups = cgroup_root()?;
    if !Path::new("/proc/self/ns/net").exists() {
        bail!("this kernel has no network namespaces");
    }
    let probe = cgroups.join(format!("router-test-{}-probe", std::process::id()));
    std::fs::create_dir(&probe).with_context(|| format!("cannot make a cgroup at {}", probe.display()))?;
    std::fs::remove_dir(&probe)?;
    mount_bpffs()
}

/// Where cgroup v2 is mounted: `/sys/fs/cgroup` alone, or `unified` below it.
///
/// # Errors
///
/// It is not mounted.
pub fn cgroup_root() -> Result<PathBuf> {
    let mounts = std::fs::read_to_string("/proc/mounts")?;
    let mut fields = mounts.lines().map(|line| line.split(' '));
    fields
        .find_map(|mut f| Some((f.next()?, f.next()?, f.next()?)).filter(|(_, _, kind)| *kind == "cgroup2"))
        .map(|(_, path, _)| path.into())
        .context("cgroup v2 is not mounted: mount -t cgroup2 none /sys/fs/cgroup")
}

fn mount_bpffs() -> Result<()> {
    let mounts = std::fs::read_to_string("/proc/mounts")?;
    if mounts.lines().any(|line| line.split(' ').nth(1) == Some(BPFFS)) {
        return Ok(());
    }
    sys::mount_bpffs(c"/sys/fs/bpf").context("mounting the BPF file system at /sys/fs/bpf")
}

/// True when `what` is named in [`REQUIRE`].
pub fn is_required(what: &str) -> bool {
    std::env::var(REQUIRE).is_ok_and(|list| list.split(',').any(|w| w == what))
}

/// The percentage in [`SCALE`], when it is not 100.
pub fn reduced() -> Option<u64> {
    let percent = std::env::var(SCALE).ok()?.parse().ok()?;
    (percent != 100).then_some(percent)
}

/// `full` times the percentage in [`SCALE`], rounded down to a multiple of `step` and at least `step`.
pub fn scaled(full: u64, step: u64) -> u64 {
    let scaled = full * reduced().unwrap_or(100) / 100;
    (scaled / step).max(1) * step
}
