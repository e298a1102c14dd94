//! Route rules as they are written. What a field means is decided in [`compile`](crate::compile).

use std::collections::BTreeMap;

use serde::Deserialize;

use super::{DurationText, L4Fault, Labels, Opaque, ServiceReference, StatusText};

/// How calls of a destination are routed. What most rules say nothing of is held elsewhere: there are many rules.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub struct RouteRule {
    /// Service whose callers get this rule.
    pub destination: Option<ServiceReference>,
    /// Larger is tried first; 0.
    pub precedence: Option<i32>,
    /// Conditions; none: every call.
    pub r#match: Option<Box<MatchCondition>>,
    /// Weighted destinations; none: every instance.
    pub route: Option<Vec<DestinationWeight>>,
    /// Answer that sends the client elsewhere.
    pub redirect: Option<Box<Address>>,
    /// Another path or host towards the endpoint.
    pub rewrite: Option<Box<Address>>,
    /// Whether connections may become WebSockets; they may.
    #[serde(alias = "websocket_upgrade")]
    pub websocket_upgrade: Option<bool>,
    /// Fields added to what is forwarded.
    #[serde(alias = "append_headers")]
    pub append_headers: Option<BTreeMap<String, String>>,
    /// Service that gets copies of requests.
    pub mirror: Option<ServiceReference>,
    /// What pages of other origins may do.
    #[serde(alias = "cors_policy")]
    pub cors_policy: Option<Box<CorsPolicy>>,
    /// Limit of the whole request.
    #[serde(alias = "http_req_timeout")]
    pub http_req_timeout: Option<Box<HttpTimeout>>,
    /// Retries.
    #[serde(alias = "http_req_retries")]
    pub http_req_retries: Option<Box<HttpRetry>>,
    /// Faults to inject.
    #[serde(alias = "http_fault")]
    pub http_fault: Option<Box<HttpFault>>,
    /// Faults of connections.
    #[serde(alias = "l4_fault")]
    pub l4_fault: Option<Box<L4Fault>>,
}

/// Conditions of a rule. All must hold.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub struct MatchCondition {
    /// Service of the caller.
    pub source: Option<ServiceReference>,
    /// Labels that the caller must carry.
    #[serde(alias = "source_tags")]
    pub source_tags: Option<Labels>,
    /// TCP, and whose subnets.
    pub tcp: Option<TransportCondition>,
    /// UDP, and whose subnets.
    pub udp: Option<TransportCondition>,
    /// Conditions on headers, and on the pseudo headers `uri`, `scheme`, `method`, `authority`.
    #[serde(alias = "http_headers")]
    pub http_headers: Option<BTreeMap<String, StringMatch>>,
    /// The same in the spelling of 0.2.
    pub request: Option<RequestMatch>,
}

/// Conditions on both ends of a connection. Both must hold.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub struct TransportCondition {
    /// Addresses or subnets, of which the caller must be in one.
    #[serde(alias = "source_subnet")]
    pub source_subnet: Option<Vec<String>>,
    /// Addresses or subnets, of which the dialled address must be in one.
    #[serde(alias = "destination_subnet")]
    pub destination_subnet: Option<Vec<String>>,
}

/// Conditions on a request, as 0.2 spells them.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RequestMatch {
    /// As [`MatchCondition::http_headers`].
    pub headers: Option<BTreeMap<String, StringMatch>>,
}

/// Exactly one comparison.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct StringMatch {
    /// The whole value.
    pub exact: Option<String>,
    /// The beginning of the value.
    pub prefix: Option<String>,
    /// Regular expression for the whole value.
    pub regex: Option<String>,
}

/// One weighted destination.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct DestinationWeight {
    /// Another service than the rule's.
    pub destination: Option<ServiceReference>,
    /// Labels of the instances.
    pub tags: Option<Labels>,
    /// The same in the spelling of 0.2.
    pub labels: Option<Labels>,
    /// Share in percent.
    pub weight: Option<i64>,
}

/// Another path, another host, or both.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Address {
    /// The path.
    pub uri: Option<String>,
    /// The host, perhaps with a port.
    pub authority: Option<String>,
}

/// What pages of other origins may do.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub struct CorsPolicy {
    /// Origins that are allowed, each `*` or whole.
    #[serde(alias = "allow_origin")]
    pub allow_origin: Option<Vec<String>>,
    /// Methods that preflights are told.
    #[serde(alias = "allow_methods")]
    pub allow_methods: Option<Vec<String>>,
    /// Request headers that preflights are told.
    #[serde(alias = "allow_headers")]
    pub allow_headers: Option<Vec<String>>,
    /// Response headers that pages may read.
    #[serde(alias = "expose_headers")]
    pub expose_headers: Option<Vec<String>>,
    /// How long the answer to a preflight may be kept.
    #[serde(alias = "max_age")]
    pub max_age: Option<DurationText>,
    /// Whether requests may carry cookies and the like.
    #[serde(alias = "allow_credentials")]
    pub allow_credentials: Option<bool>,
}

/// Limit of a request.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub struct HttpTimeout {
    /// The kind that the language defines.
    #[serde(alias = "simple_timeout")]
    pub simple_timeout: Option<SimpleTimeout>,
    /// Left to the implementation.
    pub custom: Option<Opaque>,
}

/// Limit of a request in one of two spellings.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub struct SimpleTimeout {
    /// As text: `10s`.
    pub timeout: Option<DurationText>,
    /// In seconds.
    #[serde(alias = "timeout_seconds")]
    pub timeout_seconds: Option<f64>,
    /// Header whose value takes the place of the rule's.
    #[serde(alias = "override_header_name")]
    pub override_header_name: Option<String>,
}

/// Retries of a request.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub struct HttpRetry {
    /// The kind that the language defines.
    #[serde(alias = "simple_retry")]
    pub simple_retry: Option<SimpleRetry>,
    /// Left to the implementation.
    pub custom: Option<Opaque>,
}

/// Number of retries, with the limit of each try in one of two spellings.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub struct SimpleRetry {
    /// Tries after the first.
    pub attempts: Option<i64>,
    /// As text.
    #[serde(alias = "per_try_timeout")]
    pub per_try_timeout: Option<DurationText>,
    /// In seconds.
    #[serde(alias = "per_try_timeout_seconds")]
    pub per_try_timeout_seconds: Option<f64>,
    /// Header whose value takes the place of the rule's.
    #[serde(alias = "override_header_name")]
    pub override_header_name: Option<String>,
}

/// Faults to inject.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct HttpFault {
    /// Before forwarding.
    pub delay: Option<Delay>,
    /// Instead of forwarding.
    pub abort: Option<Abort>,
}

/// A delay in one of two spellings.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub struct Delay {
    /// Share of requests; all.
    pub percent: Option<f64>,
    /// As text.
    #[serde(alias = "fixed_delay")]
    pub fixed_delay: Option<DurationText>,
    /// In seconds.
    #[serde(alias = "fixed_delay_seconds")]
    pub fixed_delay_seconds: Option<f64>,
    /// Mean of delays that differ, as text.
    #[serde(alias = "exponential_delay")]
    pub exponential_delay: Option<DurationText>,
    /// The same in seconds.
    #[serde(alias = "exponential_delay_seconds")]
    pub exponential_delay_seconds: Option<f64>,
    /// Header whose value takes the place of the rule's.
    #[serde(alias = "override_header_name")]
    pub override_header_name: Option<String>,
}

/// An answer instead of forwarding.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub struct Abort {
    /// Share of requests; all.
    pub percent: Option<f64>,
    /// Status of the answer.
    #[serde(alias = "http_status")]
    pub http_status: Option<i64>,
    /// gRPC status of the answer.
    #[serde(alias = "grpc_status")]
    pub grpc_status: Option<StatusText>,
    /// HTTP/2 error code that the stream is reset with.
    #[serde(alias = "http2_error")]
    pub http2_error: Option<StatusText>,
    /// Header whose value takes the place of the rule's.
    #[serde(alias = "override_header_name")]
    pub override_header_name: Option<String>,
}
