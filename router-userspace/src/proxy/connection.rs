//! One accepted connection: where it was meant to go, who opened it, what it speaks.
//!
//! It does not look at requests.

use std::{
    net::SocketAddr,
    os::fd::AsFd,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use http::HeaderValue;
use tokio::{
    net::TcpStream,
    time::{Instant, timeout_at},
};

use super::{
    decide::port_at, downstream, drain::Draining, error::Kind, stats::WorkerStats, tcp, worker::Worker,
};
use crate::enforce::Origin;

/// The client's connection preface of HTTP/2 with prior knowledge.
const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Name of the protocol in access records.
const HTTP2: &str = "HTTP/2";

/// How often an incomplete preface is looked at again.
const PREFACE_RETRY: Duration = Duration::from_millis(5);

/// What all requests of a downstream connection have in common.
pub(crate) struct Session {
    pub(crate) worker: Arc<Worker>,
    pub(crate) client: SocketAddr,
    /// The client's address as `x-forwarded-for` wants it.
    pub(crate) forwarded_for: HeaderValue,
    /// Where the client connected to.
    pub(crate) destination: SocketAddr,
    /// `HTTP/1.1`, `HTTP/2` or `TCP`.
    pub(crate) protocol: &'static str,
    pub(crate) activity: Arc<Activity>,
    cgroup: u64,
    caller: OnceLock<Arc<str>>,
}

impl Session {
    fn new(worker: Arc<Worker>, client: SocketAddr, origin: Origin, protocol: &'static str) -> Self {
        let address = client.ip().to_canonical().to_string();
        Self {
            worker,
            client,
            // An address is always a valid field value.
            forwarded_for: HeaderValue::from_str(&address)
                .unwrap_or_else(|_| HeaderValue::from_static("unknown")),
            destination: origin.destination,
            protocol,
            activity: Arc::default(),
            cgroup: origin.cgroup,
            caller: OnceLock::new(),
        }
    }

    /// True when the client speaks HTTP/2.
    pub(crate) fn is_http2(&self) -> bool {
        self.protocol == HTTP2
    }

    /// The caller's workload. A pod's first connection may be quicker than the registry, so an unknown caller is
    /// asked for again.
    pub(crate) fn caller(&self) -> Option<&str> {
        if self.caller.get().is_none()
            && let Some(workload) = self.worker.callers().workload(self.cgroup)
        {
            let _ = self.caller.set(workload);
        }
        self.caller.get().map(AsRef::as_ref)
    }
}

/// What a downstream connection is doing, so that one coarse timer per connection can tell a slow client from an
/// idle one without any timer per request.
#[derive(Debug, Default)]
pub(crate) struct Activity {
    in_flight: AtomicU32,
    requests: AtomicU64,
    /// Bytes came while no request was in flight: a head is on its way.
    receiving: AtomicBool,
    /// The connection is to end with a reset.
    aborted: AtomicBool,
}

impl Activity {
    /// Makes the connection end with a reset, so that its client cannot take the end for an answer.
    pub(crate) fn abort(&self) {
        self.aborted.store(true, Relaxed);
    }

    pub(crate) fn is_aborted(&self) -> bool {
        self.aborted.load(Relaxed)
    }

    pub(crate) fn request_begins(&self) {
        self.in_flight.fetch_add(1, Relaxed);
        self.requests.fetch_add(1, Relaxed);
        self.receiving.store(false, Relaxed);
    }

    pub(crate) fn request_ends(&self) {
        self.in_flight.fetch_sub(1, Relaxed);
    }

    pub(crate) fn receives(&self) {
        if self.in_flight.load(Relaxed) == 0 {
            self.receiving.store(true, Relaxed);
        }
    }

    /// What can be told apart from one look to the next.
    pub(crate) fn look(&self) -> Look {
        Look {
            idle: self.in_flight.load(Relaxed) == 0,
            requests: self.requests.load(Relaxed),
            receiving: self.receiving.load(Relaxed),
        }
    }
}

/// A look at an [`Activity`].
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(crate) struct Look {
    pub(crate) idle: bool,
    pub(crate) requests: u64,
    pub(crate) receiving: bool,
}

/// Serves a connection to its end.
pub(crate) async fn serve(worker: Arc<Worker>, stream: TcpStream, client: SocketAddr, draining: Draining) {
    let _open = Open::new(worker.stats.clone());
    if let Err(kind) = route(&worker, stream, client, draining).await {
        worker.stats.reason(kind);
        tracing::debug!(%client, reason = kind.name(), "connection refused");
    }
}

/// Finds out what the connection is, and serves it accordingly. An error: it was closed unserved.
async fn route(
    worker: &Arc<Worker>,
    stream: TcpStream,
    client: SocketAddr,
    draining: Draining,
) -> Result<(), Kind> {
    let origin = match worker.enforcement().origin(stream.as_fd()) {
        Ok(Some(origin)) => origin,
        Ok(None) => return Err(Kind::NoOriginalDestination),
        Err(error) => {
            tracing::warn!(%client, %error, "the original destination could not be read");
            return Err(Kind::NoOriginalDestination);
        }
    };
    let view = worker.views().load();
    let port = port_at(&view.snapshot, origin.destination).ok_or(Kind::NoService)?;
    let is_http = port.protocol().is_http();
    drop(view);
    if !is_http {
        let session = Session::new(worker.clone(), client, origin, "TCP");
        return tcp::serve(&session, stream).await;
    }
    let http2 = is_http2(&stream, worker.limits().head_timeout).await?;
    let protocol = if http2 { HTTP2 } else { "HTTP/1.1" };
    let session = Arc::new(Session::new(worker.clone(), client, origin, protocol));
    if http2 {
        downstream::serve_http2(session, stream, draining).await;
    } else {
        downstream::serve_http1(session, stream, draining).await;
    }
    Ok(())
}

/// Looks at the first bytes without taking them.
async fn is_http2(stream: &TcpStream, patience: Duration) -> Result<bool, Kind> {
    let deadline = Instant::now() + patience;
    let mut first = [0; PREFACE.len()];
    loop {
        let seen = match timeout_at(deadline, stream.peek(&mut first)).await {
            Ok(Ok(seen)) => seen,
            Ok(Err(_)) => return Err(Kind::ClientDisconnected),
            Err(_) => return Err(Kind::HeadTimeout),
        };
        if seen == PREFACE.len() || first[..seen] != PREFACE[..seen] {
            return Ok(first == *PREFACE);
        }
        if seen == 0 {
            return Err(Kind::ClientDisconnected);
        }
        // Part of the preface: data that is not taken keeps the socket readable, so look again a little later.
        if timeout_at(deadline, tokio::time::sleep(PREFACE_RETRY))
            .await
            .is_err()
        {
            return Err(Kind::HeadTimeout);
        }
    }
}

/// Counts a downstream connection while it is open.
struct Open(Arc<WorkerStats>);

impl Open {
    fn new(stats: Arc<WorkerStats>) -> Self {
        WorkerStats::add(&stats.downstream_opened, 1);
        Self(stats)
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        WorkerStats::add(&self.0.downstream_closed, 1);
    }
}
