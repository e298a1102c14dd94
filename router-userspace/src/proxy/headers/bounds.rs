//! What a header list may hold at most, and what a trailer section must not.
//!
//! HTTP/1.1 heads are measured as bytes, before they are parsed; here are the lists of HTTP/2, which are only known
//! afterwards.

use http::{HeaderMap, request, uri::PathAndQuery};

use crate::proxy::{
    error::{Kind, ProxyError},
    limits::Limits,
};

/// What each field counts beside its bytes (RFC 9113, 6.5.2).
const FIELD_OVERHEAD: usize = 32;

/// Fields that say where a message ends, where it goes, who asks or what its bytes mean: after the body it is too late
/// for them (RFC 9110, 6.5.1), and whoever believes them then was led astray.
const NOT_IN_TRAILERS: [&str; 20] = [
    "authorization",
    "connection",
    "content-encoding",
    "content-length",
    "content-range",
    "content-type",
    "cookie",
    "expect",
    "host",
    "keep-alive",
    "max-forwards",
    "proxy-authorization",
    "proxy-connection",
    "range",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "x-forwarded-for",
    "x-forwarded-host",
];

/// Refuses a header list of HTTP/2 that is too long, or has a path that HTTP/1.1 could not have.
///
/// # Errors
///
/// It has too many bytes or fields, or its path is not ASCII.
pub(crate) fn check_list(parts: &request::Parts, limits: &Limits) -> Result<(), ProxyError> {
    let too_large = |detail| Err(ProxyError::new(Kind::HeadTooLarge, detail));
    if parts.headers.len() > limits.fields {
        return too_large("too many fields");
    }
    let fields: usize = parts
        .headers
        .iter()
        .map(|(name, value)| name.as_str().len() + value.len() + FIELD_OVERHEAD)
        .sum();
    let path = parts.uri.path_and_query().map_or("", PathAndQuery::as_str);
    if !path.is_ascii() && !limits.tolerated.non_ascii_target {
        return Err(ProxyError::bad_request("the request's target is malformed"));
    }
    let authority = parts
        .uri
        .authority()
        .map_or(0, |authority| authority.as_str().len());
    if fields + path.len() + authority > limits.head_bytes {
        return too_large("the request's header list is too large");
    }
    Ok(())
}

/// Refuses a trailer section that changes what the message was.
///
/// # Errors
///
/// It has a field that must not be in one.
pub(crate) fn check_trailers(trailers: &HeaderMap) -> Result<(), ProxyError> {
    let misplaced = |name: &http::HeaderName| NOT_IN_TRAILERS.contains(&name.as_str());
    if trailers.keys().any(misplaced) {
        return Err(ProxyError::new(
            Kind::BadFraming,
            "a field that must not come after the body",
        ));
    }
    Ok(())
}
