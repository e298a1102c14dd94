//! curl from outside, through ports of the node to nginx: plain text and TLS, both versions of HTTP, by names that the
//! certificate is for, and a certificate that changes.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tests::{
    bed::Agent,
    certificates::{Authority, Valid},
    harness::Test,
    protocol::NODE_V4,
    wait,
};

use crate::nginx::{Site, large};

pub(crate) const TESTS: &[Test] = &[
    ("curl_comes_in_by_tls", curl_comes_in),
    (
        "curl_meets_a_new_certificate_without_a_restart",
        certificate_changes,
    ),
];

const HOST: &str = "shop.example.com";
const SOON: Duration = Duration::from_secs(60);

const RULES: &str = "\
type: ingress-rule
name: secure
spec:
  tlsSecret: shop-tls
  destination: {name: site}
---
type: ingress-rule
name: plain
spec:
  destination: {name: site}
";

/// A site behind ports 80 and 443 of its node.
fn opened<'s>(site: &'s Site, secret: &str) -> Result<Agent<'s>> {
    let agent = site.agent()?;
    agent.change("secret.yaml", secret)?;
    agent.change("ingress.yaml", RULES)?;
    let open = || {
        let status = agent.status().ok()?;
        let gateways = status["gateways"].as_array()?;
        (gateways.len() == 2 && gateways.iter().all(|g| g["state"] == "open")).then_some(())
    };
    wait::until("the ports to be open", SOON, open).with_context(|| agent.log_tail())?;
    Ok(agent)
}

/// curl's arguments to trust an authority and to find the host at the node.
fn trusting(site: &Site, name: &str, authority: &Authority) -> Result<Vec<String>> {
    let path = site.node.scratch().directory().join(name);
    std::fs::write(&path, authority.pem())?;
    let resolve = |port| ["--resolve".to_owned(), format!("{HOST}:{port}:{NODE_V4}")];
    let mut arguments = vec!["--cacert".to_owned(), path.display().to_string()];
    arguments.extend(resolve(443));
    arguments.extend(resolve(80));
    Ok(arguments)
}

fn curl(site: &Site, trust: &[String], arguments: &[&str]) -> Result<Vec<u8>> {
    let mut all: Vec<&str> = trust.iter().map(String::as_str).collect();
    all.extend(arguments);
    Ok(site.curl(&all)?.stdout)
}

fn curl_comes_in() -> Result<()> {
    let site = Site::new()?;
    let authority = Authority::new()?;
    let issued = authority.issue(&[HOST], Valid::Now)?;
    let agent = opened(&site, &issued.secret("shop-tls"))?;
    let trust = trusting(&site, "ca.pem", &authority)?;
    let caller = site.client.v4(0).ip();
    for (version, url, scheme, spoken) in [
        ("--http1.1", "https", "https", "1.1"),
        ("--http2", "https", "https", "2"),
        ("--http1.1", "http", "http", "1.1"),
        ("--http2-prior-knowledge", "http", "http", "2"),
        ("--http1.0", "https", "https", "1"),
    ] {
        let url = format!("{url}://{HOST}/echo");
        let answer = curl(&site, &trust, &[version, "-w", "%{http_version}", &url])?;
        let answer = String::from_utf8_lossy(&answer).into_owned();
        let expected = format!("GET {HOST} {caller}\n{spoken}");
        ensure!(
            answer == expected,
            "{version} {scheme}: {answer:?} is not {expected:?}\n{}",
            agent.log_tail()
        );
    }
    let url = format!("https://{HOST}/large");
    for version in ["--http1.1", "--http2"] {
        let answer = curl(&site, &trust, &[version, &url])?;
        ensure!(answer == large(), "{version}: {} bytes differ", answer.len());
    }
    for (limit, version) in [("1.2", "--tlsv1.2"), ("1.3", "--tlsv1.3")] {
        let echo = format!("https://{HOST}/echo");
        let answer = curl(&site, &trust, &[version, "--tls-max", limit, &echo]);
        answer.with_context(|| format!("TLS {limit}\n{}", agent.log_tail()))?;
    }
    // Older ones are not spoken.
    let echo = format!("https://{HOST}/echo");
    let old = curl(&site, &trust, &["--tlsv1.0", "--tls-max", "1.1", &echo]);
    ensure!(old.is_err(), "TLS 1.1 is spoken");
    Ok(())
}

fn certificate_changes() -> Result<()> {
    let site = Site::new()?;
    let (before, after) = (Authority::new()?, Authority::new()?);
    let agent = opened(&site, &before.issue(&[HOST], Valid::Now)?.secret("shop-tls"))?;
    let old = trusting(&site, "old.pem", &before)?;
    let new = trusting(&site, "new.pem", &after)?;
    let url = format!("https://{HOST}/");
    ensure!(curl(&site, &old, &[&url])? == b"hello\n", "{}", agent.log_tail());
    ensure!(
        curl(&site, &new, &[&url]).is_err(),
        "the new authority is not in use yet"
    );
    agent.change(
        "secret.yaml",
        &after.issue(&[HOST], Valid::Now)?.secret("shop-tls"),
    )?;
    // The proxy follows the snapshot at its next handshake.
    ensure!(curl(&site, &new, &[&url])? == b"hello\n", "{}", agent.log_tail());
    ensure!(
        curl(&site, &old, &[&url]).is_err(),
        "the old certificate is still shown"
    );
    Ok(())
}
