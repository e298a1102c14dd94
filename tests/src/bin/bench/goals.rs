//! The speed that is wanted, next to the speed that is.

use serde::Serialize;

use crate::{
    cases::{ALONE, BESIDE_HTTP, FLOORED, MANY_RULES, MANY_SERVICES, ONE_RULE, USUAL},
    control::Control,
    figures::{
        self, Results, Value, bytes_per_cpu_second, bytes_per_second, p50, p99, per_cpu_second, per_second,
        total_us,
    },
    system::{Size, System},
};

/// A goal with what was measured.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Goal {
    pub(crate) what: String,
    /// The bound, for people.
    pub(crate) wanted: String,
    /// None when it was not measured.
    pub(crate) measured: Option<f64>,
    /// Unit of the measured value; empty for a ratio.
    pub(crate) unit: &'static str,
    pub(crate) is_met: Option<bool>,
}

/// Which side of the bound is good.
#[derive(Clone, Copy)]
enum Bound {
    AtLeast(f64),
    AtMost(f64),
}

impl Bound {
    fn holds(self, value: f64) -> bool {
        match self {
            Self::AtLeast(bound) => value >= bound,
            Self::AtMost(bound) => value <= bound,
        }
    }
}

fn goal(what: &str, bound: Bound, unit: &'static str, measured: Option<f64>) -> Goal {
    let wanted = match bound {
        Bound::AtLeast(value) => format!("≥ {value} {unit}"),
        Bound::AtMost(value) => format!("≤ {value} {unit}"),
    };
    Goal {
        what: what.into(),
        wanted: wanted.trim().into(),
        measured,
        unit,
        is_met: measured.map(|value| bound.holds(value)),
    }
}

/// What no proxy can do better than, which bounds the goals of its case: nothing that is wanted.
fn floors(results: &Results) -> [Goal; 2] {
    [
        (
            System::Nginx,
            "the floor of that case, which looks at no byte, to nginx",
        ),
        (System::Haproxy, "the floor to HAProxy"),
    ]
    .map(|(peer, what)| Goal {
        what: what.into(),
        wanted: "–".into(),
        measured: results.ratio(FLOORED, (System::Floor, USUAL), (peer, USUAL), per_cpu_second),
        unit: "",
        is_met: None,
    })
}

/// Every goal.
pub(crate) fn all(results: &Results, control: &Control) -> Vec<Goal> {
    let mut goals = layer7(results);
    goals.extend(floors(results));
    goals.extend(layer4(results));
    goals.extend(plane(control));
    goals
}

/// The router's value against a peer's, both with a hundred rules.
fn against(results: &Results, case: &str, peer: System, value: Value) -> Option<f64> {
    results.ratio(case, (System::Router, USUAL), (peer, USUAL), value)
}

fn layer7(results: &Results) -> Vec<Goal> {
    use Bound::{AtLeast, AtMost};
    use System::{Envoy, Haproxy, Nginx};
    let against = |case, peer, value| against(results, case, peer, value);
    // The hardest peer: the smallest ratio where more is better, the largest where less is.
    let p99s = [Nginx, Haproxy].map(|peer| against("rate-5000", peer, p99));
    let bytes = [Envoy, Nginx, Haproxy].map(|peer| against("h1-1m", peer, bytes_per_cpu_second));
    let by_rules = results.ratio(
        "rules",
        (System::Router, MANY_RULES),
        (System::Router, ONE_RULE),
        per_second,
    );
    vec![
        goal(
            "HTTP/1.1, 64 connections, 64 B, 100 rules: requests per CPU second, to Envoy",
            AtLeast(2.5),
            "",
            against("h1-c64", Envoy, per_cpu_second),
        ),
        goal(
            "the same to nginx",
            AtLeast(1.3),
            "",
            against("h1-c64", Nginx, per_cpu_second),
        ),
        goal(
            "the same to HAProxy",
            AtLeast(1.3),
            "",
            against("h1-c64", Haproxy, per_cpu_second),
        ),
        goal(
            "p99 at 5,000 requests/s, to Envoy",
            AtMost(0.6),
            "",
            against("rate-5000", Envoy, p99),
        ),
        goal(
            "the same to the better of nginx and HAProxy",
            AtMost(1.0),
            "",
            p99s.into_iter().flatten().max_by(f64::total_cmp),
        ),
        goal(
            "HTTP/2: requests per CPU second, to Envoy",
            AtLeast(2.0),
            "",
            against("h2", Envoy, per_cpu_second),
        ),
        goal(
            "gRPC: calls per CPU second, to Envoy",
            AtLeast(2.0),
            "",
            against("grpc", Envoy, per_cpu_second),
        ),
        goal(
            "1 MiB bodies: bytes per CPU second, to the best peer",
            AtLeast(1.0),
            "",
            bytes.into_iter().flatten().min_by(f64::total_cmp),
        ),
        goal(
            "10,000 rules to 1 rule: requests per second",
            AtLeast(0.95),
            "",
            by_rules,
        ),
    ]
}

fn layer4(results: &Results) -> Vec<Goal> {
    use Bound::{AtLeast, AtMost};
    let direct = |case, size: Size, value: Value| {
        results.ratio(case, (System::Router, size), (System::Direct, ALONE), value)
    };
    vec![
        goal(
            "connect() to direct, 1 service: p50",
            AtMost(1.02),
            "",
            direct("tcp-connect", ALONE, p50),
        ),
        goal(
            "connect() to direct, 10,000 services: p50",
            AtMost(1.02),
            "",
            direct("tcp-connect", MANY_SERVICES, p50),
        ),
        goal(
            "the same where HTTP is proxied on the node as well: p50",
            AtMost(1.02),
            "",
            direct("tcp-connect", BESIDE_HTTP, p50),
        ),
        goal(
            "bulk throughput to direct, 10,000 services",
            AtLeast(0.99),
            "",
            direct("tcp-bulk", MANY_SERVICES, bytes_per_second),
        ),
        goal(
            "1 B there and back to direct, 10,000 services: round trips per second",
            AtLeast(0.99),
            "",
            direct("tcp-1", MANY_SERVICES, per_second),
        ),
        goal(
            "64 KiB there and back to direct, 10,000 services: round trips per second",
            AtLeast(0.99),
            "",
            direct("tcp-64k", MANY_SERVICES, per_second),
        ),
        goal(
            "connections per CPU second beyond direct, 10,000 services, to the best peer",
            AtLeast(3.0),
            "",
            cost_of_connections(results),
        ),
    ]
}

/// The least processor time, in microseconds, that a system is said to take for a connection: less cannot be told from
/// none.
const LEAST_US: f64 = 1.0;

/// The kernel's work for the router is charged to the client, so what a system takes is what client, system and server
/// take together beyond what they take without any system in between.
fn cost_of_connections(results: &Results) -> Option<f64> {
    let beyond_direct = |system, size| {
        let direct = (System::Direct, ALONE);
        let us = results.difference("tcp-connection", (system, size), direct, total_us)?;
        Some(us.max(LEAST_US))
    };
    let router = beyond_direct(System::Router, MANY_SERVICES)?;
    let peers = System::ALL.into_iter().filter(|system| system.is_peer());
    let ratios = peers.filter_map(|peer| Some(beyond_direct(peer, ALONE)? / router));
    ratios.min_by(f64::total_cmp)
}

fn plane(control: &Control) -> Vec<Goal> {
    use Bound::AtMost;
    let mib = |kib: Option<u64>| kib.map(|kib| figures::number(kib) / 1024.0);
    vec![
        goal(
            "one endpoint's change until connections follow, 5,000 services: p99",
            AtMost(2.0),
            "ms",
            control.change_ms(0.99),
        ),
        goal(
            "cold start, 5,000 services × 20 endpoints, 5,000 rules: until ready",
            AtMost(1.0),
            "s",
            control.start_s(),
        ),
        goal(
            "resident memory, one service, idle",
            AtMost(15.0),
            "MiB",
            mib(control.small_kib),
        ),
        goal(
            "resident memory with that load",
            AtMost(120.0),
            "MiB",
            mib(control.large_kib),
        ),
    ]
}
