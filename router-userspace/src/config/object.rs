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
        let kind = self.kind.name();
        match &*self.namespace {
            DEFAULT_NAMESPACE => write!(f, "{kind} {}", self.name),
            namespace => write!(f, "{kind} {namespace}/{}", self.name),
        }
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
    /// Its specification as it is written. Null when it has none.
    pub fn spec(&self) -> Value {
        let source: &Source = &self.position.source;
        // It was parsed before: what has a name has a tree.
        let mut tree = yaml::parse(&source.text(), source.first_line()).unwrap_or_default();
        if let Some(item) = self.position.item {
            tree = tree
                .get_mut("items")
                .and_then(|items| items.get_mut(item as usize))
                .map(Value::take)
                .unwrap_or_default();
        }
        if self.position.in_spec {
            tree.get_mut("spec").map(Value::take).unwrap_or_default()
        } else {
            tree
        }
    }
}
