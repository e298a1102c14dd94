//! Hosts below a domain, of which nobody knows the addresses: the name that a pod sends opens the way.

use std::{collections::BTreeMap, net::SocketAddr, time::Duration};

use anyhow::{Result, ensure};
use tests::{
    bed::{Agent, Pod, agent::ADMIN},
    cluster::Cluster,
    harness::Test,
    protocol::{Connect, Http, HttpRequest, Tls},
    wait,
};

pub(crate) const TESTS: &[Test] = &[
    ("egress_below_a_domain_is_opened_by_server_names", server_names),
    ("egress_below_a_domain_is_opened_by_hosts", hosts),
    ("egress_below_a_domain_leaves_others_alone_unless_told", free),
    ("egress_below_a_domain_while_the_proxy_is_down", proxy_down),
    ("egress_below_a_domain_does_not_open_what_is_known", known),
];

const REGISTRY_ONLY: &[&str] = &["--egress", "registry-only"];
/// Ports of outside hosts.
const HTTP: u16 = 7080;
const TLS: u16 = 7443;
const RULES: &str = "type: egress-rule\nname: outside\nspec:\n  destination: {service: \"*.outside.test\"}\n  ports: \
                     [{port: 7080, protocol: HTTP}, {port: 7443, protocol: HTTPS}]\n";
const FALLS_BACK_WITHIN: Duration = Duration::from_secs(20);

/// A host that the registry does not know, and its certificate.
struct Outside {
    pod: Pod,
    certificate: Vec<u8>,
}

impl Outside {
    fn new(cluster: &Cluster) -> Result<Self> {
        let pod = cluster.node.pod("outside", &[])?;
        pod.serve_http(HTTP)?;
        let names = ["*.outside.test".to_owned(), "www.other.test".to_owned()];
        let certified = rcgen::generate_simple_self_signed(names)?;
        let certificate = certified.cert.der().to_vec();
        pod.serve_tls(TLS, (&certificate, &certified.signing_key.serialize_der()))?;
        Ok(Self { pod, certificate })
    }

    fn tls(&self, target: SocketAddr, server_name: &str) -> Tls {
        Tls {
            target,
            server_name: server_name.to_owned(),
            certificate: self.certificate.clone(),
        }
    }
}

fn get(target: SocketAddr, host: &str) -> Http {
    Http::to(target, host, HttpRequest::get("/"), 1).trace()
}

/// What the proxy has refused.
fn refused(agent: &Agent<'_>) -> Result<u64> {
    let metrics = agent.admin("/metrics")?.body;
    let line = |line: &&str| {
        line.starts_with("router_proxy_refusals_total{") && line.contains("unknown-destination")
    };
    let count = metrics
        .lines()
        .find(line)
        .and_then(|line| line.rsplit(' ').next()?.parse().ok());
    Ok(count.unwrap_or(0))
}

fn server_names() -> Result<()> {
    let cluster = Cluster::new()?;
    let outside = Outside::new(&cluster)?;
    let agent = cluster.agent_with(RULES, REGISTRY_ONLY)?;
    for target in [outside.pod.v4(TLS), outside.pod.v6(TLS)] {
        // The client checks the certificate: nobody has ended its TLS in between.
        let said = cluster.a.tls(outside.tls(target, "www.outside.test"))?;
        ensure!(
            said == Ok("outside".into()),
            "{target}: {said:?}\n{}",
            agent.log_tail()
        );
        let said = cluster.a.tls(outside.tls(target, "www.other.test"))?;
        ensure!(said == Err("ECONNRESET".into()), "{target}: {said:?}");
    }
    // Plain text on the port of TLS, and TLS on the port of plain text.
    let reply = cluster.a.http(get(outside.pod.v4(TLS), "www.outside.test"))?;
    ensure!(reply.failed() == 1, "{reply:?}");
    let said = cluster
        .a
        .tls(outside.tls(outside.pod.v4(HTTP), "www.outside.test"))?;
    ensure!(said.is_err(), "{said:?}");
    wait::until("refusals to be counted", FALLS_BACK_WITHIN, || {
        (refused(&agent).ok()? == 4).then_some(())
    })?;
    // A pod of which nobody knows anything is confined all the same; the host's own processes are not.
    let stranger = cluster.node.pod("stranger", &[])?;
    let said = stranger.tls(outside.tls(outside.pod.v4(TLS), "www.other.test"))?;
    ensure!(said == Err("ECONNRESET".into()), "{said:?}");
    let said = cluster
        .node
        .remote()
        .tls(outside.tls(outside.pod.v4(TLS), "www.other.test"))?;
    ensure!(said == Ok("outside".into()), "{said:?}\n{}", agent.log_tail());
    // Other ports stay closed.
    let other = cluster.a.connect_once(outside.pod.v4(TLS + 1))?;
    ensure!(other == Err("ECONNREFUSED".into()), "{other:?}");
    Ok(())
}

fn hosts() -> Result<()> {
    let cluster = Cluster::new()?;
    let outside = Outside::new(&cluster)?;
    let rules = format!(
        "{RULES}---\ntype: route-rule\nname: outside-headers\nspec:\n  destination: \"*.outside.test\"\n  appendHeaders: \
         {{x-way: out}}\n"
    );
    let agent = cluster.agent_with(&rules, REGISTRY_ONLY)?;
    let expected = BTreeMap::from([
        ("www.outside.test", 200),
        ("outside.test", 502),
        ("www.other.test", 502),
    ]);
    for target in [outside.pod.v4(HTTP), outside.pod.v6(HTTP)] {
        for (&host, &status) in &expected {
            let seen = cluster.a.http(get(target, host))?;
            ensure!(seen.status(status) == 1, "{host}: {seen:?}\n{}", agent.log_tail());
            let reason = seen.replies[0].header("x-router-reason");
            ensure!(
                reason == (status == 502).then_some("unknown-destination"),
                "{host}: {seen:?}"
            );
        }
    }
    let seen = outside.pod.seen(HTTP)?;
    let marked = |r: &HttpRequest| r.headers.contains(&("x-way".into(), "out".into()));
    ensure!(seen.requests == 2 && seen.recent.iter().all(marked), "{seen:?}");
    ensure!(refused(&agent)? == 4, "{}", refused(&agent)?);
    let explained = |arguments: &[&str]| -> Result<String> {
        let admin = ADMIN.to_string();
        let fixed = ["explain", "--admin", &admin, "--from", "a"];
        let output = agent.router(&[&fixed, arguments].concat())?;
        Ok(String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned())
    };
    let said = explained(&["http://www.outside.test:7080/"])?;
    ensure!(
        said.contains("outside-headers") && said.contains("*.outside.test"),
        "{said}"
    );
    let at = format!("http://{}/", outside.pod.v4(HTTP));
    let said = explained(&[&at])?;
    ensure!(
        said.contains("only the name") && said.contains("*.outside.test"),
        "{said}"
    );
    let said = explained(&["-H", "Host: www.outside.test", &at])?;
    ensure!(said.contains("outside-headers"), "{said}");
    Ok(())
}

fn free() -> Result<()> {
    let cluster = Cluster::new()?;
    let outside = Outside::new(&cluster)?;
    let agent = cluster.agent(RULES)?;
    for name in ["www.outside.test", "www.other.test"] {
        let said = cluster.a.tls(outside.tls(outside.pod.v4(TLS), name))?;
        ensure!(
            said == Ok("outside".into()),
            "{name}: {said:?}\n{}",
            agent.log_tail()
        );
        let seen = cluster.a.http(get(outside.pod.v4(HTTP), name))?;
        ensure!(seen.from("outside") == 1, "{name}: {seen:?}");
    }
    // The second of the two requests came as it was sent.
    let seen = outside.pod.seen(HTTP)?;
    let by_proxy = |r: &HttpRequest| r.headers.iter().any(|(name, _)| name == "x-forwarded-for");
    let by_proxy: Vec<_> = seen.recent.iter().map(by_proxy).collect();
    ensure!(by_proxy == [true, false], "{seen:?}");
    ensure!(refused(&agent)? == 0, "{}", refused(&agent)?);
    Ok(())
}

fn proxy_down() -> Result<()> {
    let cluster = Cluster::new()?;
    let outside = Outside::new(&cluster)?;
    let mut agent = cluster.agent_with(RULES, REGISTRY_ONLY)?;
    agent.kill()?;
    // Who may reach everything does not need anybody's eyes: nodes still pull images.
    let past_the_proxy = || {
        let said = cluster
            .node
            .remote()
            .tls(outside.tls(outside.pod.v4(TLS), "www.other.test"));
        said.ok()?.ok()
    };
    wait::until("the kernel to miss the proxy", FALLS_BACK_WITHIN, past_the_proxy)?;
    let refused = cluster.a.connect_once(outside.pod.v4(TLS))?;
    ensure!(refused == Err("ECONNREFUSED".into()), "{refused:?}");
    Ok(())
}

fn known() -> Result<()> {
    let cluster = Cluster::new()?;
    let server = &cluster.servers[0];
    let rules = format!(
        "type: egress-rule\nname: outside\nspec:\n  destination: {{service: \"*.outside.test\"}}\n  ports: [{{port: {}, \
         protocol: HTTPS}}]\n",
        tests::cluster::TCP
    );
    let agent = cluster.agent_with(&rules, REGISTRY_ONLY)?;
    // Addresses that the registry knows are reached as before, without a look at what is said.
    for target in [
        tests::cluster::STORE,
        server.v4(tests::cluster::TCP),
        server.v6(tests::cluster::TCP),
    ] {
        let seen = cluster.a.connect(Connect::to(target, 2))?;
        ensure!(seen.established() == 2, "{target}: {seen:?}");
    }
    // Behind link-local addresses clouds keep credentials.
    let cloud = SocketAddr::from(([169, 254, 169, 254], tests::cluster::TCP));
    let refused = cluster.a.connect_once(cloud)?;
    ensure!(refused == Err("ECONNREFUSED".into()), "{refused:?}");
    ensure!(agent.verdict("unknown-destination")? == 1, "not counted");
    Ok(())
}
