//! The `router` binary: hands its arguments to the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    router_userspace::cli::run(std::env::args_os())
}
