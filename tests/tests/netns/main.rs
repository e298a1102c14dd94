//! Everything that crosses the kernel, with pods as network namespaces and cgroups. Needs root and BPF.
//!
//! One binary that is its own pods, servers, clients and agent, so that it runs unchanged in a guest that holds
//! nothing else. Tests run one after the other: they measure counts and times of one machine.

mod addresses;
mod balancing;
mod bed;
mod changes;
mod cluster;
mod explain;
mod http;
mod lifecycle;
mod limits;
mod programs;
mod sources;
mod weights;

use std::process::ExitCode;

use anyhow::Result;
use libtest_mimic::{Arguments, Completion, Failed, Trial};
use tests::require;

/// A test: its name, and what it does.
type Test = (&'static str, fn() -> Result<()>);

fn main() -> ExitCode {
    if let Some(code) = tests::dispatch() {
        return code;
    }
    let mut arguments = Arguments::from_args();
    arguments.test_threads.get_or_insert(1);
    let missing = if arguments.list {
        None
    } else {
        require::missing_privileges()
    };
    let themes = [
        ("bed", bed::TESTS),
        ("programs", programs::TESTS),
        ("addresses", addresses::TESTS),
        ("weights", weights::TESTS),
        ("balancing", balancing::TESTS),
        ("limits", limits::TESTS),
        ("sources", sources::TESTS),
        ("changes", changes::TESTS),
        ("lifecycle", lifecycle::TESTS),
        ("http", http::TESTS),
        ("explain", explain::TESTS),
    ];
    let trials = themes.iter().flat_map(|(theme, tests)| {
        let missing = missing.clone();
        tests.iter().map(move |test| trial(theme, test, missing.clone()))
    });
    libtest_mimic::run(&arguments, trials.collect()).exit_code()
}

fn trial(theme: &str, &(name, test): &Test, missing: Option<String>) -> Trial {
    Trial::ignorable_test(format!("{theme}::{name}"), move || match missing {
        Some(reason) if require::is_required("root") => Err(Failed::from(reason)),
        Some(reason) => Ok(Completion::ignored_with(reason)),
        None => match test() {
            Ok(()) => Ok(Completion::Completed),
            Err(error) => Err(Failed::from(format!("{error:?}"))),
        },
    })
}
