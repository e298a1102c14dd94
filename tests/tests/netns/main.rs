//! Everything that crosses the kernel, with pods as network namespaces and cgroups. Needs root and BPF.
//!
//! One binary that is its own pods, servers, clients and agent, so that it runs unchanged in a guest that holds
//! nothing else.

mod addresses;
mod balancing;
mod bed;
mod breaker;
mod changes;
mod datagrams;
mod egress;
mod explain;
mod filters;
mod http;
mod ingress;
mod l4_faults;
mod lifecycle;
mod limits;
mod naming;
mod outlier;
mod programs;
mod sources;
mod subnets;
mod udp;
mod weights;

use std::process::ExitCode;

use tests::{harness, require};

fn main() -> ExitCode {
    let themes = [
        ("bed", bed::TESTS),
        ("programs", programs::TESTS),
        ("addresses", addresses::TESTS),
        ("weights", weights::TESTS),
        ("balancing", balancing::TESTS),
        ("limits", limits::TESTS),
        ("breaker", breaker::TESTS),
        ("sources", sources::TESTS),
        ("subnets", subnets::TESTS),
        ("udp", udp::TESTS),
        ("datagrams", datagrams::TESTS),
        ("changes", changes::TESTS),
        ("lifecycle", lifecycle::TESTS),
        ("http", http::TESTS),
        ("outlier", outlier::TESTS),
        ("explain", explain::TESTS),
        ("filters", filters::TESTS),
        ("egress", egress::TESTS),
        ("ingress", ingress::TESTS),
        ("l4_faults", l4_faults::TESTS),
        ("naming", naming::TESTS),
    ];
    harness::main(&themes, "root", require::missing_privileges)
}
