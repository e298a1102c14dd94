//! Gateways as the admin address shows them. Of a certificate it has the names, never the key.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use super::Step;

/// A port of the node.
#[derive(Serialize, Deserialize, Clone, PartialEq, Eq, Debug)]
#[serde(rename_all = "camelCase")]
pub struct GatewayStatus {
    /// The port.
    pub port: u16,
    /// `http` or `https`.
    pub scheme: String,
    /// `open`, `failed`, or `opening`.
    pub state: String,
    /// Where it is listened on.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub addresses: Vec<SocketAddr>,
    /// Why it could not be opened.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub error: Option<String>,
    /// Number of its rules.
    pub rules: usize,
    /// Its certificates, in the order of the rules that name them.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub certificates: Vec<CertificateDump>,
}

/// A certificate.
#[derive(Serialize, Deserialize, Clone, PartialEq, Eq, Debug)]
#[serde(rename_all = "camelCase")]
pub struct CertificateDump {
    /// Namespace and name of the Secret.
    pub secret: String,
    /// Names that it is for.
    pub names: Vec<String>,
    /// Begin of its validity: RFC 3339, UTC.
    pub from: String,
    /// Its end.
    pub until: String,
}

/// A gateway of the compiled configuration.
#[derive(Serialize, Deserialize, Clone, PartialEq, Debug)]
#[serde(rename_all = "camelCase")]
pub struct GatewayDump {
    /// The port.
    pub port: u16,
    /// `http` or `https`.
    pub scheme: String,
    /// Its certificates.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub certificates: Vec<CertificateDump>,
    /// Its rules in the order of evaluation.
    pub rules: Vec<GatewayRuleDump>,
}

/// A rule of a gateway.
#[derive(Serialize, Deserialize, Clone, PartialEq, Debug)]
#[serde(rename_all = "camelCase")]
pub struct GatewayRuleDump {
    /// Kind and name.
    pub rule: String,
    /// File it was written in.
    pub file: String,
    /// Its first line.
    pub line: u32,
    /// Larger is tried first.
    pub precedence: i32,
    /// Its conditions, one text per alternative; none: it always matches.
    #[serde(rename = "match", skip_serializing_if = "Vec::is_empty", default)]
    pub conditions: Vec<String>,
    /// The service that matching requests go to.
    pub service: String,
    /// Its port.
    pub service_port: u16,
    /// Namespace and name of the Secret that it names.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub secret: Option<String>,
}

/// How a request from outside comes in.
#[derive(Serialize, Deserialize, Clone, PartialEq, Debug)]
#[serde(rename_all = "camelCase")]
pub struct IngressSide {
    /// The port of the node.
    pub port: u16,
    /// `http` or `https`.
    pub scheme: String,
    /// The certificate that a client is shown who asks for the host of the request.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub certificate: Option<CertificateDump>,
    /// The port's rules in the order of evaluation.
    pub rules: Vec<Step>,
    /// The rule that matched; none: no rule did, and the request is refused.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub rule: Option<String>,
}
