//! Clients outside, through a port of the node: into a service whose route rules split, with TLS or without, and ports
//! that come and go.

use std::{
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use tests::{
    bed::{ADMIN, Agent},
    certificates::{Authority, Issued, Valid},
    cluster::{Cluster, RULES, split},
    harness::Test,
    protocol::{Http, HttpRequest, NODE_V4, NODE_V6},
    wait,
};

pub(crate) const TESTS: &[Test] = &[
    (
        "outside_clients_are_split_by_the_services_rules",
        outside_is_split,
    ),
    ("ingress_ports_come_and_go", ports_come_and_go),
    ("ingress_shows_where_it_is_looked_for", is_shown),
];

const PORT: u16 = 8080;
/// Addresses of the node.
const NODE: [IpAddr; 2] = [IpAddr::V4(NODE_V4), IpAddr::V6(NODE_V6)];

const SOON: Duration = Duration::from_secs(60);

fn ingress(name: &str, fields: &str) -> String {
    format!(
        "---\ntype: ingress-rule\nname: {name}\nspec:\n{fields}  destination: {{name: web}}\n  destinationPort: 80\n"
    )
}

/// The state of a port, once it is as wanted.
fn becomes(agent: &Agent<'_>, port: u16, state: &str) -> Result<serde_json::Value> {
    let found = || {
        let status = agent.status().ok()?;
        let gateways = status["gateways"].as_array()?;
        let mut ours = gateways.iter().filter(|gateway| gateway["port"] == port);
        ours.find(|gateway| gateway["state"] == state).cloned()
    };
    wait::until(&format!("port {port} to be {state}"), SOON, found).with_context(|| agent.log_tail())
}

fn outside_is_split() -> Result<()> {
    let cluster = Cluster::new()?;
    let outside = cluster.node.pod("outside", &[])?;
    // For workloads that the registry knows, the same service goes elsewhere.
    let inside = "---\ntype: route-rule\nname: inside\nspec:\n  destination: web.default.svc.cluster.local\n  \
                  precedence: 5\n  match: {sourceTags: {app: client}}\n  route:\n  - tags: {version: v3}\n";
    let rules = split("web", &[("v1", 75), ("v2", 25)]) + inside + &ingress("web", "  port: 8080\n");
    let agent = cluster.agent(&rules)?;
    becomes(&agent, PORT, "open")?;
    for node in NODE {
        let target = SocketAddr::new(node, PORT);
        for http in [
            Http::to(target, "shop.test", HttpRequest::get("/"), 400),
            Http::to(target, "shop.test", HttpRequest::get("/"), 400).http2(),
        ] {
            let seen = outside.http(http)?;
            let (v1, v2) = (seen.from("v1"), seen.from("v2"));
            ensure!(
                v1.abs_diff(300) <= 1 && v1 + v2 == 400,
                "{target}: {seen:?}\n{}",
                agent.log_tail()
            );
        }
    }
    let seen = cluster.a.http(Cluster::get(20))?;
    ensure!(seen.from("v3") == 20, "a workload's own: {seen:?}");
    Ok(())
}

fn ports_come_and_go() -> Result<()> {
    let cluster = Cluster::new()?;
    let outside = cluster.node.pod("outside", &[])?;
    let rules = split("web", &[("v1", 100)]);
    let agent = cluster.agent(&rules)?;
    let target = SocketAddr::new(NODE[0], PORT);
    let get = || outside.http(Http::to(target, "shop.test", HttpRequest::get("/"), 10));
    ensure!(get()?.from("v1") == 0, "nobody listens yet");
    agent.change(RULES, &(rules.clone() + &ingress("web", "  port: 8080\n")))?;
    becomes(&agent, PORT, "open")?;
    let seen = get()?;
    ensure!(seen.from("v1") == 10, "{seen:?}\n{}", agent.log_tail());
    agent.change(RULES, &rules)?;
    let closed = || get().ok().filter(|seen| seen.from("v1") == 0).map(drop);
    wait::until("the port to be closed", SOON, closed)
}

fn is_shown() -> Result<()> {
    let cluster = Cluster::new()?;
    let authority = Authority::new()?;
    let issued = authority.issue(&["shop.test"], Valid::Now)?;
    let routes = split("web", &[("v1", 100)]);
    let rules = routes.clone()
        + &ingress(
            "plain",
            "  port: 8080\n  match: {request: {headers: {authority: {exact: shop.test}}}}\n",
        )
        + &ingress("secure", "  port: 8443\n  tlsSecret: shop-tls\n");
    let agent = cluster.agent(&routes)?;
    agent.change("secret.yaml", &issued.secret("shop-tls"))?;
    agent.change(RULES, &rules)?;
    becomes(&agent, PORT, "open")?;
    let secure = becomes(&agent, 8443, "open")?;
    ensure!(
        secure["certificates"][0]["secret"] == "default/shop-tls",
        "{secure}"
    );
    let said = |arguments: &[&str]| said(&agent, arguments);
    let admin = ADMIN.to_string();
    let status = said(&["status", "--admin", &admin])?;
    ensure!(status.contains("8443          https   open"), "{status}");
    let explained = said(&[
        "explain",
        "--admin",
        &admin,
        "--ingress",
        "http://shop.test:8080/",
    ])?;
    ensure!(
        explained.contains("→ ingress-rule plain") && explained.contains("→ route-rule web"),
        "{explained}"
    );
    let astray = said(&[
        "explain",
        "--admin",
        &admin,
        "--ingress",
        "http://else.test:8080/",
    ])?;
    ensure!(astray.contains("refused: no-route"), "{astray}");
    let dump = said(&["dump", "snapshot", "--admin", &admin])?;
    ensure!(dump.contains("secret: default/shop-tls"), "{dump}");
    let metrics = agent.admin("/metrics")?.body;
    for line in [
        "router_ingress_open{port=\"8443\"} 1",
        "router_ingress_certificate_end_seconds{secret=\"default/shop-tls\"}",
    ] {
        ensure!(metrics.contains(line), "{line} is not in\n{metrics}");
    }
    let config = agent.config().display().to_string();
    let shown = [
        status,
        explained,
        dump,
        metrics,
        said(&["status", "--admin", &admin, "-o", "json"])?,
        said(&["get", "--config", &config, "ingress-rules", "-o", "yaml"])?,
        said(&["check", &config])?,
        agent.admin("/snapshot")?.body,
        agent.log()?,
    ];
    keeps_the_key(&issued, &shown)
}

/// All that a command of `router` says.
fn said(agent: &Agent<'_>, arguments: &[&str]) -> Result<String> {
    let output = agent.router(arguments)?;
    let [said, complained] =
        [&output.stdout, &output.stderr].map(|text| String::from_utf8_lossy(text).into_owned());
    Ok(said + &complained)
}

/// What the key is made of is nowhere.
fn keeps_the_key(issued: &Issued, shown: &[String]) -> Result<()> {
    let line = issued.key_pem.lines().nth(1).context("a key has lines")?;
    for shown in shown {
        ensure!(!shown.contains(&line[8..40]), "the key is shown: {shown}");
    }
    Ok(())
}
