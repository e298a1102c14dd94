//! Connection limits: N means N, and whatever ends a connection frees its place.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tests::{
    bed::Agent,
    cluster::{CLOSED, Cluster, HTTP, RULES, STORE, TCP, WEB_TCP, limit, split},
    harness::{Test, note},
    protocol::{Behaviour, Command, Connect},
    require::scaled,
    wait,
};

pub(crate) const TESTS: &[Test] = &[
    (
        "a_socket_counts_once_however_often_it_connects",
        repeated_connects_count_once,
    ),
    (
        "policies_that_come_and_go_keep_count",
        changing_policies_keep_count,
    ),
    ("a_limit_of_100_never_lets_101_open", never_one_more),
    (
        "held_connections_count_until_closed_or_killed",
        held_connections_count,
    ),
    ("the_proxys_connections_count_in_the_same_limit", proxy_counts_too),
];

fn repeated_connects_count_once() -> Result<()> {
    let cluster = Cluster::new()?;
    let agent = cluster.agent(&limit("closed", 1))?;
    // Each socket holds one place, however often it tries; a second place does not exist.
    let seen = cluster.a.connect(Connect::to(CLOSED, 10).again(5))?;
    ensure!(seen.errors.get("ECONNREFUSED") == Some(&10), "{seen:?}");
    let closed = agent.service("closed", TCP)?;
    let limit = agent.limit("closed-limit")?;
    ensure!(closed.routed == 60 && limit.refused == 0, "{closed:?} {limit:?}");
    until_active(&agent, "closed-limit", 0)
}

fn changing_policies_keep_count() -> Result<()> {
    let cluster = Cluster::new()?;
    let agent = cluster.agent(&limit("store", 30))?;
    let pending = cluster.a.begin(Command::Connect(Connect::to(STORE, 20).hold()))?;
    let id = pending.id();
    ensure!(pending.connected()?.established() == 20, "not held");
    // Lower than what is open: nothing is cut, nothing new is let in.
    agent.change(RULES, &limit("store", 10))?;
    let refused = cluster.b.connect(Connect::to(STORE, 5))?;
    ensure!(refused.errors.get("ECONNREFUSED") == Some(&5), "{refused:?}");
    // The policy goes, others come; what the old one's connections hold is never counted in another.
    for _ in 0..3 {
        agent.change(RULES, &limit("closed", 5))?;
        agent.change(RULES, &(limit("web", 5) + &limit("both", 7)))?;
    }
    cluster.a.release(id, 20)?;
    agent.change(
        RULES,
        &["store", "web", "both", "closed"]
            .map(|service| limit(service, 10))
            .concat(),
    )?;
    for policy in ["store-limit", "web-limit", "both-limit", "closed-limit"] {
        until_active(&agent, policy, 0)?;
    }
    let pending = cluster.a.begin(Command::Connect(Connect::to(STORE, 20).hold()))?;
    let seen = pending.connected()?;
    ensure!(seen.established() == 10 && seen.failed() == 10, "{seen:?}");
    Ok(())
}

const SOON: Duration = Duration::from_secs(60);

/// Waits until the kernel counts `active` open connections.
fn until_active(agent: &Agent<'_>, policy: &str, active: u64) -> Result<()> {
    let what = format!("{active} active in {policy}");
    let outcome = wait::until(&what, SOON, || {
        agent.limit(policy).ok().filter(|limit| limit.active == active)
    });
    outcome
        .map(drop)
        .with_context(|| format!("{:?}", agent.limit(policy)))
}

fn never_one_more() -> Result<()> {
    let cluster = Cluster::new()?;
    let agent = cluster.agent(&(split("store", &[("v1", 50), ("v2", 50)]) + &limit("store", 100)))?;
    // First everybody grabs and keeps: exactly 100 of 64 × 10 succeed.
    let grab = Connect::to(STORE, 640).threads(64).hold().by_peer();
    let pending = cluster.a.begin(Command::Connect(grab))?;
    let id = pending.id();
    let seen = pending.connected()?;
    ensure!(seen.established() == 100 && seen.peak == 100, "{seen:?}");
    ensure!(seen.errors.get("ECONNREFUSED") == Some(&540), "{seen:?}");
    let held = agent.limit("store-limit")?;
    ensure!(
        (held.max, held.active, held.refused) == (100, 100, 540),
        "{held:?}"
    );
    cluster.a.release(id, 100)?;
    until_active(&agent, "store-limit", 0)?;
    // Then 64 threads open and close as fast as they can, from two pods, against a limit of 30.
    agent.change(
        RULES,
        &(split("store", &[("v1", 50), ("v2", 50)]) + &limit("store", 30)),
    )?;
    // Each waits for the greeting, so that many are open at a time.
    let churn = Connect::to(STORE, scaled(20_000, 64)).threads(32);
    let pending = cluster.b.begin(Command::Connect(churn.clone()))?;
    let from_a = cluster.a.connect(churn)?;
    let from_b = pending.connected()?;
    for seen in [&from_a, &from_b] {
        ensure!(seen.peak <= 30, "{seen:?}");
        let refused = seen.errors.get("ECONNREFUSED").copied().unwrap_or(0);
        ensure!(
            seen.failed() == refused,
            "another error than the refusal: {seen:?}"
        );
    }
    note(&format!(
        "peaks under churn: {} and {} of 30; refused {}",
        from_a.peak,
        from_b.peak,
        from_a.failed()
    ));
    until_active(&agent, "store-limit", 0)
}

fn held_connections_count() -> Result<()> {
    let cluster = Cluster::new()?;
    let agent = cluster.agent(&limit("store", 20))?;
    let hold = |pod: &tests::bed::Pod, count| {
        let pending = pod.begin(Command::Connect(Connect::to(STORE, count).hold()))?;
        Ok((pending.id(), pending.connected()?))
    };
    let (id, seen) = hold(&cluster.a, 12)?;
    ensure!(seen.established() == 12, "{seen:?}");
    let (_, seen) = hold(&cluster.b, 12).map_err(|e: anyhow::Error| e)?;
    ensure!(seen.established() == 8 && seen.failed() == 4, "{seen:?}");
    cluster.a.release(id, 5)?;
    until_active(&agent, "store-limit", 15)?;
    // A process that is killed closes nothing itself; the kernel does.
    cluster.b.kill();
    until_active(&agent, "store-limit", 7)?;
    cluster.a.kill();
    until_active(&agent, "store-limit", 0)
}

fn proxy_counts_too() -> Result<()> {
    let cluster = Cluster::new()?;
    let rules = split("web", &[("v1", 100)]) + &limit("web", 3);
    let agent = cluster.agent(&rules)?;
    cluster.servers[0].behave(
        HTTP,
        Behaviour {
            delay_ms: 200,
            ..Behaviour::default()
        },
    )?;
    // Twelve at once, each slow: three connections at most, the others are told why.
    let seen = cluster.a.http(Cluster::get(48).connections(12).trace())?;
    let (served, refused) = (seen.status(200), seen.status(503));
    ensure!(served + refused == 48 && served >= 3 && refused > 0, "{seen:?}");
    let told = seen.replies.iter().filter(|r| r.status == 503);
    for reply in told {
        let says = format!("{:?} {}", reply.headers, reply.body);
        ensure!(says.contains("limit-reached"), "{reply:?}");
    }
    let peak = cluster.servers[0].seen(HTTP)?.peak;
    ensure!(peak <= 3, "{peak} connections were open at the server");
    note(&format!(
        "served {served}, refused {refused}, at most {peak} upstream connections"
    ));
    // One counter for both paths: plain TCP connections take the places that are left.
    let pending = cluster
        .b
        .begin(Command::Connect(Connect::to(WEB_TCP, 10).hold()))?;
    let id = pending.id();
    pending.connected()?;
    let full = agent.limit("web-limit")?;
    ensure!(full.active == 3, "{full:?}");
    cluster.b.release(id, 10)?;
    Ok(())
}
