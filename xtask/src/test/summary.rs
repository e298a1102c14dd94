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
pub(super) struct Summary {
    rows: Vec<Row>,
    /// What tests were selected by, if by anything.
    filter: Option<String>,
}

impl Summary {
    pub(super) fn new(filter: Option<&str>) -> Self {
        Self {
            rows: Vec::new(),
            filter: filter.map(str::to_owned),
        }
    }

    /// Runs one tier. A tier that could not be run to its end is one failure.
    pub(super) fn time(&mut self, tier: &str, run: impl FnOnce() -> Result<Counts>) {
        let start = Instant::now();
        let (counts, note) = match run() {
            // Without a filter every tier has tests; a run of none shows nothing.
            Ok(counts) if counts == Counts::default() && self.filter.is_none() => (
                Counts {
                    failed: 1,
                    ..Counts::default()
                },
                "no test ran".to_owned(),
            ),
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
        self.rows.push(Row {
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
        self.rows.push(Row {
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
            tier, counts, took, ..
        } in &self.rows
        {
            let Counts {
                passed,
                failed,
                skipped,
            } = *counts;
            println!(
                "{tier:<10} {passed:>7} {failed:>7} {skipped:>8} {:>7.1} s",
                took.as_secs_f32()
            );
            sum += *counts;
        }
        for Row { tier, note, .. } in self.rows.iter().filter(|row| !row.note.is_empty()) {
            println!("{tier}: {note}");
        }
        if let Some(filter) = self.filter.as_ref().filter(|_| sum == Counts::default()) {
            terminal::failed(
                "tests",
                &format!("no test of these tiers has a name that contains \"{filter}\""),
            );
            sum.failed = 1;
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
