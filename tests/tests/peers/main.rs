//! Clients and servers that others wrote, through the proxy: curl, nginx, h2load; and bpftool. Needs root, BPF and these programs.
//!
//! They find what a client and a server by the same hand agree on, and both get wrong.

mod bpftool;
mod ingress;
mod load;
mod nginx;
mod transfers;

use std::process::ExitCode;

use tests::{harness, require};

/// Programs that the tests run.
const PROGRAMS: [&str; 4] = ["curl", "nginx", "h2load", "bpftool"];

fn main() -> ExitCode {
    let themes = [
        ("transfers", transfers::TESTS),
        ("load", load::TESTS),
        ("ingress", ingress::TESTS),
        ("bpftool", bpftool::TESTS),
    ];
    harness::main(&themes, "peers", missing)
}

/// Why the tests cannot run here.
fn missing() -> Option<String> {
    let absent: Vec<_> = PROGRAMS
        .into_iter()
        .filter(|program| !is_installed(program))
        .collect();
    if absent.is_empty() {
        return require::missing_privileges();
    }
    Some(format!(
        "not installed: {} (apt-get install curl nginx-light nghttp2-client bpftool)",
        absent.join(", ")
    ))
}

fn is_installed(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    // nginx lives where only root's path leads.
    let usual = ["/usr/sbin".into(), "/usr/bin".into()];
    std::env::split_paths(&path)
        .chain(usual)
        .any(|directory| directory.join(program).is_file())
}
