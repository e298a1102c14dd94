//! The node's own ports, which come and go with the configuration.
//!
//! One task opens ports for all workers, each its own listener as it has of the proxy's addresses, and hands them out. A
//! port is opened before another takes its place; one that no rule is left for is closed: what waits in its queue is
//! served, and connections that are open drain. It does not look at requests.

use std::{
    collections::BTreeMap,
    io,
    net::{IpAddr, SocketAddr, TcpListener as StdListener},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use http::HeaderValue;
use router_rules::{Snapshot, gateway::Entrance};
use tokio::{
    net::TcpListener,
    sync::{Semaphore, mpsc},
    time::sleep,
};
use tokio_util::task::TaskTracker;

use super::{
    drain::{self, Drain, Draining},
    limits::Limits,
    listener::{self, Accepting},
    tls::Handshakes,
    worker::Worker,
};
use crate::{
    listening::{Listening, PortState},
    live::Live,
};

/// How soon it is tried again to open a port that could not be opened.
const RETRY: Duration = Duration::from_secs(1);

/// Ports that wait to be taken by one worker; the task that opens them waits then.
pub(super) const MAX_OPENINGS: usize = 64;

/// A port of the node at which connections come in.
#[derive(Debug)]
pub(crate) struct Door {
    pub(crate) port: u16,
    /// TLS is spoken.
    pub(crate) secure: bool,
    closing: AtomicBool,
}

impl Door {
    fn of(entrance: &Entrance) -> Self {
        Self {
            port: entrance.port(),
            secure: entrance.is_secure(),
            closing: AtomicBool::new(false),
        }
    }

    /// True when no rule is left for it, so that its connections must end.
    pub(crate) fn is_closing(&self) -> bool {
        self.closing.load(Relaxed)
    }

    /// What `snapshot` says of it. A port that was plain text is another one when it speaks TLS.
    pub(crate) fn entrance<'s>(&self, snapshot: &'s Snapshot) -> Option<&'s Entrance> {
        let entrance = snapshot.gateway(self.port);
        entrance.filter(|entrance| entrance.is_secure() == self.secure)
    }

    /// The scheme of what comes in, whatever clients say.
    pub(crate) const fn scheme(&self) -> &'static str {
        if self.secure { "https" } else { "http" }
    }

    /// [`Door::scheme`] as `x-forwarded-proto` wants it.
    pub(crate) const fn forwarded_proto(&self) -> HeaderValue {
        HeaderValue::from_static(self.scheme())
    }
}

/// A port for one worker.
pub(super) struct Opening {
    door: Arc<Door>,
    listeners: Vec<StdListener>,
    draining: Draining,
}

/// Serves what comes in at the ports that are opened for a worker, until nobody opens any more.
pub(super) async fn take(
    worker: Arc<Worker>,
    mut openings: mpsc::Receiver<Opening>,
    connections: TaskTracker,
) {
    // Of their own: whoever is outside must not be able to take those of the node's workloads.
    let places = Arc::new(Semaphore::new(worker.limits().connections_per_worker));
    while let Some(opening) = openings.recv().await {
        for listener in opening.listeners {
            let accepting = Accepting {
                places: places.clone(),
                connections: connections.clone(),
                door: Some(opening.door.clone()),
            };
            match TcpListener::from_std(listener) {
                Ok(listener) => {
                    let accept =
                        listener::accept(worker.clone(), listener, accepting, opening.draining.clone());
                    connections.spawn(accept);
                }
                Err(error) => tracing::error!(%error, "a worker could not take a gateway's listener"),
            }
        }
    }
}

/// What is opened where, for whom.
pub(super) struct Gatekeeper {
    pub(super) live: Arc<Live>,
    pub(super) addresses: Vec<IpAddr>,
    pub(super) limits: Limits,
    pub(super) listening: Arc<Listening>,
    pub(super) handshakes: Arc<Handshakes>,
    /// One for each worker.
    pub(super) workers: Vec<mpsc::Sender<Opening>>,
}

/// A port that is open. Dropping it lets its connections drain as well.
struct Open {
    door: Arc<Door>,
    drain: Drain,
}

impl Open {
    fn close(&self) {
        self.door.closing.store(true, Relaxed);
        self.drain.begin();
    }
}

impl Gatekeeper {
    /// Opens and closes ports as the snapshots say, until the drain begins.
    pub(super) async fn run(self, mut draining: Draining) {
        let mut changes = self.live.changes();
        // By port and whether it speaks TLS: one is opened before the other is closed.
        let mut open: BTreeMap<(u16, bool), Open> = BTreeMap::new();
        loop {
            changes.borrow_and_update();
            let snapshot = self.live.load();
            let failed = self.follow(&snapshot, &mut open).await;
            drop(snapshot);
            tokio::select! {
                biased;
                () = draining.begun() => break,
                _ = changes.changed() => {}
                () = sleep(RETRY), if failed => {}
            }
        }
        for port in open.values() {
            port.close();
        }
    }

    /// Opens what is missing, then closes what is too much. True when a port could not be opened.
    async fn follow(&self, snapshot: &Snapshot, open: &mut BTreeMap<(u16, bool), Open>) -> bool {
        let mut failed = false;
        for entrance in snapshot.gateways() {
            let key = (entrance.port(), entrance.is_secure());
            if open.contains_key(&key) {
                continue;
            }
            match self.open(entrance).await {
                Ok(opened) => {
                    open.insert(key, opened);
                }
                Err(error) => {
                    failed = true;
                    if self
                        .listening
                        .note(key.0, PortState::Failed(error.to_string().into()))
                    {
                        tracing::error!(port = key.0, %error, retry_every = ?RETRY, "an ingress port cannot be listened on");
                    }
                }
            }
        }
        open.retain(|_, port| {
            let wanted = port.door.entrance(snapshot).is_some();
            if !wanted {
                port.close();
                tracing::info!(
                    port = port.door.port,
                    tls = port.door.secure,
                    "ingress port closed"
                );
            }
            wanted
        });
        self.listening.retain(|port| snapshot.gateway(port).is_some());
        self.handshakes
            .retain(|port| snapshot.gateway(port).is_some_and(Entrance::is_secure));
        failed
    }

    async fn open(&self, entrance: &Entrance) -> io::Result<Open> {
        let door = Arc::new(Door::of(entrance));
        let (addresses, listeners) = self.listen(door.port)?;
        let (drain, draining) = drain::channel();
        for (worker, listeners) in self.workers.iter().zip(listeners) {
            let opening = Opening {
                door: door.clone(),
                listeners,
                draining: draining.clone(),
            };
            // A worker that is gone needs none.
            let _ = worker.send(opening).await;
        }
        tracing::info!(
            port = door.port,
            tls = door.secure,
            ?addresses,
            "ingress port open"
        );
        self.listening.note(door.port, PortState::Open(addresses.into()));
        Ok(Open { door, drain })
    }

    /// A listener per address for each worker. Addresses of a family that the node does not have are left out.
    fn listen(&self, port: u16) -> io::Result<(Vec<SocketAddr>, Vec<Vec<StdListener>>)> {
        let mut absent = None;
        let mut there = Vec::new();
        for &address in &self.addresses {
            match listener::probe(address) {
                Ok(()) => there.push(SocketAddr::new(address, port)),
                Err(error) => absent = Some(error),
            }
        }
        if let Some(error) = absent.filter(|_| there.is_empty()) {
            return Err(error);
        }
        listener::bind(&there, self.workers.len(), &self.limits)
    }
}
