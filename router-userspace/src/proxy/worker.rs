//! The proxy's threads: one runtime each, with its own listeners and upstream pool; starting and stopping them.
//!
//! Workers share the connections to endpoints under a limit, so no runtime ends before the work of all is over.
//!
//! A new proxy may be started on the same addresses while an old one still drains: the listeners share their ports.

use std::{
    collections::HashSet,
    io,
    net::{IpAddr, SocketAddr},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use router_rules::Snapshot;
use tokio::{
    net::TcpListener,
    runtime::Runtime,
    sync::{Semaphore, mpsc},
    time::{Instant, interval, timeout_at},
};
use tokio_util::task::TaskTracker;

use super::{
    access::AccessSink,
    disclosure::Disclosure,
    drain::{self, Drain, Draining},
    gateways::{self, Gatekeeper, MAX_OPENINGS, Opening},
    limits::Limits,
    listener::{self, Accepting},
    outlier,
    stats::{ProxyStats, WorkerStats},
    tls::Handshakes,
    upstream::Pool,
    view::Views,
};
use crate::{
    enforce::{Enforcement, breaker::Breakers, outlier::Outliers},
    listening::Listening,
    live::Live,
    registry::Callers,
};

/// How often pools are rid of what is too old or no longer in the configuration.
const TIDY_INTERVAL: Duration = Duration::from_secs(1);

/// What the proxy is told at its start.
#[derive(Clone)]
pub struct ProxyConfig {
    /// Addresses to listen on. Port 0 takes a free port, the same for every worker.
    pub listen: Vec<SocketAddr>,
    /// Worker threads, at least 1.
    pub threads: usize,
    /// Bounds.
    pub limits: Limits,
    /// Where access records go; none: they are not made.
    pub access: Option<Arc<dyn AccessSink>>,
    /// What clients are told beside their responses.
    pub disclosure: Disclosure,
    /// Who is ejected.
    pub outliers: Arc<Outliers>,
    /// Addresses of the node at which the ports of gateways are listened on.
    pub gateways: Vec<IpAddr>,
}

/// What all workers share.
struct Shared {
    views: Views,
    enforcement: Arc<dyn Enforcement>,
    callers: Arc<dyn Callers>,
    limits: Limits,
    access: Option<Arc<dyn AccessSink>>,
    disclosure: Disclosure,
    handshakes: Arc<Handshakes>,
    /// Connections of destinations with a limit: one worker's idle connection must not keep another's request out.
    limited: Arc<Pool>,
}

/// A worker thread's state.
pub(crate) struct Worker {
    shared: Arc<Shared>,
    pub(crate) stats: Arc<WorkerStats>,
    pool: Arc<Pool>,
    stopping: AtomicBool,
    /// Places for TLS handshakes.
    handshaking: Semaphore,
    /// Places for copies on their way to mirrors.
    mirrors: Arc<Semaphore>,
    pub(crate) tunnels: TaskTracker,
}

impl Worker {
    pub(crate) fn views(&self) -> &Views {
        &self.shared.views
    }

    pub(crate) fn enforcement(&self) -> &dyn Enforcement {
        &*self.shared.enforcement
    }

    pub(crate) fn callers(&self) -> &dyn Callers {
        &*self.shared.callers
    }

    pub(crate) fn limits(&self) -> &Limits {
        &self.shared.limits
    }

    /// Where access records go, if anybody wants them now.
    pub(crate) fn access(&self) -> Option<&dyn AccessSink> {
        self.shared.access.as_deref().filter(|sink| sink.enabled())
    }

    pub(crate) fn disclosure(&self) -> &Disclosure {
        &self.shared.disclosure
    }

    pub(crate) fn handshakes(&self) -> &Handshakes {
        &self.shared.handshakes
    }

    pub(crate) const fn handshaking(&self) -> &Semaphore {
        &self.handshaking
    }

    pub(crate) fn mirrors(&self) -> &Arc<Semaphore> {
        &self.mirrors
    }

    /// The pool for a destination with a connection limit, or without.
    pub(crate) fn pool(&self, limited: bool) -> &Arc<Pool> {
        if limited { &self.shared.limited } else { &self.pool }
    }

    /// True when responses must ask clients to come back on another connection.
    pub(crate) fn is_stopping(&self) -> bool {
        self.stopping.load(Relaxed)
    }

    /// Accepts and serves until told to stop, then until `deadline` at the latest.
    async fn run(
        self: Arc<Self>,
        listeners: Vec<TcpListener>,
        openings: mpsc::Receiver<Opening>,
        mut stop: Draining,
        deadline: Deadlines,
    ) {
        let connections = TaskTracker::new();
        let places = Arc::new(Semaphore::new(self.limits().connections_per_worker));
        let accepting: Vec<_> = listeners
            .into_iter()
            .map(|listener| {
                let accepting = Accepting {
                    places: places.clone(),
                    connections: connections.clone(),
                    door: None,
                };
                let accept = listener::accept(self.clone(), listener, accepting, stop.clone());
                tokio::spawn(accept)
            })
            .collect();
        let at_doors = tokio::spawn(gateways::take(self.clone(), openings, connections.clone()));
        let tidying = tokio::spawn(tidy(self.clone()));
        stop.begun().await;
        self.stopping.store(true, Relaxed);
        for task in accepting.into_iter().chain([at_doors]) {
            let _ = task.await;
        }
        connections.close();
        self.tunnels.close();
        let ended = async {
            connections.wait().await;
            self.tunnels.wait().await;
        };
        let at = deadline.borrow().unwrap_or_else(Instant::now);
        if timeout_at(at, ended).await.is_err() {
            let cut = connections.len() + self.tunnels.len();
            let _ = deadline.cut.send(cut);
        }
        tidying.abort();
    }
}

/// Closes upstream connections that are idle for too long or that the configuration in force has no use for.
async fn tidy(worker: Arc<Worker>) {
    let mut clock = interval(TIDY_INTERVAL);
    let mut before = worker.views().load();
    loop {
        clock.tick().await;
        let view = worker.views().load();
        let left = left(&before.snapshot, &view.snapshot);
        for pool in [worker.pool(false), worker.pool(true)] {
            if left.as_ref().is_none_or(|left| pool.knows_any(left)) {
                pool.retire_absent(&view.snapshot);
            }
            pool.close_idle(worker.limits().upstream_idle);
        }
        before = view;
    }
}

/// Endpoints that left a subset. None when more than endpoints is different.
fn left(before: &Snapshot, now: &Snapshot) -> Option<HashSet<SocketAddr>> {
    let moved = now.moved_since(before)?.into_iter();
    let left = moved.flat_map(|id| {
        let stay: HashSet<_> = now.subset(id).endpoints().iter().map(|e| e.address).collect();
        let then = before.subset(id).endpoints().iter().map(|e| e.address);
        then.filter(move |address| !stay.contains(address))
    });
    Some(left.collect())
}

/// Until when connections may go on after the stop, and how many were cut then.
#[derive(Clone)]
struct Deadlines {
    at: Arc<std::sync::OnceLock<Instant>>,
    cut: mpsc::UnboundedSender<usize>,
}

impl Deadlines {
    fn borrow(&self) -> Option<Instant> {
        self.at.get().copied()
    }
}

/// A running proxy. Dropping it stops it at once.
#[derive(Debug)]
pub struct Proxy {
    addresses: Vec<SocketAddr>,
    stats: Arc<ProxyStats>,
    breakers: Arc<Breakers>,
    listening: Arc<Listening>,
    drain: Drain,
    deadline: Arc<std::sync::OnceLock<Instant>>,
    cut: mpsc::UnboundedReceiver<usize>,
}

/// How a proxy ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Stopped {
    /// Connections that were cut at the deadline.
    pub cut: usize,
}

impl Proxy {
    /// The addresses it listens on, in the order of [`ProxyConfig::listen`].
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// Its counters.
    pub fn stats(&self) -> Arc<ProxyStats> {
        self.stats.clone()
    }

    /// What is under way under policies with limits on requests.
    pub fn breakers(&self) -> Arc<Breakers> {
        self.breakers.clone()
    }

    /// Which ports of gateways it listens on.
    pub fn listening(&self) -> Arc<Listening> {
        self.listening.clone()
    }

    /// Stops accepting, lets requests in flight end within `grace`, then cuts what is left.
    pub async fn stop(mut self, grace: Duration) -> Stopped {
        let _ = self.deadline.set(Instant::now() + grace);
        self.drain.begin();
        self.drain.drained().await;
        let mut cut = 0;
        while let Ok(connections) = self.cut.try_recv() {
            cut += connections;
        }
        Stopped { cut }
    }
}

/// Opens the listeners and starts the workers.
///
/// # Errors
///
/// An address cannot be listened on, or a thread cannot be started.
pub fn start(
    config: ProxyConfig,
    live: Arc<Live>,
    enforcement: Arc<dyn Enforcement>,
    callers: Arc<dyn Callers>,
) -> io::Result<Proxy> {
    let threads = config.threads.max(1);
    let (addresses, mut listeners) = listener::bind(&config.listen, threads, &config.limits)?;
    let stats = Arc::new(ProxyStats::new(threads));
    let (doors, mut openings): (Vec<_>, Vec<_>) = (0..threads).map(|_| mpsc::channel(MAX_OPENINGS)).unzip();
    let listening = Arc::new(Listening::default());
    let handshakes = Arc::new(Handshakes::new());
    let gatekeeper = Gatekeeper {
        live: live.clone(),
        addresses: config.gateways,
        limits: config.limits.clone(),
        listening: listening.clone(),
        handshakes: handshakes.clone(),
        workers: doors,
    };
    let shared = Arc::new(Shared {
        views: Views::new(live, config.outliers.clone()),
        limited: Arc::new(Pool::new(config.limits.clone(), enforcement.clone())),
        enforcement,
        callers,
        handshakes,
        limits: config.limits,
        access: config.access,
        disclosure: config.disclosure,
    });
    let (drain, cut, endings) = endings();
    let mut for_all = Some(ForAll {
        outliers: config.outliers,
        gatekeeper,
    });
    for index in 0..threads {
        let worker = Arc::new(Worker {
            stats: stats.worker(index),
            pool: Arc::new(Pool::new(shared.limits.clone(), shared.enforcement.clone())),
            handshaking: Semaphore::new(shared.limits.handshakes),
            mirrors: Arc::new(Semaphore::new(shared.limits.mirrors)),
            shared: shared.clone(),
            stopping: AtomicBool::new(false),
            tunnels: TaskTracker::new(),
        });
        let listeners = std::mem::take(&mut listeners[index]);
        spawn(
            index,
            worker,
            (listeners, openings.remove(0)),
            endings.clone(),
            for_all.take(),
        )?;
    }
    Ok(Proxy {
        addresses,
        stats,
        breakers: shared.views.breakers().clone(),
        listening,
        drain,
        deadline: endings.deadlines.at,
        cut,
    })
}

/// What a worker's end depends on.
#[derive(Clone)]
struct Endings {
    draining: Draining,
    deadlines: Deadlines,
    /// The work of all workers.
    work: Arc<Drain>,
    /// Held by a worker until it has nothing more to serve.
    working: Draining,
    ended: Arc<Ended>,
}

/// Runtimes that nobody drives any more, and what tells that they are gone. The last worker drops them all: one that was
/// dropped beside another that is still driven would fail the requests there, when they only had to be cut.
type Ended = Mutex<Vec<(Runtime, Draining)>>;

/// With what starts the drain, and what tells how many connections were cut.
fn endings() -> (Drain, mpsc::UnboundedReceiver<usize>, Endings) {
    let (drain, draining) = drain::channel();
    let (work, working) = drain::channel();
    let (cut_sender, cut) = mpsc::unbounded_channel();
    let endings = Endings {
        draining,
        deadlines: Deadlines {
            at: Arc::default(),
            cut: cut_sender,
        },
        work: Arc::new(work),
        working,
        ended: Arc::default(),
    };
    (drain, cut, endings)
}

/// What the first worker does for all.
struct ForAll {
    outliers: Arc<Outliers>,
    gatekeeper: Gatekeeper,
}

fn spawn(
    index: usize,
    worker: Arc<Worker>,
    (listeners, openings): (Vec<std::net::TcpListener>, mpsc::Receiver<Opening>),
    endings: Endings,
    for_all: Option<ForAll>,
) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let thread = std::thread::Builder::new().name(format!("proxy-{index}"));
    thread.spawn(move || {
        let Endings {
            draining,
            deadlines,
            work,
            working,
            ended,
        } = endings;
        // Held until the runtime, and with it every connection that was cut, is gone.
        let alive = draining.clone();
        runtime.block_on(async move {
            if let Some(ForAll { outliers, gatekeeper }) = for_all {
                // Ends with the runtime.
                tokio::spawn(outlier::sweep(outliers));
                tokio::spawn(gatekeeper.run(draining.clone()));
            }
            serve(worker, listeners, openings, draining, deadlines).await;
            drop(working);
            // Connections that this worker opened may carry requests of others, who are bound by the same deadline.
            work.drained().await;
        });
        ended
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push((runtime, alive));
    })?;
    Ok(())
}

/// A worker's work, from its listeners to its last connection. When it is over, the gatekeeper does not wait for the
/// worker to take ports.
async fn serve(
    worker: Arc<Worker>,
    listeners: Vec<std::net::TcpListener>,
    openings: mpsc::Receiver<Opening>,
    draining: Draining,
    deadlines: Deadlines,
) {
    let listeners: io::Result<Vec<_>> = listeners.into_iter().map(TcpListener::from_std).collect();
    match listeners {
        Ok(listeners) => worker.run(listeners, openings, draining, deadlines).await,
        Err(error) => tracing::error!(%error, "a worker could not take its listeners"),
    }
}
