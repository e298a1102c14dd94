//! The answer of `/snapshot`: the compiled configuration.

use std::net::SocketAddr;

use http::HeaderMap;
use indexmap::IndexMap;
use router_rules::{
    Snapshot, explain,
    id::Origin,
    policy::Policy,
    snapshot::{Port, Rule, Subset},
};
use serde::{Deserialize, Serialize};

use super::{EndpointDump, GatewayDump, LimitDump, outlier::OutlierDump, requests::RequestLimitsDump};
use crate::admin::{ejections::Ejections, gateways};
use crate::{admin::explain::words, enforce::breaker::RequestUse};

/// The compiled configuration in force.
#[derive(Serialize, Deserialize, Clone, PartialEq, Debug)]
#[serde(rename_all = "camelCase")]
pub struct SnapshotDump {
    /// Its number.
    pub generation: u64,
    /// Ports of the node with their rules in order.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub gateways: Vec<GatewayDump>,
    /// Service ports with their rules in order.
    pub ports: Vec<PortDump>,
    /// Policies.
    pub policies: Vec<PolicyDump>,
    /// Callers.
    pub workloads: Vec<WorkloadDump>,
}

/// A service port.
#[derive(Serialize, Deserialize, Clone, PartialEq, Debug)]
#[serde(rename_all = "camelCase")]
pub struct PortDump {
    /// The service's name.
    pub service: String,
    /// Port that clients connect to.
    pub port: u16,
    /// What is spoken on it.
    pub protocol: String,
    /// What routes it: `kernel`, `proxy`, or `by-rule`.
    pub routed_by: String,
    /// Addresses at which it is reached.
    pub frontends: Vec<SocketAddr>,
    /// Rules in the order of evaluation.
    pub rules: Vec<RuleDump>,
    /// Where connections and requests go that no rule matches.
    pub unrouted: SubsetDump,
}

/// A rule.
#[derive(Serialize, Deserialize, Clone, PartialEq, Debug)]
#[serde(rename_all = "camelCase")]
pub struct RuleDump {
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
    /// Time for the whole request, in milliseconds.
    pub timeout_ms: u64,
    /// Retries, in words.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub retries: Option<String>,
    /// Faults, in words.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub faults: Vec<String>,
    /// Faults of connections, in words.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub connection_faults: Vec<String>,
    /// Redirect, rewrite, headers, cors, mirror: what the rule changes or answers, in words.
    #[serde(skip_serializing_if = "IndexMap::is_empty", default)]
    pub actions: IndexMap<String, String>,
    /// Where it sends.
    pub targets: Vec<TargetDump>,
}

/// A destination of a rule.
#[derive(Serialize, Deserialize, Clone, PartialEq, Debug)]
#[serde(rename_all = "camelCase")]
pub struct TargetDump {
    /// Weight as written.
    pub weight: u32,
    /// The instances.
    pub subset: SubsetDump,
}

/// Instances with given labels.
#[derive(Serialize, Deserialize, Clone, PartialEq, Debug)]
#[serde(rename_all = "camelCase")]
pub struct SubsetDump {
    /// The service's name.
    pub service: String,
    /// Its port.
    pub port: u16,
    /// Labels that instances carry.
    pub labels: String,
    /// How an endpoint is picked.
    pub load_balancing: String,
    /// Kind and name of the policy in force for callers that none of `source_policies` is for.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub policy: Option<String>,
    /// Kinds and names of the policies for some callers, in the order of choice.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub source_policies: Vec<String>,
    /// The instances.
    pub endpoints: Vec<EndpointDump>,
}

/// A policy.
#[derive(Serialize, Deserialize, Clone, PartialEq, Debug)]
#[serde(rename_all = "camelCase")]
pub struct PolicyDump {
    /// Kind and name.
    pub policy: String,
    /// File it was written in.
    pub file: String,
    /// Its first line.
    pub line: u32,
    /// The service it is for.
    pub service: String,
    /// Labels that a rule must route to explicitly for it to apply.
    pub labels: String,
    /// The callers it is for; none: every caller.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub source: Option<String>,
    /// How an endpoint is picked.
    pub load_balancing: String,
    /// Connections that may be open at once.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub max_connections: Option<u32>,
    /// Ejection of failing endpoints.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub outlier_detection: Option<OutlierDump>,
    /// Limits on requests.
    #[serde(flatten)]
    pub requests: RequestLimitsDump,
    /// The limit's use, where it is known.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub limit: Option<LimitDump>,
}

/// A caller.
#[derive(Serialize, Deserialize, Clone, PartialEq, Debug)]
#[serde(rename_all = "camelCase")]
pub struct WorkloadDump {
    /// `namespace/name`.
    pub workload: String,
    /// Its labels.
    pub labels: String,
    /// Services it is an instance of.
    pub services: Vec<String>,
}

impl SnapshotDump {
    /// Dumps a snapshot with who is ejected.
    pub fn new(snapshot: &Snapshot, ejections: &Ejections) -> Self {
        let seen = (snapshot, ejections);
        let workload = |w: &router_rules::source::Workload| WorkloadDump {
            workload: w.name.to_string(),
            labels: w.labels.to_string(),
            services: w.services.iter().map(ToString::to_string).collect(),
        };
        Self {
            generation: snapshot.generation(),
            gateways: gateways::dump(snapshot),
            ports: snapshot.ports().iter().map(|p| PortDump::new(seen, p)).collect(),
            policies: snapshot
                .policies()
                .iter()
                .map(|p| PolicyDump::new(p, None, None))
                .collect(),
            workloads: snapshot.workloads().iter().map(workload).collect(),
        }
    }
}

/// A snapshot and who is ejected.
type Seen<'s> = (&'s Snapshot, &'s Ejections);

impl PortDump {
    fn new(seen: Seen<'_>, port: &Port) -> Self {
        let (snapshot, _) = seen;
        Self {
            service: port.service().to_string(),
            port: port.number(),
            protocol: port.protocol().name().to_owned(),
            routed_by: words::routed_by(port).to_owned(),
            frontends: port.frontends().to_vec(),
            rules: port
                .rules()
                .iter()
                .map(|&id| RuleDump::new(seen, snapshot.rule(id)))
                .collect(),
            unrouted: SubsetDump::new(seen, snapshot.subset(port.unrouted())),
        }
    }
}

impl RuleDump {
    fn new(seen: Seen<'_>, rule: &Rule) -> Self {
        let (snapshot, _) = seen;
        let Origin { object, file, line } = rule.origin();
        // Of a request that says nothing about itself.
        let unsaid = HeaderMap::new();
        let target = |&(subset, weight): &_| TargetDump {
            weight,
            subset: SubsetDump::new(seen, snapshot.subset(subset)),
        };
        Self {
            rule: object.to_string(),
            file: file.to_string(),
            line: *line,
            precedence: rule.precedence(),
            conditions: explain::conditions(snapshot, rule),
            timeout_ms: milliseconds(rule.timeout()),
            retries: rule
                .retries(&unsaid)
                .filter(|retries| retries.attempts > 0)
                .map(|retries| words::retries(&retries)),
            faults: words::faults(&rule.fault(&unsaid)),
            connection_faults: words::l4_faults(rule.l4_fault()),
            actions: words::changes(snapshot, rule)
                .into_iter()
                .map(|(name, value)| (name.to_owned(), value))
                .collect(),
            targets: rule.targets().iter().map(target).collect(),
        }
    }
}

/// Milliseconds of a duration; what does not fit is the largest number.
pub(crate) fn milliseconds(duration: std::time::Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

impl SubsetDump {
    fn new((snapshot, ejections): Seen<'_>, subset: &Subset) -> Self {
        let endpoint = |e: &router_rules::model::Endpoint| EndpointDump {
            address: e.address,
            workload: e.workload.as_deref().map(str::to_owned),
            active: None,
            connects: None,
            ejected_until: ejections.until(snapshot, subset.policies(), (subset.protocol(), e)),
        };
        Self {
            service: subset.service().to_string(),
            port: subset.port(),
            labels: subset.labels().to_string(),
            load_balancing: subset.load_balancing().name().to_owned(),
            policy: subset
                .policy()
                .map(|id| snapshot.policy(id).origin.object.to_string()),
            source_policies: subset
                .policies()
                .map(|id| snapshot.policy(id))
                .filter(|policy| !policy.source.is_empty())
                .map(|policy| policy.origin.object.to_string())
                .collect(),
            endpoints: subset.endpoints().iter().map(endpoint).collect(),
        }
    }
}

impl PolicyDump {
    /// Dumps a policy with the use of its limits.
    pub fn new(policy: &Policy, limit: Option<LimitDump>, requests: Option<RequestUse>) -> Self {
        Self {
            policy: policy.origin.object.to_string(),
            file: policy.origin.file.to_string(),
            line: policy.origin.line,
            service: policy.destination.to_string(),
            labels: policy.labels.to_string(),
            source: (!policy.source.is_empty()).then(|| policy.source.to_string()),
            load_balancing: policy.load_balancing.name().to_owned(),
            max_connections: policy.max_connections,
            outlier_detection: policy.outlier_detection.as_ref().map(OutlierDump::new),
            requests: RequestLimitsDump::new(&policy.http, requests),
            limit,
        }
    }
}
