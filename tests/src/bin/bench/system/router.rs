//! The router's agent on the node, with the service that is measured among as many others as asked for.

use std::{
    fmt::Write as _,
    net::{IpAddr, Ipv4Addr, SocketAddr},
};

use anyhow::Result;
use tests::bed::{Agent, AgentOptions, Manifest, ServicePort};

use super::{Entry, Process, Programs, Running, Size, WEIGHTS, users};
use crate::{cluster, serve, stage::Stage};

/// Address of the service that is measured.
pub(crate) const ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 96, 0, 1);
const HTTP1: u16 = 80;
const HTTP2: u16 = 81;

pub(super) fn start<'a>(stage: &'a Stage, size: Size, programs: &Programs) -> Result<Running<'a>> {
    let others = cluster::services(size.services.saturating_sub(1), 1);
    let registry = registry(stage, size)?;
    let files = [
        ("registry.yaml", registry.as_str()),
        ("rules.yaml", &rules(size)),
        ("others.yaml", &others),
    ];
    let agent = Agent::start_with(stage.node(), &files, options(programs))?;
    let at = |port| SocketAddr::from((ADDRESS, port));
    Ok(Running {
        entry: Entry {
            http1: at(HTTP1),
            http2: at(HTTP2),
            greet: at(serve::GREET),
            echo: at(serve::ECHO),
            sink: at(serve::SINK),
        },
        cgroup: stage.node().scratch().cgroup_below("system/agent")?,
        process: Process::Router(agent),
    })
}

/// The agent as it is measured: without an access log.
pub(crate) fn options(programs: &Programs) -> AgentOptions {
    AgentOptions {
        arguments: ["--access-log", "off"].map(Into::into).into(),
        router: Some(programs.router.clone()),
        ..AgentOptions::default()
    }
}

/// The service that is measured, with its pods; without rules it has ports of TCP only.
fn registry(stage: &Stage, size: Size) -> Result<String> {
    let pods: Vec<_> = stage.pods().iter().collect();
    let ports = [
        ("http", HTTP1, serve::HTTP),
        ("http2", HTTP2, serve::HTTP),
        ("tcp-greet", serve::GREET, serve::GREET),
        ("tcp-echo", serve::ECHO, serve::ECHO),
        ("tcp-sink", serve::SINK, serve::SINK),
    ];
    let ports = ports.map(|(name, port, target)| ServicePort { name, port, target });
    let ports = if size.rules == 0 { &ports[2..] } else { &ports[..] };
    Manifest::new()
        .pods(pods.iter().copied())
        .service("web", &[IpAddr::V4(ADDRESS)], ports, &pods)
        .yaml()
}

/// The rules in the 0.1 language.
fn rules(size: Size) -> String {
    let [w1, w2] = WEIGHTS;
    let timeout = if size.rules == 0 {
        ""
    } else {
        "  httpReqTimeout: {simpleTimeout: {timeoutSeconds: 15}}\n"
    };
    let mut text = format!(
        "type: route-rule
name: web-split
spec:
  destination: web.default.svc.cluster.local
  precedence: 1
{timeout}  route:
  - {{tags: {{version: v1}}, weight: {w1}}}
  - {{tags: {{version: v2}}, weight: {w2}}}
"
    );
    for user in users(size) {
        let _ = write!(
            text,
            "---
type: route-rule
name: web-{user}
spec:
  destination: web.default.svc.cluster.local
  precedence: 2
  match: {{httpHeaders: {{x-user: {{exact: {user}}}}}}}
  httpReqTimeout: {{simpleTimeout: {{timeoutSeconds: 15}}}}
  route:
  - tags: {{version: v2}}
"
        );
    }
    text
}
