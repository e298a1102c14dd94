//! What can go wrong with a request or connection, and on which side. Every kind has a stable name.
//!
//! It does not choose statuses or bodies; `respond` does.

use router_rules::action::AbortWith;

/// Who is to blame.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Side {
    /// The client.
    Downstream,
    /// The endpoint, or the way to it.
    Upstream,
    /// The configuration, or the proxy itself.
    Internal,
}

macro_rules! kinds {
    ($($(#[doc = $doc:literal])+ $kind:ident = $side:ident, $name:literal;)+) => {
        /// Why a request or connection was refused or broke off.
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
        pub enum Kind { $($(#[doc = $doc])+ $kind),+ }

        impl Kind {
            /// Every kind, in the order of their counters.
            pub const ALL: &'static [Self] = &[$(Self::$kind),+];

            /// Stable name, as the header `x-router-reason`, the access log and metrics print it.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$kind => $name),+ }
            }

            /// Who is to blame.
            pub const fn side(self) -> Side {
                match self { $(Self::$kind => Side::$side),+ }
            }
        }
    };
}

kinds! {
    /// The request is malformed, ambiguous or not allowed to be forwarded.
    BadRequest = Downstream, "bad-request";
    /// A message's length is stated twice, or not as the standard has it: two readers could divide the client's bytes
    /// differently.
    BadFraming = Downstream, "bad-framing";
    /// The request's head, a header list or a trailer section is too long or has too many fields.
    HeadTooLarge = Downstream, "head-too-large";
    /// The client expects something other than `100-continue`.
    ExpectationFailed = Downstream, "expectation-failed";
    /// `CONNECT` is not offered.
    ConnectNotAllowed = Downstream, "connect-not-allowed";
    /// A rule refuses requests for another protocol.
    UpgradeNotAllowed = Downstream, "upgrade-not-allowed";
    /// The client closed its connection, or reset its stream, before the exchange ended.
    ClientDisconnected = Downstream, "client-disconnected";
    /// The client took too long to send a request head.
    HeadTimeout = Downstream, "head-timeout";
    /// The client sent a request's body too slowly, or stopped.
    BodyTimeout = Downstream, "body-timeout";
    /// The client opened HTTP/2 streams and reset them faster than it may.
    RapidReset = Downstream, "rapid-reset";
    /// The client sent more HTTP/2 frames that carry nothing than it may.
    FrameFlood = Downstream, "frame-flood";
    /// The client broke HTTP/2; the stream or the connection was reset without a response.
    ClientProtocolError = Downstream, "client-protocol-error";
    /// The client did not speak TLS, or not as the node's port does.
    TlsHandshakeFailed = Downstream, "tls-handshake-failed";
    /// The client took too long to agree on TLS.
    TlsHandshakeTimeout = Downstream, "tls-handshake-timeout";
    /// The kernel did not redirect the connection, so that nobody knows where it was meant to go.
    NoOriginalDestination = Downstream, "no-original-destination";
    /// The original destination is no service port of the configuration in force.
    NoService = Internal, "no-service";
    /// No ingress rule of the node's port matches the request.
    NoRoute = Internal, "no-route";
    /// The client named no host that is declared, and it may reach no other.
    UnknownDestination = Internal, "unknown-destination";
    /// Every weight of the rule is zero.
    NoWeight = Internal, "no-weight";
    /// The chosen subset has no endpoint.
    NoEndpoints = Internal, "no-endpoints";
    /// The connection limit of the policy is reached.
    LimitReached = Internal, "limit-reached";
    /// As many requests are under way as the policy allows.
    RequestLimitReached = Internal, "request-limit-reached";
    /// As many requests wait for a connection as the policy allows.
    PendingLimitReached = Internal, "pending-limit-reached";
    /// An attempt failed, and as many retries are under way as the policy allows.
    RetryLimitReached = Internal, "retry-limit-reached";
    /// An attempt failed, and as many retries are under way as the retry budget allows.
    RetryBudgetSpent = Internal, "retry-budget-spent";
    /// A rule's fault answered instead of an endpoint.
    FaultAbort = Internal, "fault-abort";
    /// A rule's fault reset the connection.
    FaultTerminate = Internal, "fault-terminate";
    /// The request took longer than its rule allows.
    RequestTimeout = Upstream, "request-timeout";
    /// The last attempt took longer than its rule allows.
    PerTryTimeout = Upstream, "per-try-timeout";
    /// The endpoint refused the connection or cannot be reached.
    ConnectFailure = Upstream, "upstream-connect-failure";
    /// The endpoint did not accept the connection in time.
    ConnectTimeout = Upstream, "upstream-connect-timeout";
    /// The endpoint closed or reset before its response was complete.
    UpstreamReset = Upstream, "upstream-reset";
    /// The endpoint's answer is not valid HTTP.
    UpstreamProtocolError = Upstream, "upstream-protocol-error";
    /// The proxy stopped before the exchange ended.
    Draining = Internal, "draining";
}

/// A refused or broken request.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{}: {detail}", kind.name())]
pub struct ProxyError {
    /// What happened.
    pub kind: Kind,
    /// For people; part of the body of some responses.
    pub detail: &'static str,
    /// What a rule's fault asks for.
    pub abort: Option<AbortWith>,
}

impl ProxyError {
    /// An error of `kind` with a few words on what exactly.
    pub const fn new(kind: Kind, detail: &'static str) -> Self {
        Self {
            kind,
            detail,
            abort: None,
        }
    }

    /// The request cannot be forwarded as it is.
    pub const fn bad_request(detail: &'static str) -> Self {
        Self::new(Kind::BadRequest, detail)
    }

    /// A rule's fault.
    pub const fn fault(with: AbortWith) -> Self {
        Self {
            kind: Kind::FaultAbort,
            detail: "fault filter abort",
            abort: Some(with),
        }
    }

    /// Who is to blame.
    pub const fn side(&self) -> Side {
        self.kind.side()
    }

    /// True when another attempt may succeed where this one failed.
    pub const fn is_retriable(&self) -> bool {
        matches!(self.side(), Side::Upstream) && !matches!(self.kind, Kind::RequestTimeout)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_distinct_and_in_kebab_case() {
        let names: std::collections::BTreeSet<_> = Kind::ALL.iter().map(|k| k.name()).collect();
        assert_eq!(names.len(), Kind::ALL.len());
        assert!(
            names
                .iter()
                .all(|n| n.bytes().all(|b| b == b'-' || b.is_ascii_lowercase()))
        );
        assert!(Kind::ALL.iter().enumerate().all(|(i, k)| *k as usize == i));
    }
}
