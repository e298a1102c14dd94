//! h2load, by both versions of HTTP: many connections, many streams, and not one failure.

use anyhow::{Result, ensure};
use tests::{
    harness::{Test, note},
    require::scaled,
};

use crate::nginx::{FRONTEND, Site, run};

pub(crate) const TESTS: &[Test] = &[
    ("h2load_over_http2_without_a_failure", http2),
    ("h2load_over_http1_without_a_failure", http1),
];

fn http2() -> Result<()> {
    load(&["-m", "8"])
}

fn http1() -> Result<()> {
    load(&["--h1"])
}

fn load(version: &[&str]) -> Result<()> {
    let requests = scaled(20_000, 100);
    let site = Site::new()?;
    let agent = site.agent()?;
    let mut h2load = site.client.command("h2load")?;
    h2load
        .args(version)
        .args(["-c", "16", "-n", &requests.to_string()]);
    h2load.arg(format!("http://{FRONTEND}/"));
    let output = run(h2load)?;
    let text = String::from_utf8_lossy(&output.stdout);
    let expected = format!(
        "requests: {requests} total, {requests} started, {requests} done, {requests} succeeded, 0 failed, 0 errored"
    );
    ensure!(text.contains(&expected), "{text}\n{}", agent.log_tail());
    let rate = text
        .lines()
        .find(|line| line.starts_with("finished in"))
        .unwrap_or_default();
    note(rate);
    Ok(())
}
