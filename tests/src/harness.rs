//! Runs privileged tests like Rust's own harness, and skips them loudly where they cannot run.

use std::process::ExitCode;

use anyhow::Result;
use libtest_mimic::{Arguments, Completion, Failed, Trial};

use crate::require;

/// A test: its name, and what it does.
pub type Test = (&'static str, fn() -> Result<()>);

/// Tests of one theme.
pub type Theme = (&'static str, &'static [Test]);

/// Becomes the part that the arguments name, or runs the tests of every theme.
///
/// `missing` says why they cannot run here; then each is skipped with that reason, or fails when
/// [`REQUIRE`](require::REQUIRE) names `needs`. Tests run one after the other unless told otherwise: they count and
/// measure on one machine.
pub fn main(themes: &[Theme], needs: &str, missing: fn() -> Option<String>) -> ExitCode {
    if let Some(code) = crate::dispatch() {
        return code;
    }
    let mut arguments = Arguments::from_args();
    arguments.test_threads.get_or_insert(1);
    let missing = if arguments.list { None } else { missing() };
    if let Some(percent) = require::reduced() {
        println!("Counts are {percent} % of the full ones ({}).", require::SCALE);
    }
    let obstacle = missing.map(|reason| (reason, require::is_required(needs)));
    let trials = themes.iter().flat_map(|&(theme, tests)| {
        let obstacle = obstacle.clone();
        tests.iter().map(move |test| trial(theme, test, obstacle.clone()))
    });
    libtest_mimic::run(&arguments, trials.collect()).exit_code()
}

/// Shows what a test measured, below its name; the outcome follows.
pub fn note(text: &str) {
    print!("\n    {text} ");
}

/// A test, or why it cannot run and whether that is a failure.
fn trial(theme: &str, &(name, test): &Test, obstacle: Option<(String, bool)>) -> Trial {
    Trial::ignorable_test(format!("{theme}::{name}"), move || match obstacle {
        Some((reason, true)) => Err(Failed::from(reason)),
        Some((reason, false)) => Ok(Completion::ignored_with(reason)),
        None => match test() {
            Ok(()) => Ok(Completion::Completed),
            Err(error) => {
                // Without the backtrace that the debug form adds: the messages say where.
                let chain: Vec<_> = error.chain().map(ToString::to_string).collect();
                Err(Failed::from(chain.join("\n  because ")))
            }
        },
    })
}
