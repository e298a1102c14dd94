//! The test bed itself, without a router: pods reach each other, sit where they should, and leave nothing.

use std::fs;

use anyhow::{Result, ensure};
use tests::{
    bed::Node,
    harness::Test,
    protocol::{Connect, Http, HttpRequest},
};

pub(crate) const TESTS: &[Test] = &[
    ("pods_reach_each_other_in_both_families", pods_reach_each_other),
    ("http_clients_and_servers_speak_both_versions", http_speaks),
    ("pods_sit_in_their_cgroups", pods_sit_in_their_cgroups),
    ("connections_are_held_and_released", connections_are_held),
    ("closing_removes_everything", closing_removes_everything),
];

fn pods_reach_each_other() -> Result<()> {
    let node = Node::new()?;
    let server = node.pod("server", &[])?;
    let client = node.pod("client", &[])?;
    server.serve_tcp(7000)?;
    for connect in [
        Connect::to(server.v4(7000), 10),
        Connect::to(server.v6(7000), 10),
        Connect::to(server.v4(7000), 10).mapped(),
    ] {
        let seen = client.connect(connect)?;
        ensure!(seen.from("server") == 10 && seen.failed() == 0, "{seen:?}");
    }
    let by_peer = client.connect(Connect::to(server.v4(7000), 1000).by_peer().threads(4))?;
    ensure!(by_peer.from(&server.v4(7000).to_string()) == 1000, "{by_peer:?}");
    let refused = client.connect_once(server.v4(7001))?;
    ensure!(refused == Err("ECONNREFUSED".into()), "{refused:?}");
    Ok(())
}

fn http_speaks() -> Result<()> {
    let node = Node::new()?;
    let server = node.pod("server", &[])?;
    let client = node.pod("client", &[])?;
    server.serve_http(8000)?;
    let request = HttpRequest::get("/path?query").header("x-probe", "1");
    let http = Http::to(server.v4(8000), "server.test", request, 20);
    for http in [
        http.clone(),
        http.clone().http2().connections(2),
        http.clone().no_keep_alive(),
    ] {
        let seen = client.http(http)?;
        ensure!(seen.from("server") == 20 && seen.status(200) == 20, "{seen:?}");
    }
    let seen = server.seen(8000)?;
    ensure!(seen.requests == 60 && seen.connections == 1 + 2 + 20, "{seen:?}");
    ensure!(seen.recent.iter().all(|r| r.path == "/path?query"), "{seen:?}");
    Ok(())
}

fn pods_sit_in_their_cgroups() -> Result<()> {
    let node = Node::new()?;
    let pod = node.pod("pod", &[])?;
    let text = fs::read_to_string(format!("/proc/{}/cgroup", pod.pid()))?;
    let expected = format!(
        "0::/{}/kubepods/pod{}/container",
        node.scratch().name(),
        pod.spec().uid
    );
    ensure!(text.lines().any(|line| line == expected), "{text}");
    Ok(())
}

fn connections_are_held() -> Result<()> {
    let node = Node::new()?;
    let server = node.pod("server", &[])?;
    let client = node.pod("client", &[])?;
    server.serve_tcp(7000)?;
    let open = |expected| {
        let what = format!("{expected} open connections");
        tests::wait::until(&what, std::time::Duration::from_secs(10), || {
            server.seen(7000).ok().filter(|seen| seen.open == expected)
        })
    };
    let pending = client.begin(tests::protocol::Command::Connect(
        Connect::to(server.v4(7000), 50).threads(8).hold(),
    ))?;
    let id = pending.id();
    let seen = pending.connected()?;
    ensure!(seen.established() == 50 && seen.peak == 50, "{seen:?}");
    open(50)?;
    client.release(id, 20)?;
    open(30)?;
    client.kill();
    open(0)?;
    Ok(())
}

fn closing_removes_everything() -> Result<()> {
    let node = Node::new()?;
    let pod = node.pod("pod", &[])?;
    let cgroup = node.scratch().cgroup().to_owned();
    let name = format!("/run/netns/{}", pod.namespace());
    ensure!(
        cgroup.exists() && fs::symlink_metadata(&name).is_ok(),
        "the bed is not there"
    );
    drop(pod);
    drop(node);
    ensure!(!cgroup.exists(), "{} is left", cgroup.display());
    ensure!(fs::symlink_metadata(&name).is_err(), "{name} is left");
    Ok(())
}
