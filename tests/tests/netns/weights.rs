//! Exact shares of plain TCP connections, in the kernel.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tests::{
    cluster::{Cluster, STORE, TCP, split},
    harness::{Test, note},
    protocol::Connect,
    require::scaled,
    wait,
};

pub(crate) const TESTS: &[Test] = &[
    ("shares_are_exact_over_100000_connects", shares_are_exact),
    ("round_robin_within_a_version_is_exact", round_robin_is_exact),
];

/// Threads that connect at the same time: turns are taken from one cursor, whoever takes them.
const THREADS: u32 = 4;

const SOON: Duration = Duration::from_secs(60);

fn shares_are_exact() -> Result<()> {
    // A multiple of every table's length, so that exact means exact.
    let connects = scaled(100_000, 100);
    let cluster = Cluster::new()?;
    let sets: [&[(&str, u32)]; 4] = [
        &[("v1", 0), ("v2", 100)],
        &[("v1", 1), ("v2", 99)],
        &[("v1", 25), ("v2", 75)],
        &[("v1", 33), ("v2", 33), ("v3", 34)],
    ];
    let agent = cluster.agent(&split("store", sets[0]))?;
    // Of all sets together: a server may hear of the last connections of one set during the next.
    let mut expected_so_far = [0; 3];
    for (n, weights) in sets.into_iter().enumerate() {
        if n > 0 {
            agent.change(tests::cluster::RULES, &split("store", weights))?;
        }
        let seen = cluster
            .a
            .connect(Connect::to(STORE, connects).threads(THREADS).by_peer())?;
        ensure!(seen.failed() == 0, "{weights:?}: {seen:?}");
        note(&format!(
            "{connects} connects, weights {weights:?}: {:?}",
            seen.served
        ));
        for (n, server) in cluster.servers.iter().enumerate() {
            let weight = weights
                .iter()
                .find(|(v, _)| *v == server.name())
                .map_or(0, |(_, w)| *w);
            let expected = connects * u64::from(weight) / 100;
            let got = seen.from(&server.v4(TCP).to_string());
            ensure!(got == expected, "{weights:?}: {} got {got}", server.name());
            expected_so_far[n] += expected;
            let expected = expected_so_far[n];
            // Clients reset at once; where a reset overtakes the handshake's end, the server never hears of it.
            let heard = || served(&cluster).ok().map(|now| now[n]);
            let enough = wait::until("the server to accept", SOON, || {
                heard().filter(|h| *h >= expected * 99 / 100)
            });
            let heard =
                enough.with_context(|| format!("{} accepted {:?} of {expected}", server.name(), heard()))?;
            ensure!(
                heard <= expected,
                "{} accepted {heard} of {expected}",
                server.name()
            );
        }
    }
    Ok(())
}

/// Connections each server accepted.
fn served(cluster: &Cluster) -> Result<[u64; 3]> {
    let mut counts = [0; 3];
    for (count, server) in counts.iter_mut().zip(&cluster.servers) {
        *count = server.seen(TCP)?.connections;
    }
    Ok(counts)
}

fn round_robin_is_exact() -> Result<()> {
    let cluster = Cluster::new()?;
    // No rule: every instance takes its turn.
    let agent = cluster.agent("")?;
    let connects = scaled(3000, 3);
    let seen = cluster.a.connect(Connect::to(STORE, connects).threads(THREADS))?;
    for server in &cluster.servers {
        ensure!(seen.from(server.name()) == connects / 3, "{seen:?}");
    }
    ensure!(
        agent.service("store", TCP)?.routed == connects,
        "{:?}",
        agent.service("store", TCP)
    );
    Ok(())
}
