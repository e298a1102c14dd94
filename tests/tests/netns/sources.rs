//! Who calls decides: routes by the caller's labels and service, taken in the kernel.

use anyhow::{Result, ensure};
use tests::{
    cluster::{Cluster, STORE, TCP, route, rule, split},
    harness::Test,
    protocol::Connect,
};

pub(crate) const TESTS: &[Test] = &[
    (
        "pods_with_different_labels_get_different_routes",
        labels_tell_callers_apart,
    ),
    (
        "an_unknown_caller_takes_the_slow_path",
        unknown_callers_take_the_proxy,
    ),
];

/// Callers with `version: b` go to v2, all others to v1.
fn rules() -> String {
    let condition = "  precedence: 2\n  match:\n    source: client.default.svc.cluster.local\n    \
                     sourceTags: {version: b}\n";
    rule("for-b", "store", &(condition.to_owned() + &route(&[("v2", 100)]))) + &split("store", &[("v1", 100)])
}

fn labels_tell_callers_apart() -> Result<()> {
    let cluster = Cluster::new()?;
    let agent = cluster.agent(&rules())?;
    let a = cluster.a.connect(Connect::to(STORE, 100))?;
    ensure!(a.from("v1") == 100, "{a:?}");
    let b = cluster.b.connect(Connect::to(STORE, 100))?;
    ensure!(b.from("v2") == 100, "{b:?}");
    let store = agent.service("store", TCP)?;
    ensure!(
        store.routed == 200 && store.proxied == 0,
        "not in the kernel: {store:?}"
    );
    Ok(())
}

fn unknown_callers_take_the_proxy() -> Result<()> {
    let cluster = Cluster::new()?;
    let agent = cluster.agent(&rules())?;
    // The node's own process is no pod that the registry names: rules by source do not match it, others do.
    let unknown = cluster.node.remote().connect(Connect::to(STORE, 20))?;
    ensure!(unknown.from("v1") == 20, "{unknown:?}\n{}", agent.log_tail());
    let store = agent.service("store", TCP)?;
    ensure!(store.proxied == 20 && store.routed == 0, "{store:?}");
    Ok(())
}
