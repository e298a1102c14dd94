//! The command line.

pub mod check;
pub mod output;

use std::{ffi::OsString, process::ExitCode};

/// Runs `router` with the given arguments, the program's name first.
pub fn run(_arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    ExitCode::SUCCESS
}
