//! Policies in the real kernel: a limit that plain connections and waiting requests share, and policies for some
//! callers only.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tests::{
    bed::Agent,
    cluster::{Cluster, HTTP, STORE, TCP, WEB_TCP, split},
    harness::Test,
    protocol::{Command, Connect},
    wait,
};

pub(crate) const TESTS: &[Test] = &[
    (
        "requests_wait_for_places_that_plain_connections_hold",
        requests_wait_for_plain_connections,
    ),
    (
        "a_policy_with_a_source_limits_its_callers_in_the_kernel",
        sources_have_policies_of_their_own,
    ),
];

const SOON: Duration = Duration::from_secs(60);

/// A policy for `service` with further fields of its spec, already indented by two spaces.
fn policy(service: &str, fields: &str) -> String {
    format!(
        "---\ntype: destination-policy\nname: {service}-policy\nspec:\n  \
         destination: {{name: {service}}}\n{fields}"
    )
}

/// Requests that wait under the only policy with limits on requests.
fn pending(agent: &Agent<'_>) -> Option<u64> {
    let status = agent.status().ok()?;
    status["requests"][0]["requests"]["pending"].as_u64()
}

fn requests_wait_for_plain_connections() -> Result<()> {
    let cluster = Cluster::new()?;
    let limits = "  circuitBreaker:\n    simpleCb: {maxConnections: 3, httpMaxPendingRequests: 20}\n";
    let agent = cluster.agent(&(split("web", &[("v1", 100)]) + &policy("web", limits)))?;
    let held = cluster
        .b
        .begin(Command::Connect(Connect::to(WEB_TCP, 5).hold()))?;
    let id = held.id();
    let seen = held.connected()?;
    ensure!(seen.established() == 3 && seen.failed() == 2, "{seen:?}");
    let mut requests = Cluster::get(8).connections(8);
    requests.timeout_ms = 60_000;
    let waiting = cluster.a.begin(Command::Http(requests))?;
    wait::until("eight requests that wait", SOON, || {
        (pending(&agent) == Some(8)).then_some(())
    })
    .with_context(|| format!("{:?}\n{}", agent.status(), agent.log_tail()))?;
    // Nobody tells the proxy that these are closed.
    cluster.b.release(id, 2)?;
    let replies = waiting.replies()?;
    ensure!(replies.status(200) == 8, "{replies:?}");
    let served = cluster.servers[0].seen(HTTP)?;
    ensure!(
        served.peak <= 2,
        "one place is still a plain connection's: {served:?}"
    );
    let limit = agent.limit("web-policy")?;
    ensure!(limit.max == 3 && limit.active <= 3, "{limit:?}");
    cluster.b.release(id, 1)
}

fn sources_have_policies_of_their_own() -> Result<()> {
    let cluster = Cluster::new()?;
    let limits =
        "  source: {name: client, labels: {version: a}}\n  circuitBreaker: {simpleCb: {maxConnections: 5}}\n";
    let agent = cluster.agent(&policy("store", limits))?;
    let hold = |pod: &tests::bed::Pod| {
        let pending = pod.begin(Command::Connect(Connect::to(STORE, 12).hold()))?;
        Ok::<_, anyhow::Error>((pending.id(), pending.connected()?))
    };
    let (of_a, a) = hold(&cluster.a)?;
    ensure!(a.established() == 5 && a.failed() == 7, "{a:?}");
    let (of_b, b) = hold(&cluster.b)?;
    ensure!(b.established() == 12, "{b:?}");
    let limit = agent.limit("store-policy")?;
    ensure!((limit.max, limit.active, limit.refused) == (5, 5, 7), "{limit:?}");
    let store = agent.service("store", TCP)?;
    ensure!(store.routed == 17 && store.proxied == 0, "{store:?}");
    cluster.a.release(of_a, 5)?;
    cluster.b.release(of_b, 12)
}
