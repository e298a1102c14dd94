//! UDP sockets that send without connecting: each datagram is routed, and answers come from where it was sent.

use std::{net::SocketAddr, time::Duration};

use anyhow::{Result, ensure};
use tests::{
    bed::{Manifest, ServicePort},
    cluster::{Cluster, limit, split},
    harness::{Test, note},
    protocol::{Command, Connect, Datagrams},
    require::scaled,
    wait,
};

pub(crate) const TESTS: &[Test] = &[
    ("datagrams_are_answered_by_the_service", answered_by_the_service),
    ("sockets_are_split_by_weight_and_stay", split_by_weight),
    ("datagrams_leave_an_endpoint_that_goes", endpoints_go),
    ("datagrams_to_others_are_left_alone", others_are_left_alone),
    (
        "datagrams_to_unknown_destinations_are_refused",
        unknown_is_refused,
    ),
    ("datagrams_take_no_place_under_limits", no_places),
    ("datagrams_cost_little", cost),
];

const PORT: u16 = 7054;
const SOON: Duration = Duration::from_secs(20);
const V4: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::new(10, 96, 0, 71)), PORT);
const V6: SocketAddr = SocketAddr::new(
    std::net::IpAddr::V6(std::net::Ipv6Addr::new(0xfd77, 0x96, 0, 0, 0, 0, 0, 0x71)),
    PORT,
);

/// A cluster whose servers answer datagrams.
fn cluster() -> Result<Cluster> {
    let cluster = Cluster::new()?;
    for server in &cluster.servers {
        server.serve_udp(PORT)?;
    }
    Ok(cluster)
}

/// The services `names` and `names6` of the first `count` servers.
fn names(cluster: &Cluster, count: usize) -> Result<String> {
    let port = ServicePort {
        name: "udp-names",
        port: PORT,
        target: PORT,
    };
    let servers: Vec<_> = cluster.servers.iter().take(count).collect();
    Manifest::new()
        .service("names", &[V4.ip()], &[port], &servers)
        .service("names6", &[V6.ip()], &[port], &servers)
        .yaml()
}

fn answered_by_the_service() -> Result<()> {
    let cluster = cluster()?;
    let agent = cluster.agent(&names(&cluster, 3)?)?;
    for datagrams in [
        Datagrams::to(V4, 6, 3),
        Datagrams::to(V4, 6, 3).mapped(),
        Datagrams::to(V6, 6, 3),
    ] {
        let seen = cluster.a.datagrams(datagrams.clone())?;
        ensure!(
            seen.failed() == 0 && seen.established() == 18,
            "{datagrams:?}: {seen:?}"
        );
        // Round robin over sockets.
        ensure!(
            ["v1", "v2", "v3"].iter().all(|v| seen.from(v) == 6),
            "{datagrams:?}: {seen:?}"
        );
    }
    // A socket counts once for a service, however much it sends.
    let routed = (
        agent.service("names", PORT)?.routed,
        agent.service("names6", PORT)?.routed,
    );
    ensure!(routed == (12, 6), "{routed:?} routed");
    Ok(())
}

fn split_by_weight() -> Result<()> {
    let cluster = cluster()?;
    let weights = [("v1", 25), ("v2", 75), ("v3", 0)];
    let _agent = cluster.agent(&(names(&cluster, 3)? + &split("names", &weights)))?;
    let sockets = scaled(400, 100);
    let seen = cluster.a.datagrams(Datagrams::to(V4, sockets, 2))?;
    ensure!(seen.failed() == 0, "{seen:?}");
    for (server, weight) in weights {
        ensure!(
            seen.from(server) == 2 * sockets * u64::from(weight) / 100,
            "{seen:?}"
        );
    }
    Ok(())
}

fn endpoints_go() -> Result<()> {
    let cluster = cluster()?;
    let v1 = split("names", &[("v1", 100)]);
    let agent = cluster.agent(&(names(&cluster, 3)? + &v1))?;
    let long = Datagrams::to(V4, 1, u64::MAX);
    let pending = cluster.a.begin(Command::Datagrams(long))?;
    wait::until("the first datagram", SOON, || {
        (agent.service("names", PORT).ok()?.routed > 0).then_some(())
    })?;
    agent.change(
        "rules.yaml",
        &(names(&cluster, 3)? + &split("names", &[("v2", 100)])),
    )?;
    wait::until("the socket to be routed again", SOON, || {
        (agent.service("names", PORT).ok()?.routed > 1).then_some(())
    })?;
    let seen = tests::bed::remote::connected(pending.stop()?)?;
    ensure!(
        seen.errors.len() == 1 && seen.errors.get("moved") == Some(&1),
        "{seen:?}"
    );
    ensure!(
        seen.from("v1") > 0 && seen.from("v2") > 0 && seen.from("v3") == 0,
        "{seen:?}"
    );
    // Without any endpoint there is nowhere to go.
    agent.change("rules.yaml", &names(&cluster, 0)?)?;
    let seen = cluster.a.datagrams(Datagrams::to(V4, 2, 1))?;
    ensure!(seen.errors.get("EPERM") == Some(&2), "{seen:?}");
    Ok(())
}

fn others_are_left_alone() -> Result<()> {
    let cluster = cluster()?;
    let agent = cluster.agent(&names(&cluster, 3)?)?;
    let server = &cluster.servers[0];
    for target in [server.v4(PORT), server.v6(PORT)] {
        let seen = cluster.a.datagrams(Datagrams::to(target, 3, 2))?;
        ensure!(seen.from("v1") == 6 && seen.failed() == 0, "{target}: {seen:?}");
    }
    let untouched = agent.verdict("not-a-service")?;
    let seen = cluster.a.datagrams(Datagrams::to(server.v4(PORT), 1, 50))?;
    ensure!(seen.from("v1") == 50, "{seen:?}");
    let counted = agent.verdict("not-a-service")? - untouched;
    ensure!(counted < 50, "datagrams are counted as connections: {counted}");
    Ok(())
}

fn unknown_is_refused() -> Result<()> {
    let cluster = cluster()?;
    let outside = cluster.node.pod("outside", &[])?;
    outside.serve_udp(PORT)?;
    let agent = cluster.agent_with(&names(&cluster, 3)?, &["--egress", "registry-only"])?;
    for (index, datagrams) in (1..).zip([
        Datagrams::to(outside.v4(PORT), 1, 2),
        Datagrams::to(outside.v4(PORT), 1, 2).mapped(),
        Datagrams::to(outside.v6(PORT), 1, 2),
    ]) {
        let seen = cluster.a.datagrams(datagrams.clone())?;
        ensure!(seen.errors.get("EPERM") == Some(&2), "{datagrams:?}: {seen:?}");
        let counted = agent.verdict("unknown-destination")?;
        ensure!(counted == 2 * index, "{counted} counted");
    }
    for target in [V4, cluster.servers[1].v4(PORT), V6] {
        let seen = cluster.a.datagrams(Datagrams::to(target, 2, 2))?;
        ensure!(
            seen.established() == 4 && seen.failed() == 0,
            "{target}: {seen:?}"
        );
    }
    // The host's own processes are free, and a pod may answer whoever asks it.
    let free = cluster
        .node
        .remote()
        .datagrams(Datagrams::to(outside.v4(PORT), 1, 2))?;
    ensure!(free.from("outside") == 2, "{free:?}");
    Ok(())
}

fn no_places() -> Result<()> {
    let cluster = cluster()?;
    let agent = cluster.agent(&(names(&cluster, 3)? + &limit("names", 2)))?;
    let pending = cluster.a.begin(Command::Connect(Connect::udp(V4, 2).hold()))?;
    let seen = pending.connected()?;
    ensure!(seen.established() == 2, "{seen:?}");
    let seen = cluster.a.datagrams(Datagrams::to(V4, 5, 1))?;
    ensure!(seen.established() == 5 && seen.failed() == 0, "{seen:?}");
    ensure!(
        agent.limit("names-limit")?.active == 2,
        "{:?}",
        agent.limit("names-limit")
    );
    Ok(())
}

/// Microseconds that so many datagrams take; the median of interleaved rounds, by where they are sent.
fn microseconds(cluster: &Cluster, each: u64, targets: [SocketAddr; 2]) -> Result<[u64; 2]> {
    let mut rounds = [Vec::new(), Vec::new()];
    for _ in 0..ROUNDS {
        for (target, times) in targets.iter().zip(&mut rounds) {
            let seen = cluster
                .a
                .datagrams(Datagrams::to(*target, 1, each).unanswered())?;
            ensure!(seen.failed() == 0, "{target}: {seen:?}");
            times.push(seen.slowest_us);
        }
    }
    Ok(rounds.map(|mut times| {
        times.sort_unstable();
        times[times.len() / 2]
    }))
}

const ROUNDS: usize = 9;

fn cost() -> Result<()> {
    let cluster = cluster()?;
    let each = scaled(20_000, 100);
    let direct = cluster.servers[0].v4(PORT);
    let [before, _] = microseconds(&cluster, each, [direct, direct])?;
    let agent = cluster.agent(&names(&cluster, 1)?)?;
    let [beside, routed] = microseconds(&cluster, each, [direct, V4])?;
    note(&format!(
        "{each} datagrams: {before} us without the programs, {beside} us to no service, {routed} us to a service"
    ));
    // What a machine under load shows; the figures are for people.
    ensure!(routed < 10 * before.max(1), "{before} {beside} {routed}");
    ensure!(
        agent.service("names", PORT)?.routed == ROUNDS as u64,
        "a socket is routed once"
    );
    Ok(())
}
