//! The internal model: what every language and registry is compiled to, before it is indexed.

use std::{
    cmp::Reverse,
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use http::{HeaderName, HeaderValue};

use crate::{
    action::{Fault, Mirror, Retries, Target},
    connection::{Transport, TransportMatch},
    cors::Cors,
    external::External,
    gateway::Gateway,
    id::{Origin, ServiceName},
    l4_fault::L4Fault,
    labels::Labels,
    overrides::Overrides,
    policy::Policy,
    rewrite::{Redirect, Rewrite},
    source::{SourceMatch, Workload},
    text::TextMatch,
};

/// Everything a snapshot is built from.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Model {
    /// Services with their instances.
    pub services: Vec<Service>,
    /// Callers. [`WorkloadId`](crate::source::WorkloadId)s are indexes of this list.
    pub workloads: Vec<Workload>,
    /// Rules in any order.
    pub rules: Vec<Rule>,
    /// Policies in any order.
    pub policies: Vec<Policy>,
    /// Services that are outside the cluster.
    pub externals: BTreeMap<ServiceName, External>,
    /// Ports of the node at which requests from outside come in, in any order.
    pub gateways: Vec<Gateway>,
    /// Addresses that are known although they may be no service's: of workloads and of nodes.
    pub addresses: Vec<IpAddr>,
}

/// A named destination.
#[derive(Clone, PartialEq, Debug)]
pub struct Service {
    /// Fully qualified name, unique.
    pub name: ServiceName,
    /// Addresses that clients connect to; none for a headless service.
    pub addresses: Vec<IpAddr>,
    /// Its ports.
    pub ports: Vec<Port>,
}

/// A port of a service with the instances behind it.
#[derive(Clone, PartialEq, Debug)]
pub struct Port {
    /// Port that clients connect to.
    pub number: u16,
    /// Its name.
    pub name: Option<String>,
    /// What is spoken on it.
    pub protocol: Protocol,
    /// Instances that may be connected to.
    pub endpoints: Vec<Endpoint>,
}

/// What is spoken on a port.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Protocol {
    /// A byte stream that only rules without HTTP conditions apply to.
    Tcp,
    /// HTTP/1.1 towards the instances.
    Http,
    /// HTTP/2 with prior knowledge towards the instances.
    Http2,
    /// gRPC; as [`Protocol::Http2`].
    Grpc,
    /// Datagrams, routed by the socket they come from; only rules without HTTP conditions apply to them.
    Udp,
}

impl Protocol {
    /// True when HTTP rules apply.
    pub const fn is_http(self) -> bool {
        !matches!(self, Self::Tcp | Self::Udp)
    }

    /// What carries it.
    pub const fn transport(self) -> Transport {
        match self {
            Self::Udp => Transport::Udp,
            Self::Tcp | Self::Http | Self::Http2 | Self::Grpc => Transport::Tcp,
        }
    }

    /// True when instances are spoken to in HTTP/2.
    pub const fn is_http2(self) -> bool {
        matches!(self, Self::Http2 | Self::Grpc)
    }

    /// Name as in a port's `appProtocol`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Http => "http",
            Self::Http2 => "http2",
            Self::Grpc => "grpc",
            Self::Udp => "udp",
        }
    }
}

/// One instance's address and port.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Endpoint {
    /// Where it listens.
    pub address: SocketAddr,
    /// Labels of the workload behind it.
    pub labels: Arc<Labels>,
    /// Name of the workload behind it, when the registry knows it.
    pub workload: Option<Arc<str>>,
}

/// An ordered rule of a destination.
#[derive(Clone, PartialEq, Debug)]
pub struct Rule {
    /// Where it was written.
    pub origin: Origin,
    /// The service whose callers it is for.
    pub destination: ServiceName,
    /// Larger is tried first; ties in the order of the origins' object names.
    pub precedence: i32,
    /// Alternatives, of which one must hold; none: the rule always matches.
    pub any_of: Vec<Match>,
    /// Where matching requests go; none: every instance of the destination. Those after the first
    /// [`MAX_SLOTS`](crate::weight::MAX_SLOTS) are never chosen.
    pub targets: Vec<Target>,
    /// Time for the whole request with its retries; none: [`DEFAULT_TIMEOUT`](crate::action::DEFAULT_TIMEOUT).
    pub timeout: Option<std::time::Duration>,
    /// Retries; none: no retries.
    pub retries: Option<Retries>,
    /// Faults to inject.
    pub fault: Fault,
    /// Faults of the connections that it decides; datagrams have none.
    pub l4_fault: L4Fault,
    /// What requests may say about themselves.
    pub overrides: Overrides,
    /// Answer instead of forwarding.
    pub redirect: Option<Redirect>,
    /// Another path or host towards the endpoint.
    pub rewrite: Rewrite,
    /// Fields added to what is forwarded, beside those of the same name.
    pub append_headers: Vec<(HeaderName, HeaderValue)>,
    /// What pages of other origins may do.
    pub cors: Option<Cors>,
    /// Where copies of requests are sent.
    pub mirrors: Vec<Mirror>,
    /// Requests for another protocol, such as WebSocket, are refused.
    pub refuses_upgrades: bool,
}

/// Place of a rule in the order of evaluation: smaller is tried first. Rules of equal rank keep the order in which
/// the model lists them.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Rank<'r> {
    /// Larger precedences first.
    pub precedence: Reverse<i32>,
    /// Then by the name of the object.
    pub object: &'r str,
}

impl Rule {
    /// Place in the order of evaluation among the rules of the same destination.
    pub fn rank(&self) -> Rank<'_> {
        Rank {
            precedence: Reverse(self.precedence),
            object: &self.origin.object,
        }
    }

    /// A rule that sends every request to every instance of `destination`: the base for one that says more.
    pub fn new(origin: Origin, destination: ServiceName) -> Self {
        Self {
            origin,
            destination,
            precedence: 0,
            any_of: Vec::new(),
            targets: Vec::new(),
            timeout: None,
            retries: None,
            fault: Fault::default(),
            l4_fault: L4Fault::default(),
            overrides: Overrides::default(),
            redirect: None,
            rewrite: Rewrite::default(),
            append_headers: Vec::new(),
            cors: None,
            mirrors: Vec::new(),
            refuses_upgrades: false,
        }
    }
}

/// Conditions that must all hold.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Match {
    /// The caller.
    pub source: Option<SourceMatch>,
    /// The transport and its addresses.
    pub transport: Option<TransportMatch>,
    /// Path without the query.
    pub path: Option<TextMatch>,
    /// Method.
    pub method: Option<TextMatch>,
    /// `http` or `https`.
    pub scheme: Option<TextMatch>,
    /// Host, as the request names it.
    pub authority: Option<TextMatch>,
    /// Headers; the values of a repeated header are joined by commas.
    pub headers: Vec<(HeaderName, TextMatch)>,
}

impl Match {
    /// True when a condition needs a request, so that a TCP connection can never satisfy it.
    pub const fn is_http(&self) -> bool {
        self.path.is_some()
            || self.method.is_some()
            || self.scheme.is_some()
            || self.authority.is_some()
            || !self.headers.is_empty()
    }

    /// True when there is no condition at all.
    pub fn is_empty(&self) -> bool {
        self.source.as_ref().is_none_or(SourceMatch::is_empty) && self.transport.is_none() && !self.is_http()
    }
}
