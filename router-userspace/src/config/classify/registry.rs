//! Sound objects of the registry, read straight into their types: there are many more of them than of rules.
//!
//! It reports nothing: what has a fault is left to whoever looks at the whole tree.

use std::sync::Arc;

use serde_json::Value;

use super::{Reader, is_name};
use crate::config::{
    Document,
    kubernetes::{Text, Written, written},
    object::{DEFAULT_NAMESPACE, Kind as _},
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
                let service = self.sound::<written::Service>(node);
                service
                    .map(|service| self.documents.services.push(service))
                    .is_some()
            }
            ("v1", "Pod") => {
                let pod = self.sound::<written::Pod>(node);
                pod.map(|pod| self.documents.pods.push(pod)).is_some()
            }
            ("discovery.k8s.io/v1", "EndpointSlice") => {
                let slice = self.sound::<written::EndpointSlice>(node);
                slice
                    .map(|slice| self.documents.endpoint_slices.push(slice))
                    .is_some()
            }
            ("v1" | "discovery.k8s.io/v1", _) => {
                let of = kind
                    .strip_suffix("List")
                    .filter(|_| self.position.item().is_none());
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
            self.position.set_item(Some(index));
            self.position.set_object(None);
            self.position.in_spec = false;
            if !self.registry(item, of) {
                self.item(Value::from(item), of);
            }
        }
        self.position.set_item(None);
    }

    /// The object that `node` is, when there is nothing to say about it.
    fn sound<W: Written>(&mut self, node: &Node<'_>) -> Option<Document<W::Kept>> {
        let metadata = node.get("metadata")?;
        let name = metadata.get("name")?.as_text()?;
        let namespace = metadata.get("namespace").and_then(Node::as_text);
        let namespace = namespace.filter(|n| !n.is_empty()).unwrap_or(DEFAULT_NAMESPACE);
        if !is_name(name) || !is_name(namespace) {
            return None;
        }
        let written: W = node.decode()?;
        Some(self.keep(written, Text::new(namespace).shared(), name.into()))
    }

    /// The document of an object, without what nobody asks for again: there are many, and they are kept for as long as
    /// the agent runs.
    pub(super) fn keep<W: Written>(
        &self,
        written: W,
        namespace: Arc<str>,
        name: Arc<str>,
    ) -> Document<W::Kept> {
        let mut position = self.position.clone();
        if W::Kept::WORD.is_some() {
            position.set_object(None);
        }
        Document {
            body: written.keep(&namespace),
            namespace,
            name,
            position,
        }
    }
}
