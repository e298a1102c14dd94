//! Kubernetes objects as `kubectl get -o yaml` prints them: the fields that routing reads. All others are ignored,
//! as the objects belong to Kubernetes and carry much that is no business of routing.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer};

pub use secret::{Secret, SecretFields, Sensitive};
pub(super) use shared::forget_shared;
pub use shared::{Pairs, Text};

mod secret;
mod shared;

/// What every object carries.
#[derive(PartialEq, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Metadata {
    /// Name.
    pub name: Option<Box<str>>,
    /// Namespace; `default`.
    pub namespace: Option<Text>,
    /// Unique id.
    pub uid: Option<Box<str>>,
    /// Labels.
    #[serde(deserialize_with = "null_as_default")]
    pub labels: Pairs,
    /// Annotations that router reads.
    #[serde(deserialize_with = "null_as_default")]
    pub annotations: Annotations,
    /// When deletion was asked for; such a pod ends soon.
    pub deletion_timestamp: Option<Text>,
}

/// Annotations that router reads.
#[derive(PartialEq, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Annotations {
    /// Cgroup of the workload, relative to the root of the cgroup-v2 tree, for workloads without a pod uid.
    #[serde(rename = "router/cgroup")]
    pub cgroup: Option<Box<str>>,
}

/// A service.
#[derive(PartialEq, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Service {
    /// Name and labels.
    pub metadata: Metadata,
    /// What is wanted.
    #[serde(deserialize_with = "null_as_default")]
    pub spec: ServiceSpec,
}

/// Specification of a service.
#[derive(PartialEq, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ServiceSpec {
    /// `ClusterIP`, `NodePort`, `LoadBalancer`, `ExternalName`.
    pub r#type: Option<String>,
    /// First address, or `None`.
    #[serde(rename = "clusterIP")]
    pub cluster_ip: Option<String>,
    /// All addresses.
    #[serde(rename = "clusterIPs", deserialize_with = "null_as_default")]
    pub cluster_ips: Vec<String>,
    /// Labels of its pods.
    #[serde(deserialize_with = "null_as_default")]
    pub selector: BTreeMap<String, String>,
    /// Ports.
    #[serde(deserialize_with = "null_as_default")]
    pub ports: Vec<ServicePort>,
}

/// A port of a service.
#[derive(PartialEq, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ServicePort {
    /// Name; needed when there are several.
    pub name: Option<String>,
    /// Port that clients connect to.
    pub port: u16,
    /// Port of the pods; the same.
    pub target_port: Option<PortReference>,
    /// `TCP`, `UDP` or `SCTP`; `TCP`.
    pub protocol: Option<String>,
    /// What is spoken.
    pub app_protocol: Option<String>,
}

/// A container's port by number or name.
#[derive(Clone, PartialEq, Eq, Debug, Deserialize)]
#[serde(untagged, expecting = "a port is wanted, by number or by name")]
pub enum PortReference {
    /// By number.
    Number(u16),
    /// By the name that the container gives it.
    Name(String),
}

/// Endpoints of a service.
#[derive(PartialEq, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct EndpointSlice {
    /// The label `kubernetes.io/service-name` names the service.
    pub metadata: Metadata,
    /// `IPv4`, `IPv6` or `FQDN`.
    pub address_type: Option<Text>,
    /// Endpoints.
    #[serde(deserialize_with = "null_as_default")]
    pub endpoints: Vec<SliceEndpoint>,
    /// Ports of all of them.
    #[serde(deserialize_with = "null_as_default")]
    pub ports: Vec<SlicePort>,
}

/// One endpoint.
#[derive(PartialEq, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct SliceEndpoint {
    /// Addresses, interchangeable; the first one is used, as kube-proxy does.
    #[serde(deserialize_with = "null_as_default")]
    pub addresses: Vec<Box<str>>,
    /// State.
    #[serde(deserialize_with = "null_as_default")]
    pub conditions: EndpointConditions,
    /// The pod behind it.
    pub target_ref: Option<ObjectReference>,
}

/// State of an endpoint.
#[derive(PartialEq, Debug, Default, Deserialize)]
#[serde(default)]
pub struct EndpointConditions {
    /// False: gets no connections. Unknown counts as true.
    pub ready: Option<bool>,
}

/// A reference to an object.
#[derive(PartialEq, Debug, Default, Deserialize)]
#[serde(default)]
pub struct ObjectReference {
    /// `Pod`.
    pub kind: Option<Text>,
    /// Name.
    pub name: Option<Box<str>>,
    /// Namespace; the referrer's.
    pub namespace: Option<Text>,
}

/// A port of the endpoints.
#[derive(PartialEq, Debug, Default, Deserialize)]
#[serde(default)]
pub struct SlicePort {
    /// Name of the service's port.
    pub name: Option<Text>,
    /// Port number of the endpoints.
    pub port: Option<u16>,
    /// `TCP`, `UDP` or `SCTP`; `TCP`.
    pub protocol: Option<Text>,
}

/// A pod.
#[derive(PartialEq, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Pod {
    /// Name, labels, uid.
    pub metadata: Metadata,
    /// What is wanted.
    #[serde(deserialize_with = "null_as_default")]
    pub spec: PodSpec,
    /// What is.
    #[serde(deserialize_with = "null_as_default")]
    pub status: PodStatus,
}

/// Specification of a pod.
#[derive(PartialEq, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PodSpec {
    /// Its containers.
    #[serde(deserialize_with = "null_as_default")]
    pub containers: Vec<Container>,
    /// True when it shares the node's addresses.
    pub host_network: bool,
}

/// A container.
#[derive(PartialEq, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Container {
    /// Ports it declares.
    #[serde(deserialize_with = "null_as_default")]
    pub ports: Vec<ContainerPort>,
}

/// A port that a container declares.
#[derive(PartialEq, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ContainerPort {
    /// Name.
    pub name: Option<Text>,
    /// Number.
    pub container_port: u16,
}

/// State of a pod.
#[derive(PartialEq, Debug, Default, Deserialize)]
#[serde(default)]
pub struct PodStatus {
    /// `Pending`, `Running`, `Succeeded`, `Failed`, `Unknown`.
    pub phase: Option<Text>,
    /// First address.
    #[serde(rename = "podIP")]
    pub pod_ip: Option<Box<str>>,
    /// All addresses.
    #[serde(rename = "podIPs", deserialize_with = "null_as_default")]
    pub pod_ips: Vec<PodIp>,
    /// First address of its node.
    #[serde(rename = "hostIP")]
    pub host_ip: Option<Text>,
    /// All addresses of its node.
    #[serde(rename = "hostIPs", deserialize_with = "null_as_default")]
    pub host_ips: Vec<PodIp>,
    /// Conditions.
    #[serde(deserialize_with = "null_as_default")]
    pub conditions: Vec<PodCondition>,
}

/// An address of a pod.
#[derive(PartialEq, Debug, Default, Deserialize)]
#[serde(default)]
pub struct PodIp {
    /// The address.
    pub ip: Option<Box<str>>,
}

/// A condition of a pod.
#[derive(PartialEq, Debug, Default, Deserialize)]
#[serde(default)]
pub struct PodCondition {
    /// `Ready` and others.
    pub r#type: Text,
    /// `True`, `False`, `Unknown`.
    pub status: Text,
}

/// Kubernetes prints absent lists and objects as nothing or as `null`.
fn null_as_default<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Default + Deserialize<'de>,
{
    Option::deserialize(deserializer).map(Option::unwrap_or_default)
}
