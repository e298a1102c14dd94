//! The 0.1 rules language as it is written, in all its historical spellings: strings and numbers, no behaviour.
//!
//! Every field may be absent here; [`compile`](crate::compile) says which must be there.

mod destination_policy;
mod egress_rule;
mod ingress_rule;
mod l4_fault;
mod route_rule;
mod scalar;

pub use destination_policy::{CircuitBreaker, DestinationPolicy, SimpleCircuitBreaker, VersionPolicy};
pub use egress_rule::{EgressPort, EgressRule};
pub use ingress_rule::IngressRule;
pub use l4_fault::{L4Fault, Terminate, Throttle};
pub use route_rule::{
    Abort, Address, CorsPolicy, Delay, DestinationWeight, HttpFault, HttpRetry, HttpTimeout, MatchCondition,
    RequestMatch, RouteRule, SimpleRetry, SimpleTimeout, StringMatch, TransportCondition,
};
pub use scalar::{DurationText, IstioService, Labels, LoadBalancing, Opaque, ServiceReference, StatusText};

use super::object::Kind;

impl Kind for RouteRule {}
impl Kind for DestinationPolicy {}
impl Kind for IngressRule {}
impl Kind for EgressRule {}

/// Kinds of objects of the language.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum RuleKind {
    /// `route-rule`, `RouteRule`.
    RouteRule,
    /// `destination-policy`, `DestinationPolicy`.
    DestinationPolicy,
    /// `ingress-rule`, `IngressRule`.
    IngressRule,
    /// `egress-rule`, `EgressRule`.
    EgressRule,
}

impl RuleKind {
    /// The kind's name in the `type` of an envelope.
    pub const fn name(self) -> &'static str {
        match self {
            Self::RouteRule => "route-rule",
            Self::DestinationPolicy => "destination-policy",
            Self::IngressRule => "ingress-rule",
            Self::EgressRule => "egress-rule",
        }
    }

    /// Every kind, in the order in which messages list them.
    pub const ALL: [Self; 4] = [
        Self::DestinationPolicy,
        Self::EgressRule,
        Self::IngressRule,
        Self::RouteRule,
    ];

    /// From the `type` of an envelope, singular or plural.
    pub fn from_type(word: &str) -> Option<Self> {
        match word {
            "route-rule" | "route-rules" => Some(Self::RouteRule),
            "destination-policy" | "destination-policies" => Some(Self::DestinationPolicy),
            "ingress-rule" | "ingress-rules" => Some(Self::IngressRule),
            "egress-rule" | "egress-rules" => Some(Self::EgressRule),
            _ => None,
        }
    }

    /// From the `kind` of a Kubernetes object.
    pub fn from_kind(word: &str) -> Option<Self> {
        match word {
            "RouteRule" => Some(Self::RouteRule),
            "DestinationPolicy" => Some(Self::DestinationPolicy),
            "IngressRule" => Some(Self::IngressRule),
            "EgressRule" => Some(Self::EgressRule),
            _ => None,
        }
    }
}
