//! Destination policies as they are written, in the flat and in the list layout.

use serde::Deserialize;

use super::{DurationText, Labels, LoadBalancing, Opaque, ServiceReference};

/// What holds for every call of a destination, in the flat and in the list layout.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub struct DestinationPolicy {
    /// The service.
    pub destination: Option<ServiceReference>,
    /// The caller, with its labels; none: every caller.
    pub source: Option<ServiceReference>,
    /// Flat: labels that a rule must route to explicitly.
    pub tags: Option<Labels>,
    /// Flat: how an endpoint is picked.
    #[serde(alias = "load_balancing")]
    pub load_balancing: Option<LoadBalancing>,
    /// Flat: limits.
    #[serde(alias = "circuit_breaker")]
    pub circuit_breaker: Option<CircuitBreaker>,
    /// Flat: left to the implementation.
    pub custom: Option<Opaque>,
    /// List: one policy per set of labels.
    pub policy: Option<Vec<VersionPolicy>>,
}

/// One entry of the list layout.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub struct VersionPolicy {
    /// As [`DestinationPolicy::tags`].
    pub tags: Option<Labels>,
    /// As [`DestinationPolicy::load_balancing`].
    #[serde(alias = "load_balancing")]
    pub load_balancing: Option<LoadBalancing>,
    /// As [`DestinationPolicy::circuit_breaker`].
    #[serde(alias = "circuit_breaker")]
    pub circuit_breaker: Option<CircuitBreaker>,
    /// Left to the implementation.
    pub custom: Option<Opaque>,
}

/// Limits.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub struct CircuitBreaker {
    /// The kind that the language defines.
    #[serde(alias = "simple_cb")]
    pub simple_cb: Option<SimpleCircuitBreaker>,
    /// Left to the implementation.
    pub custom: Option<Opaque>,
}

/// Limits by number.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub struct SimpleCircuitBreaker {
    /// Connections that may be open at once.
    #[serde(alias = "max_connections")]
    pub max_connections: Option<i64>,
    /// Requests that may be with endpoints at once.
    #[serde(alias = "http_max_requests")]
    pub http_max_requests: Option<i64>,
    /// Requests that may wait for a connection at once.
    #[serde(alias = "http_max_pending_requests")]
    pub http_max_pending_requests: Option<i64>,
    /// Requests after which a connection is not used again.
    #[serde(alias = "http_max_requests_per_connection")]
    pub http_max_requests_per_connection: Option<i64>,
    /// Retries that may be under way at once.
    #[serde(alias = "http_max_retries")]
    pub http_max_retries: Option<i64>,
    /// Errors in a row after which an endpoint is ejected.
    #[serde(alias = "http_consecutive_errors")]
    pub http_consecutive_errors: Option<i64>,
    /// How long the first ejection lasts.
    #[serde(alias = "sleep_window")]
    pub sleep_window: Option<DurationText>,
    /// The same in seconds.
    #[serde(alias = "sleep_window_seconds")]
    pub sleep_window_seconds: Option<f64>,
    /// How often ejected endpoints are looked at.
    #[serde(alias = "http_detection_interval")]
    pub http_detection_interval: Option<DurationText>,
    /// The same in seconds.
    #[serde(alias = "http_detection_interval_seconds")]
    pub http_detection_interval_seconds: Option<f64>,
    /// Share of endpoints that may be ejected at once.
    #[serde(alias = "http_max_ejection_percent")]
    pub http_max_ejection_percent: Option<i64>,
}
