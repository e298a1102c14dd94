//! Policies of destinations, as data.

use std::{cmp::Reverse, num::NonZeroU32, time::Duration};

use crate::{
    id::{Origin, ServiceName},
    labels::Labels,
    source::SourceMatch,
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

/// When an endpoint is ejected: kept out of load balancing for a while because it fails. The defaults are those of
/// the 0.1 reference and of Envoy. How it works is [`outlier`](crate::outlier)'s business.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct OutlierDetection {
    /// Failed attempts in a row, 1 and up, after which an endpoint is ejected.
    pub consecutive_errors: u32,
    /// Between two sweeps, in which endpoints come back whose time is over.
    pub interval: Duration,
    /// How long a first ejection lasts at least; the k-th in short order lasts k times as long.
    pub base_ejection: Duration,
    /// Share of a subset's endpoints, 0 to 100, that may be ejected at once.
    pub max_ejection_percent: u32,
}

impl Default for OutlierDetection {
    fn default() -> Self {
        Self {
            consecutive_errors: 5,
            interval: Duration::from_secs(10),
            base_ejection: Duration::from_secs(30),
            max_ejection_percent: 10,
        }
    }
}

/// Most requests that a policy may let wait: each holds its client's connection and some kilobytes.
pub const MAX_PENDING_REQUESTS: u32 = 1_000_000;

/// A destination policy.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Policy {
    /// Where it was written.
    pub origin: Origin,
    /// The service it is for.
    pub destination: ServiceName,
    /// Applies only where a rule routes explicitly to instances with these labels; none: always.
    pub labels: Labels,
    /// Applies only to calls from such callers; empty: to every call.
    pub source: SourceMatch,
    /// Load balancing; none: round robin.
    pub load_balancing: LoadBalancing,
    /// Connections that may be open at once on this node; none: no limit.
    pub max_connections: Option<u32>,
    /// Ejection of failing endpoints; none: they stay.
    pub outlier_detection: Option<OutlierDetection>,
    /// Limits that only the proxy can keep.
    pub http: HttpLimits,
}

/// Limits on requests. Each is the node's, over all threads of its proxy.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct HttpLimits {
    /// Requests that may be with endpoints at once, from their first byte to the last of their responses; none: no
    /// limit.
    pub max_requests: Option<u32>,
    /// Requests that may wait for a connection at once while [`Policy::max_connections`] are open; none: nobody waits,
    /// a request that needs a connection is refused.
    pub max_pending_requests: Option<u32>,
    /// Requests after which an upstream connection is not used again; none: no limit.
    pub max_requests_per_connection: Option<NonZeroU32>,
    /// Retries that may be under way at once; none: the retry budget bounds them.
    pub max_retries: Option<u32>,
}

impl HttpLimits {
    /// True when there is no limit.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// Place of a policy among those of a destination: the smallest that is for the instances and for the caller is in
/// force.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Rank<'p> {
    /// Those for more particular instances first: by the number of labels.
    pub labels: Reverse<usize>,
    /// Then those for more particular callers: by the number of labels, a service counting as one.
    pub source: Reverse<usize>,
    /// Then by the name of the object.
    pub object: &'p str,
}

impl Policy {
    /// Place in the order of choice.
    pub fn rank(&self) -> Rank<'_> {
        let service = usize::from(self.source.service.is_some());
        Rank {
            labels: Reverse(self.labels.len()),
            source: Reverse(self.source.labels.len() + service),
            object: &self.origin.object,
        }
    }

    /// True when it looks at requests, so that those of an HTTP port must pass the proxy even without any rule.
    pub fn looks_at_requests(&self) -> bool {
        self.outlier_detection.is_some() || !self.http.is_empty()
    }

    /// A policy that changes nothing: the base for one that says more.
    pub fn new(origin: Origin, destination: ServiceName) -> Self {
        Self {
            origin,
            destination,
            labels: Labels::default(),
            source: SourceMatch::default(),
            load_balancing: LoadBalancing::default(),
            max_connections: None,
            outlier_detection: None,
            http: HttpLimits::default(),
        }
    }
}

/// Index of a policy in a snapshot.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct PolicyId(pub u32);
