//! Adds up the tiers and prints the table and the closing line.

use std::{
    env,
    process::ExitCode,
    time::{Duration, Instant},
};

use anyhow::Result;

use crate::{harness::Counts, terminal};

/// Names what must not be skipped, with commas between: `root` for tests that need privileges, `peers` for those that
/// need programs of others. The test binaries read it too.
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

    /// Records a tier that this machine cannot run because it lacks `need`: one skipped test, or one failed where the
    /// need is required.
    pub(super) fn skip(&mut self, tier: &str, need: &str, why: &str) {
        let required = env::var(REQUIRE).is_ok_and(|list| list.split(',').any(|required| required == need));
        let (counts, note) = if required {
            (
                Counts {
                    failed: 1,
                    ..Counts::default()
                },
                format!("{REQUIRE} names {need}, but: {why}"),
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
