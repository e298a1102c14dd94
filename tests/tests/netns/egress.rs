//! Hosts outside the cluster: egress rules, and what becomes of everything else.

use std::{fs, net::SocketAddr, time::Duration};

use anyhow::{Context as _, Result, ensure};
use tests::{
    bed::{Agent, AgentOptions, Node, Pod, agent::ADMIN},
    cluster::Cluster,
    harness::Test,
    protocol::Connect,
    wait,
};

pub(crate) const TESTS: &[Test] = &[
    (
        "egress_unknown_destinations_are_refused_and_counted",
        unknown_is_refused,
    ),
    ("egress_networks_are_reached_by_longest_prefix", networks),
    ("egress_networks_have_limits", network_limit),
    ("egress_loopback_is_every_workloads_own", loopback),
    ("egress_domains_are_resolved", domains),
    (
        "egress_is_free_unless_the_agent_is_told_otherwise",
        free_by_default,
    ),
];

const REGISTRY_ONLY: &[&str] = &["--egress", "registry-only"];
/// Port of outside hosts.
const PORT: u16 = 7443;
const NAMES_WITHIN: Duration = Duration::from_secs(60);

/// A host that the registry does not know. It answers on two ports.
fn outside(node: &Node) -> Result<Pod> {
    let host = node.pod("outside", &[])?;
    host.serve_tcp(PORT)?;
    host.serve_tcp(PORT + 1)?;
    Ok(host)
}

fn rule(name: &str, destination: &str, ports: &str) -> String {
    format!(
        "type: egress-rule\nname: {name}\nspec:\n  destination: {{service: \"{destination}\"}}\n  ports: [{ports}]\n"
    )
}

fn refusals(agent: &Agent<'_>) -> Result<u64> {
    agent.verdict("unknown-destination")
}

fn unknown_is_refused() -> Result<()> {
    let cluster = Cluster::new()?;
    let outside = outside(&cluster.node)?;
    let rules = rule(
        "one",
        &outside.v4(0).ip().to_string(),
        &format!("{{port: {PORT}, protocol: TCP}}"),
    );
    let agent = cluster.agent_with(&rules, REGISTRY_ONLY)?;
    // What an egress rule names, over a socket of either family.
    for connect in [
        Connect::to(outside.v4(PORT), 5),
        Connect::to(outside.v4(PORT), 5).mapped(),
    ] {
        let seen = cluster.a.connect(connect)?;
        ensure!(seen.from("outside") == 5 && seen.failed() == 0, "{seen:?}");
    }
    // Another port of the same host, and the same host over the other family.
    for unknown in [outside.v4(PORT + 1), outside.v6(PORT)] {
        let refused = cluster.a.connect_once(unknown)?;
        ensure!(refused == Err("ECONNREFUSED".into()), "{unknown}: {refused:?}");
    }
    ensure!(refusals(&agent)? == 2, "{}", refusals(&agent)?);
    // Services, and other workloads at their own addresses.
    for known in [
        tests::cluster::STORE,
        cluster.servers[0].v4(tests::cluster::TCP),
        cluster.servers[0].v6(tests::cluster::TCP),
    ] {
        let seen = cluster.a.connect(Connect::to(known, 3))?;
        ensure!(seen.failed() == 0, "{known}: {seen:?}");
    }
    // A pod that the registry does not know is a pod all the same.
    let stranger = cluster.node.pod("stranger", &[])?;
    let refused = stranger.connect_once(outside.v4(PORT + 1))?;
    ensure!(refused == Err("ECONNREFUSED".into()), "{refused:?}");
    // The host's own processes are free.
    let free = cluster.node.remote().connect_once(outside.v4(PORT + 1))?;
    ensure!(free.is_ok(), "{free:?}");
    let said = agent.router(&[
        "explain",
        "--admin",
        &ADMIN.to_string(),
        "--from",
        "a",
        &format!("tcp://{}", outside.v4(PORT + 1)),
    ])?;
    let said = String::from_utf8_lossy(&said.stderr).into_owned();
    ensure!(said.contains("unknown-destination"), "{said}");
    Ok(())
}

fn free_by_default() -> Result<()> {
    let cluster = Cluster::new()?;
    let outside = outside(&cluster.node)?;
    let agent = cluster.agent("")?;
    let seen = cluster.a.connect(Connect::to(outside.v4(PORT), 3))?;
    ensure!(seen.from("outside") == 3, "{seen:?}");
    ensure!(refusals(&agent)? == 0, "{}", refusals(&agent)?);
    Ok(())
}

fn networks() -> Result<()> {
    let cluster = Cluster::new()?;
    let outside = outside(&cluster.node)?;
    let (v4, v6) = (outside.v4(0).ip(), outside.v6(0).ip());
    let port = format!("{{port: {PORT}, protocol: TCP}}");
    let rules = [
        rule("v4", "10.77.0.0/16", &port),
        rule("v6", "fd77:77::/32", &port),
        rule(
            "host",
            &format!("{v4}/32"),
            &format!("{{port: {}, protocol: TCP}}", PORT + 1),
        ),
    ]
    .join("---\n");
    let agent = cluster.agent_with(&rules, REGISTRY_ONLY)?;
    for at in [outside.v4(PORT), outside.v6(PORT), outside.v4(PORT + 1)] {
        let seen = cluster.a.connect(Connect::to(at, 4))?;
        ensure!(seen.from("outside") == 4 && seen.failed() == 0, "{at}: {seen:?}");
    }
    let refused = cluster.a.connect_once(outside.v6(PORT + 1))?;
    ensure!(refused == Err("ECONNREFUSED".into()), "{refused:?}");
    let routed = agent.service_called("10.77.0.0/16", PORT)?;
    ensure!(routed.routed == 4, "{v4} {v6} {routed:?}");
    // Without the rule the way is closed.
    agent.change("rules.yaml", &rule("v6", "fd77:77::/32", &port))?;
    let refused = cluster.a.connect_once(outside.v4(PORT))?;
    ensure!(refused == Err("ECONNREFUSED".into()), "{refused:?}");
    let seen = cluster.a.connect(Connect::to(outside.v6(PORT), 4))?;
    ensure!(seen.from("outside") == 4, "{seen:?}");
    Ok(())
}

fn loopback() -> Result<()> {
    let cluster = Cluster::new()?;
    let rules = ["0.0.0.0/0", "::/0"].map(|network| {
        let port = format!("{{port: {PORT}, protocol: HTTP}}");
        format!(
            "{}---\ndestination: \"{network}\"\nhttpReqTimeout: {{simpleTimeout: {{timeout: 1s}}}}\n",
            rule(&format!("all-{}", network.len()), network, &port)
        )
    });
    let agent = cluster.agent_with(&rules.join("---\n"), REGISTRY_ONLY)?;
    cluster.a.serve_tcp(PORT)?;
    // The unspecified addresses mean the workload itself too.
    for own in ["127.0.0.1", "127.8.9.10", "0.0.0.0", "::1", "::"] {
        let own = SocketAddr::new(own.parse()?, PORT);
        let seen = cluster.a.connect_once(own)?;
        ensure!(seen.is_ok(), "{own}: {seen:?}");
    }
    ensure!(agent.verdict("proxied")? == 0 && refusals(&agent)? == 0);
    Ok(())
}

fn network_limit() -> Result<()> {
    let cluster = Cluster::new()?;
    let outside = outside(&cluster.node)?;
    let rules = format!(
        "{}---\ntype: destination-policy\nname: few\nspec:\n  destination: 10.77.0.0/16\n  circuitBreaker: {{simpleCb: \
         {{maxConnections: 3}}}}\n",
        rule("v4", "10.77.0.0/16", &format!("{{port: {PORT}, protocol: TCP}}"))
    );
    let _agent = cluster.agent(&rules)?;
    let pending = cluster.a.begin(tests::protocol::Command::Connect(
        Connect::to(outside.v4(PORT), 5).hold(),
    ))?;
    let seen = pending.connected()?;
    ensure!(seen.established() == 3, "{seen:?}");
    Ok(())
}

fn domains() -> Result<()> {
    let cluster = Cluster::new()?;
    let outside = outside(&cluster.node)?;
    let hosts = cluster.node.scratch().directory().join("hosts");
    fs::write(&hosts, format!("{} api.outside.test\n", outside.v4(0).ip())).context("hosts")?;
    let rules = rule(
        "api",
        "api.outside.test",
        &format!("{{port: {PORT}, protocol: TCP}}"),
    );
    let options = AgentOptions {
        arguments: REGISTRY_ONLY.iter().map(|&a| a.to_owned()).collect(),
        hosts: Some(hosts.clone()),
        ..AgentOptions::default()
    };
    let registry = cluster.registry()?;
    let files = [
        ("registry.yaml", registry.as_str()),
        ("rules.yaml", rules.as_str()),
    ];
    let agent = Agent::start_with(&cluster.node, &files, options)?;
    let reached = || cluster.a.connect_once(outside.v4(PORT)).ok()?.ok();
    wait::until("the name to be resolved", NAMES_WITHIN, reached)?;
    let refused = cluster.a.connect_once(outside.v4(PORT + 1))?;
    ensure!(refused == Err("ECONNREFUSED".into()), "{refused:?}");
    ensure!(
        agent.service_called("api.outside.test", PORT)?.routed >= 1,
        "not routed as a service"
    );
    Ok(())
}
