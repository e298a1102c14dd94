//! The control plane: how long a large configuration takes to start, how long a change takes to reach connections,
//! how much memory either needs.

use std::{
    io::{BufRead, BufReader},
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::Path,
    process::Child,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};
use tests::bed::{Agent, Manifest, Pod, ServicePort};

use crate::{
    clock, cluster,
    figures::{self, median},
    run::SETTLE,
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
/// Between two changes of a stream: a thousand in a second.
const STREAM_EVERY: Duration = Duration::from_millis(1);
/// One in so many changes of a stream is the one that is waited for.
const WATCHED_EVERY: u32 = 50;

/// What was measured; what was not is missing.
#[derive(Clone, Default, Debug, Serialize, Deserialize)]
pub(crate) struct Control {
    /// Seconds from the start of the process until it is ready, one for each start.
    pub(crate) starts_s: Vec<f64>,
    /// Processor seconds of the agent until then.
    pub(crate) starts_cpu_s: Vec<f64>,
    /// Milliseconds from the moment before a file is written until the first connection to the new endpoint began.
    pub(crate) changes_ms: Vec<f64>,
    /// Of the same changes, as the agent counts them: milliseconds from the moment that it read the file event until proxy
    /// and kernel followed, and the share of changes that took at most so long.
    #[serde(default)]
    pub(crate) agent_changes_ms: Vec<(f64, f64)>,
    /// The same as [`Self::changes_ms`], while other services change a thousand times in a second.
    #[serde(default)]
    pub(crate) streamed_ms: Vec<f64>,
    /// Changes in a second that were really written then.
    #[serde(default)]
    pub(crate) streamed_per_s: Option<f64>,
    /// Processor seconds of the agent in a second then.
    #[serde(default)]
    pub(crate) streamed_cpu: Option<f64>,
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
        quantile_of(&self.changes_ms, quantile)
    }

    /// The least bound, of those that the agent counts by, that this share of the changes took at most.
    pub(crate) fn agent_change_ms(&self, quantile: f64) -> Option<f64> {
        let found = self.agent_changes_ms.iter().find(|(_, share)| *share >= quantile);
        found.map(|(bound, _)| *bound)
    }

    /// A quantile of the changes in a stream of others.
    pub(crate) fn streamed_ms(&self, quantile: f64) -> Option<f64> {
        quantile_of(&self.streamed_ms, quantile)
    }
}

fn quantile_of(values: &[f64], quantile: f64) -> Option<f64> {
    let mut sorted = values.to_vec();
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

/// How often.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Repeats {
    starts: usize,
    changes: usize,
    streamed: u32,
    /// No change begins after so long, however few there were.
    within: Duration,
}

impl Repeats {
    /// Enough to see that it works.
    pub(crate) const QUICK: Self = Self {
        starts: 1,
        changes: 50,
        streamed: 2_000,
        within: Duration::from_secs(10),
    };
    /// Enough for a p99.
    pub(crate) const FULL: Self = Self {
        starts: 3,
        changes: 500,
        streamed: 10_000,
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
    control.small_kib = Some(at_rest(&cgroup)?);
    Ok(())
}

/// Measures starts and changes with the large configuration.
pub(crate) fn large(programs: &Programs, repeats: Repeats, control: &mut Control) -> Result<()> {
    eprintln!(
        "  {:16} {SERVICES} services of {ENDPOINTS} endpoints, {SERVICES} rules: start",
        "control-start"
    );
    let services: Vec<_> = (0..SERVICES)
        .map(|n| (file_of(n), cluster::service_of(n, ENDPOINTS, ENDPOINTS)))
        .collect();
    let pods = cluster::pods(SERVICES, ENDPOINTS);
    let rules = cluster::rules(SERVICES);
    for number in 0..repeats.starts {
        let stage = Stage::new()?;
        let changing = manifest(&stage, 0)?;
        let mut files = vec![
            ("pods.yaml", pods.as_str()),
            ("rules.yaml", &rules),
            (SLICE, &changing),
        ];
        files.extend(services.iter().map(|(name, text)| (name.as_str(), text.as_str())));
        let (agent, begin) = start(&stage, &files, programs)?;
        control.starts_s.push(begin.elapsed().as_secs_f64());
        let cgroup = stage.node().scratch().cgroup_below("system/agent")?;
        control
            .starts_cpu_s
            .push(crate::usage::Cpu::of(&cgroup)?.seconds());
        if number + 1 == repeats.starts {
            control.large_kib = Some(at_rest(&cgroup)?);
            changes(&stage, &agent, repeats, control)?;
            control.agent_changes_ms = counted(&agent)?;
            stream(&stage, &agent, repeats, control)?;
        }
    }
    Ok(())
}

/// Resident memory once the agent has given back what it needed to become ready, in KiB.
fn at_rest(cgroup: &Path) -> Result<u64> {
    // waits: for what a system does right after its start.
    std::thread::sleep(SETTLE);
    memory_kib(cgroup)
}

/// One service is one file.
fn file_of(service: u32) -> String {
    format!("s{service}.yaml")
}

/// Starts the agent, and says when.
fn start<'s>(stage: &'s Stage, files: &[(&str, &str)], programs: &Programs) -> Result<(Agent<'s>, Instant)> {
    let directory = stage.node().scratch().directory().join("config");
    std::fs::create_dir_all(&directory)?;
    for (name, text) in files {
        std::fs::write(directory.join(name), text)?;
    }
    let begin = Instant::now();
    let agent = Agent::start_with(stage.node(), &[], router::options(programs))?;
    Ok((agent, begin))
}

/// Changes other services without a pause, and sees when connections follow one of them.
fn stream(stage: &Stage, agent: &Agent, repeats: Repeats, control: &mut Control) -> Result<()> {
    eprintln!("  {:16} a thousand changes in a second", "control-stream");
    let target = SocketAddr::from((CHANGING, serve::GREET));
    let mut watcher = Watcher::new(stage.watch(target)?)?;
    let mut at = usize::from(watcher.any()? == "2");
    let cgroup = stage.node().scratch().cgroup_below("system/agent")?;
    let (begin, cpu) = (Instant::now(), crate::usage::Cpu::of(&cgroup)?);
    let mut written = None;
    for number in 0..repeats.streamed {
        let due = begin + STREAM_EVERY * number;
        // waits: the rate is what is asked for.
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
        let service = number * 7 % SERVICES;
        let ready = ENDPOINTS - number / SERVICES % 2 - 1;
        agent.write(&file_of(service), &cluster::service_of(service, ENDPOINTS, ready))?;
        if let (Some(since), Some(seen)) = (written, watcher.seen(&(at + 1).to_string())?) {
            let took = figures::number(u64::saturating_sub(seen, since)) / 1e6;
            control.streamed_ms.push(took);
            written = None;
        }
        if number % WATCHED_EVERY == 0 && written.is_none() {
            at = 1 - at;
            let text = manifest(stage, at)?;
            written = Some(clock::monotonic_ns());
            agent.write(SLICE, &text)?;
        }
    }
    let took = begin.elapsed().as_secs_f64();
    let used = crate::usage::Cpu::of(&cgroup)? - cpu;
    control.streamed_per_s = Some(f64::from(repeats.streamed) / took);
    control.streamed_cpu = Some(used.seconds() / took);
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
        // Before it is written: connections may have followed by the time that this process goes on.
        let written = clock::monotonic_ns();
        agent.write(SLICE, &text)?;
        let followed = watcher.until(&(now + 1).to_string())?;
        control
            .changes_ms
            .push(figures::number(followed.saturating_sub(written)) / 1e6);
        // waits: for the agent to be at rest again.
        std::thread::sleep(PAUSE);
    }
    Ok(())
}

/// How long changes of endpoints took by the agent's own count.
fn counted(agent: &Agent) -> Result<Vec<(f64, f64)>> {
    const BUCKET: &str = "router_endpoint_change_seconds_bucket{le=\"";
    let reply = agent.admin("/metrics")?;
    let buckets: Vec<(f64, f64)> = reply
        .body
        .lines()
        .filter_map(|line| line.strip_prefix(BUCKET)?.split_once("\"} "))
        .map(|(bound, count)| anyhow::Ok((bound.parse::<f64>()? * 1e3, count.parse()?)))
        .collect::<Result<_>>()?;
    let all = buckets.last().map_or(0.0, |(_, count)| *count);
    let share = |(bound, count): (f64, f64)| (bound, count / all);
    Ok(buckets.into_iter().filter(|_| all > 0.0).map(share).collect())
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

impl Watcher {
    /// When the first connection to the server `name` began, if that is known by now.
    fn seen(&mut self, name: &str) -> Result<Option<u64>> {
        while let Ok(line) = self.lines.try_recv() {
            match line.split_once(' ') {
                Some((time, seen)) if seen == name => return Ok(Some(time.parse()?)),
                Some((_, "!")) => bail!("a connection failed during a change"),
                _ => {}
            }
        }
        Ok(None)
    }

    /// The first server that is seen.
    fn any(&mut self) -> Result<String> {
        let line = self
            .lines
            .recv_timeout(CHANGED_WITHIN)
            .context("no connection at all")?;
        let name = line.split_once(' ').context("no time")?.1;
        Ok(name.to_owned())
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        // It may be gone already, which is as good.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
