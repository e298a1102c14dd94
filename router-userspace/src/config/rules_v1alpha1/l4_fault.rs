//! Faults of connections as they are written. What a field means is decided in [`compile`](crate::compile).

use serde::Deserialize;

use super::DurationText;

/// Faults of connections: the throttle, then the end.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct L4Fault {
    /// Slows connections down.
    pub throttle: Option<Throttle>,
    /// Resets connections.
    pub terminate: Option<Terminate>,
}

/// A bandwidth limit, with its durations in one of two spellings.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub struct Throttle {
    /// Share of connections; all.
    pub percent: Option<f64>,
    /// Bits per second towards the client.
    #[serde(alias = "downstream_limit_bps")]
    pub downstream_limit_bps: Option<i64>,
    /// Bits per second towards the endpoint.
    #[serde(alias = "upstream_limit_bps")]
    pub upstream_limit_bps: Option<i64>,
    /// Time from the connection's establishment to the throttle, as text.
    #[serde(alias = "throttle_after_period")]
    pub throttle_after_period: Option<DurationText>,
    /// The same in seconds.
    #[serde(alias = "throttle_after_seconds")]
    pub throttle_after_seconds: Option<f64>,
    /// Bytes towards the endpoint before the throttle, instead of a time.
    #[serde(alias = "throttle_after_bytes")]
    pub throttle_after_bytes: Option<f64>,
    /// How long the throttle is in force, as text; for the connection's life.
    #[serde(alias = "throttle_for_period")]
    pub throttle_for_period: Option<DurationText>,
    /// The same in seconds.
    #[serde(alias = "throttle_for_seconds")]
    pub throttle_for_seconds: Option<f64>,
}

/// A reset, with its time in one of two spellings.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub struct Terminate {
    /// Share of connections; all.
    pub percent: Option<f64>,
    /// Time from the connection's establishment to the reset, as text; at once.
    #[serde(alias = "terminate_after_period")]
    pub terminate_after_period: Option<DurationText>,
    /// The same in seconds.
    #[serde(alias = "terminate_after_seconds")]
    pub terminate_after_seconds: Option<f64>,
}
