//! One accepted connection: where it was meant to go, who opened it, what it speaks.
//!
//! It does not look at requests.

use std::{
    net::SocketAddr,
    os::fd::AsFd,
    pin::pin,
    sync::{Arc, OnceLock},
    time::Duration,
};

use http::HeaderValue;
use router_rules::Snapshot;
use tokio::{
    net::TcpStream,
    time::{Instant, timeout_at},
};

use super::{
    access::AccessRecord,
    decide::{Call, decide_connection, port_at},
    downstream,
    drain::Draining,
    error::Kind,
    gateways::Door,
    l4_fault::{Shaped, Suffering, TERMINATED, before, reset_on_close},
    naming::{self, Meant},
    stats::WorkerStats,
    tcp, tls,
    transport::Transport,
    worker::Worker,
};
use crate::enforce::Origin;

mod activity;

pub(crate) use activity::{Activity, Look, Part, Switch};

/// The client's connection preface of HTTP/2 with prior knowledge.
pub(super) const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Name of the protocol in access records.
const HTTP2: &str = "HTTP/2";
/// The same of whoever says nothing else.
const HTTP1: &str = "HTTP/1.1";

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
    /// The node's port, when it came in there.
    pub(crate) door: Option<Arc<Door>>,
    /// When a rule's fault resets the connection.
    pub(crate) end: Option<Instant>,
    cgroup: u64,
    confined: bool,
    /// Whom a connection to an unknown address means that nobody looks into.
    server_name: Option<Box<str>>,
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
            door: None,
            end: None,
            cgroup: origin.cgroup,
            confined: origin.confined,
            server_name: None,
            caller: OnceLock::new(),
        }
    }

    /// The same, for the host of this name.
    fn naming(self, server_name: Option<Box<str>>) -> Self {
        Self { server_name, ..self }
    }

    /// A session of whoever came in at a port of the node.
    fn at_door(worker: Arc<Worker>, client: SocketAddr, door: Arc<Door>, at: SocketAddr) -> Self {
        let origin = Origin {
            destination: at,
            cgroup: 0,
            confined: false,
        };
        Self {
            door: Some(door),
            ..Self::new(worker, client, origin, HTTP1)
        }
    }

    /// True when responses must ask the client to come back on another connection.
    pub(crate) fn is_ending(&self) -> bool {
        self.worker.is_stopping() || self.door.as_ref().is_some_and(|door| door.is_closing())
    }

    /// True when the client speaks HTTP/2.
    pub(crate) fn is_http2(&self) -> bool {
        self.protocol == HTTP2
    }

    /// Counts and logs the refusal of what never became a request.
    pub(crate) fn refused_unseen(&self, kind: Kind) {
        let record = AccessRecord {
            caller: self.caller().unwrap_or_default(),
            ..AccessRecord::refused(self.protocol, self.client, self.destination, kind)
        };
        refuse(&self.worker, &record, kind);
    }

    /// At the end of a connection: says why it broke off, if no request did.
    pub(crate) fn note_break(&self) {
        if let Some(error) = self.activity.unsaid_break() {
            self.refused_unseen(error.kind);
        }
    }

    /// A rule's fault ends the connection: it is reset when its socket is closed.
    pub(crate) fn terminate(&self) {
        self.activity.break_off(TERMINATED);
        self.activity.abort();
        WorkerStats::add(&self.worker.stats.connections_terminated, 1);
    }

    /// The caller's workload. A pod's first connection may be quicker than the registry, so an unknown caller is
    /// asked for again.
    pub(crate) fn caller(&self) -> Option<&str> {
        if self.door.is_some() {
            return None;
        }
        if self.caller.get().is_none()
            && let Some(workload) = self.worker.callers().workload(self.cgroup)
        {
            let _ = self.caller.set(workload);
        }
        self.caller.get().map(AsRef::as_ref)
    }

    /// What there is to decide about.
    pub(crate) fn call(&self) -> Call<'_> {
        Call {
            destination: self.destination,
            client: self.client,
            caller: self.caller(),
            confined: self.confined,
            server_name: self.server_name.as_deref(),
        }
    }
}

/// Serves a connection to its end.
pub(crate) async fn serve(
    worker: Arc<Worker>,
    (stream, client): (TcpStream, SocketAddr),
    door: Option<Arc<Door>>,
    draining: Draining,
) {
    let _open = Open::new(worker.stats.clone());
    // Where the client meant to go, if that is known.
    let mut destination = stream.local_addr().unwrap_or(client);
    let served = match door {
        None => route(&worker, stream, client, &mut destination, draining).await,
        Some(door) => {
            let session = Session::at_door(worker.clone(), client, door, destination);
            enter(session, stream, draining).await
        }
    };
    match served {
        Ok(()) => {}
        Err(Refused::Logged(kind)) => worker.stats.reason(kind),
        Err(Refused::Unseen(kind)) => {
            let record = AccessRecord::refused("TCP", client, destination, kind);
            refuse(&worker, &record, kind);
        }
    }
}

/// A connection that was closed unserved.
enum Refused {
    /// It has its line in the access log, or deserves none.
    Logged(Kind),
    /// Nobody has said so yet.
    Unseen(Kind),
}

impl From<Kind> for Refused {
    /// Of a client that was not served because of its first bytes.
    fn from(kind: Kind) -> Self {
        match kind {
            // Whoever only looks whether somebody listens is not worth a line.
            Kind::ClientDisconnected => Self::Logged(kind),
            _ => Self::Unseen(kind),
        }
    }
}

fn refuse(worker: &Worker, record: &AccessRecord<'_>, kind: Kind) {
    worker.stats.reason(kind);
    tracing::debug!(client = %record.client, reason = kind.name(), "refused");
    if let Some(sink) = worker.access() {
        sink.record(record);
    }
}

/// Finds out what the connection is, and serves it accordingly.
async fn route(
    worker: &Arc<Worker>,
    stream: TcpStream,
    client: SocketAddr,
    destination: &mut SocketAddr,
    draining: Draining,
) -> Result<(), Refused> {
    let origin = match worker.enforcement().origin(stream.as_fd()) {
        Ok(Some(origin)) => origin,
        Ok(None) => return Err(Refused::Unseen(Kind::NoOriginalDestination)),
        Err(error) => {
            tracing::warn!(%client, %error, "the original destination could not be read");
            return Err(Refused::Unseen(Kind::NoOriginalDestination));
        }
    };
    *destination = origin.destination;
    let view = worker.views().load();
    let port = port_at(&view.snapshot, origin.destination).ok_or(Refused::Unseen(Kind::NoService))?;
    let (is_http, is_named) = (port.protocol().is_http(), port.is_named());
    // Where requests name their hosts one by one, no rule is the connection's.
    let suffering = if is_http && !is_named && port.has_l4_faults() {
        suffering(worker, &view.snapshot, client, origin)
    } else {
        None
    };
    drop(view);
    let meant = match (is_named, is_http) {
        (true, _) => naming::meant(worker, &stream, &origin).await?,
        (false, true) => Meant::Requests,
        (false, false) => Meant::Connection(None),
    };
    if let Meant::Connection(server_name) = meant {
        let session = Session::new(worker.clone(), client, origin, "TCP").naming(server_name);
        return tcp::serve(&session, stream).await.map_err(Refused::Logged);
    }
    let end = suffering.and_then(|suffering| suffering.end());
    let Some(protocol) = before(end, spoken(&stream, worker.limits().head_timeout)).await else {
        reset_on_close(&stream);
        WorkerStats::add(&worker.stats.connections_terminated, 1);
        return Err(Refused::Unseen(Kind::FaultTerminate));
    };
    let session = Session::new(worker.clone(), client, origin, protocol?);
    converse(
        Session { end, ..session },
        Shaped::new(Transport::Plain(stream), suffering),
        draining,
    )
    .await;
    Ok(())
}

/// Serves whoever came in at a port of the node. No rule decides such a connection, so it suffers nothing.
async fn enter(session: Session, stream: TcpStream, draining: Draining) -> Result<(), Refused> {
    let secure = session.door.clone().filter(|door| door.secure);
    let (stream, protocol) = match secure {
        None => {
            let protocol = spoken(&stream, session.worker.limits().head_timeout).await?;
            (Transport::Plain(stream), protocol)
        }
        Some(door) => match tls::shake(&session.worker, &door, stream).await {
            Ok((stream, http2)) => (
                Transport::Tls(Box::new(stream)),
                if http2 { HTTP2 } else { HTTP1 },
            ),
            Err(error) => {
                tracing::debug!(client = %session.client, port = door.port, %error, "no TLS");
                return Err(error.kind().into());
            }
        },
    };
    let stream = Shaped::new(stream, None);
    converse(Session { protocol, ..session }, stream, draining).await;
    Ok(())
}

/// Serves HTTP in the version that the session says, to the connection's end, or to the one that a rule's fault makes.
async fn converse(session: Session, stream: Shaped<Transport>, draining: Draining) {
    let session = Arc::new(session);
    let serving = async {
        if session.is_http2() {
            downstream::serve_http2(session.clone(), stream, draining).await;
        } else {
            downstream::serve_http1(session.clone(), stream, draining).await;
        }
    };
    {
        let serving = pin!(serving);
        if before(session.end, serving).await.is_some() {
            return;
        }
        // Before the socket is closed, which happens at the end of this block.
        session.terminate();
    }
    // Requests that are under way say it themselves.
    if session.activity.look().idle {
        session.note_break();
    }
}

/// The version of HTTP that a client's first bytes show.
async fn spoken(stream: &TcpStream, patience: Duration) -> Result<&'static str, Refused> {
    let http2 = is_http2(stream, patience).await?;
    Ok(if http2 { HTTP2 } else { HTTP1 })
}

/// What a rule's fault does to a connection of HTTP, decided as if nobody looked into it: before its first request.
fn suffering(worker: &Worker, snapshot: &Snapshot, client: SocketAddr, origin: Origin) -> Option<Suffering> {
    let caller = worker.callers().workload(origin.cgroup);
    let call = Call {
        destination: origin.destination,
        client,
        caller: caller.as_deref(),
        confined: origin.confined,
        server_name: None,
    };
    let route = decide_connection(snapshot, &call).ok()?;
    Suffering::draw(&route, Instant::now(), &worker.stats)
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
