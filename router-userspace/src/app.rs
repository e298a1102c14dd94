//! Wiring: what an agent is made of, in which order it starts, and how it stops.
//!
//! Threads: this one runs admin and signals on a current-thread runtime; `control` reads the configuration and
//! writes maps; `heartbeat` tells the kernel that the proxy lives; the proxy has its own. None waits for another.

use std::{
    collections::BTreeSet,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    num::NonZeroUsize,
    path::PathBuf,
    sync::{
        Arc,
        mpsc::{Receiver, SyncSender, sync_channel},
    },
    thread,
    time::Duration,
};

use anyhow::{Context as _, anyhow};
use tokio::{
    net::TcpListener,
    signal::unix::{Signal, SignalKind, signal},
};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::{
    admin::{self, View},
    clock,
    config::{Directory, LoadLimits, Suspects},
    control::{self, Control, Event, MAX_EVENTS, Parts, Touched},
    enforce::outlier::Outliers,
    live::Live,
    metrics::Metrics,
    proxy::{self, Disclosure, Proxy, ProxyConfig},
    readiness::Readiness,
    registry::NodeCallers,
    resolver, sys,
    telemetry::{self, AccessLog, LogFormat, Logger},
};

mod files;
mod heartbeat;
mod kernel;
pub mod loopback;

use files::Files;
use heartbeat::Heartbeat;
use kernel::{Installed, KernelHalf};

/// IPv4 address of the proxy unless another is given.
pub const PROXY_V4: Ipv4Addr = Ipv4Addr::new(169, 254, 77, 1);
/// IPv6 address of the proxy unless another is given.
pub const PROXY_V6: Ipv6Addr = Ipv6Addr::new(0xfd77, 0x726f, 0x7574, 0x6572, 0, 0, 0, 1);

/// Time for requests and connections in flight to end when the agent stops; those left are cut.
const DRAIN_WITHIN: Duration = Duration::from_secs(10);
/// Between the last heartbeat and the end of the listeners: connections that the kernel has already sent to the
/// proxy are still accepted.
const LISTEN_AFTER_LAST_BEAT: Duration = Duration::from_millis(200);

/// What becomes of connections that need the proxy while it is down.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, clap::ValueEnum)]
pub enum OnProxyDown {
    /// The kernel routes them by the default route.
    #[default]
    Direct,
    /// The kernel refuses them.
    Reject,
}

/// What becomes of workloads' connections to unknown destinations.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, clap::ValueEnum)]
pub enum Egress {
    /// They are left as they are.
    #[default]
    Allow,
    /// The kernel refuses them.
    RegistryOnly,
}

/// What an agent is told at its start.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Directory of the configuration.
    pub config: PathBuf,
    /// Cgroup-v2 directory whose processes are routed.
    pub cgroup: PathBuf,
    /// Where cgroup v2 is mounted.
    pub cgroup_mount: PathBuf,
    /// Directory in bpffs for pins.
    pub pin_dir: PathBuf,
    /// Address of the admin listener.
    pub admin: SocketAddr,
    /// IPv4 address of the proxy.
    pub proxy_v4: Ipv4Addr,
    /// IPv6 address of the proxy.
    pub proxy_v6: Ipv6Addr,
    /// Port of the proxy.
    pub proxy_port: u16,
    /// Addresses at which the ports of ingress rules are listened on.
    pub ingress: Vec<IpAddr>,
    /// Threads of the proxy; none: one for each processor.
    pub proxy_threads: Option<NonZeroUsize>,
    /// What becomes of connections that need the proxy while it is down.
    pub on_proxy_down: OnProxyDown,
    /// What becomes of workloads' connections to unknown destinations.
    pub egress: Egress,
    /// How the log looks.
    pub log_format: LogFormat,
    /// Whether each request is logged.
    pub access_log: AccessLog,
    /// What clients are told beside their responses.
    pub disclosure: Disclosure,
    /// Bounds of the proxy.
    pub limits: proxy::Limits,
}

/// Runs an agent until SIGTERM or SIGINT. What is in the kernel stays there.
///
/// # Errors
///
/// It could not start. A configuration with errors is none: the agent runs, routes by what an earlier agent left in
/// the kernel, and is not ready until the configuration is mended.
pub fn run(settings: Settings) -> anyhow::Result<()> {
    sys::keep_large_blocks_apart();
    // Held to the end: what waits to be logged is written when it goes.
    let logger = telemetry::init(settings.log_format, settings.access_log).context("ROUTER_LOG")?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        // Before anything that takes long: a signal in the meantime must not be the default's sudden end.
        let mut signals = Signals::new()?;
        let mut agent = Agent::start(&settings, &logger).await?;
        tokio::select! {
            () = signals.next() => info!("stopping; the kernel goes on routing"),
            never = agent.kernel_log() => match never {},
        }
        agent.stop(&mut signals).await;
        Ok(())
    })
}

struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn new() -> std::io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

/// A running agent.
struct Agent {
    kernel: Installed,
    proxy: Proxy,
    heartbeat: Heartbeat,
    events: SyncSender<Event>,
    control: thread::JoinHandle<()>,
    admin: tokio::task::JoinHandle<()>,
    stop_admin: CancellationToken,
    _watch: control::Watch,
}

impl Agent {
    async fn start(settings: &Settings, logger: &Logger) -> anyhow::Result<Self> {
        let readiness = Readiness::default();
        let not_ready = vec![readiness.block("a configuration that is in force in the proxy and the kernel")];
        let admin = TcpListener::bind(settings.admin)
            .await
            .with_context(|| format!("--admin {}", settings.admin))?;
        let live = Arc::new(Live::default());
        let callers =
            Arc::new(NodeCallers::new(&settings.cgroup_mount, &settings.cgroup).context("--cgroup")?);
        let listen = proxy_addresses(settings).await?;
        let (events, received) = sync_channel(MAX_EVENTS);
        let outliers = Arc::new(outliers(events.clone()));
        // Watched before it is read, so that no change is missed.
        let touched = Arc::new(Touched::default());
        let watch = control::watch(&settings.config, touched.clone(), events.clone())?;
        let reading = read_ahead(settings.config.clone())?;
        let (half, kernel) = KernelHalf::install(settings, &listen, callers.clone(), outliers.clone())?;
        let mut metrics = Metrics::new(live.clone(), Some(kernel.observed.clone()));
        metrics.outliers(outliers.clone());
        let mut control = Control::new(Parts {
            config: settings.config.clone(),
            configuration: Box::new(Files::new(joined(reading)?)),
            touched,
            live: live.clone(),
            callers: callers.clone(),
            kernel: Box::new(half),
            metrics: metrics.control.clone(),
            names: resolver::start(events.clone())?,
            not_ready,
        });
        // Put in force by control's first turn, when the proxy listens.
        control.read(&Suspects::Files(BTreeSet::new()));
        let proxy = proxy::start(
            proxy_config(settings, listen, outliers.clone()),
            live.clone(),
            kernel.enforcement.clone(),
            callers,
        )
        .context("starting the proxy")?;
        of_proxy(&mut metrics, &live, &proxy);
        metrics.log(logger.dropped().clone());
        // No sign of life before there is something to route by: an empty snapshot would refuse everything.
        let alive = {
            let live = live.clone();
            move || live.load().generation() > 0
        };
        let unborn = readiness.block("the proxy's first sign of life in the kernel");
        let heartbeat = Heartbeat::start(alive, kernel.beat(), unborn)?;
        let view = View {
            live,
            observed: Some(kernel.observed.clone()),
            outliers,
            breakers: proxy.breakers(),
            listening: proxy.listening(),
            readiness,
            metrics: Arc::new(metrics),
            config: settings.config.clone(),
        };
        let stop_admin = CancellationToken::new();
        let admin = tokio::spawn(admin::serve(admin, view, stop_admin.clone()));
        let control = spawn_control(control, received)?;
        info!(admin = %settings.admin, proxy = ?proxy.addresses(), "agent started");
        Ok(Self {
            kernel,
            proxy,
            heartbeat,
            events,
            control,
            admin,
            stop_admin,
            _watch: watch,
        })
    }

    /// Forwards the programs' own log for ever, when there is one.
    async fn kernel_log(&mut self) -> std::convert::Infallible {
        self.kernel.forward_log().await
    }

    /// The kernel takes over, then the listeners end, then what is in flight; a second signal cuts that short.
    async fn stop(mut self, signals: &mut Signals) {
        self.heartbeat.stop();
        self.kernel.proxy_goes_down();
        tokio::time::sleep(LISTEN_AFTER_LAST_BEAT).await;
        tokio::select! {
            stopped = self.proxy.stop(DRAIN_WITHIN) => info!(cut = stopped.cut, "proxy drained"),
            () = signals.next() => warn!("second signal: connections are cut"),
        }
        // Full: control is busy, and the end of the process ends it too.
        let told = self.events.try_send(Event::Shutdown);
        if told.is_ok() && self.control.join().is_err() {
            warn!("control had ended with a panic");
        }
        self.stop_admin.cancel();
        let _ = tokio::time::timeout(Duration::from_secs(1), self.admin).await;
    }
}

/// Adds what there is to count of a proxy.
fn of_proxy(metrics: &mut Metrics, live: &Arc<Live>, proxy: &Proxy) {
    metrics.proxy(proxy.stats());
    metrics.breakers(live.clone(), proxy.breakers());
    metrics.gateways(live.clone(), proxy.listening());
}

fn spawn_control(mut control: Control, events: Receiver<Event>) -> std::io::Result<thread::JoinHandle<()>> {
    let run = move || {
        control.reconcile();
        control.run(&events);
    };
    thread::Builder::new().name("control".to_owned()).spawn(run)
}

/// Reads the configuration while the programs are loaded.
fn read_ahead(path: PathBuf) -> std::io::Result<thread::JoinHandle<Directory>> {
    let read = move || {
        let mut directory = Directory::new(path, LoadLimits::default());
        directory.look(&Suspects::All);
        directory
    };
    thread::Builder::new().name("reading".to_owned()).spawn(read)
}

fn joined(reading: thread::JoinHandle<Directory>) -> anyhow::Result<Directory> {
    reading
        .join()
        .map_err(|_| anyhow!("reading the configuration ended with a panic"))
}

/// Puts the proxy's addresses on `lo`; without IPv6 on this node the proxy does without it.
async fn proxy_addresses(settings: &Settings) -> anyhow::Result<Vec<SocketAddr>> {
    let mut listen = Vec::new();
    loopback::put(settings.proxy_v4.into()).await?;
    listen.push(SocketAddr::new(settings.proxy_v4.into(), settings.proxy_port));
    match loopback::put(IpAddr::V6(settings.proxy_v6)).await {
        Ok(()) => listen.push(SocketAddr::new(settings.proxy_v6.into(), settings.proxy_port)),
        Err(error) => warn!(%error, "no IPv6 for the proxy"),
    }
    Ok(listen)
}

/// Outlier detection that tells control when the kernel has something to follow.
fn outliers(events: SyncSender<Event>) -> Outliers {
    Outliers::new(clock::kernel, move || {
        events.try_send(Event::EjectionsChanged).is_ok()
    })
}

fn proxy_config(settings: &Settings, listen: Vec<SocketAddr>, outliers: Arc<Outliers>) -> ProxyConfig {
    let processors = || thread::available_parallelism().unwrap_or(NonZeroUsize::MIN);
    ProxyConfig {
        listen,
        threads: settings.proxy_threads.unwrap_or_else(processors).get(),
        limits: settings.limits.clone(),
        access: Some(Arc::new(proxy::access::Traced)),
        disclosure: settings.disclosure.clone(),
        outliers,
        gateways: settings.ingress.clone(),
    }
}
