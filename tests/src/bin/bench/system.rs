//! The systems that are compared: nothing at all, the router, and what a user would run instead.
//!
//! Each does the same work: a header match against the rules' users, else a split 75/25 over two versions; kept
//! connections to the servers; `x-forwarded-for` and `x-request-id`; a timeout of 15 s; no retries; no logs.

mod envoy;
mod haproxy;
mod nginx;
pub(crate) mod router;

use std::{
    fmt,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};
use tests::{
    bed::Agent,
    protocol::{Connect, NODE_V4},
    wait,
};

use crate::{serve, stage::Stage};

/// Weights of the two versions.
pub(crate) const WEIGHTS: [u64; 2] = [75, 25];
/// Ports of the peers on the node.
const HTTP1: u16 = 8080;
const HTTP2: u16 = 8081;
/// What a peer prints goes here.
const LOG: &str = "log";
/// A system accepts connections within this time.
const READY_WITHIN: Duration = Duration::from_secs(60);

/// A system.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub(crate) enum System {
    /// The client connects to a server pod by itself.
    Direct,
    /// A forwarder that looks at nothing: what the kernel alone takes.
    Floor,
    /// This project.
    Router,
    /// Envoy.
    Envoy,
    /// nginx.
    Nginx,
    /// HAProxy.
    Haproxy,
}

/// How much a system has to know.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
pub(crate) struct Size {
    /// Rules of the service that is measured.
    pub(crate) rules: u32,
    /// Services, with that one.
    pub(crate) services: u32,
}

/// A system with its size: what is measured in turn with others.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
pub(crate) struct Lane {
    pub(crate) system: System,
    pub(crate) size: Size,
}

/// Programs that are not found by `PATH`.
#[derive(Clone, Debug)]
pub(crate) struct Programs {
    pub(crate) router: PathBuf,
    pub(crate) envoy: Option<PathBuf>,
}

/// Where clients connect.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Entry {
    pub(crate) http1: SocketAddr,
    pub(crate) http2: SocketAddr,
    pub(crate) greet: SocketAddr,
    pub(crate) echo: SocketAddr,
    pub(crate) sink: SocketAddr,
}

/// A running system; dropping it ends it.
pub(crate) struct Running<'a> {
    pub(crate) entry: Entry,
    /// Cgroup of its processes.
    pub(crate) cgroup: PathBuf,
    process: Process<'a>,
}

enum Process<'a> {
    None,
    Peer(Child),
    Router(#[expect(dead_code, reason = "kept alive, ended on drop")] Agent<'a>),
}

impl System {
    /// Every system, in the order of the tables.
    pub(crate) const ALL: [Self; 6] = [
        Self::Direct,
        Self::Floor,
        Self::Router,
        Self::Envoy,
        Self::Nginx,
        Self::Haproxy,
    ];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Direct => "direct",
            Self::Floor => "floor",
            Self::Router => "router",
            Self::Envoy => "Envoy",
            Self::Nginx => "nginx",
            Self::Haproxy => "HAProxy",
        }
    }

    /// True for what others make.
    pub(crate) fn is_peer(self) -> bool {
        !matches!(self, Self::Direct | Self::Floor | Self::Router)
    }

    /// True when requests and connections are split over the versions. The floor splits connections alone.
    pub(crate) fn splits(self) -> bool {
        !matches!(self, Self::Direct | Self::Floor)
    }

    /// What the program says of its version; none when it is not installed.
    pub(crate) fn version(self, programs: &Programs) -> Option<String> {
        let (program, argument): (&Path, _) = match self {
            Self::Direct | Self::Floor => return Some(String::new()),
            Self::Router => (&programs.router, "--version"),
            Self::Envoy => (programs.envoy.as_deref()?, "--version"),
            Self::Nginx => (Path::new("nginx"), "-v"),
            Self::Haproxy => (Path::new("haproxy"), "-v"),
        };
        let output = Command::new(program).arg(argument).output().ok()?;
        let text = [output.stdout, output.stderr].concat();
        let text = String::from_utf8_lossy(&text).into_owned();
        let line = text.lines().find(|line| !line.trim().is_empty())?;
        // Envoy says first by which path it was called.
        let line = line.strip_prefix(&*program.to_string_lossy()).unwrap_or(line);
        Some(line.trim().to_owned())
    }

    /// Starts it on a stage; returns when it serves.
    pub(crate) fn start<'a>(self, stage: &'a Stage, size: Size, programs: &Programs) -> Result<Running<'a>> {
        if self == Self::Router {
            return router::start(stage, size, programs);
        }
        let (entry, process) = match self {
            Self::Direct => (direct(stage), Process::None),
            Self::Floor => (floor(), Process::Peer(start_floor(stage)?)),
            Self::Envoy => {
                let program = programs.envoy.as_deref().context("Envoy is not installed")?;
                (peer(), Process::Peer(envoy::start(stage, size, program)?))
            }
            Self::Nginx => (peer(), Process::Peer(nginx::start(stage, size)?)),
            _ => (peer(), Process::Peer(haproxy::start(stage, size)?)),
        };
        let mut running = Running {
            entry,
            cgroup: stage.system_cgroup().into(),
            process,
        };
        running.until_ready(stage).with_context(|| {
            let log = std::fs::read_to_string(stage.file(LOG)).unwrap_or_default();
            format!("{} says: {}", self.name(), log.trim())
        })?;
        Ok(running)
    }
}

impl Running<'_> {
    /// Waits until every port answers in the client's eyes: the node accepts there.
    fn until_ready(&mut self, stage: &Stage) -> Result<()> {
        let Process::Peer(child) = &mut self.process else {
            return Ok(());
        };
        for address in [self.entry.http1, self.entry.sink] {
            let listening = || {
                if let Ok(Some(status)) = child.try_wait() {
                    return Some(Err(status));
                }
                let probe = stage.node().remote().connect(Connect::to(address, 1).by_peer());
                let connected = probe.is_ok_and(|seen| seen.established() == 1);
                connected.then_some(Ok(()))
            };
            let ready = wait::until("the system to listen", READY_WITHIN, listening)?;
            if let Err(status) = ready {
                bail!("it ended with {status}");
            }
        }
        Ok(())
    }
}

impl Drop for Process<'_> {
    fn drop(&mut self) {
        if let Self::Peer(child) = self {
            // Its workers are killed with the cgroup.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

impl fmt::Display for Lane {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.system.name())
    }
}

/// Straight to the first server pod.
fn direct(stage: &Stage) -> Entry {
    let pod = &stage.pods()[0];
    Entry {
        http1: pod.v4(serve::HTTP),
        http2: pod.v4(serve::HTTP),
        greet: pod.v4(serve::GREET),
        echo: pod.v4(serve::ECHO),
        sink: pod.v4(serve::SINK),
    }
}

/// A proxy on the node.
fn peer() -> Entry {
    let at = |port| SocketAddr::from((NODE_V4, port));
    Entry {
        http1: at(HTTP1),
        http2: at(HTTP2),
        greet: at(serve::GREET),
        echo: at(serve::ECHO),
        sink: at(serve::SINK),
    }
}

/// The floor knows one port.
fn floor() -> Entry {
    let at = SocketAddr::from((NODE_V4, HTTP1));
    Entry {
        http1: at,
        http2: at,
        greet: at,
        echo: at,
        sink: at,
    }
}

fn start_floor(stage: &Stage) -> Result<Child> {
    let listen = floor().http1.to_string();
    let [v1, v2] = [0, 1].map(|index| stage.pods()[index].v4(serve::HTTP).to_string());
    spawn(
        stage,
        &std::env::current_exe()?,
        &[crate::floor::FLOOR, &listen, &v1, &v2],
    )
}

/// The server pods' addresses.
fn servers(stage: &Stage) -> Vec<std::net::IpAddr> {
    stage.pods().iter().map(|pod| pod.v4(0).ip()).collect()
}

/// The users whom rules send to v2.
fn users(size: Size) -> impl Iterator<Item = String> {
    // The last rule is the one that splits.
    (1..size.rules).map(|number| format!("user-{number}"))
}

/// Starts a peer with its output in a file, which is shown when it does not start.
fn spawn(stage: &Stage, program: &Path, arguments: &[&str]) -> Result<Child> {
    let log = std::fs::File::create(stage.file(LOG))?;
    let mut command = stage.system_command(program)?;
    command
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log);
    command.spawn().with_context(|| program.display().to_string())
}
