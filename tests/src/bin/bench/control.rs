//! The control plane: how long a large configuration takes to start, how long a change takes to reach connections,
//! how much memory either needs.

use std::{
    io::{BufRead, BufReader},
    net::{IpAddr, Ipv4Addr, SocketAddr},
    process::Child,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};
use tests::bed::{Agent, Manifest, Pod, ServicePort};

use crate::{
    clock, cluster,
    figures::{self, median},
    serve,
    stage::Stage,
    system::{Programs, router},
    usage::memory_kib,
};

/// Services of the large configuration.
const SERVICES: u32 = 5_000;
/// Endpoints of each.
const ENDPOINTS: u32 = 20;
/// Address of the service whose endpoint changes.
const CHANGING: Ipv4Addr = Ipv4Addr::new(10, 96, 0, 2);
/// File with its EndpointSlice.
const SLICE: &str = "changing.yaml";
/// A change that takes longer has failed.
const CHANGED_WITHIN: Duration = Duration::from_secs(30);
/// Pause between two changes, so that each is one by itself.
const PAUSE: Duration = Duration::from_millis(20);

/// What was measured; what was not is missing.
#[derive(Clone, Default, Debug, Serialize, Deserialize)]
pub(crate) struct Control {
    /// Seconds from the start of the process until it is ready, one for each start.
    pub(crate) starts_s: Vec<f64>,
    /// Processor seconds of the agent until then.
    pub(crate) starts_cpu_s: Vec<f64>,
    /// Milliseconds from the rename of a file until the first connection to the new endpoint began.
    pub(crate) changes_ms: Vec<f64>,
    /// Resident memory with one service, idle.
    pub(crate) small_kib: Option<u64>,
    /// Resident memory with the large configuration.
    pub(crate) large_kib: Option<u64>,
}

impl Control {
    pub(crate) fn start_s(&self) -> Option<f64> {
        Some(median(self.starts_s.clone())).filter(|value| value.is_finite())
    }

    /// A quantile of the changes.
    pub(crate) fn change_ms(&self, quantile: f64) -> Option<f64> {
        let mut sorted = self.changes_ms.clone();
        sorted.sort_by(f64::total_cmp);
        let last = sorted.len().checked_sub(1)?;
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            clippy::cast_precision_loss,
            reason = "an index of a short list"
        )]
        let index = (last as f64 * quantile).ceil() as usize;
        sorted.get(index).copied()
    }
}

/// How often.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Repeats {
    starts: usize,
    changes: usize,
    /// No change begins after so long, however few there were.
    within: Duration,
}

impl Repeats {
    /// Enough to see that it works.
    pub(crate) const QUICK: Self = Self {
        starts: 1,
        changes: 50,
        within: Duration::from_secs(10),
    };
    /// Enough for a p99.
    pub(crate) const FULL: Self = Self {
        starts: 3,
        changes: 500,
        within: Duration::from_secs(60),
    };
}

/// Measures the agent with one service.
pub(crate) fn small(programs: &Programs, control: &mut Control) -> Result<()> {
    eprintln!("  {:16} the agent with one service, idle", "control-small");
    let stage = Stage::new()?;
    let _agent = Agent::start_with(
        stage.node(),
        &[("changing.yaml", &manifest(&stage, 0)?)],
        router::options(programs),
    )?;
    let cgroup = stage.node().scratch().cgroup_below("system/agent")?;
    control.small_kib = Some(memory_kib(&cgroup)?);
    Ok(())
}

/// Measures starts and changes with the large configuration.
pub(crate) fn large(programs: &Programs, repeats: Repeats, control: &mut Control) -> Result<()> {
    eprintln!(
        "  {:16} {SERVICES} services of {ENDPOINTS} endpoints, {SERVICES} rules: start",
        "control-start"
    );
    let services = cluster::services(SERVICES, ENDPOINTS);
    let pods = cluster::pods(SERVICES, ENDPOINTS);
    let rules = cluster::rules(SERVICES);
    for number in 0..repeats.starts {
        let stage = Stage::new()?;
        let files = [
            ("services.yaml", services.as_str()),
            ("pods.yaml", &pods),
            ("rules.yaml", &rules),
            (SLICE, &manifest(&stage, 0)?),
        ];
        let begin = Instant::now();
        let agent = Agent::start_with(stage.node(), &files, router::options(programs))?;
        control.starts_s.push(begin.elapsed().as_secs_f64());
        let cgroup = stage.node().scratch().cgroup_below("system/agent")?;
        control
            .starts_cpu_s
            .push(crate::usage::Cpu::of(&cgroup)?.seconds());
        if number + 1 == repeats.starts {
            control.large_kib = Some(memory_kib(&cgroup)?);
            changes(&stage, &agent, repeats, control)?;
        }
    }
    Ok(())
}

/// Moves the service from one pod to the other and back, and sees when connections follow.
fn changes(stage: &Stage, agent: &Agent, repeats: Repeats, control: &mut Control) -> Result<()> {
    eprintln!(
        "  {:16} one endpoint of one of them, again and again",
        "control-change"
    );
    let begin = Instant::now();
    let target = SocketAddr::from((CHANGING, serve::GREET));
    let mut watcher = Watcher::new(stage.watch(target)?)?;
    watcher.until("1")?;
    for number in 0..repeats.changes {
        if begin.elapsed() > repeats.within {
            break;
        }
        let now = (number + 1) % 2;
        let text = manifest(stage, now)?;
        agent.write(SLICE, &text)?;
        let written = clock::monotonic_ns();
        let followed = watcher.until(&(now + 1).to_string())?;
        control
            .changes_ms
            .push(figures::number(followed.saturating_sub(written)) / 1e6);
        // waits: for the agent to be at rest again.
        std::thread::sleep(PAUSE);
    }
    Ok(())
}

/// The service whose endpoint changes: at first one pod, then the other.
fn manifest(stage: &Stage, pod: usize) -> Result<String> {
    let ports = [ServicePort {
        name: "tcp",
        port: serve::GREET,
        target: serve::GREET,
    }];
    let pods: Vec<&Pod> = stage.pods().iter().collect();
    Manifest::new()
        .pods(pods.iter().copied())
        .service("changing", &[IpAddr::V4(CHANGING)], &ports, &pods[pod..=pod])
        .yaml()
}

/// The watcher's lines.
struct Watcher {
    child: Child,
    lines: std::sync::mpsc::Receiver<String>,
}

impl Watcher {
    fn new(mut child: Child) -> Result<Self> {
        let stdout = child.stdout.take().context("no standard output")?;
        let (sender, lines) = std::sync::mpsc::sync_channel(1024);
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        Ok(Self { child, lines })
    }

    /// When the first connection to the server `name` began.
    fn until(&mut self, name: &str) -> Result<u64> {
        loop {
            let line = self
                .lines
                .recv_timeout(CHANGED_WITHIN)
                .with_context(|| format!("no connection to server {name}"))?;
            match line.split_once(' ') {
                Some((time, seen)) if seen == name => return Ok(time.parse()?),
                Some((_, "!")) => bail!("a connection failed during a change"),
                _ => {}
            }
        }
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        // It may be gone already, which is as good.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
