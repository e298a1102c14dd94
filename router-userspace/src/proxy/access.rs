//! What is said of a request or proxied connection when it ends.
//!
//! It does not know how a line is formatted: an [`AccessSink`] does.

use std::{net::SocketAddr, time::Duration};

use super::error::Kind;

/// One request, or one connection proxied as TCP. An empty text means that it is not known or does not apply.
#[derive(Clone, Copy, Debug)]
pub struct AccessRecord<'a> {
    /// What the client spoke: `HTTP/1.1`, `HTTP/2`, `TCP`.
    pub protocol: &'static str,
    /// Request method.
    pub method: &'a str,
    /// Path and query.
    pub path: &'a str,
    /// Host and port as the request names them.
    pub authority: &'a str,
    /// The request's id, kept or made.
    pub request_id: &'a str,
    /// The client's address.
    pub client: SocketAddr,
    /// The client's workload, `namespace/name`.
    pub caller: &'a str,
    /// Where the client connected to.
    pub destination: SocketAddr,
    /// The service that the destination belongs to.
    pub service: &'a str,
    /// Object name of the ingress rule that let it in.
    pub ingress: &'a str,
    /// Object name of the rule that matched.
    pub rule: &'a str,
    /// Service and labels of the chosen subset: `reviews.default.svc.cluster.local version=v2`.
    pub subset: &'a str,
    /// The endpoint of the last attempt.
    pub endpoint: Option<SocketAddr>,
    /// Status sent to the client; 0 when there was no response.
    pub status: u16,
    /// Name of the [`Kind`] of error, if any.
    pub reason: &'a str,
    /// Body bytes from the client.
    pub received: u64,
    /// Body bytes to the client.
    pub sent: u64,
    /// From the request's head (or the connection's acceptance) to the end of the exchange.
    pub duration: Duration,
    /// Attempts made.
    pub attempts: u32,
}

impl AccessRecord<'_> {
    /// The record of something that was refused before anything was known of it.
    pub(crate) fn refused(
        protocol: &'static str,
        client: SocketAddr,
        destination: SocketAddr,
        kind: Kind,
    ) -> Self {
        Self {
            protocol,
            method: "",
            path: "",
            authority: "",
            request_id: "",
            client,
            caller: "",
            destination,
            service: "",
            ingress: "",
            rule: "",
            subset: "",
            endpoint: None,
            status: 0,
            reason: kind.name(),
            received: 0,
            sent: 0,
            duration: Duration::ZERO,
            attempts: 0,
        }
    }
}

/// Where access records go.
pub trait AccessSink: Send + Sync {
    /// False: records are not even put together.
    fn enabled(&self) -> bool {
        true
    }

    /// Takes a record. It is called on a worker's thread and must not block.
    fn record(&self, record: &AccessRecord<'_>);
}

/// Emits each record as a `tracing` event of target `access`.
#[derive(Clone, Copy, Debug, Default)]
pub struct Traced;

impl AccessSink for Traced {
    fn enabled(&self) -> bool {
        tracing::enabled!(target: "access", tracing::Level::INFO)
    }

    fn record(&self, r: &AccessRecord<'_>) {
        tracing::info!(
            target: "access",
            protocol = r.protocol,
            method = r.method,
            path = r.path,
            authority = r.authority,
            status = r.status,
            reason = r.reason,
            service = r.service,
            ingress = r.ingress,
            rule = r.rule,
            subset = r.subset,
            endpoint = r.endpoint.map(tracing::field::display),
            attempts = r.attempts,
            received = r.received,
            sent = r.sent,
            duration_us = u64::try_from(r.duration.as_micros()).unwrap_or(u64::MAX),
            client = %r.client,
            caller = r.caller,
            destination = %r.destination,
            request_id = r.request_id,
        );
    }
}
