//! What rules and policies are called. It knows neither their fields nor what they mean.

use std::{fmt, sync::Arc};

use serde_json::Value;

use super::{
    rules_v1alpha1::RuleKind,
    source::{Position, Source},
    yaml,
};

/// The namespace of objects that name none.
pub const DEFAULT_NAMESPACE: &str = "default";

/// Kinds of objects.
pub trait Kind {
    /// What findings call an object of a kind whose positions do not say what it is called.
    const WORD: Option<&'static str> = None;
}

/// Kind and name: `route-rule reviews-default`; `route-rule prod/reviews-default` outside the default namespace.
pub(super) fn called(kind: &str, namespace: &str, name: &str) -> Arc<str> {
    let called = match namespace {
        DEFAULT_NAMESPACE => format!("{kind} {name}"),
        namespace => format!("{kind} {namespace}/{name}"),
    };
    called.into()
}

/// What tells a rule or policy from all others.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct ObjectKey {
    /// What it is.
    pub kind: RuleKind,
    /// Its namespace.
    pub namespace: Arc<str>,
    /// Its name, unique in its kind and namespace.
    pub name: Arc<str>,
}

impl fmt::Display for ObjectKey {
    /// `route-rule reviews-default`; `route-rule prod/reviews-default` outside the default namespace.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&called(self.kind.name(), &self.namespace, &self.name))
    }
}

/// A rule or policy that has a name, whether or not its fields could be read.
#[derive(Clone, Debug)]
pub struct Declared {
    /// Its name.
    pub key: ObjectKey,
    /// Where it is.
    pub position: Position,
}

impl Declared {
    /// The same object in `namespace`, unless its text names one.
    #[must_use]
    pub fn in_namespace(mut self, namespace: &str) -> Self {
        if &*self.key.namespace == DEFAULT_NAMESPACE && !self.names_namespace() {
            self.key.namespace = namespace.into();
        }
        self
    }

    /// True when its namespace is not the one that its text says.
    pub(super) fn is_moved(&self) -> bool {
        let written = self.position.object();
        written.is_some_and(|written| **written != *self.key.to_string())
    }

    fn names_namespace(&self) -> bool {
        let tree = self.tree();
        self.position.in_spec
            && (tree.get("namespace").is_some()
                || tree
                    .get("metadata")
                    .is_some_and(|metadata| metadata.get("namespace").is_some()))
    }

    /// The object with what is around its specification.
    fn tree(&self) -> Value {
        let source: Source = self.position.source();
        // It was parsed before: what has a name has a tree.
        let mut tree = yaml::parse(&source.text(), source.first_line()).unwrap_or_default();
        match self.position.item() {
            Some(item) => tree
                .get_mut("items")
                .and_then(|items| items.get_mut(item as usize))
                .map(Value::take)
                .unwrap_or_default(),
            None => tree,
        }
    }

    /// Its specification as it is written. Null when it has none.
    pub fn spec(&self) -> Value {
        let mut tree = self.tree();
        if self.position.in_spec {
            tree.get_mut("spec").map(Value::take).unwrap_or_default()
        } else {
            tree
        }
    }
}
