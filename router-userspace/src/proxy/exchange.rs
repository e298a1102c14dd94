//! What is counted and logged of one request, from its head to the last byte of its response.
//!
//! An exchange that is dropped before its response was complete was given up by the client. It decides nothing.

use std::{net::SocketAddr, sync::Arc};

use http::{HeaderMap, HeaderValue, Method, Uri, header::HOST, request};
use router_rules::{
    gateway::EntranceRule,
    snapshot::{Route, Subset},
};
use tokio::time::Instant;

use super::{
    access::AccessRecord,
    body::{Allowance, Transfer},
    connection::Session,
    error::{Kind, ProxyError, Side},
    headers::{self, X_REQUEST_ID},
    respond::Dialect,
    stats::WorkerStats,
};

/// One request and its response.
pub(crate) struct Exchange {
    session: Arc<Session>,
    /// How the client wants to be answered.
    pub(crate) dialect: Dialect,
    pub(crate) started: Instant,
    /// The request's body; none when it has none.
    pub(crate) request: Option<Arc<Transfer>>,
    pub(crate) attempts: u32,
    pub(crate) endpoint: Option<SocketAddr>,
    pub(crate) sent: u64,
    /// Bytes from the client after the request, in a tunnel.
    tunnelled: u64,
    status: u16,
    outcome: Outcome,
    /// Why there was no further attempt.
    retry_refused: Option<Kind>,
    log: Option<Box<Logged>>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Outcome {
    /// The response is not complete yet.
    Open,
    Complete,
    Failed(Kind),
}

/// What the access log wants to know and nobody else; only made when it is on.
struct Logged {
    method: Method,
    uri: Uri,
    authority: Option<HeaderValue>,
    request_id: Option<HeaderValue>,
    service: String,
    ingress: Option<Arc<str>>,
    rule: Option<Arc<str>>,
    subset: String,
}

impl Exchange {
    pub(crate) fn begin(session: &Arc<Session>, parts: &request::Parts) -> Self {
        session.activity.request_begins();
        let log = session.worker.access().map(|_| {
            Box::new(Logged {
                method: parts.method.clone(),
                uri: parts.uri.clone(),
                authority: parts.headers.get(HOST).cloned(),
                request_id: parts.headers.get(X_REQUEST_ID).cloned(),
                service: String::new(),
                ingress: None,
                rule: None,
                subset: String::new(),
            })
        });
        Self {
            session: session.clone(),
            dialect: Dialect::of(&parts.headers),
            started: Instant::now(),
            request: None,
            attempts: 0,
            endpoint: None,
            sent: 0,
            tunnelled: 0,
            status: 0,
            outcome: Outcome::Open,
            retry_refused: None,
            log,
        }
    }

    pub(crate) fn session(&self) -> &Arc<Session> {
        &self.session
    }

    /// Makes the head unambiguous, if the request may be looked at at all.
    ///
    /// # Errors
    ///
    /// Its stream refused it, or its head is too large, malformed, or could be understood in two ways.
    pub(crate) fn admit(&self, head: &mut request::Parts) -> Result<(), ProxyError> {
        let session = &self.session;
        if session.is_http2() {
            headers::check_list(head, session.worker.limits())?;
        } else if let Some(refusal) = session.activity.refusal() {
            return Err(refusal);
        }
        headers::sanitise(head)
    }

    /// How long the client may keep the request's body waiting. Streams of gRPC may be silent for as long as they like.
    pub(crate) fn allowance(&self) -> Allowance {
        match self.dialect {
            Dialect::Grpc => Allowance::unbounded(),
            Dialect::Http => Allowance::new(self.session.worker.limits()),
        }
    }

    /// What really happened, where an error is only what became of a request whose body broke off.
    pub(crate) fn blame(&self, error: ProxyError) -> ProxyError {
        let failed = self.request.as_ref().filter(|request| request.is_failed());
        let Some(request) = failed.filter(|_| error.side() != Side::Internal) else {
            return error;
        };
        let gone = || ProxyError::new(Kind::ClientDisconnected, "the request's body broke off");
        request
            .fault()
            .or_else(|| self.session.activity.broken_off())
            .unwrap_or_else(gone)
    }

    /// Notes the rule that let it in.
    pub(crate) fn let_in(&mut self, rule: &EntranceRule) {
        if let Some(log) = &mut self.log {
            log.ingress = Some(rule.origin().object.clone());
        }
    }

    /// Notes the decision.
    pub(crate) fn routed(&mut self, route: &Route<'_>) {
        if let Some(log) = &mut self.log {
            log.service = route.port().service().as_str().to_owned();
            log.rule = route.rule().map(|rule| rule.origin().object.clone());
        }
    }

    /// Notes the subset whose turn it was.
    pub(crate) fn picked(&mut self, subset: &Subset) {
        if let Some(log) = &mut self.log {
            log.subset = format!("{} {}", subset.service(), subset.labels());
        }
    }

    /// Notes the id and host under which the request is forwarded.
    pub(crate) fn forwarded(&mut self, headers: &HeaderMap) {
        if let Some(log) = &mut self.log {
            log.request_id = headers.get(X_REQUEST_ID).cloned();
            log.authority = headers.get(HOST).cloned();
        }
    }

    /// Notes another attempt.
    pub(crate) fn attempt(&mut self, endpoint: SocketAddr) {
        if self.attempts > 0 {
            WorkerStats::add(&self.stats().retries, 1);
        }
        self.attempts += 1;
        self.endpoint = Some(endpoint);
    }

    /// Notes that an attempt failed and another was not allowed.
    pub(crate) fn refuse_retry(&mut self, why: Kind) {
        WorkerStats::add(&self.stats().retries_refused, 1);
        self.retry_refused = Some(why);
    }

    /// Notes that a response begins.
    pub(crate) fn responds(&mut self, status: u16) {
        self.status = status;
    }

    /// Notes that the response is complete. The first outcome counts.
    pub(crate) fn complete(&mut self) {
        self.settle(Outcome::Complete);
    }

    /// Notes why the response is not what the endpoint sent, or not complete. The first outcome counts.
    pub(crate) fn fail(&mut self, error: &ProxyError) {
        self.settle(Outcome::Failed(self.blame(*error).kind));
    }

    /// Notes what went through a tunnel that has ended.
    pub(crate) fn tunnelled(&mut self, received: u64, sent: u64) {
        self.tunnelled = received;
        self.sent = sent;
        self.complete();
    }

    fn settle(&mut self, outcome: Outcome) {
        if self.outcome == Outcome::Open {
            self.outcome = outcome;
        }
    }

    fn stats(&self) -> &WorkerStats {
        &self.session.worker.stats
    }

    fn received(&self) -> u64 {
        self.tunnelled + self.request.as_ref().map_or(0, |transfer| transfer.bytes())
    }

    fn log(&self, log: &Logged, kind: Option<Kind>) {
        let Some(sink) = self.session.worker.access() else {
            return;
        };
        let text =
            |value: &Option<HeaderValue>| value.as_ref().and_then(|v| v.to_str().ok().map(str::to_owned));
        let path = log.uri.path_and_query().map_or("", |path| path.as_str());
        sink.record(&AccessRecord {
            protocol: self.session.protocol,
            method: log.method.as_str(),
            path,
            authority: text(&log.authority).as_deref().unwrap_or_default(),
            request_id: text(&log.request_id).as_deref().unwrap_or_default(),
            client: self.session.client,
            caller: self.session.caller().unwrap_or_default(),
            destination: self.session.destination,
            service: &log.service,
            ingress: log.ingress.as_deref().unwrap_or_default(),
            rule: log.rule.as_deref().unwrap_or_default(),
            subset: &log.subset,
            endpoint: self.endpoint,
            status: self.status,
            reason: kind.map_or("", Kind::name),
            received: self.received(),
            sent: self.sent,
            duration: self.started.elapsed(),
            attempts: self.attempts,
        });
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        self.session.activity.request_ends();
        let kind = match self.outcome {
            // What the endpoint answered last is passed on.
            Outcome::Complete => self.retry_refused,
            Outcome::Failed(kind) => Some(kind),
            Outcome::Open if self.session.worker.is_stopping() => Some(Kind::Draining),
            Outcome::Open => {
                let broken = self.session.activity.broken_off();
                Some(broken.map_or(Kind::ClientDisconnected, |error| error.kind))
            }
        };
        let stats = self.stats();
        stats.response(self.status);
        if let Some(kind) = kind {
            stats.reason(kind);
        }
        WorkerStats::add(&stats.received_bytes, self.received());
        WorkerStats::add(&stats.sent_bytes, self.sent);
        if let Some(log) = &self.log {
            self.log(log, kind);
        }
    }
}
