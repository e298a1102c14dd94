//! Conditions on the caller's and the dialled address, decided in the kernel.

use anyhow::{Result, ensure};
use tests::{
    cluster::{BOTH4, BOTH6, Cluster, STORE, STORE6, TCP, route, rule, split},
    harness::Test,
    protocol::Connect,
};

pub(crate) const TESTS: &[Test] = &[
    ("the_callers_subnet_decides_in_the_kernel", by_source),
    ("the_dialled_subnet_decides_in_the_kernel", by_destination),
];

/// A rule for TCP with `subnets`, which goes to `version`.
fn narrow(service: &str, subnets: &str, version: &str) -> String {
    let condition = format!("  precedence: 2\n  match:\n    tcp: {{{subnets}}}\n");
    let name = format!("{service}-narrow");
    rule(&name, service, &(condition + &route(&[(version, 100)])))
}

fn by_source() -> Result<()> {
    let cluster = Cluster::new()?;
    let own = format!(
        "sourceSubnet: [{}, \"{}\"]",
        cluster.a.v4(0).ip(),
        cluster.a.v6(0).ip()
    );
    let services =
        ["store", "store6"].map(|service| narrow(service, &own, "v2") + &split(service, &[("v1", 100)]));
    let agent = cluster.agent(&services.concat())?;
    for target in [STORE, STORE6] {
        let a = cluster.a.connect(Connect::to(target, 50))?;
        ensure!(a.from("v2") == 50, "{target}: {a:?}");
        let b = cluster.b.connect(Connect::to(target, 50))?;
        ensure!(b.from("v1") == 50, "{target}: {b:?}");
    }
    for service in ["store", "store6"] {
        let seen = agent.service(service, TCP)?;
        ensure!(
            seen.routed == 100 && seen.proxied == 0,
            "{service} not in the kernel: {seen:?}"
        );
    }
    // Nobody but the proxy knows the address of a process that is no pod.
    let unknown = cluster.node.remote().connect(Connect::to(STORE, 10))?;
    ensure!(unknown.from("v1") == 10, "{unknown:?}\n{}", agent.log_tail());
    ensure!(
        agent.service("store", TCP)?.proxied == 10,
        "{:?}",
        agent.service("store", TCP)
    );
    Ok(())
}

fn by_destination() -> Result<()> {
    let cluster = Cluster::new()?;
    let rules =
        narrow("both", "destinationSubnet: [\"fd77:96::/64\"]", "v3") + &split("both", &[("v1", 100)]);
    let agent = cluster.agent(&rules)?;
    for (connect, version) in [
        (Connect::to(BOTH4, 50), "v1"),
        (Connect::to(BOTH4, 50).mapped(), "v1"),
        (Connect::to(BOTH6, 50), "v3"),
    ] {
        let seen = cluster.a.connect(connect.clone())?;
        ensure!(seen.from(version) == 50, "{connect:?}: {seen:?}");
    }
    let both = agent.service("both", TCP)?;
    ensure!(
        both.routed == 150 && both.proxied == 0,
        "not in the kernel: {both:?}"
    );
    Ok(())
}
