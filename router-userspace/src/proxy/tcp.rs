//! Connections that are not HTTP: decided once, by the caller and the dialled address, then bytes both ways.
//!
//! Most such connections never come here: the kernel routes them. Here are those that it could not decide.

use std::{net::SocketAddr, sync::Arc};

use socket2::SockRef;
use tokio::{io::copy_bidirectional_with_sizes, net::TcpStream, time::Instant};

use super::{
    access::AccessRecord,
    balance::{self, InFlight},
    connection::Session,
    decide::decide_connection,
    error::{Kind, ProxyError},
    stats::WorkerStats,
    upstream::{connect, limited_policy},
};

/// Serves a connection to its end.
///
/// # Errors
///
/// It was refused: reset, since its client believes it is connected.
pub(crate) async fn serve(session: &Session, mut stream: TcpStream) -> Result<(), Kind> {
    let mut passage = Passage::begin(session);
    let outcome = match passage.open().await {
        Ok((mut upstream, _in_flight)) => {
            let size = session.worker.limits().tunnel_buffer;
            copy_bidirectional_with_sizes(&mut stream, &mut upstream, size, size)
                .await
                .map_err(|error| {
                    tracing::debug!(client = %session.client, %error, "connection broke off");
                    Kind::UpstreamReset
                })
        }
        Err(error) => Err(error.kind),
    };
    match outcome {
        Ok((received, sent)) => {
            passage.bytes = (received, sent);
            passage.kind = None;
            Ok(())
        }
        Err(kind) => {
            // Without it the client would see an orderly end.
            let _ = SockRef::from(&stream).set_linger(Some(std::time::Duration::ZERO));
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
            // What it is when the passage is dropped while it is open.
            kind: Some(Kind::Draining),
        }
    }

    /// Decides, and connects to the chosen endpoint.
    async fn open(&mut self) -> Result<(TcpStream, Option<InFlight>), ProxyError> {
        let session = self.session;
        let worker = &session.worker;
        let view = worker.views().load();
        let route = decide_connection(&view.snapshot, &session.call())
            .ok_or_else(|| ProxyError::new(Kind::NoService, "no such service"))?;
        self.service = route.port().service().as_str().to_owned();
        self.rule = route.rule().map(|rule| rule.origin().object.clone());
        let turn = worker.views().take_turn(&view, &route);
        let subset = route
            .pick(turn)
            .map_err(|_| ProxyError::new(Kind::NoWeight, "every weight is zero"))?;
        self.subset = format!("{} {}", subset.service(), subset.labels());
        let state = worker.views().subset(&view, subset);
        // Nobody watches these connections, but some of their instances may be ejected for what they do elsewhere.
        let outliers = worker.views().outliers();
        let avoided = outliers.avoided(&view.snapshot, subset, route.policy(subset));
        let choice = balance::choose(subset, state, (route.load_balancing(subset), None), &avoided)
            .ok_or_else(|| ProxyError::new(Kind::NoEndpoints, "no healthy upstream"))?;
        let endpoint = choice.address(session.destination);
        self.endpoint = Some(endpoint);
        let policy = limited_policy(&view.snapshot, &route, subset);
        drop(view);
        let policy = policy.as_deref();
        let stream = connect(worker.enforcement(), endpoint, policy, worker.limits(), || ()).await?;
        Ok((stream, choice.in_flight))
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
