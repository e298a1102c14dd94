//! Policies of destinations, as data.

use crate::{
    id::{Origin, ServiceName},
    labels::Labels,
};

/// How an endpoint is picked among those of a subset.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub enum LoadBalancing {
    /// In turn.
    #[default]
    RoundRobin,
    /// With equal probability.
    Random,
    /// Of two drawn at random, the one with fewer open connections.
    LeastConn,
}

impl LoadBalancing {
    /// The name that rules use: `ROUND_ROBIN`, `RANDOM`, `LEAST_CONN`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::RoundRobin => "ROUND_ROBIN",
            Self::Random => "RANDOM",
            Self::LeastConn => "LEAST_CONN",
        }
    }
}

/// A destination policy.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Policy {
    /// Where it was written.
    pub origin: Origin,
    /// The service it is for.
    pub destination: ServiceName,
    /// Applies only where a rule routes explicitly to instances with these labels; none: always.
    pub labels: Labels,
    /// Load balancing; none: round robin.
    pub load_balancing: LoadBalancing,
    /// Connections that may be open at once on this node; none: no limit.
    pub max_connections: Option<u32>,
}

impl Policy {
    /// A policy that changes nothing: the base for one that says more.
    pub fn new(origin: Origin, destination: ServiceName) -> Self {
        Self {
            origin,
            destination,
            labels: Labels::default(),
            load_balancing: LoadBalancing::default(),
            max_connections: None,
        }
    }
}

/// Index of a policy in a snapshot.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct PolicyId(pub u32);
