//! Sound objects of the registry, read straight into their types: there are many more of them than of rules.
//!
//! It reports nothing: what has a fault is left to whoever looks at the whole tree.

use serde::de::DeserializeOwned;
use serde_json::Value;

use super::{Reader, is_name};
use crate::config::{
    Document,
    kubernetes::{self, Metadata},
    object::DEFAULT_NAMESPACE,
    yaml::Node,
};

impl Reader<'_> {
    /// Reads an object of the registry, or a list of them, straight into its type: they are many. False, and nothing
    /// is read or reported, when it is something else or has a fault; then its [`Value`] is looked at.
    ///
    /// `of` is the group and kind of a list's items, which do not repeat them.
    pub(super) fn registry<'a>(&mut self, node: &Node<'a>, of: Option<(&'a str, &'a str)>) -> bool {
        let text = |key: &str, of: Option<&'a str>| node.get(key).map_or(of, Node::as_text);
        let group = text("apiVersion", of.map(|(group, _)| group));
        let kind = text("kind", of.map(|(_, kind)| kind));
        let (Some(group), Some(kind)) = (group, kind) else {
            return false;
        };
        match (group, kind) {
            ("v1", "Service") => {
                let service = self.sound("service", node);
                service
                    .map(|service| self.documents.services.push(service))
                    .is_some()
            }
            ("v1", "Pod") => {
                let pod = self.sound("pod", node);
                pod.map(|pod| self.documents.pods.push(pod)).is_some()
            }
            ("discovery.k8s.io/v1", "EndpointSlice") => {
                let slice = self.sound("endpointslice", node);
                slice
                    .map(|slice| self.documents.endpoint_slices.push(slice))
                    .is_some()
            }
            ("v1" | "discovery.k8s.io/v1", _) => {
                let of = kind.strip_suffix("List").filter(|_| self.position.item.is_none());
                match (of, node.get("items")) {
                    (Some(of), Some(Node::List(items))) => {
                        self.items(items, group, of);
                        true
                    }
                    _ => false,
                }
            }
            _ => false,
        }
    }

    /// The items of a list, as [`Reader::list`] takes them.
    fn items<'a>(&mut self, items: &[Node<'a>], group: &'a str, of: &'a str) {
        let of = Some((group, of)).filter(|(_, of)| !of.is_empty());
        for (index, item) in (0..).zip(items) {
            self.position.item = Some(index);
            self.position.object = None;
            self.position.in_spec = false;
            if !self.registry(item, of) {
                self.item(Value::from(item), of);
            }
        }
        self.position.item = None;
    }

    /// The object that `node` is, when there is nothing to say about it.
    fn sound<T: DeserializeOwned + HasMetadata>(
        &mut self,
        kind: &str,
        node: &Node<'_>,
    ) -> Option<Document<T>> {
        let mut body: T = node.decode()?;
        let metadata = body.metadata();
        let name = metadata.name.as_deref()?;
        let namespace = metadata.namespace.as_deref().filter(|n| !n.is_empty());
        let namespace = namespace.unwrap_or(DEFAULT_NAMESPACE);
        if !is_name(name) || !is_name(namespace) {
            return None;
        }
        let (namespace, name) = self.name(kind, namespace, name)?;
        // The document has them now.
        (body.metadata_mut().name, body.metadata_mut().namespace) = (None, None);
        body.trim();
        Some(Document {
            namespace,
            name,
            body,
            position: self.position.clone(),
        })
    }
}

/// Objects with `metadata`.
pub(super) trait HasMetadata: Trim {
    fn metadata(&self) -> &Metadata;
    fn metadata_mut(&mut self) -> &mut Metadata;
}

/// Objects are kept for as long as the agent runs, and there are many: what says nothing goes.
pub(super) trait Trim {
    fn trim(&mut self);
}

impl Trim for kubernetes::Service {
    fn trim(&mut self) {
        self.spec.ports.shrink_to_fit();
        self.spec.cluster_ips.shrink_to_fit();
    }
}

impl Trim for kubernetes::Secret {
    fn trim(&mut self) {}
}

impl Trim for kubernetes::EndpointSlice {
    fn trim(&mut self) {
        for endpoint in &mut self.endpoints {
            endpoint.addresses.shrink_to_fit();
        }
        self.endpoints.shrink_to_fit();
        self.ports.shrink_to_fit();
    }
}

impl Trim for kubernetes::Pod {
    fn trim(&mut self) {
        let status = &mut self.status;
        if let [only] = &status.pod_ips[..]
            && only.ip == status.pod_ip
        {
            status.pod_ips.clear();
        }
        status.pod_ips.shrink_to_fit();
        status.host_ips.shrink_to_fit();
        // Whether it is ready is the only condition that anybody asks for, and a port the name of which is written.
        status
            .conditions
            .retain(|condition| &*condition.r#type == "Ready");
        status.conditions.shrink_to_fit();
        let containers = &mut self.spec.containers;
        containers.retain(|container| container.ports.iter().any(|port| port.name.is_some()));
        containers.shrink_to_fit();
    }
}

macro_rules! has_metadata {
    ($($kind:ident),+) => {$(
        impl HasMetadata for kubernetes::$kind {
            fn metadata(&self) -> &Metadata {
                &self.metadata
            }

            fn metadata_mut(&mut self) -> &mut Metadata {
                &mut self.metadata
            }
        }
    )+};
}

has_metadata!(Service, EndpointSlice, Pod, Secret);
