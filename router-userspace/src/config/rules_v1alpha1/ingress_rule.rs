//! Ingress rules as they are written. What a field means is decided in [`compile`](crate::compile).

use serde::Deserialize;

use super::{MatchCondition, ServiceReference};

/// Which requests from outside go to which service.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub struct IngressRule {
    /// Port of the node that is listened on; 80, or 443 with a secret.
    pub port: Option<i64>,
    /// Secret that holds the certificate and its key; none: no TLS.
    #[serde(alias = "tls_secret")]
    pub tls_secret: Option<String>,
    /// Larger is tried first; 0.
    pub precedence: Option<i32>,
    /// Conditions; none: every request on the port.
    pub r#match: Option<MatchCondition>,
    /// Service that the requests go to.
    pub destination: Option<ServiceReference>,
    /// Port of that service, by number.
    #[serde(alias = "destination_port")]
    pub destination_port: Option<i64>,
    /// Port of that service, by name.
    #[serde(alias = "destination_port_name")]
    pub destination_port_name: Option<String>,
}
