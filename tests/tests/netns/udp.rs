//! Connected UDP sockets: the same tables, weights and limits as TCP.

use std::net::SocketAddr;

use anyhow::{Result, ensure};
use tests::{
    bed::{Manifest, ServicePort},
    cluster::{Cluster, limit, route, rule, split},
    harness::Test,
    protocol::{Command, Connect},
    require::scaled,
};

pub(crate) const TESTS: &[Test] = &[
    ("shares_of_connected_sockets_are_exact", shares_are_exact),
    ("a_place_is_held_until_the_socket_is_closed", places_are_held),
    (
        "an_unknown_caller_of_a_rule_by_source_is_refused",
        unknown_callers_are_refused,
    ),
];

const PORT: u16 = 7053;

fn addresses() -> [SocketAddr; 2] {
    [
        ([10, 96, 0, 70], PORT).into(),
        ([0xfd77, 0x96, 0, 0, 0, 0, 0, 0x70], PORT).into(),
    ]
}

/// The service `names` over UDP with both families.
fn names(cluster: &Cluster) -> Result<String> {
    let port = ServicePort {
        name: "udp-names",
        port: PORT,
        target: PORT,
    };
    let servers: Vec<_> = cluster.servers.iter().collect();
    let addresses = addresses().map(|address| address.ip());
    Manifest::new()
        .service("names", &addresses, &[port], &servers)
        .yaml()
}

fn shares_are_exact() -> Result<()> {
    let cluster = Cluster::new()?;
    let weights = [("v1", 25), ("v2", 75), ("v3", 0)];
    let agent = cluster.agent(&(names(&cluster)? + &split("names", &weights)))?;
    let connects = scaled(4000, 100);
    let [v4, v6] = addresses();
    for connect in [
        Connect::udp(v4, connects).threads(4),
        Connect::udp(v4, connects).mapped(),
        Connect::udp(v6, connects),
    ] {
        let seen = cluster.a.connect(connect.clone())?;
        for (server, (_, weight)) in cluster.servers.iter().zip(weights) {
            let got = seen.from(&server.v4(PORT).to_string());
            ensure!(got == connects * weight as u64 / 100, "{connect:?}: {seen:?}");
        }
    }
    let routed = agent.service("names", PORT)?.routed;
    ensure!(routed == 3 * connects, "{routed} routed");
    Ok(())
}

fn places_are_held() -> Result<()> {
    let cluster = Cluster::new()?;
    let agent = cluster.agent(&(names(&cluster)? + &limit("names", 3)))?;
    let [v4, _] = addresses();
    let pending = cluster.a.begin(Command::Connect(Connect::udp(v4, 5).hold()))?;
    let id = pending.id();
    let seen = pending.connected()?;
    ensure!(
        seen.established() == 3 && seen.errors.get("ECONNREFUSED") == Some(&2),
        "{seen:?}"
    );
    ensure!(
        agent.limit("names-limit")?.active == 3,
        "{:?}",
        agent.limit("names-limit")
    );
    cluster.a.release(id, 3)?;
    let seen = cluster.a.connect(Connect::udp(v4, 50))?;
    ensure!(seen.established() == 50, "{seen:?}");
    ensure!(
        agent.limit("names-limit")?.active == 0,
        "{:?}",
        agent.limit("names-limit")
    );
    Ok(())
}

fn unknown_callers_are_refused() -> Result<()> {
    let cluster = Cluster::new()?;
    let condition = "  precedence: 2\n  match:\n    sourceTags: {version: b}\n";
    let for_b = rule(
        "names-for-b",
        "names",
        &(condition.to_owned() + &route(&[("v2", 100)])),
    );
    let agent = cluster.agent(&(names(&cluster)? + &for_b + &split("names", &[("v1", 100)])))?;
    let [v4, _] = addresses();
    for (pod, server) in [
        (&cluster.a, &cluster.servers[0]),
        (&cluster.b, &cluster.servers[1]),
    ] {
        let seen = pod.connect(Connect::udp(v4, 20))?;
        ensure!(seen.from(&server.v4(PORT).to_string()) == 20, "{seen:?}");
    }
    let unknown = cluster.node.remote().connect(Connect::udp(v4, 5))?;
    ensure!(
        unknown.errors.get("ECONNREFUSED") == Some(&5),
        "{unknown:?}\n{}",
        agent.log_tail()
    );
    Ok(())
}
