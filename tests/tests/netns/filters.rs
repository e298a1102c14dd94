//! What rules do beside routing, through a real agent: copies for mirrors, preflights, explanations for clients.

use std::time::Duration;

use anyhow::{Result, ensure};
use tests::{
    cluster::{Cluster, HTTP, WEB_HOST, limit, route, rule},
    harness::Test,
    protocol::{HttpRequest, Reply},
    wait,
};

pub(crate) const TESTS: &[Test] = &[
    ("mirrors_get_copies_under_their_own_limit", mirrors_get_copies),
    ("preflights_are_answered_by_the_agent", preflights),
    ("requests_explain_themselves_when_allowed", explanations),
];

fn mirrors_get_copies() -> Result<()> {
    let cluster = Cluster::new()?;
    let copied = route(&[("v1", 100)]) + "  mirror: {labels: {version: v2}}\n";
    let policy = limit("web", 1).replace("  circuitBreaker", "  tags: {version: v2}\n  circuitBreaker");
    let agent = cluster.agent(&(rule("copied", "web", &copied) + &policy))?;
    for http in [Cluster::get(100), Cluster::get(100).http2()] {
        let seen = cluster.a.http(http)?;
        ensure!(
            seen.from("v1") == 100 && seen.status(200) == 100,
            "{seen:?}\n{}",
            agent.log_tail()
        );
    }
    // One connection carries copies one after the other; those that find it taken fail, and nothing else does.
    let counted = wait::until("the end of 200 copies", Duration::from_secs(20), || {
        let metrics = agent.admin("/metrics").ok()?.body;
        let count = |outcome: &str| {
            let name = format!("router_proxy_mirrors_total{{outcome=\"{outcome}\"}} ");
            metrics
                .lines()
                .find_map(|line| line.strip_prefix(&name)?.parse::<u64>().ok())
        };
        let counts = (count("sent")?, count("dropped")?, count("failed")?);
        (counts.0 + counts.1 + counts.2 == 200).then_some(counts)
    })?;
    let seen = cluster.servers[1].seen(HTTP)?;
    ensure!(
        seen.requests == counted.0 && seen.requests > 0,
        "{counted:?} {seen:?}"
    );
    ensure!(seen.peak == 1, "{seen:?}");
    let host = format!("{}-shadow", WEB_HOST.split(':').next().unwrap_or(WEB_HOST));
    let named = |request: &HttpRequest| {
        let mut hosts = request.headers.iter().filter(|(name, _)| name == "host");
        hosts.any(|(_, value)| value.starts_with(&host))
    };
    ensure!(seen.recent.iter().all(named), "{seen:?}");
    Ok(())
}

fn one(replies: tests::protocol::Replies) -> Result<Reply> {
    ensure!(replies.replies.len() == 1, "{replies:?}");
    Ok(replies.replies[0].clone())
}

fn preflights() -> Result<()> {
    const ORIGIN: &str = "https://shop.example.com";
    let cluster = Cluster::new()?;
    let cors = "  corsPolicy: {allowOrigin: [\"https://shop.example.com\"], allowMethods: [GET, POST], maxAge: 60s}\n";
    let _agent = cluster.agent(&rule("shared", "web", &(route(&[("v1", 100)]) + cors)))?;
    let preflight = HttpRequest {
        method: "OPTIONS".into(),
        ..HttpRequest::get("/")
            .header("origin", ORIGIN)
            .header("access-control-request-method", "POST")
    };
    let answer = one(cluster.a.http(Cluster::send(preflight, 1).trace())?)?;
    ensure!(answer.status == 200 && answer.pod.is_empty(), "{answer:?}");
    ensure!(
        answer.header("access-control-allow-methods") == Some("GET,POST"),
        "{answer:?}"
    );
    ensure!(
        answer.header("access-control-max-age") == Some("60"),
        "{answer:?}"
    );
    let actual = HttpRequest::get("/").header("origin", ORIGIN);
    let answer = one(cluster.a.http(Cluster::send(actual, 1).trace())?)?;
    ensure!(answer.pod == "v1", "{answer:?}");
    ensure!(
        answer.header("access-control-allow-origin") == Some(ORIGIN),
        "{answer:?}"
    );
    Ok(())
}

fn explanations() -> Result<()> {
    const ASKS: &str = "x-why";
    let cluster = Cluster::new()?;
    let nowhere = rule("nowhere", "web", &route(&[("v9", 100)]));
    let arguments = ["--reason-header", "off", "--debug-header", ASKS];
    let _agent = cluster.agent_with(&nowhere, &arguments)?;
    let asking = HttpRequest::get("/").header(ASKS, "1");
    let answer = one(cluster.a.http(Cluster::send(asking, 1).trace())?)?;
    let explanation = answer.header(ASKS).unwrap_or_default();
    ensure!(explanation.contains("rule=\"route-rule nowhere\""), "{answer:?}");
    ensure!(explanation.ends_with("reason=\"no-endpoints\""), "{answer:?}");
    ensure!(
        answer.status == 503 && answer.header("x-router-reason").is_none(),
        "{answer:?}"
    );
    Ok(())
}
