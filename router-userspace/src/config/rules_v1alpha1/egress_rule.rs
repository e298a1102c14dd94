//! Egress rules as they are written. What a field means is decided in [`compile`](crate::compile).

use serde::Deserialize;

use super::ServiceReference;

/// Hosts outside the cluster that its workloads may reach.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub struct EgressRule {
    /// A domain, `*.domain`, an address or a network.
    pub destination: Option<ServiceReference>,
    /// The ports that may be reached there.
    pub ports: Option<Vec<EgressPort>>,
    /// Whether the traffic leaves by an egress proxy.
    #[serde(alias = "use_egress_proxy")]
    pub use_egress_proxy: Option<bool>,
}

/// A port with what is spoken on it.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct EgressPort {
    /// Its number.
    pub port: Option<i64>,
    /// `HTTP`, `HTTPS`, `GRPC`, `HTTP2`, `TCP` or `MONGO`.
    pub protocol: Option<String>,
}
