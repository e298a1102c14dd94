//! Runs fuzz targets for a time. What they test is theirs.

use std::{process::Command, time::Duration};

use anyhow::Result;

use super::targets::{self, Linkage};
use crate::harness::{self, Counts};

/// Seconds of each target in a run of all tests; they run at the same time.
pub(super) const SECONDS: u64 = 10;
/// Seconds beyond the targets' own that a run may take: the corpora, and inputs that were begun.
const GRACE: Duration = Duration::from_secs(300);

/// Runs the targets whose names contain `filter`, with the inputs of `seed`, or of one that nobody knows.
pub(crate) fn run(filter: Option<&str>, seconds: u64, seed: Option<u64>) -> Result<Counts> {
    let binary = targets::build("fuzz", Linkage::Dynamic)?;
    let mut fuzz = Command::new(binary);
    fuzz.args(filter).arg("--nocapture");
    fuzz.env("ROUTER_FUZZ_SECONDS", seconds.to_string());
    if let Some(seed) = seed {
        fuzz.env("ROUTER_TEST_SEED", seed.to_string());
    }
    harness::run(&mut fuzz, GRACE + Duration::from_secs(seconds))
}
