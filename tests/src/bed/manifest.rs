//! The registry of a test's node as Kubernetes objects: what `kubectl get -o yaml` would print of its pods and
//! services.

use std::net::IpAddr;

use anyhow::Result;
use serde_json::{Value, json};

use super::node::Pod;

/// A port of a service.
#[derive(Clone, Copy, Debug)]
pub struct ServicePort {
    /// Name; its first word tells the protocol (`http`, `http2`, `grpc`, `tcp`, `udp`).
    pub name: &'static str,
    /// Port that clients connect to.
    pub port: u16,
    /// Port that pods listen on.
    pub target: u16,
}

impl ServicePort {
    fn protocol(&self) -> &'static str {
        if self.name.starts_with("udp") {
            "UDP"
        } else {
            "TCP"
        }
    }
}

/// Objects to be written to a file.
#[derive(Clone, Default, Debug)]
pub struct Manifest(Vec<Value>);

impl Manifest {
    /// No objects.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds Pod objects.
    #[must_use]
    pub fn pods<'a>(mut self, pods: impl IntoIterator<Item = &'a Pod>) -> Self {
        self.0.extend(pods.into_iter().map(pod));
        self
    }

    /// Adds a Service `name` in namespace `default`, reached at `addresses`, and its EndpointSlices.
    #[must_use]
    pub fn service(
        mut self,
        name: &str,
        addresses: &[IpAddr],
        ports: &[ServicePort],
        endpoints: &[&Pod],
    ) -> Self {
        let service_ports: Vec<_> = ports
            .iter()
            .map(
                |p| json!({"name": p.name, "port": p.port, "targetPort": p.target, "protocol": p.protocol()}),
            )
            .collect();
        self.0.push(json!({
            "apiVersion": "v1", "kind": "Service",
            "metadata": {"name": name, "namespace": "default"},
            "spec": {
                "clusterIP": addresses.first(), "clusterIPs": addresses,
                "selector": {"app": name}, "ports": service_ports,
            },
        }));
        for (family, is) in [("IPv4", true), ("IPv6", false)] {
            if addresses.iter().any(|ip| ip.is_ipv4() == is) {
                self.0.push(slice(name, family, ports, endpoints));
            }
        }
        self
    }

    /// The objects as YAML documents.
    ///
    /// # Errors
    ///
    /// None that a test can cause.
    pub fn yaml(&self) -> Result<String> {
        let mut text = String::new();
        for object in &self.0 {
            text.push_str("---\n");
            text.push_str(&serde_yaml::to_string(object)?);
        }
        Ok(text)
    }
}

fn pod(pod: &Pod) -> Value {
    let spec = pod.spec();
    let ips: Vec<_> = spec.addresses.iter().map(|ip| json!({"ip": ip})).collect();
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {
            "name": spec.name, "namespace": "default", "uid": spec.uid, "labels": spec.labels,
        },
        "spec": {"nodeName": "node"},
        "status": {"phase": "Running", "podIP": spec.addresses.first(), "podIPs": ips},
    })
}

fn slice(service: &str, family: &str, ports: &[ServicePort], pods: &[&Pod]) -> Value {
    let ports: Vec<_> = ports
        .iter()
        .map(|p| json!({"name": p.name, "port": p.target, "protocol": p.protocol()}))
        .collect();
    let endpoints: Vec<_> = pods
        .iter()
        .filter_map(|pod| {
            let spec = pod.spec();
            let ip = spec
                .addresses
                .iter()
                .find(|ip| ip.is_ipv4() == (family == "IPv4"))?;
            Some(json!({
                "addresses": [ip], "conditions": {"ready": true}, "nodeName": "node",
                "targetRef": {"kind": "Pod", "name": spec.name, "namespace": "default", "uid": spec.uid},
            }))
        })
        .collect();
    json!({
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
        "metadata": {
            "name": format!("{service}-{}", family.to_lowercase()), "namespace": "default",
            "labels": {"kubernetes.io/service-name": service},
        },
        "addressType": family, "ports": ports, "endpoints": endpoints,
    })
}
