//! Changes of the configuration while traffic flows.

use std::{fs, net::SocketAddr, time::Duration};

use anyhow::{Context, Result, ensure};
use tests::{
    bed::{agent::Agent, remote},
    cluster::{Cluster, RULES, STORE, TCP, split},
    harness::{Test, note},
    protocol::{Command, Connect},
    require::scaled,
    wait,
};

pub(crate) const TESTS: &[Test] = &[
    (
        "rules_change_under_load_without_a_failed_connect",
        change_under_load,
    ),
    ("a_broken_file_changes_nothing_and_is_reported", broken_file),
    ("a_doubtful_file_is_in_force_and_reported", doubtful_file),
    ("a_swapped_config_map_is_seen", config_map),
    ("endpoints_come_and_go_under_load", endpoints_come_and_go),
    ("weights_change_while_http_flows", http_change_under_load),
];

const SOON: Duration = Duration::from_secs(60);

/// Connects until stopped.
pub(crate) fn endless(target: SocketAddr) -> Connect {
    Connect::to(target, u64::MAX).threads(2).by_peer()
}

fn change_under_load() -> Result<()> {
    let cluster = Cluster::new()?;
    let agent = cluster.agent(&split("store", &[("v1", 100)]))?;
    let load = cluster.a.begin(Command::Connect(endless(STORE)))?;
    let changes = scaled(40, 1);
    for n in 0..changes {
        let weight = u32::try_from(n % 100)?;
        agent.change(RULES, &split("store", &[("v1", weight), ("v2", 100 - weight)]))?;
    }
    agent.change(RULES, &split("store", &[("v3", 100)]))?;
    // What starts now sees the last change and nothing else.
    let after = cluster.b.connect(Connect::to(STORE, 200))?;
    ensure!(after.from("v3") == 200, "{after:?}");
    let seen = remote::connected(load.stop()?)?;
    ensure!(seen.failed() == 0, "{seen:?}");
    note(&format!(
        "{} connects over {} changes, none failed",
        seen.established(),
        changes + 1
    ));
    Ok(())
}

fn broken_file() -> Result<()> {
    let cluster = Cluster::new()?;
    let agent = cluster.agent(&split("store", &[("v1", 100)]))?;
    let generation = agent.generation()?;
    let load = cluster.a.begin(Command::Connect(endless(STORE)))?;
    let mistakes = [
        (
            "destination: store.default.svc.cluster.local\nroute:\n- tags: {version: v2}\n  wieght: 100\n",
            "wieght",
            "unknown-field",
        ),
        ("destination: [store\n", RULES, "syntax"),
    ];
    for (text, named, code) in mistakes {
        agent.write(RULES, text)?;
        let refused = wait::until("the file to be refused", SOON, || {
            let status = agent.status().ok()?;
            let config = &status["config"];
            let told = config["findings"].to_string();
            let is_told = told.contains(named) && told.contains(code);
            (config["accepted"] == false && is_told).then(|| config.clone())
        });
        let config = refused.with_context(|| format!("{:?}\n{}", agent.status(), agent.log_tail()))?;
        ensure!(config["generation"] == generation, "{config}");
        // The log is written by a thread of its own.
        wait::until("the log to say what is wrong", SOON, || {
            let log = agent.log().ok()?;
            (log.contains(named) && log.contains(code)).then_some(())
        })?;
        counted(&agent, code, "error")?;
        let seen = cluster.b.connect(Connect::to(STORE, 100))?;
        ensure!(seen.from("v1") == 100, "{seen:?}");
    }
    agent.change(RULES, &split("store", &[("v2", 100)]))?;
    let seen = cluster.b.connect(Connect::to(STORE, 100))?;
    ensure!(seen.from("v2") == 100, "{seen:?}");
    let seen = remote::connected(load.stop()?)?;
    ensure!(seen.failed() == 0, "{seen:?}");
    Ok(())
}

fn doubtful_file() -> Result<()> {
    let cluster = Cluster::new()?;
    let agent = cluster.agent("")?;
    agent.change(RULES, &split("store", &[("v1", 30), ("v2", 30)]))?;
    let seen = cluster.a.connect(Connect::to(STORE, 100))?;
    ensure!(seen.from("v1") == 50 && seen.from("v2") == 50, "{seen:?}");
    let config = agent.status()?["config"].clone();
    let told = config["findings"].to_string();
    ensure!(
        config["accepted"] == true && told.contains("weights-sum"),
        "{config}"
    );
    wait::until("the log to name the rule", SOON, || {
        let log = agent.log().ok()?;
        (log.contains("weights-sum") && log.contains(RULES)).then_some(())
    })?;
    counted(&agent, "weights-sum", "warning")
}

/// The metrics know one finding of `code`, and its severity.
fn counted(agent: &Agent<'_>, code: &str, severity: &str) -> Result<()> {
    let line = format!("router_config_findings{{code=\"{code}\",severity=\"{severity}\"}} 1");
    let metrics = agent.admin("/metrics")?.body;
    ensure!(metrics.lines().any(|l| l == line), "no {line} in\n{metrics}");
    Ok(())
}

fn config_map() -> Result<()> {
    use std::os::unix::fs::symlink;
    let cluster = Cluster::new()?;
    let agent = cluster.agent("")?;
    let directory = agent.config();
    // As kubelet mounts a ConfigMap: files are links through `..data`, which is replaced.
    for (n, version) in ["v1", "v2", "v3"].into_iter().enumerate() {
        let generation = agent.generation()?;
        let data = directory.join(format!("..{n}"));
        fs::create_dir(&data)?;
        fs::write(data.join(RULES), split("store", &[(version, 100)]))?;
        symlink(format!("..{n}"), directory.join("..data_tmp"))?;
        fs::rename(directory.join("..data_tmp"), directory.join("..data"))?;
        if n == 0 {
            fs::remove_file(directory.join(RULES))?;
            symlink(format!("..data/{RULES}"), directory.join(RULES))?;
        } else {
            fs::remove_dir_all(directory.join(format!("..{}", n - 1)))?;
        }
        let changed = wait::until("the swap to be in force", SOON, || {
            agent.generation().ok().filter(|now| *now > generation)
        });
        changed.with_context(|| agent.log_tail())?;
        // The first swap is two changes, and the first of them may be seen alone.
        wait::until("the rules to be in force", SOON, || {
            let seen = cluster.a.connect(Connect::to(STORE, 30)).ok()?;
            (seen.from(version) == 30).then_some(())
        })?;
    }
    Ok(())
}

fn endpoints_come_and_go() -> Result<()> {
    let cluster = Cluster::new()?;
    let agent = cluster.agent("")?;
    let load = cluster.a.begin(Command::Connect(endless(STORE)))?;
    let whole = cluster.registry()?;
    let last = cluster.servers[2].v4(TCP).ip().to_string();
    // As the control plane does before a pod ends: the endpoint is no longer ready.
    let less = without_endpoint(&whole, &last)?;
    for _ in 0..scaled(10, 1) {
        agent.change("registry.yaml", &less)?;
        let seen = cluster.b.connect(Connect::to(STORE, 100))?;
        ensure!(seen.from("v1") + seen.from("v2") == 100, "{seen:?}");
        agent.change("registry.yaml", &whole)?;
        let seen = cluster.b.connect(Connect::to(STORE, 90))?;
        ensure!(seen.from("v3") >= 1 && seen.failed() == 0, "{seen:?}");
    }
    let seen = remote::connected(load.stop()?)?;
    ensure!(seen.failed() == 0, "{seen:?}");
    ensure!(followed(&agent)? == 2 * scaled(10, 1), "some were compiled whole");
    Ok(())
}

/// How many changes were put in force by looking at nothing but endpoints.
fn followed(agent: &Agent<'_>) -> Result<u64> {
    let metrics = agent.admin("/metrics")?.body;
    let mut lines = metrics.lines();
    let count = lines.find_map(|line| line.strip_prefix("router_endpoint_change_seconds_count "));
    Ok(count.context("no such metric")?.parse()?)
}

/// The registry with the endpoint at `ip` not ready.
fn without_endpoint(registry: &str, ip: &str) -> Result<String> {
    use serde::Deserialize;
    let mut text = String::new();
    for document in serde_yaml::Deserializer::from_str(registry) {
        let mut object = serde_json::Value::deserialize(document)?;
        if let Some(endpoints) = object["endpoints"].as_array_mut() {
            for endpoint in endpoints.iter_mut().filter(|e| e["addresses"][0] == ip) {
                endpoint["conditions"]["ready"] = false.into();
            }
        }
        text.push_str("---\n");
        text.push_str(&serde_yaml::to_string(&object)?);
    }
    Ok(text)
}

fn http_change_under_load() -> Result<()> {
    let cluster = Cluster::new()?;
    let agent = cluster.agent(&split("web", &[("v1", 100)]))?;
    let kept = cluster
        .a
        .begin(Command::Http(Cluster::get(u64::MAX).connections(4)))?;
    let fresh = cluster
        .b
        .begin(Command::Http(Cluster::get(u64::MAX).no_keep_alive()))?;
    for n in 0..scaled(20, 1) {
        let weight = u32::try_from(n % 100)?;
        agent.change(RULES, &split("web", &[("v1", weight), ("v2", 100 - weight)]))?;
    }
    agent.change(RULES, &split("web", &[("v3", 100)]))?;
    let after = cluster.b.http(Cluster::get(100))?;
    ensure!(after.from("v3") == 100, "{after:?}");
    for load in [kept, fresh] {
        let seen = remote::replies(load.stop()?)?;
        let total: u64 = seen.statuses.values().sum();
        ensure!(
            seen.failed() == 0 && seen.status(200) == total && total > 0,
            "{seen:?}"
        );
        note(&format!(
            "{total} requests while weights changed, none failed: {:?}",
            seen.pods
        ));
    }
    Ok(())
}
