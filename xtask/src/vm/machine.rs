//! One boot: QEMU, the guest's first process, the serial line, and the exit code that comes back over it.

use std::{path::Path, process::Command, time::Duration};

use anyhow::{Context, Result};

use super::kernel::Kernel;
use crate::{
    harness::{self, Counter, Counts},
    terminal,
};

/// The guest's memory, MiB. The test binary is in it twice: packed and unpacked.
const MEMORY: &str = "1536";

/// The guest's processors: races need two.
const PROCESSORS: &str = "2";

/// Percentage of the full number of connections that the tests make in a guest, unless the environment says another:
/// a round trip takes fifty times as long as on the host.
const SCALE: &str = "10";

/// Where the environment says it; the test binary reads the same name.
const SCALE_VARIABLE: &str = "ROUTER_TEST_SCALE";

/// A line of the guest that hands back the payload's exit code.
const EXIT: &str = "@@EXIT ";

/// The script that the guest's kernel starts: mounts, modules, loopback, payload, power-off.
pub(super) fn init_script(modules: &[&str], arguments: &[String]) -> String {
    let modules = modules.join(" ");
    let arguments = arguments
        .iter()
        .map(|argument| quoted(argument))
        .collect::<Vec<_>>()
        .join(" ");
    let scale = std::env::var(SCALE_VARIABLE).unwrap_or_else(|_| SCALE.to_owned());
    let scale = quoted(&scale);
    format!(
        r#"#!/bin/busybox sh
b=/bin/busybox
export PATH=/bin HOME=/tmp TMPDIR=/tmp RUST_BACKTRACE=1 ROUTER_TEST_REQUIRE=root {SCALE_VARIABLE}={scale}
$b mount -t devtmpfs dev /dev
$b mount -t proc proc /proc
$b mount -t sysfs sys /sys
$b mount -t tmpfs tmp /tmp
$b mount -t tmpfs run /run
$b mount -t bpf bpf /sys/fs/bpf
$b mount -t cgroup2 cgroup /sys/fs/cgroup
for module in {modules}; do $b insmod /modules/$module.ko || echo "cannot load $module"; done
$b ip link set lo up
ulimit -l unlimited
ulimit -n 1048576 2>/dev/null
echo "Linux $($b uname -r) up after $($b cut -d' ' -f1 /proc/uptime) s"
/bin/payload {arguments} </dev/null 2>&1
code=$?
echo
echo "{EXIT}$code"
$b poweroff -f
"#
    )
}

/// `text` as one word of a shell.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

/// Boots the image; shows the guest's lines as they come; returns what the payload counted.
pub(super) fn boot(kernel: &Kernel, image: &Path, limit: Duration) -> Result<Counts> {
    let mut counter = Counter::default();
    let mut code = None;
    harness::follow(&mut qemu(kernel, image), limit, |line| {
        match line.strip_prefix(EXIT) {
            Some(number) => code = number.parse::<i32>().ok(),
            None => {
                terminal::guest(&kernel.name, line);
                counter.read(line);
            }
        }
    })?;
    let code =
        code.context("the machine went off before the tests were done (a kernel panic, or out of memory)")?;
    Ok(counter.finish(code == 0))
}

fn qemu(kernel: &Kernel, image: &Path) -> Command {
    let mut qemu = Command::new("qemu-system-x86_64");
    qemu.args(["-machine", "q35", "-accel", "tcg,thread=multi", "-cpu", "max"])
        .args(["-smp", PROCESSORS, "-m", MEMORY])
        .args([
            "-display",
            "none",
            "-nodefaults",
            "-serial",
            "stdio",
            "-no-reboot",
        ])
        .arg("-kernel")
        .arg(&kernel.image)
        .arg("-initrd")
        .arg(image)
        // A panic reboots, and -no-reboot ends the machine then. The emulated clock needs no checks.
        .args([
            "-append",
            "console=ttyS0 quiet panic=-1 mitigations=off tsc=reliable no_timer_check",
        ]);
    qemu
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_reach_the_guest_as_they_are() {
        let script = init_script(&["veth"], &["it's".to_owned(), "--exact".to_owned()]);
        assert!(script.contains(r"/bin/payload 'it'\''s' '--exact' </dev/null"));
        assert!(script.contains("for module in veth; do"));
    }
}
