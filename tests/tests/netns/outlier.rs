//! Ejection of endpoints that fail: what the proxy sees, the kernel follows.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tests::{
    bed::Agent,
    cluster::{Cluster, HTTP, RULES, WEB_TCP},
    harness::Test,
    protocol::{Behaviour, Connect},
    wait,
};

pub(crate) const TESTS: &[Test] = &[
    (
        "the_kernel_keeps_away_from_ejected_endpoints_until_they_come_back",
        kernel_follows,
    ),
    (
        "without_the_proxy_requests_keep_away_from_ejected_endpoints",
        proxy_down,
    ),
];

/// The kernel follows within a fraction of a second; emulated machines are slow.
const SOON: Duration = Duration::from_secs(60);

/// A policy of `web`, which has no rule: three errors in a row, at most one endpoint of three.
fn eject(sleep_window: &str) -> String {
    format!(
        "type: destination-policy\nname: web-outlier\nspec:\n  destination: web.default.svc.cluster.local\n  \
         circuitBreaker:\n    simpleCb:\n      httpConsecutiveErrors: 3\n      sleepWindow: {sleep_window}\n      \
         httpDetectionInterval: 100ms\n      httpMaxEjectionPercent: 34\n"
    )
}

fn behave(cluster: &Cluster, status: u16) -> Result<()> {
    let behaviour = Behaviour {
        status,
        ..Behaviour::default()
    };
    cluster.servers[0].behave(HTTP, behaviour)
}

/// Connections to the TCP port of `web`, of which the proxy knows nothing, that reach v1.
fn reach_v1(cluster: &Cluster, count: u64) -> Result<u64> {
    let seen = cluster.b.connect(Connect::to(WEB_TCP, count))?;
    ensure!(seen.failed() == 0, "{seen:?}");
    Ok(seen.from("v1"))
}

/// Lets v1 fail until it is ejected and the kernel knows.
fn eject_v1(cluster: &Cluster, agent: &Agent<'_>) -> Result<()> {
    ensure!(reach_v1(cluster, 30)? == 10, "v1 has not its turn");
    behave(cluster, 503)?;
    let seen = cluster.a.http(Cluster::get(60))?;
    // Three errors, and nothing after them.
    let served = cluster.servers[0].seen(HTTP)?;
    ensure!(
        seen.status(503) == 3 && seen.status(200) == 57 && served.requests == 3,
        "{seen:?}\n{served:?}\n{}",
        agent.log_tail()
    );
    let followed = wait::until("the kernel to keep away from v1", SOON, || {
        (reach_v1(cluster, 30).ok()? == 0).then_some(())
    });
    followed.with_context(|| agent.log_tail())
}

fn kernel_follows() -> Result<()> {
    let cluster = Cluster::new()?;
    let agent = cluster.agent(&eject("1h"))?;
    eject_v1(&cluster, &agent)?;
    ensure!(reach_v1(&cluster, 300)? == 0, "an ejected endpoint was chosen");

    let address = cluster.servers[0].v4(HTTP).to_string();
    let status = agent.status()?;
    let outlier = &status["outliers"][0];
    ensure!(
        outlier["ejected"][0]["address"] == address.as_str() && outlier["ejections"] == 1,
        "{status}"
    );
    let explained = agent.json("/explain?destination=http://web/")?;
    let endpoints = explained["decision"]["targets"][0]["endpoints"].to_string();
    ensure!(endpoints.matches("ejectedUntil").count() == 1, "{explained}");
    ensure!(explained["routedBy"] == "proxy", "{explained}");
    let held = explained["kernel"]["subsets"][0]["endpoints"].to_string();
    ensure!(!held.contains(&address), "{explained}");
    let metrics = agent.admin("/metrics")?.body;
    let line = "router_outlier_ejected{policy=\"destination-policy web-outlier\"} 1";
    ensure!(metrics.lines().any(|l| l == line), "{metrics}");
    wait::until("the log to say so", SOON, || {
        agent.log().ok()?.contains("endpoint ejected").then_some(())
    })?;

    // It behaves again, and a shorter window holds for it at once.
    behave(&cluster, 200)?;
    agent.change(RULES, &eject("100ms"))?;
    let back = wait::until("v1 to have its turn again", SOON, || {
        (reach_v1(&cluster, 30).ok()? == 10).then_some(())
    });
    back.with_context(|| agent.log_tail())?;
    let seen = cluster.a.http(Cluster::get(30))?;
    ensure!(seen.from("v1") == 10 && seen.status(200) == 30, "{seen:?}");
    Ok(())
}

fn proxy_down() -> Result<()> {
    let cluster = Cluster::new()?;
    let mut agent = cluster.agent(&eject("1h"))?;
    eject_v1(&cluster, &agent)?;
    agent.kill()?;
    let direct = wait::until("the kernel to route HTTP", SOON, || {
        let seen = cluster.a.http(Cluster::get(30).no_keep_alive()).ok()?;
        (seen.status(200) == 30).then_some(seen)
    })?;
    ensure!(direct.from("v1") == 0, "{direct:?}");
    ensure!(reach_v1(&cluster, 100)? == 0, "an ejected endpoint was chosen");
    // A new agent knows nothing of it and finds out for itself.
    behave(&cluster, 200)?;
    agent.run()?;
    ensure!(reach_v1(&cluster, 30)? == 10, "{}", agent.log_tail());
    Ok(())
}
