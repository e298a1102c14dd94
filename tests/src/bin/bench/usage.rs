//! What a cgroup has used: processor time, memory.
//!
//! `cpu.stat` of cgroup v2 counts processor time on every machine, also where the controllers are those of v1. Time
//! that the kernel spends in soft interrupts on behalf of a connection is charged to whoever ran at that moment, for
//! every system alike.

use std::{
    fs,
    ops::{Add, Sub},
    path::Path,
};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

/// Processor time in microseconds.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) struct Cpu {
    pub(crate) user_us: u64,
    pub(crate) system_us: u64,
}

impl Cpu {
    /// What the processes of a cgroup and all below have used.
    pub(crate) fn of(cgroup: &Path) -> Result<Self> {
        let path = cgroup.join("cpu.stat");
        let text = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
        let field = |name: &str| {
            let mut lines = text.lines().filter_map(|line| line.split_once(' '));
            let value = lines
                .find(|(key, _)| *key == name)
                .and_then(|(_, v)| v.parse().ok());
            value.with_context(|| format!("no {name} in {}", path.display()))
        };
        Ok(Self {
            user_us: field("user_usec")?,
            system_us: field("system_usec")?,
        })
    }

    /// Both kinds, in seconds.
    #[expect(
        clippy::cast_precision_loss,
        reason = "microseconds of a benchmark stay far below 2^52"
    )]
    pub(crate) fn seconds(self) -> f64 {
        (self.user_us + self.system_us) as f64 / 1e6
    }
}

impl Sub for Cpu {
    type Output = Self;

    fn sub(self, earlier: Self) -> Self {
        Self {
            user_us: self.user_us.saturating_sub(earlier.user_us),
            system_us: self.system_us.saturating_sub(earlier.system_us),
        }
    }
}

impl Add for Cpu {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            user_us: self.user_us + other.user_us,
            system_us: self.system_us + other.system_us,
        }
    }
}

/// Resident memory in KiB of all processes of a cgroup. A page that several of them share counts once (PSS), so a
/// system of several processes is not charged twice.
pub(crate) fn memory_kib(cgroup: &Path) -> Result<u64> {
    let procs = fs::read_to_string(cgroup.join("cgroup.procs"))?;
    let mut total = 0;
    for pid in procs.lines() {
        // A process may end between the two looks.
        let Ok(rollup) = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")) else {
            continue;
        };
        let pss = rollup.lines().find_map(|line| line.strip_prefix("Pss:"));
        let kib = pss.and_then(|value| value.trim().trim_end_matches("kB").trim().parse::<u64>().ok());
        total += kib.unwrap_or(0);
    }
    Ok(total)
}
