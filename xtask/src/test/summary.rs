//! Adds up the tiers and prints the table and the closing line.

use std::{
    env,
    process::ExitCode,
    time::{Duration, Instant},
};

use anyhow::Result;

use crate::{harness::Counts, terminal};

/// Set to `root`, it turns a privileged test that cannot run into a failure. The test binaries read it too.
const REQUIRE: &str = "ROUTER_TEST_REQUIRE";

struct Row {
    tier: String,
    counts: Counts,
    took: Duration,
    note: String,
}

/// What has run so far.
#[derive(Default)]
pub(super) struct Summary(Vec<Row>);

impl Summary {
    /// Runs one tier. A tier that could not be run to its end is one failure.
    pub(super) fn time(&mut self, tier: &str, run: impl FnOnce() -> Result<Counts>) {
        let start = Instant::now();
        let (counts, note) = match run() {
            Ok(counts) => (counts, String::new()),
            Err(error) => {
                terminal::failed(tier, &format!("{error:#}"));
                (
                    Counts {
                        failed: 1,
                        ..Counts::default()
                    },
                    format!("{error:#}"),
                )
            }
        };
        self.0.push(Row {
            tier: tier.to_owned(),
            counts,
            took: start.elapsed(),
            note,
        });
    }

    /// Records a tier that this machine cannot run: one skipped test, or one failed where such tests are required.
    pub(super) fn skip(&mut self, tier: &str, why: &str) {
        let required = env::var_os(REQUIRE).is_some_and(|value| !value.is_empty());
        let (counts, note) = if required {
            (
                Counts {
                    failed: 1,
                    ..Counts::default()
                },
                format!("required by {REQUIRE}, but: {why}"),
            )
        } else {
            (
                Counts {
                    skipped: 1,
                    ..Counts::default()
                },
                format!("skipped: {why}"),
            )
        };
        terminal::skipped(tier, &note);
        self.0.push(Row {
            tier: tier.to_owned(),
            counts,
            took: Duration::ZERO,
            note,
        });
    }

    /// Prints the table; its last line stands alone, for programs.
    pub(super) fn print(&self) -> ExitCode {
        println!(
            "\n{:<10} {:>7} {:>7} {:>8} {:>9}",
            "tier", "passed", "failed", "skipped", "time"
        );
        let mut sum = Counts::default();
        for Row {
            tier,
            counts,
            took,
            note,
        } in &self.0
        {
            let Counts {
                passed,
                failed,
                skipped,
            } = *counts;
            let line = format!(
                "{tier:<10} {passed:>7} {failed:>7} {skipped:>8} {:>7.1} s  {note}",
                took.as_secs_f32()
            );
            println!("{}", line.trim_end());
            sum += *counts;
        }
        println!(
            "\n{} passed, {} failed, {} skipped",
            sum.passed, sum.failed, sum.skipped
        );
        if sum.failed == 0 {
            ExitCode::SUCCESS
        } else {
            ExitCode::FAILURE
        }
    }
}
