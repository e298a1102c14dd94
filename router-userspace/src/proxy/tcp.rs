//! Connections that are not HTTP: decided once, by the caller and the dialled address, then bytes both ways.
//!
//! Most such connections never come here: the kernel routes them. Here are those that it could not decide.

use std::{net::SocketAddr, sync::Arc};

use tokio::{io::copy_bidirectional_with_sizes, net::TcpStream, time::Instant};

use super::{
    access::AccessRecord,
    balance::{self, InFlight},
    connection::Session,
    decide::decide_connection,
    error::{Kind, ProxyError},
    l4_fault::{Shaped, Suffering, TERMINATED, before, reset_on_close},
    outlier,
    stats::WorkerStats,
    upstream::{connect, limited_policy},
};

/// Serves a connection to its end.
///
/// # Errors
///
/// It was refused: reset, since its client believes it is connected.
pub(crate) async fn serve(session: &Session, stream: TcpStream) -> Result<(), Kind> {
    let mut passage = Passage::begin(session);
    let mut client = Shaped::new(stream, None);
    let outcome = passage.pass(&mut client).await;
    match outcome {
        Ok(bytes) => {
            passage.bytes = bytes;
            passage.kind = None;
            Ok(())
        }
        Err(ProxyError { kind, .. }) => {
            reset_on_close(&client);
            if kind == Kind::FaultTerminate {
                WorkerStats::add(&session.worker.stats.connections_terminated, 1);
            }
            passage.bytes = client.passed();
            passage.kind = Some(kind);
            Err(kind)
        }
    }
}

/// A proxied connection, for the access log and the counters.
struct Passage<'s> {
    session: &'s Session,
    started: Instant,
    service: String,
    rule: Option<Arc<str>>,
    subset: String,
    endpoint: Option<SocketAddr>,
    bytes: (u64, u64),
    suffering: Option<Suffering>,
    kind: Option<Kind>,
}

impl<'s> Passage<'s> {
    fn begin(session: &'s Session) -> Self {
        Self {
            session,
            started: Instant::now(),
            service: String::new(),
            rule: None,
            subset: String::new(),
            endpoint: None,
            bytes: (0, 0),
            suffering: None,
            // What it is when the passage is dropped while it is open.
            kind: Some(Kind::Draining),
        }
    }

    /// Decides, connects, and copies both ways until both sides are done, or the rule's fault ends it; gives the bytes from
    /// and to the client.
    async fn pass(&mut self, client: &mut Shaped<TcpStream>) -> Result<(u64, u64), ProxyError> {
        let (mut upstream, _in_flight) = self.open().await?;
        let end = self.suffering.and_then(|suffering| suffering.end());
        client.suffer(self.suffering);
        let size = self.session.worker.limits().tunnel_buffer;
        let copy = copy_bidirectional_with_sizes(client, &mut upstream, size, size);
        match before(end, copy).await {
            Some(Ok(bytes)) => Ok(bytes),
            Some(Err(error)) => {
                tracing::debug!(client = %self.session.client, %error, "connection broke off");
                Err(ProxyError::new(Kind::UpstreamReset, "connection broke off"))
            }
            None => {
                reset_on_close(&upstream);
                Err(TERMINATED)
            }
        }
    }

    /// Decides, draws, and connects to the chosen endpoint.
    async fn open(&mut self) -> Result<(TcpStream, Option<InFlight>), ProxyError> {
        let session = self.session;
        let worker = &session.worker;
        let view = worker.views().load();
        let route = decide_connection(&view.snapshot, &session.call())?;
        self.service = route.port().service().as_str().to_owned();
        self.rule = route.rule().map(|rule| rule.origin().object.clone());
        self.suffering = Suffering::draw(&route, self.started, &worker.stats);
        let end = self.suffering.and_then(|suffering| suffering.end());
        let turn = worker.views().take_turn(&view, &route);
        let subset = route
            .pick(turn)
            .map_err(|_| ProxyError::new(Kind::NoWeight, "every weight is zero"))?;
        self.subset = format!("{} {}", subset.service(), subset.labels());
        let state = worker.views().subset(&view, subset);
        // Instances are ejected for what they do elsewhere as well.
        let outliers = worker.views().outliers();
        let in_force = route.policy(subset);
        let avoided = outliers.avoided(&view.snapshot, subset, in_force);
        let choice = balance::choose(subset, state, (route.load_balancing(subset), None), &avoided)
            .ok_or_else(|| ProxyError::new(Kind::NoEndpoints, "no healthy upstream"))?;
        let endpoint = choice.address(session.destination);
        self.endpoint = Some(endpoint);
        let policy = limited_policy(&view.snapshot, &route, subset);
        let policy = policy.as_deref();
        let connecting = connect(worker.enforcement(), endpoint, policy, worker.limits(), || ());
        let connected = before(end, connecting).await.ok_or(TERMINATED)?;
        if let Some(watch) = state.watch(in_force) {
            outlier::connected(watch, choice.index, &connected);
        }
        Ok((connected?, choice.in_flight))
    }
}

impl Drop for Passage<'_> {
    fn drop(&mut self) {
        let worker = &self.session.worker;
        WorkerStats::add(&worker.stats.tcp_connections, 1);
        WorkerStats::add(&worker.stats.received_bytes, self.bytes.0);
        WorkerStats::add(&worker.stats.sent_bytes, self.bytes.1);
        let Some(sink) = worker.access() else {
            return;
        };
        sink.record(&AccessRecord {
            protocol: self.session.protocol,
            method: "",
            path: "",
            authority: "",
            request_id: "",
            client: self.session.client,
            caller: self.session.caller().unwrap_or_default(),
            destination: self.session.destination,
            service: &self.service,
            ingress: "",
            rule: self.rule.as_deref().unwrap_or_default(),
            subset: &self.subset,
            endpoint: self.endpoint,
            status: 0,
            reason: self.kind.map_or("", Kind::name),
            received: self.bytes.0,
            sent: self.bytes.1,
            duration: self.started.elapsed(),
            attempts: u32::from(self.endpoint.is_some()),
        });
    }
}
