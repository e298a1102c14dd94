//! What the admin address answers, as data: the types that are written as JSON and that the command line reads back.
//!
//! Nothing but these types, the configuration's documents and findings is ever serialised. They know no behaviour.

mod explanation;
mod gateways;
mod outlier;
mod requests;
pub(super) mod snapshot;
mod status;

pub use explanation::{Asked, Decision, Explanation, KernelSide, KernelSubset, Outcome, Step, TargetOutcome};
pub use gateways::{CertificateDump, GatewayDump, GatewayRuleDump, GatewayStatus, IngressSide};
pub use outlier::OutlierDump;
pub use requests::{RequestLimitsDump, RequestStatus, RequestUseDump};
pub use snapshot::{PolicyDump, PortDump, RuleDump, SnapshotDump, SubsetDump, TargetDump, WorkloadDump};
pub use status::{
    ConfigStatus, EjectedEndpoint, HookStatus, LimitStatus, MapDump, OutlierStatus, Problem, ServiceStatus,
    Status, VerdictCount,
};

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

/// An endpoint with its connections from this node, where they are known.
#[derive(Serialize, Deserialize, Clone, PartialEq, Eq, Debug)]
#[serde(rename_all = "camelCase")]
pub struct EndpointDump {
    /// Where it listens.
    pub address: SocketAddr,
    /// `namespace/name` of the workload behind it.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub workload: Option<String>,
    /// Connections that are open now, where they are counted.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub active: Option<u64>,
    /// Connections made so far.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub connects: Option<u64>,
    /// Until when it is ejected: RFC 3339, UTC.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub ejected_until: Option<String>,
}

/// A connection limit and its use.
#[derive(Serialize, Deserialize, Clone, Copy, PartialEq, Eq, Debug)]
#[serde(rename_all = "camelCase")]
pub struct LimitDump {
    /// Connections that may be open at once.
    pub max: u64,
    /// Connections that are open now.
    pub active: u64,
    /// Connections refused so far.
    pub refused: u64,
}

impl From<crate::observe::LimitUse> for LimitDump {
    fn from(limit: crate::observe::LimitUse) -> Self {
        Self {
            max: limit.max,
            active: limit.active,
            refused: limit.refused,
        }
    }
}
