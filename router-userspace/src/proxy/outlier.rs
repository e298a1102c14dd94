//! What attempts say about their endpoints, by the results that Envoy counts. It does not know what follows.

use std::sync::Arc;

use http::{HeaderMap, StatusCode};
use router_rules::outlier::MIN_INTERVAL;
use tokio::time::sleep;

use super::{
    error::{Kind, ProxyError},
    forward::Answer,
    respond::Dialect,
    upstream::ConnectError,
};
use crate::enforce::outlier::{Outliers, Watch};

/// gRPC statuses that stand for an HTTP status of 500 and above: UNKNOWN, DEADLINE_EXCEEDED, UNIMPLEMENTED, INTERNAL,
/// UNAVAILABLE, DATA_LOSS.
const GRPC_FAILURES: [u16; 6] = [2, 4, 12, 13, 14, 15];
/// The largest gRPC status there is; unknown ones stand for 500 too.
const GRPC_LAST: u16 = 16;

/// The attempts of one request, one after the other, seen for a policy that ejects; without one it sees nothing.
#[derive(Debug)]
pub(crate) struct Witness<'w> {
    watch: Option<&'w Watch>,
    /// The endpoint that has not answered yet.
    waiting: Option<usize>,
}

impl<'w> Witness<'w> {
    pub(crate) const fn new(watch: Option<&'w Watch>) -> Self {
        Self { watch, waiting: None }
    }

    /// An attempt begins at the endpoint with this place in its subset.
    pub(crate) const fn awaits(&mut self, index: usize) {
        self.waiting = Some(index);
    }

    /// Reports how the attempt ended. One that is given up, because its client has gone, never gets here and says nothing.
    pub(crate) fn sees(&mut self, outcome: &Result<Answer, ProxyError>) {
        let (Some(index), Some(watch)) = (self.waiting.take(), self.watch) else {
            return;
        };
        match verdict(outcome) {
            Some(true) => watch.succeeded(index),
            Some(false) => watch.failed(index),
            None => {}
        }
    }

    /// The request's time is over: the endpoint that it waits for took too long.
    pub(crate) fn timed_out(&mut self) {
        if let (Some(watch), Some(index)) = (self.watch, self.waiting.take()) {
            watch.failed(index);
        }
    }
}

/// Reports how a connection that is not HTTP began; there is no more to see of it.
pub(crate) fn connected<T>(watch: &Watch, index: usize, outcome: &Result<T, ConnectError>) {
    match outcome {
        Ok(_) => watch.succeeded(index),
        Err(ConnectError::Failed(_) | ConnectError::TimedOut) => watch.failed(index),
        Err(ConnectError::LimitReached) => {}
    }
}

/// Whether an attempt speaks for its endpoint; none: it says nothing about it, as a refusal of the proxy's own or a
/// client that went away.
fn verdict(outcome: &Result<Answer, ProxyError>) -> Option<bool> {
    match outcome {
        Ok(answer) => Some(is_success(answer.response.status(), answer.response.headers())),
        Err(error) => is_failure(error.kind).then_some(false),
    }
}

fn is_success(status: StatusCode, headers: &HeaderMap) -> bool {
    let is_grpc = Dialect::of(headers) == Dialect::Grpc;
    !(status.is_server_error() || (is_grpc && is_grpc_failure(headers)))
}

/// A gRPC status in the head is that of a response without messages; one in the trailers comes too late to count.
fn is_grpc_failure(headers: &HeaderMap) -> bool {
    let status = headers.get("grpc-status").and_then(|status| status.to_str().ok());
    let number = status.map(|status| status.parse().unwrap_or(u16::MAX));
    number.is_some_and(|number| GRPC_FAILURES.contains(&number) || number > GRPC_LAST)
}

/// Errors that are the endpoint's, or those of the way to it, before its response began.
const fn is_failure(kind: Kind) -> bool {
    matches!(
        kind,
        Kind::ConnectFailure
            | Kind::ConnectTimeout
            | Kind::PerTryTimeout
            | Kind::UpstreamReset
            | Kind::UpstreamProtocolError
    )
}

/// Takes endpoints back when their time is over, for ever.
pub(crate) async fn sweep(outliers: Arc<Outliers>) {
    loop {
        let wait = outliers.sweep().max(MIN_INTERVAL);
        sleep(wait).await;
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn five_hundreds_count_and_nothing_below() {
        let none = HeaderMap::new();
        for (status, success) in [
            (200, true),
            (101, true),
            (429, true),
            (499, true),
            (500, false),
            (503, false),
        ] {
            assert_eq!(
                is_success(StatusCode::from_u16(status).unwrap(), &none),
                success,
                "{status}"
            );
        }
    }

    #[test]
    fn a_grpc_status_counts_as_the_http_status_it_stands_for() {
        let grpc = |status: Option<&'static str>| {
            let mut headers = HeaderMap::new();
            headers.insert("content-type", HeaderValue::from_static("application/grpc"));
            headers.extend(status.map(|s| {
                (
                    http::header::HeaderName::from_static("grpc-status"),
                    HeaderValue::from_static(s),
                )
            }));
            is_success(StatusCode::OK, &headers)
        };
        assert!(grpc(None) && grpc(Some("0")) && grpc(Some("5")) && grpc(Some("8")) && grpc(Some("16")));
        for failure in ["2", "4", "12", "13", "14", "15", "17", "what"] {
            assert!(!grpc(Some(failure)), "{failure}");
        }
        let mut plain = HeaderMap::new();
        plain.insert("grpc-status", HeaderValue::from_static("14"));
        assert!(is_success(StatusCode::OK, &plain), "not gRPC");
    }

    #[test]
    fn refusals_of_the_proxy_and_lost_clients_say_nothing() {
        let counted: Vec<_> = Kind::ALL
            .iter()
            .filter(|kind| is_failure(**kind))
            .map(|k| k.name())
            .collect();
        assert_eq!(
            counted,
            [
                "per-try-timeout",
                "upstream-connect-failure",
                "upstream-connect-timeout",
                "upstream-reset",
                "upstream-protocol-error"
            ]
        );
    }
}
