//! Kubernetes objects as `kubectl get -o yaml` prints them: the fields that routing reads. All others are ignored,
//! as the objects belong to Kubernetes and carry much that is no business of routing.
//!
//! It does not know what the fields mean, only which of them make a difference.

use std::{fmt, net::IpAddr};

use serde::{
    Deserialize, Deserializer,
    de::{DeserializeOwned, Error, Visitor},
};

use super::{
    Addresses, Details, Kind, Nodes, Pairs, Phase, PortReference, SERVICE_NAME_LABEL, Secret, Text,
    address::{Address, WrittenAddress},
    shared,
};

/// An object as it is written.
pub(in crate::config) trait Written: DeserializeOwned {
    /// What is kept of it.
    type Kept: Kind;

    /// What is kept of an object in `namespace`.
    fn keep(self, namespace: &str) -> Self::Kept;
}

/// What every object carries. Its name and namespace are read before.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Metadata {
    name: Option<AnyText>,
    namespace: Option<AnyText>,
    uid: Option<Box<str>>,
    #[serde(deserialize_with = "null_as_default")]
    labels: Pairs,
    #[serde(deserialize_with = "null_as_default")]
    annotations: Annotations,
    deletion_timestamp: Option<AnyText>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Annotations {
    #[serde(rename = "router/cgroup")]
    cgroup: Option<Box<str>>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
pub(in crate::config) struct Service {
    metadata: Metadata,
    #[serde(deserialize_with = "null_as_default")]
    spec: ServiceSpec,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct ServiceSpec {
    r#type: Option<Text>,
    #[serde(rename = "clusterIP")]
    cluster_ip: Option<WrittenAddress>,
    #[serde(rename = "clusterIPs", deserialize_with = "null_as_default")]
    cluster_ips: Vec<WrittenAddress>,
    #[serde(deserialize_with = "null_as_default")]
    selector: Pairs,
    #[serde(deserialize_with = "null_as_default")]
    ports: Vec<ServicePort>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct ServicePort {
    name: Option<Text>,
    port: u16,
    target_port: Option<WrittenPort>,
    protocol: Option<Text>,
    app_protocol: Option<Text>,
}

#[derive(Deserialize)]
#[serde(untagged, expecting = "a port is wanted, by number or by name")]
enum WrittenPort {
    Number(u16),
    Name(Text),
}

impl Written for Service {
    type Kept = super::Service;

    fn keep(self, _: &str) -> super::Service {
        let ServiceSpec {
            r#type,
            cluster_ip,
            cluster_ips,
            selector,
            ports,
        } = self.spec;
        let port = |port: ServicePort| super::ServicePort {
            name: port.name,
            port: port.port,
            target_port: port.target_port.map(|target| match target {
                WrittenPort::Number(number) => PortReference::Number(number),
                WrittenPort::Name(name) => PortReference::Name(name),
            }),
            protocol: port.protocol,
            app_protocol: port.app_protocol,
        };
        super::Service {
            is_external_name: r#type.as_deref() == Some("ExternalName"),
            cluster_ip: addresses(cluster_ip),
            cluster_ips: addresses(cluster_ips),
            selector,
            ports: ports.into_iter().map(port).collect(),
        }
    }
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(in crate::config) struct EndpointSlice {
    metadata: Metadata,
    address_type: Option<Text>,
    #[serde(deserialize_with = "null_as_default")]
    endpoints: Vec<SliceEndpoint>,
    #[serde(deserialize_with = "null_as_default")]
    ports: Vec<SlicePort>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct SliceEndpoint {
    #[serde(deserialize_with = "null_as_default")]
    addresses: Vec<WrittenAddress>,
    #[serde(deserialize_with = "null_as_default")]
    conditions: EndpointConditions,
    target_ref: Option<ObjectReference>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct EndpointConditions {
    /// Unknown counts as true.
    ready: Option<bool>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct ObjectReference {
    kind: Option<Text>,
    name: Option<Text>,
    /// The referrer's.
    namespace: Option<Text>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct SlicePort {
    name: Option<Text>,
    port: Option<u16>,
    protocol: Option<AnyText>,
}

impl Written for EndpointSlice {
    type Kept = super::EndpointSlice;

    fn keep(self, namespace: &str) -> super::EndpointSlice {
        let mut pods = String::new();
        let mut pod = |target: ObjectReference| {
            let name = target.name.filter(|_| target.kind.as_deref() == Some("Pod"))?;
            let start = u32::try_from(pods.len()).ok()?;
            pods.extend([target.namespace.as_deref().unwrap_or(namespace), "/", &name]);
            Some((start, u32::try_from(pods.len()).ok()?))
        };
        let endpoint = |endpoint: SliceEndpoint| super::SliceEndpoint {
            addresses: addresses(endpoint.addresses),
            pod: endpoint.target_ref.and_then(&mut pod),
            is_ready: endpoint.conditions.ready != Some(false),
        };
        let port = |port: SlicePort| super::SlicePort {
            name: port.name,
            port: port.port,
        };
        super::EndpointSlice {
            service: self.metadata.labels.get(SERVICE_NAME_LABEL).map(Into::into),
            is_named: self.address_type.as_deref() == Some("FQDN"),
            endpoints: self.endpoints.into_iter().map(endpoint).collect(),
            pods: pods.into(),
            ports: self.ports.into_iter().map(port).collect(),
        }
    }
}

#[derive(Default, Deserialize)]
#[serde(default)]
pub(in crate::config) struct Pod {
    metadata: Metadata,
    #[serde(deserialize_with = "null_as_default")]
    spec: PodSpec,
    #[serde(deserialize_with = "null_as_default")]
    status: PodStatus,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct PodSpec {
    #[serde(deserialize_with = "null_as_default")]
    containers: Vec<Container>,
    host_network: bool,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Container {
    #[serde(deserialize_with = "null_as_default")]
    ports: Vec<ContainerPort>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct ContainerPort {
    name: Option<Text>,
    container_port: u16,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct PodStatus {
    phase: Option<Text>,
    #[serde(rename = "podIP")]
    pod_ip: Option<WrittenAddress>,
    #[serde(rename = "podIPs", deserialize_with = "null_as_default")]
    pod_ips: Vec<PodIp>,
    #[serde(rename = "hostIP")]
    host_ip: Option<WrittenAddress>,
    #[serde(rename = "hostIPs", deserialize_with = "null_as_default")]
    host_ips: Vec<PodIp>,
    #[serde(deserialize_with = "null_as_default")]
    conditions: Vec<PodCondition>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct PodIp {
    ip: Option<WrittenAddress>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct PodCondition {
    r#type: Text,
    status: Text,
}

impl Written for Pod {
    type Kept = super::Pod;

    fn keep(self, _: &str) -> super::Pod {
        let Self {
            metadata,
            spec,
            status,
        } = self;
        let mut own: Vec<Address> = Vec::new();
        for WrittenAddress(address) in all(status.pod_ip, status.pod_ips) {
            let is_there = own.contains(&address) || address.as_ref().is_err_and(|text| text.is_empty());
            if !is_there {
                own.push(address);
            }
        }
        let ready = status.conditions.iter().find(|c| &*c.r#type == "Ready");
        super::Pod {
            uid: metadata.uid,
            labels: metadata.labels,
            addresses: own.into_iter().collect(),
            nodes: nodes(status.host_ip, status.host_ips),
            details: details(metadata.annotations.cgroup, spec.containers),
            phase: match status.phase.as_deref() {
                Some("Succeeded" | "Failed") => Phase::Ended,
                Some("Pending") => Phase::Pending,
                _ => Phase::Other,
            },
            ready: ready.map(|condition| &*condition.status == "True"),
            is_ending: metadata.deletion_timestamp.is_some(),
            host_network: spec.host_network,
        }
    }
}

impl Written for Secret {
    type Kept = Self;

    fn keep(self, _: &str) -> Self {
        self
    }
}

fn addresses(written: impl IntoIterator<Item = WrittenAddress>) -> Addresses {
    written
        .into_iter()
        .map(|WrittenAddress(address)| address)
        .collect()
}

/// The first address and all of them, as the API says both.
fn all(first: Option<WrittenAddress>, all: Vec<PodIp>) -> impl Iterator<Item = WrittenAddress> {
    first.into_iter().chain(all.into_iter().filter_map(|ip| ip.ip))
}

fn nodes(first: Option<WrittenAddress>, others: Vec<PodIp>) -> Nodes {
    let mut nodes: Vec<IpAddr> = Vec::new();
    for address in all(first, others).filter_map(|WrittenAddress(address)| address.ok()) {
        if !nodes.contains(&address) {
            nodes.push(address);
        }
    }
    (!nodes.is_empty()).then(|| shared::nodes(&nodes))
}

fn details(cgroup: Option<Box<str>>, containers: Vec<Container>) -> Option<Box<Details>> {
    let ports = containers.into_iter().flat_map(|container| container.ports);
    let named = ports.filter_map(|port| Some((port.name?, port.container_port)));
    let ports: Box<[_]> = named.collect();
    (cgroup.is_some() || !ports.is_empty()).then(|| Box::new(Details { cgroup, ports }))
}

/// A text of which nobody asks what it says.
#[derive(Debug)]
struct AnyText;

impl<'de> Deserialize<'de> for AnyText {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Any;

        impl Visitor<'_> for Any {
            type Value = AnyText;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string")
            }

            fn visit_str<E: Error>(self, _: &str) -> Result<AnyText, E> {
                Ok(AnyText)
            }
        }

        deserializer.deserialize_str(Any)
    }
}

/// Kubernetes prints absent lists and objects as nothing or as `null`.
pub(super) fn null_as_default<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Default + Deserialize<'de>,
{
    Option::deserialize(deserializer).map(Option::unwrap_or_default)
}
