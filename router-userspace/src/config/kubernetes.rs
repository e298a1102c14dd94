//! Kubernetes objects, as far as routing looks at them: there are many, they are kept for as long as the agent runs, and
//! so each takes as little room as it can.
//!
//! It does not know how they are written ([`written`]).

use std::sync::Arc;

pub use address::{Address, Addresses};
pub use secret::{Secret, SecretFields, Sensitive};
pub(super) use shared::forget_shared;
pub use shared::{Pairs, SharedPairs, Text};
pub(super) use written::Written;

use super::object::Kind;

mod address;
mod secret;
mod shared;
pub(super) mod written;

/// Label of an EndpointSlice that names its service.
pub const SERVICE_NAME_LABEL: &str = "kubernetes.io/service-name";

/// A service.
#[derive(PartialEq, Debug, Default)]
pub struct Service {
    /// Its type is `ExternalName`.
    pub is_external_name: bool,
    /// First address; a text that is none, such as `None`, is kept.
    pub cluster_ip: Addresses,
    /// All addresses.
    pub cluster_ips: Addresses,
    /// Labels of its pods.
    pub selector: Pairs,
    /// Ports.
    pub ports: Box<[ServicePort]>,
}

/// A port of a service.
#[derive(PartialEq, Debug, Default)]
pub struct ServicePort {
    /// Name; needed when there are several.
    pub name: Option<Text>,
    /// Port that clients connect to.
    pub port: u16,
    /// Port of the pods; the same.
    pub target_port: Option<PortReference>,
    /// `TCP`, `UDP` or `SCTP`; `TCP`.
    pub protocol: Option<Text>,
    /// What is spoken.
    pub app_protocol: Option<Text>,
}

/// A container's port by number or name.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum PortReference {
    /// By number.
    Number(u16),
    /// By the name that the container gives it.
    Name(Text),
}

/// Endpoints of a service.
#[derive(PartialEq, Debug, Default)]
pub struct EndpointSlice {
    /// The service's name, as [`SERVICE_NAME_LABEL`] says it.
    pub service: Option<Box<str>>,
    /// Its addresses are host names.
    pub is_named: bool,
    /// Endpoints.
    pub endpoints: Box<[SliceEndpoint]>,
    /// Namespaces and names of the pods behind them, one after the other.
    pub(super) pods: Box<str>,
    /// Ports of all of them.
    pub ports: Box<[SlicePort]>,
}

impl EndpointSlice {
    /// Namespace and name of the pod behind an endpoint of the slice.
    pub fn pod(&self, endpoint: &SliceEndpoint) -> Option<(&str, &str)> {
        let (start, end) = endpoint.pod?;
        self.pods.get(start as usize..end as usize)?.split_once('/')
    }
}

/// One endpoint.
#[derive(PartialEq, Debug, Default)]
pub struct SliceEndpoint {
    /// Addresses, interchangeable; the first one is used, as kube-proxy does.
    pub addresses: Addresses,
    /// Where `namespace/name` of the pod behind it is in [`EndpointSlice::pods`].
    pub(super) pod: Option<(u32, u32)>,
    /// False: gets no connections.
    pub is_ready: bool,
}

/// A port of the endpoints.
#[derive(PartialEq, Debug, Default)]
pub struct SlicePort {
    /// Name of the service's port.
    pub name: Option<Text>,
    /// Port number of the endpoints.
    pub port: Option<u16>,
}

/// A pod.
#[derive(PartialEq, Debug, Default)]
pub struct Pod {
    /// Unique id.
    pub uid: Option<Box<str>>,
    /// Labels.
    pub labels: Pairs,
    /// All addresses, the first one in front, each once.
    pub addresses: Addresses,
    /// Addresses of its node.
    pub nodes: Nodes,
    /// What few pods have.
    pub details: Option<Box<Details>>,
    /// How far it is.
    pub phase: Phase,
    /// Its condition `Ready`, when it says one.
    pub ready: Option<bool>,
    /// Its deletion was asked for: it ends soon.
    pub is_ending: bool,
    /// It shares the node's addresses.
    pub host_network: bool,
}

/// What few pods have.
#[derive(PartialEq, Debug, Default)]
pub struct Details {
    /// Annotation `router/cgroup`: cgroup of the workload, relative to the root of the cgroup-v2 tree, for workloads
    /// without a pod uid.
    pub cgroup: Option<Box<str>>,
    /// Ports of its containers that have names.
    pub ports: Box<[(Text, u16)]>,
}

impl Pod {
    /// Cgroup of the workload, as its annotation says.
    pub fn cgroup(&self) -> Option<&str> {
        self.details.as_ref()?.cgroup.as_deref()
    }

    /// The first of its containers' ports of this name.
    pub fn port(&self, name: &str) -> Option<u16> {
        let ports = &self.details.as_ref()?.ports;
        let found = ports.iter().find(|(known, _)| **known == *name);
        found.map(|(_, port)| *port)
    }
}

/// Addresses of a node, held once by all pods of a file that are on it.
pub type Nodes = Option<Arc<[std::net::IpAddr]>>;

/// How far a pod is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Phase {
    /// `Running`, `Unknown`, or nothing is said.
    #[default]
    Other,
    /// `Pending`.
    Pending,
    /// `Succeeded` or `Failed`: its containers run no more and will not run again.
    Ended,
}

impl Kind for Service {
    const WORD: Option<&'static str> = Some("service");
}

impl Kind for EndpointSlice {
    const WORD: Option<&'static str> = Some("endpointslice");
}

impl Kind for Pod {
    const WORD: Option<&'static str> = Some("pod");
}

/// There are few, and what is said about a certificate is said long after it was read: their positions know.
impl Kind for Secret {}
