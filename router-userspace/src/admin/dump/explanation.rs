//! The answer of `/explain`. It knows nothing of how it is found.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use super::{EndpointDump, IngressSide, LimitDump, PolicyDump};

/// Why a request or connection goes where it goes.
#[derive(Serialize, Deserialize, Clone, PartialEq, Debug)]
#[serde(rename_all = "camelCase")]
pub struct Explanation {
    /// Generation of the configuration that decided.
    pub generation: u64,
    /// What was asked.
    pub asked: Asked,
    /// The service that the destination belongs to.
    pub service: String,
    /// Its port.
    pub port: u16,
    /// What is spoken on it.
    pub protocol: String,
    /// Addresses at which it is reached.
    pub frontends: Vec<SocketAddr>,
    /// What routes this call: `kernel` or `proxy`.
    pub routed_by: String,
    /// Rules in the order of evaluation.
    pub rules: Vec<Step>,
    /// What was decided.
    pub decision: Decision,
    /// What the kernel holds; none when the configuration was explained offline, or for a destination that it does
    /// not know.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub kernel: Option<KernelSide>,
    /// How it came in, when it is a request from outside; then `service` is empty if it leads to none.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub ingress: Option<IngressSide>,
}

/// The request or connection that is explained.
#[derive(Serialize, Deserialize, Clone, PartialEq, Debug)]
#[serde(rename_all = "camelCase")]
pub struct Asked {
    /// The caller's workload; none: an unknown caller.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub from: Option<String>,
    /// Class of the caller: rules do not tell callers of one class apart. 0: unknown.
    pub class: u32,
    /// Method; none for a connection.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub method: Option<String>,
    /// Destination as it was asked for.
    pub destination: String,
    /// Names and values of header fields.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub headers: Vec<(String, String)>,
}

/// A rule that was looked at.
#[derive(Serialize, Deserialize, Clone, PartialEq, Debug)]
#[serde(rename_all = "camelCase")]
pub struct Step {
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
    /// What became of it.
    pub outcome: Outcome,
    /// Why it did not match: one reason per alternative.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub reasons: Vec<String>,
}

/// What became of a rule.
#[derive(Serialize, Deserialize, Clone, Copy, PartialEq, Eq, Debug)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// It matched, and evaluation ended.
    Matched,
    /// No alternative of its match held.
    NotMatched,
    /// An earlier rule had matched.
    NotReached,
}

/// What was decided.
#[derive(Serialize, Deserialize, Clone, PartialEq, Debug, Default)]
#[serde(rename_all = "camelCase")]
pub struct Decision {
    /// The rule that matched; none: no rule did, and every instance takes its turn.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub rule: Option<String>,
    /// Name of the refusal, when nothing can be chosen: `no-weight`.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub refusal: Option<String>,
    /// What is answered, or what is changed of the request, in words.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub actions: Vec<String>,
    /// Time for the whole request, in milliseconds; none for a connection.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub timeout_ms: Option<u64>,
    /// Retries, in words.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub retries: Option<String>,
    /// Faults, in words.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub faults: Vec<String>,
    /// Faults of the connection, in words. The connection of a request is decided before it, perhaps by another rule.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub connection_faults: Vec<String>,
    /// Where it goes.
    pub targets: Vec<TargetOutcome>,
}

/// A destination with its share.
#[derive(Serialize, Deserialize, Clone, PartialEq, Debug)]
#[serde(rename_all = "camelCase")]
pub struct TargetOutcome {
    /// The service.
    pub service: String,
    /// Its port.
    pub port: u16,
    /// Labels that instances must carry.
    pub labels: String,
    /// Weight as written.
    pub weight: u32,
    /// Share of requests or connections, in percent.
    pub share: f64,
    /// How an endpoint is picked.
    pub load_balancing: String,
    /// The policy in force.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub policy: Option<PolicyDump>,
    /// Name of the refusal when this target is chosen: `no-endpoints`.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub refusal: Option<String>,
    /// Its endpoints.
    pub endpoints: Vec<EndpointDump>,
}

/// What the kernel holds for the destination and the class of the caller.
#[derive(Serialize, Deserialize, Clone, PartialEq, Debug)]
#[serde(rename_all = "camelCase")]
pub struct KernelSide {
    /// What it does: `untouched`, `weighted`, `proxy`, `proxy-or-refuse`, `refuse`.
    pub routing: String,
    /// Name of the refusal.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub refusal: Option<String>,
    /// Connections that took a slot so far.
    pub cursor: u64,
    /// Subsets; for `proxy`, those of the default route.
    pub subsets: Vec<KernelSubset>,
}

/// A subset as the kernel holds it.
#[derive(Serialize, Deserialize, Clone, PartialEq, Debug)]
#[serde(rename_all = "camelCase")]
pub struct KernelSubset {
    /// Slots of the table that name it.
    pub slots: u32,
    /// How it picks an endpoint.
    pub balance: String,
    /// The limit its connections count in.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub limit: Option<LimitDump>,
    /// Its endpoints.
    pub endpoints: Vec<EndpointDump>,
}
