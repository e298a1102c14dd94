//! The answers of `/status` and `/maps`. They know nothing of how they are found.

use std::net::SocketAddr;

use indexmap::IndexMap;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{GatewayStatus, LimitDump, RequestStatus};
use crate::observe::Hook;

/// How the agent is.
#[derive(Serialize, Deserialize, Clone, PartialEq, Debug)]
#[serde(rename_all = "camelCase")]
pub struct Status {
    /// Version of the agent.
    pub version: String,
    /// Process id of the agent.
    pub pid: u32,
    /// What it waits for before it is ready; empty: it is ready.
    pub waiting_for: Vec<String>,
    /// The configuration.
    pub config: ConfigStatus,
    /// Programs in the kernel.
    pub hooks: Vec<HookStatus>,
    /// Why the kernel could not be asked.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub hooks_error: Option<String>,
    /// Ports of the node.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub gateways: Vec<GatewayStatus>,
    /// Service ports.
    pub services: Vec<ServiceStatus>,
    /// Policies with a connection limit.
    pub limits: Vec<LimitStatus>,
    /// Policies with limits on requests.
    #[serde(default)]
    pub requests: Vec<RequestStatus>,
    /// Policies that eject failing endpoints.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub outliers: Vec<OutlierStatus>,
    /// Connections by the kernel's verdict; those that never happened are left out.
    pub verdicts: Vec<VerdictCount>,
}

/// The configuration in force and the last attempt to change it.
#[derive(Serialize, Deserialize, Clone, PartialEq, Debug)]
#[serde(rename_all = "camelCase")]
pub struct ConfigStatus {
    /// Directory.
    pub directory: String,
    /// Number of the configuration that the proxy and the kernel both follow; 0: none yet.
    pub generation: u64,
    /// When the directory was last read: RFC 3339, UTC.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub read_at: Option<String>,
    /// False when what was last read has errors, so that an earlier configuration is in force.
    pub accepted: bool,
    /// Findings of the last reading.
    pub findings: Vec<Problem>,
}

/// A finding.
#[derive(Serialize, Deserialize, Clone, PartialEq, Eq, Debug)]
#[serde(rename_all = "camelCase")]
pub struct Problem {
    /// `error` or `warning`.
    pub severity: String,
    /// Stable name.
    pub code: String,
    /// The finding in one line.
    pub text: String,
}

/// A program of the kernel half.
#[derive(Serialize, Deserialize, Clone, PartialEq, Eq, Debug)]
#[serde(rename_all = "camelCase")]
pub struct HookStatus {
    /// Where it attaches.
    pub hook: String,
    /// Its name.
    pub program: String,
    /// True when the kernel runs it.
    pub attached: bool,
    /// True for one that is attached only while connections need it, when none does.
    #[serde(default)]
    pub idle: bool,
    /// Kernel's id of the program.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub program_id: Option<u32>,
    /// Kernel's id of the link.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub link_id: Option<u32>,
}

/// A service port.
#[derive(Serialize, Deserialize, Clone, PartialEq, Eq, Debug)]
#[serde(rename_all = "camelCase")]
pub struct ServiceStatus {
    /// The service's name.
    pub service: String,
    /// Its port.
    pub port: u16,
    /// What is spoken on it.
    pub protocol: String,
    /// What routes it: `kernel` or `proxy`.
    pub routed_by: String,
    /// Number of rules.
    pub rules: usize,
    /// Number of instances.
    pub endpoints: usize,
    /// Connections the kernel sent to an endpoint; none when the kernel does not know the service.
    pub routed: Option<u64>,
    /// Connections the kernel sent to the proxy.
    pub proxied: Option<u64>,
    /// Connections the kernel refused.
    pub refused: Option<u64>,
}

/// A policy with a connection limit.
#[derive(Serialize, Deserialize, Clone, PartialEq, Eq, Debug)]
#[serde(rename_all = "camelCase")]
pub struct LimitStatus {
    /// Kind and name of the policy.
    pub policy: String,
    /// The service it is for.
    pub service: String,
    /// Labels it is for.
    pub labels: String,
    /// Connections that may be open at once, as configured.
    pub max_connections: u32,
    /// What the kernel counts; none when it does not know the limit.
    pub limit: Option<LimitDump>,
}

/// A policy that ejects failing endpoints.
#[derive(Serialize, Deserialize, Clone, PartialEq, Eq, Debug)]
#[serde(rename_all = "camelCase")]
pub struct OutlierStatus {
    /// Kind and name of the policy.
    pub policy: String,
    /// The service it is for.
    pub service: String,
    /// Labels it is for.
    pub labels: String,
    /// Ejections so far.
    pub ejections: u64,
    /// Times that an endpoint failed as often and stayed because of the policy's share.
    pub kept: u64,
    /// Who is ejected now.
    pub ejected: Vec<EjectedEndpoint>,
}

/// An ejected endpoint.
#[derive(Serialize, Deserialize, Clone, PartialEq, Eq, Debug)]
#[serde(rename_all = "camelCase")]
pub struct EjectedEndpoint {
    /// Where it listens.
    pub address: SocketAddr,
    /// When it is to come back: RFC 3339, UTC.
    pub until: String,
}

/// Connections with one verdict.
#[derive(Serialize, Deserialize, Clone, PartialEq, Eq, Debug)]
#[serde(rename_all = "camelCase")]
pub struct VerdictCount {
    /// Stable name of the verdict.
    pub verdict: String,
    /// Connections.
    pub connections: u64,
}

/// Contents of a map.
#[derive(Serialize, Deserialize, Clone, PartialEq, Eq, Debug)]
#[serde(rename_all = "camelCase")]
pub struct MapDump {
    /// Its name.
    pub map: String,
    /// Entries that fit.
    pub capacity: u32,
    /// Entries in use in the order of their keys, with their fields: numbers or text.
    pub entries: IndexMap<String, IndexMap<String, Value>>,
}

impl From<Hook> for HookStatus {
    fn from(hook: Hook) -> Self {
        Self {
            attached: hook.attached(),
            idle: hook.is_idle,
            hook: hook.hook,
            program: hook.program,
            program_id: hook.program_id,
            link_id: hook.link_id,
        }
    }
}
