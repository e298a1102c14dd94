//! Text → documents: reads YAML files and sorts what they hold by kind, each with its place in the file.
//!
//! Shape is judged here (fields, types, kinds); meaning is judged by [`compile`](crate::compile). It knows neither
//! the rule engine nor the kernel.

mod classify;
mod decode;
mod directory;
pub mod edit;
mod files;
pub mod kubernetes;
mod many;
mod object;
pub mod rules_v1alpha1;
mod source;
mod text;
mod yaml;

use std::{path::Path, sync::Arc};

pub use directory::{Directory, Suspects};
pub use files::{LoadLimits, STANDARD_INPUT, read, read_directory};
pub use many::Many;
pub use object::{DEFAULT_NAMESPACE, Declared, Kind, ObjectKey};
pub use source::Position;
pub use yaml::to_yaml;

use crate::finding::{Code, Finding};

/// Everything that was read, by kind.
#[derive(Debug, Default)]
pub struct Documents {
    /// Route rules of the 0.1 language.
    pub route_rules: Many<Document<rules_v1alpha1::RouteRule>>,
    /// Destination policies of the 0.1 language.
    pub destination_policies: Many<Document<rules_v1alpha1::DestinationPolicy>>,
    /// Ingress rules of the 0.1 language.
    pub ingress_rules: Many<Document<rules_v1alpha1::IngressRule>>,
    /// Egress rules of the 0.1 language.
    pub egress_rules: Many<Document<rules_v1alpha1::EgressRule>>,
    /// Kubernetes `Service`s.
    pub services: Many<Document<kubernetes::Service>>,
    /// Kubernetes `EndpointSlice`s.
    pub endpoint_slices: Many<Document<kubernetes::EndpointSlice>>,
    /// Kubernetes `Pod`s.
    pub pods: Many<Document<kubernetes::Pod>>,
    /// Kubernetes `Secret`s.
    pub secrets: Many<Document<kubernetes::Secret>>,
    /// Every rule and policy that has a name, in the order of reading, whether or not its fields could be read.
    pub declared: Many<Declared>,
    /// What was wrong with the text; [`compile`](crate::compile::compile) refuses documents with an error in here.
    pub findings: Vec<Finding>,
}

/// One object with its name and place.
#[derive(Debug)]
pub struct Document<T> {
    /// Its namespace; `default` unless it says another.
    pub namespace: Arc<str>,
    /// Its name; bare rules are named after their file and their number in it.
    pub name: Arc<str>,
    /// Its fields.
    pub body: T,
    /// Where it is.
    pub position: Position,
}

impl<T: Kind> Document<T> {
    /// Kind and name: `pod prod/reviews-1`, when the object has them.
    pub fn object(&self) -> Option<Arc<str>> {
        let of_registry = T::WORD.map(|word| object::called(word, &self.namespace, &self.name));
        of_registry.or_else(|| self.position.object().cloned())
    }

    /// A finding about a field of the object.
    pub fn finding(
        &self,
        code: &Code,
        field: &str,
        message: impl Into<String>,
        hint: impl Into<String>,
    ) -> Finding {
        self.position
            .finding(code, field, message, hint)
            .about(self.object())
    }
}

/// Reads the configuration directory `dir`: its `*.yaml`, `*.yml` and `*.json` files in the order of their names,
/// without descending into directories.
///
/// # Errors
///
/// Every finding, when at least one of them is an error.
pub fn load(dir: &Path) -> Result<Documents, Vec<Finding>> {
    let documents = files::read_directory(dir, &LoadLimits::default());
    if documents.findings.iter().any(Finding::is_error) {
        Err(documents.findings)
    } else {
        Ok(documents)
    }
}

impl Documents {
    /// Adds the documents of one file's text. `file` is the name that findings give it.
    pub fn add_text(&mut self, file: &str, text: &str) {
        text::add(self, file, text.to_owned(), &LoadLimits::default());
    }

    /// Adds what another reading found, sharing its objects.
    fn append(&mut self, later: &Self) {
        self.route_rules.append(&later.route_rules);
        self.destination_policies.append(&later.destination_policies);
        self.ingress_rules.append(&later.ingress_rules);
        self.egress_rules.append(&later.egress_rules);
        self.services.append(&later.services);
        self.endpoint_slices.append(&later.endpoint_slices);
        self.pods.append(&later.pods);
        self.secrets.append(&later.secrets);
        self.declared.append(&later.declared);
        self.findings.extend_from_slice(&later.findings);
    }

    /// Lets go of room that is kept for more.
    fn shrink(&mut self) {
        self.route_rules.shrink();
        self.services.shrink();
        self.endpoint_slices.shrink();
        self.pods.shrink();
        self.declared.shrink();
    }

    /// Number of objects.
    pub fn len(&self) -> usize {
        self.route_rules.len()
            + self.destination_policies.len()
            + self.ingress_rules.len()
            + self.egress_rules.len()
            + self.services.len()
            + self.endpoint_slices.len()
            + self.pods.len()
            + self.secrets.len()
    }

    /// True when there is no object.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

#[cfg(test)]
mod tests;
