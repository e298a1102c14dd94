//! The only place that invents responses: from an error to a status, a body and the header `x-router-reason`.
//!
//! It does not decide whether something is an error.

use bytes::Bytes;
use http::{
    HeaderMap, HeaderName, HeaderValue, Response, StatusCode,
    header::{CONTENT_TYPE, LOCATION},
};

use router_rules::action::AbortWith;

use super::{
    body::ResponseBody,
    error::{Kind, ProxyError},
    exchange::Exchange,
};

/// Names the [`Kind`] of a response that no endpoint sent.
const X_ROUTER_REASON: HeaderName = HeaderName::from_static("x-router-reason");
/// Tells clients that nothing is broken: a limit refused the request (Envoy).
const X_ENVOY_OVERLOADED: HeaderName = HeaderName::from_static("x-envoy-overloaded");
const GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");
const GRPC_MESSAGE: HeaderName = HeaderName::from_static("grpc-message");

/// How the client wants to be answered.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Dialect {
    /// A status and a text.
    Http,
    /// Status 200 and `grpc-status`, without a body.
    Grpc,
}

impl Dialect {
    /// From a request's header fields.
    pub(crate) fn of(headers: &HeaderMap) -> Self {
        let Some(content_type) = headers.get(CONTENT_TYPE) else {
            return Self::Http;
        };
        match content_type.as_bytes().strip_prefix(b"application/grpc") {
            Some([] | [b'+' | b';', ..]) => Self::Grpc,
            _ => Self::Http,
        }
    }
}

/// An answer without a body that a rule asks for.
#[derive(Debug)]
pub(crate) struct OwnAnswer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
}

impl OwnAnswer {
    /// Sends the client to `location`.
    ///
    /// # Errors
    ///
    /// `location` cannot be a field's value.
    pub(crate) fn redirect(status: u16, location: &str) -> Result<Self, ProxyError> {
        let location = HeaderValue::from_str(location)
            .map_err(|_| ProxyError::bad_request("the location is malformed"))?;
        Ok(Self {
            status: StatusCode::from_u16(status).unwrap_or(StatusCode::MOVED_PERMANENTLY),
            headers: [(LOCATION, location)].into_iter().collect(),
        })
    }

    /// Answers a preflight with what is allowed.
    pub(crate) const fn preflight(headers: HeaderMap) -> Self {
        Self {
            status: StatusCode::OK,
            headers,
        }
    }
}

/// Answers a request as its rule asks.
pub(crate) fn answer(answer: OwnAnswer, mut exchange: Exchange) -> Response<ResponseBody> {
    exchange.responds(answer.status.as_u16());
    exchange.complete();
    let mut response = Response::new(ResponseBody::own(Bytes::new(), exchange));
    *response.status_mut() = answer.status;
    *response.headers_mut() = answer.headers;
    response
}

/// Answers a request that failed.
pub(crate) fn refuse(error: ProxyError, dialect: Dialect, mut exchange: Exchange) -> Response<ResponseBody> {
    exchange.fail(&error);
    let says_reason = exchange.session().worker.disclosure().reason;
    let status = status(&error);
    let text = text(&error);
    let mut response = match (dialect, error.abort) {
        (_, Some(AbortWith::GrpcStatus(status))) => grpc(status.number().into(), text, exchange),
        (Dialect::Grpc, _) => grpc(grpc_status(status), text, exchange),
        (Dialect::Http, _) => {
            exchange.responds(status.as_u16());
            let mut response = Response::new(ResponseBody::own(text, exchange));
            *response.status_mut() = status;
            response
                .headers_mut()
                .insert(CONTENT_TYPE, HeaderValue::from_static("text/plain"));
            response
        }
    };
    if is_overflow(error.kind) {
        let overloaded = HeaderValue::from_static("true");
        response.headers_mut().insert(X_ENVOY_OVERLOADED, overloaded);
    }
    if says_reason {
        let reason = HeaderValue::from_static(error.kind.name());
        response.headers_mut().insert(X_ROUTER_REASON, reason);
    }
    response
}

/// True when a limit of the policy refused the request before an endpoint had it.
const fn is_overflow(kind: Kind) -> bool {
    matches!(
        kind,
        Kind::LimitReached | Kind::RequestLimitReached | Kind::PendingLimitReached
    )
}

/// A gRPC response without messages.
fn grpc(status: u16, text: Bytes, mut exchange: Exchange) -> Response<ResponseBody> {
    exchange.responds(StatusCode::OK.as_u16());
    let mut response = Response::new(ResponseBody::own(Bytes::new(), exchange));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    headers.insert(GRPC_STATUS, HeaderValue::from(status));
    if let Ok(message) = HeaderValue::from_maybe_shared(text) {
        headers.insert(GRPC_MESSAGE, message);
    }
    response
}

fn status(error: &ProxyError) -> StatusCode {
    const UNAVAILABLE: StatusCode = StatusCode::SERVICE_UNAVAILABLE;
    match error.kind {
        Kind::BadRequest | Kind::BadFraming => StatusCode::BAD_REQUEST,
        Kind::RapidReset | Kind::FrameFlood | Kind::ClientProtocolError => StatusCode::BAD_REQUEST,
        Kind::HeadTooLarge => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
        Kind::ExpectationFailed => StatusCode::EXPECTATION_FAILED,
        Kind::ConnectNotAllowed | Kind::UpgradeNotAllowed => StatusCode::FORBIDDEN,
        Kind::ClientDisconnected => StatusCode::BAD_REQUEST,
        Kind::TlsHandshakeFailed | Kind::TlsHandshakeTimeout => StatusCode::BAD_REQUEST,
        Kind::HeadTimeout | Kind::BodyTimeout => StatusCode::REQUEST_TIMEOUT,
        Kind::RequestTimeout | Kind::PerTryTimeout => StatusCode::GATEWAY_TIMEOUT,
        Kind::UpstreamProtocolError => StatusCode::BAD_GATEWAY,
        Kind::NoRoute => StatusCode::NOT_FOUND,
        // As Istio's proxies answer what their registry does not know.
        Kind::UnknownDestination => StatusCode::BAD_GATEWAY,
        Kind::FaultAbort => match error.abort {
            Some(AbortWith::HttpStatus(status)) => StatusCode::from_u16(status).unwrap_or(UNAVAILABLE),
            _ => UNAVAILABLE,
        },
        Kind::NoOriginalDestination
        | Kind::NoService
        | Kind::NoWeight
        | Kind::NoEndpoints
        | Kind::LimitReached
        | Kind::RequestLimitReached
        | Kind::PendingLimitReached
        | Kind::RetryLimitReached
        | Kind::RetryBudgetSpent
        | Kind::ConnectFailure
        | Kind::ConnectTimeout
        | Kind::UpstreamReset
        | Kind::FaultTerminate
        | Kind::Draining => StatusCode::SERVICE_UNAVAILABLE,
    }
}

/// The texts that Envoy uses, where it has one.
fn text(error: &ProxyError) -> Bytes {
    const RESET: &str = "upstream connect error or disconnect/reset before headers. reset reason: ";
    match error.kind {
        Kind::NoEndpoints => Bytes::from_static(b"no healthy upstream"),
        Kind::RequestTimeout | Kind::PerTryTimeout => Bytes::from_static(b"upstream request timeout"),
        Kind::LimitReached
        | Kind::RequestLimitReached
        | Kind::PendingLimitReached
        | Kind::ConnectFailure
        | Kind::ConnectTimeout
        | Kind::UpstreamReset
        | Kind::UpstreamProtocolError => Bytes::from([RESET, error.detail].concat()),
        _ => Bytes::from_static(error.detail.as_bytes()),
    }
}

/// Envoy's mapping of HTTP statuses to those of gRPC.
fn grpc_status(status: StatusCode) -> u16 {
    match status.as_u16() {
        400 => 13,
        401 => 16,
        403 => 7,
        404 => 12,
        429 | 502 | 503 | 504 => 14,
        _ => 2,
    }
}
