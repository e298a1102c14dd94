//! Why an endpoint's response did not come.
//!
//! It does not decide whether another attempt is made.

use std::error::Error as _;

use http::Request;
use hyper::client::conn::TrySendError;

use crate::proxy::{
    body::{BodyError, RequestBody},
    error::{Kind, ProxyError},
};

/// A request that got no response.
pub(crate) struct Failed {
    pub(crate) error: ProxyError,
    /// The request, when nothing of it was sent: its connection was closed already.
    pub(crate) unsent: Option<Box<Request<RequestBody>>>,
}

impl Failed {
    pub(super) fn http1(mut error: TrySendError<Request<RequestBody>>) -> Self {
        Self {
            unsent: error.take_message().map(Box::new),
            error: of_http1(error.error()),
        }
    }

    pub(super) fn http2(error: &h2::Error) -> Self {
        tracing::debug!(%error, "upstream request failed");
        if error.is_reset() && !error.is_remote() && !error.is_library() {
            // The only streams with a response to come that we reset are those whose body broke off.
            return Self {
                error: ProxyError::new(Kind::ClientDisconnected, "the request's body broke off"),
                unsent: None,
            };
        }
        let message = if error.reason() == Some(h2::Reason::REFUSED_STREAM) {
            "remote refused stream reset"
        } else {
            "remote reset"
        };
        Self {
            error: ProxyError::new(Kind::UpstreamReset, message),
            unsent: None,
        }
    }

    /// Of a lease that has served its request.
    pub(super) const fn spent() -> Self {
        Self {
            error: ProxyError::new(Kind::UpstreamReset, "connection termination"),
            unsent: None,
        }
    }

    /// Of a connection of HTTP/2 that takes no new streams.
    pub(super) fn unsent(error: &h2::Error, request: Request<RequestBody>) -> Self {
        Self {
            unsent: Some(Box::new(request)),
            ..Self::http2(error)
        }
    }
}

fn of_http1(error: &hyper::Error) -> ProxyError {
    tracing::debug!(%error, "upstream request failed");
    if is_of_body(error) {
        ProxyError::new(Kind::ClientDisconnected, "the request's body broke off")
    } else if error.is_parse() {
        ProxyError::new(Kind::UpstreamProtocolError, "protocol error")
    } else if error.is_incomplete_message() || error.is_user() {
        // What hyper takes for ours beside the body is that nobody drives the connection any more.
        ProxyError::new(Kind::UpstreamReset, "connection termination")
    } else {
        ProxyError::new(Kind::UpstreamReset, "remote reset")
    }
}

/// Whether the request's body failed, or ended before its length: it is the client's.
fn is_of_body(error: &hyper::Error) -> bool {
    error.is_body_write_aborted() || error.source().is_some_and(|cause| cause.is::<BodyError>())
}

#[cfg(test)]
mod tests;
