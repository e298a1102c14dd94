//! Faults of connections: the kernel sends to the proxy those that a rule has faults for, and no others.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tests::{
    cluster::{Cluster, STORE, TCP, route, rule, split},
    harness::Test,
    protocol::Connect,
    wait,
};

pub(crate) const TESTS: &[Test] = &[(
    "only_connections_with_l4_faults_pass_the_proxy",
    only_those_with_faults,
)];

/// The heartbeat is stale within a second; emulated machines are slow.
const SOON: Duration = Duration::from_secs(60);

/// A rule for callers at `subnet`, which terminates `percent` of their connections to `store` and sends others to v2.
fn terminating(subnet: &str, percent: u32) -> String {
    let fields = format!(
        "  precedence: 2\n  match:\n    tcp: {{sourceSubnet: [{subnet}]}}\n  \
         l4Fault:\n    terminate: {{percent: {percent}}}\n"
    );
    rule("store-terminated", "store", &(fields + &route(&[("v2", 100)])))
}

fn only_those_with_faults() -> Result<()> {
    let cluster = Cluster::new()?;
    let own = cluster.a.v4(0).ip().to_string();
    let rest = split("store", &[("v1", 100)]);
    let mut agent = cluster.agent(&(terminating(&own, 100) + &rest))?;
    let a = cluster.a.connect(Connect::to(STORE, 20))?;
    ensure!(a.failed() == 20, "{a:?}\n{}", agent.log_tail());
    let b = cluster.b.connect(Connect::to(STORE, 50))?;
    ensure!(b.from("v1") == 50, "{b:?}");
    let store = agent.service("store", TCP)?;
    ensure!(store.proxied == 20 && store.routed == 50, "{store:?}");

    let from = |caller: &str| agent.json(&format!("/explain?from={caller}&destination=tcp://{STORE}"));
    let (a, b) = (from("a")?, from("b")?);
    ensure!(
        a["routedBy"] == "proxy" && a["kernel"]["routing"] == "proxy",
        "{a}"
    );
    ensure!(
        a["decision"]["connectionFaults"][0] == "reset of every connection at once",
        "{a}"
    );
    ensure!(
        b["routedBy"] == "kernel" && b["kernel"]["routing"] == "weighted",
        "{b}"
    );
    let metrics = agent.admin("/metrics")?.body;
    let line = "router_proxy_l4_faults_total{fault=\"terminate\"} 20";
    ensure!(metrics.lines().any(|l| l == line), "{metrics}");

    // Nobody is terminated now, and all the same only the proxy could tell.
    agent.change("rules.yaml", &(terminating(&own, 0) + &rest))?;
    let a = cluster.a.connect(Connect::to(STORE, 20))?;
    ensure!(a.from("v2") == 20, "{a:?}");
    ensure!(
        agent.service("store", TCP)?.proxied == 40,
        "{:?}",
        agent.service("store", TCP)
    );

    // Without the proxy the kernel routes them by their own rule.
    agent.change("rules.yaml", &(terminating(&own, 100) + &rest))?;
    agent.kill()?;
    let direct = wait::until("the kernel to route around the proxy", SOON, || {
        let a = cluster.a.connect(Connect::to(STORE, 20)).ok()?;
        (a.failed() == 0).then_some(a)
    });
    let direct = direct.with_context(|| agent.log_tail())?;
    ensure!(direct.from("v2") == 20, "{direct:?}");
    Ok(())
}
