//! Load balancing among the endpoints of a version, in the kernel.

use anyhow::{Result, ensure};
use tests::{
    cluster::{Cluster, RULES, STORE, balance, split},
    harness::Test,
    protocol::Connect,
};

pub(crate) const TESTS: &[Test] = &[
    ("random_reaches_every_endpoint_about_as_often", random),
    ("least_conn_evens_out_open_connections", least_conn),
];

fn random() -> Result<()> {
    let cluster = Cluster::new()?;
    let _agent = cluster.agent(&balance("store", "RANDOM"))?;
    let seen = cluster.a.connect(Connect::to(STORE, 3000).threads(4))?;
    for server in &cluster.servers {
        // Six standard deviations of 3,000 draws among three.
        let count = seen.from(server.name());
        ensure!((845..=1155).contains(&count), "{seen:?}");
    }
    Ok(())
}

fn least_conn() -> Result<()> {
    let cluster = Cluster::new()?;
    // Twenty connections that stay open on v1: then v1 is the last to be chosen. Connections are counted from the moment
    // when somebody acts on their number.
    let even_out = balance("store", "LEAST_CONN");
    let agent = cluster.agent(&format!("{}{even_out}", split("store", &[("v1", 100)])))?;
    let first = cluster.a.connect(Connect::to(STORE, 20).hold())?;
    ensure!(first.from("v1") == 20, "{first:?}");
    agent.change(RULES, &even_out)?;
    let then = cluster.a.connect(Connect::to(STORE, 40).hold())?;
    // Two different ones are drawn of three: v1 is one of them or not, and loses until the others have caught up.
    let (v1, v2, v3) = (then.from("v1"), then.from("v2"), then.from("v3"));
    ensure!(v1 <= 2 && v2.abs_diff(v3) <= 8 && v1 + v2 + v3 == 40, "{then:?}");
    Ok(())
}
