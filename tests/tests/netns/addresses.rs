//! Address families, and destinations that are nobody's business.

use std::time::Duration;

use anyhow::{Result, ensure};
use tests::{
    cluster::{BOTH4, BOTH6, Cluster, STORE, STORE6, TCP, rule, split},
    harness::Test,
    protocol::Connect,
};

pub(crate) const TESTS: &[Test] = &[
    ("a_service_of_both_families_serves_each", both_families),
    ("ipv4_ipv6_and_v4_mapped_clients_are_routed", families_are_routed),
    ("unknown_destinations_pass_untouched", unknown_destinations_pass),
    (
        "a_version_without_endpoints_refuses_at_once",
        no_endpoints_refuses,
    ),
    ("a_rule_of_zeros_refuses", zeros_refuse),
];

fn families_are_routed() -> Result<()> {
    let cluster = Cluster::new()?;
    let rules = split("store", &[("v1", 25), ("v2", 75)]) + &split("store6", &[("v1", 75), ("v3", 25)]);
    let agent = cluster.agent(&rules)?;
    let v4 = cluster.a.connect(Connect::to(STORE, 40))?;
    ensure!(v4.from("v1") == 10 && v4.from("v2") == 30, "{v4:?}");
    let mapped = cluster.a.connect(Connect::to(STORE, 40).mapped())?;
    ensure!(mapped.from("v1") == 10 && mapped.from("v2") == 30, "{mapped:?}");
    let v6 = cluster.a.connect(Connect::to(STORE6, 40))?;
    ensure!(v6.from("v1") == 30 && v6.from("v3") == 10, "{v6:?}");
    ensure!(
        agent.service("store", TCP)?.routed == 80,
        "{:?}",
        agent.service("store", TCP)
    );
    ensure!(
        agent.service("store6", TCP)?.routed == 40,
        "{:?}",
        agent.service("store6", TCP)
    );
    Ok(())
}

fn both_families() -> Result<()> {
    let cluster = Cluster::new()?;
    let _agent = cluster.agent(&split("both", &[("v1", 25), ("v2", 75)]))?;
    let clients = [
        Connect::to(BOTH4, 40),
        Connect::to(BOTH6, 40),
        Connect::to(BOTH4, 40).mapped(),
    ];
    for connect in clients {
        let seen = cluster.a.connect(connect.clone())?;
        ensure!(
            seen.from("v1") == 10 && seen.from("v2") == 30,
            "{connect:?}: {seen:?}"
        );
    }
    Ok(())
}

fn unknown_destinations_pass() -> Result<()> {
    let cluster = Cluster::new()?;
    let agent = cluster.agent(&split("store", &[("v2", 100)]))?;
    let before = agent.verdict("not-a-service")?;
    // A pod's own address is no frontend, nor is another port of a service's address.
    let direct = cluster.servers[0].v4(TCP);
    let seen = cluster.a.connect(Connect::to(direct, 50).by_peer())?;
    ensure!(seen.from(&direct.to_string()) == 50, "{seen:?}");
    let v6 = cluster.a.connect(Connect::to(cluster.servers[2].v6(TCP), 50))?;
    ensure!(v6.from("v3") == 50, "{v6:?}");
    let closed = cluster.a.connect_once(cluster.servers[0].v4(9))?;
    ensure!(closed == Err("ECONNREFUSED".into()), "{closed:?}");
    ensure!(
        agent.verdict("not-a-service")? >= before + 101,
        "{:?}",
        agent.status()
    );
    Ok(())
}

/// At once: no time-out and no retry hides in it.
const AT_ONCE: Duration = Duration::from_millis(500);

fn no_endpoints_refuses() -> Result<()> {
    let cluster = Cluster::new()?;
    let agent = cluster.agent(&split("store", &[("v9", 100)]))?;
    let seen = cluster.a.connect(Connect::to(STORE, 20))?;
    ensure!(seen.errors.get("ECONNREFUSED") == Some(&20), "{seen:?}");
    ensure!(Duration::from_micros(seen.slowest_us) < AT_ONCE, "{seen:?}");
    ensure!(agent.verdict("no-endpoints")? == 20, "{:?}", agent.status());
    ensure!(agent.service("store", TCP)?.refused == 20, "{:?}", agent.status());
    Ok(())
}

fn zeros_refuse() -> Result<()> {
    let cluster = Cluster::new()?;
    let zeros = "  route:\n  - tags: {version: v1}\n    weight: 0\n  - tags: {version: v2}\n    weight: 0\n";
    let agent = cluster.agent(&rule("zeros", "store", zeros))?;
    let seen = cluster.a.connect(Connect::to(STORE, 20))?;
    ensure!(seen.errors.get("ECONNREFUSED") == Some(&20), "{seen:?}");
    ensure!(agent.verdict("no-weight")? == 20, "{:?}", agent.status());
    Ok(())
}
