//! What kind of object a document is: bare 0.1 rules, the two envelopes, Kubernetes objects and lists of them.
//!
//! It knows names of kinds and of the fields that tell kinds apart, but not what objects mean.

use std::{path::Path, sync::Arc};

use serde::de::DeserializeOwned;
use serde_json::Value;

use super::{
    Document, Documents, decode,
    kubernetes::{self, Text, Written, written},
    object::{self, DEFAULT_NAMESPACE, Declared, ObjectKey},
    rules_v1alpha1::RuleKind,
    source::{Position, Source},
    yaml,
};
use crate::finding::{Code, Finding, Place, codes};

mod registry;

const NETWORKING_GROUP: &str = "networking.istio.io/";
const RULES_GROUP: &str = "config.istio.io/";

/// Fields of which one makes a bare document a policy. `tags` at the top is a policy's too: a rule has them below
/// `route`.
const POLICY_FIELDS: [&str; 6] = [
    "tags",
    "loadBalancing",
    "load_balancing",
    "circuitBreaker",
    "circuit_breaker",
    "policy",
];

/// Fields that only a bare rule has at the top, so that one without a destination is told what it lacks.
const RULE_FIELDS: [&str; 6] = [
    "route",
    "match",
    "precedence",
    "httpReqTimeout",
    "httpReqRetries",
    "httpFault",
];

/// Adds the objects of one document.
pub(super) fn add(documents: &mut Documents, source: &Source) {
    let mut reader = Reader {
        documents,
        position: Position::of(source),
    };
    reader.source(source);
}

/// Reads one document.
struct Reader<'d> {
    documents: &'d mut Documents,
    position: Position,
}

impl Reader<'_> {
    fn source(&mut self, source: &Source) {
        let text = source.text();
        let parsed = match yaml::plain(&text) {
            Some(node) if self.registry(&node, None) => return,
            Some(node) => Ok(Value::from(&node)),
            None => yaml::whole(&text, source.first_line()),
        };
        match parsed {
            Ok(Value::Null) => {}
            Ok(tree) => self.tree(tree),
            Err(fault) => {
                let repeated = fault
                    .is_repeated_key
                    .then(|| source.repeated_key_line())
                    .flatten();
                let line = repeated.or(fault.line);
                let place = Place {
                    file: source.file().clone(),
                    line: line.unwrap_or_else(|| self.position.line()),
                    field: String::new(),
                };
                let hint = "";
                self.documents
                    .findings
                    .push(Finding::new(&codes::SYNTAX, place, fault.message, hint));
            }
        }
    }

    /// An item of a list. Those of `PodList` and the like do not repeat their kind.
    fn item(&mut self, mut item: Value, of: Option<(&str, &str)>) {
        if let (Some(map), Some((group, kind))) = (item.as_object_mut(), of) {
            map.entry("apiVersion").or_insert_with(|| group.into());
            map.entry("kind").or_insert_with(|| kind.into());
        }
        self.tree(item);
    }

    fn tree(&mut self, tree: Value) {
        let text = |key: &str| tree.get(key).and_then(Value::as_str);
        match (text("apiVersion"), text("kind"), text("type")) {
            (Some(group), Some(kind), _) => {
                let (group, kind) = (group.to_owned(), kind.to_owned());
                self.versioned(tree, &group, &kind);
            }
            (_, _, Some(kind)) => {
                let kind = kind.to_owned();
                self.enveloped(tree, &kind);
            }
            _ if is_bare(&tree) => self.bare(tree),
            _ => self.report(
                &codes::UNKNOWN_KIND,
                "",
                "this is neither a rule nor a Kubernetes object",
                "a rule has `destination`; or `type`, `name` and `spec`; or `apiVersion`, `kind`, `metadata` and `spec`",
            ),
        }
    }

    /// `apiVersion`, `kind`, `metadata`, `spec`.
    fn versioned(&mut self, mut tree: Value, group: &str, kind: &str) {
        if group.starts_with(RULES_GROUP) {
            return self.versioned_rule(tree, kind);
        }
        let name = tree.pointer("/metadata/name").and_then(Value::as_str);
        let object = name.map(|name| format!("{kind} {name}").into());
        self.position.set_object(object);
        if group.starts_with(NETWORKING_GROUP) {
            let message = format!("{kind} of the networking API is not supported yet");
            let hint = "write it as a 0.1 route rule or destination policy for now";
            return self.report(&codes::NOT_SUPPORTED_YET, "kind", message, hint);
        }
        if let Some(of) = kind.strip_suffix("List").filter(|_| tree.get("items").is_some()) {
            return self.list(&mut tree, group, of);
        }
        match (group, kind) {
            ("v1", "Service") => {
                let service = self.kubernetes::<written::Service>("service", tree);
                self.documents.services.extend(service);
            }
            ("v1", "Pod") => {
                let pod = self.kubernetes::<written::Pod>("pod", tree);
                self.documents.pods.extend(pod);
            }
            ("v1", "Secret") => {
                let secret = self.secret(tree);
                self.documents.secrets.extend(secret);
            }
            ("discovery.k8s.io/v1", "EndpointSlice") => {
                let slice = self.kubernetes::<written::EndpointSlice>("endpointslice", tree);
                self.documents.endpoint_slices.extend(slice);
            }
            _ => self.report(
                &codes::IGNORED_KIND,
                "kind",
                format!("{kind} ({group}) was skipped: routing does not read it"),
                "",
            ),
        }
    }

    /// The items of a `List`, or of a `PodList` and the like, whose items do not repeat their kind.
    fn list(&mut self, tree: &mut Value, group: &str, of: &str) {
        let items = match tree.get_mut("items").map(Value::take) {
            Some(Value::Array(items)) => items,
            // An empty list of the API's own types.
            Some(Value::Null) => return,
            _ => {
                return self.report(
                    &codes::WRONG_TYPE,
                    "items",
                    "the items of a list are not a list",
                    "",
                );
            }
        };
        if self.position.item().is_some() {
            return self.report(
                &codes::UNKNOWN_KIND,
                "kind",
                "a list inside a list is not read",
                "",
            );
        }
        let of = Some((group, of)).filter(|(_, of)| !of.is_empty());
        for (index, item) in (0..).zip(items) {
            self.position.set_item(Some(index));
            self.position.set_object(None);
            self.position.in_spec = false;
            self.item(item, of);
        }
        self.position.set_item(None);
    }

    fn kubernetes<W: Written>(&mut self, kind: &str, mut tree: Value) -> Option<Document<W::Kept>> {
        let metadata = tree.get("metadata").cloned().unwrap_or_default();
        let (namespace, name) = self.identify(kind, &metadata)?;
        match decode::decode::<W>(&mut tree, &self.position) {
            Ok(written) => Some(self.keep(written, namespace, name)),
            Err(findings) => {
                self.documents.findings.extend(findings);
                None
            }
        }
    }

    /// A secret: what is wrong with it is said without showing what it holds.
    fn secret(&mut self, tree: Value) -> Option<Document<kubernetes::Secret>> {
        let known = self.documents.findings.len();
        let secret = self.kubernetes::<kubernetes::Secret>("secret", tree);
        let about_values = |finding: &&mut Finding| finding.code == codes::WRONG_TYPE.name;
        for finding in self.documents.findings[known..].iter_mut().filter(about_values) {
            "the value is not of the type that a Secret has here".clone_into(&mut finding.message);
            "values are texts, below `data` in Base64".clone_into(&mut finding.hint);
        }
        secret
    }

    /// Namespace and name out of `metadata`; the position learns the object's name.
    fn identify(&mut self, kind: &str, metadata: &Value) -> Option<(Arc<str>, Arc<str>)> {
        let text = |key: &str| {
            metadata
                .get(key)
                .and_then(Value::as_str)
                .filter(|t| !t.is_empty())
        };
        let Some(name) = text("name") else {
            self.report(
                &codes::MISSING_FIELD,
                "metadata",
                format!("the {kind} has no name"),
                "",
            );
            return None;
        };
        self.name(kind, text("namespace").unwrap_or(DEFAULT_NAMESPACE), name)
    }

    fn name(&mut self, kind: &str, namespace: &str, name: &str) -> Option<(Arc<str>, Arc<str>)> {
        let object = object::called(kind, namespace, name);
        self.position.set_object(Some(object));
        for text in [namespace, name] {
            if !is_name(text) {
                let message = format!("`{text}` is no name");
                let hint =
                    "names consist of lower-case letters, digits, `-` and `.`, and are at most 253 long";
                self.report(&codes::INVALID_NAME, "", message, hint);
                return None;
            }
        }
        Some((Text::new(namespace).shared(), name.into()))
    }

    fn versioned_rule(&mut self, mut tree: Value, kind: &str) {
        let Some(rule_kind) = RuleKind::from_kind(kind) else {
            let hint = "known kinds are RouteRule, DestinationPolicy, IngressRule and EgressRule";
            let message = format!("there is no kind {kind}");
            return self.report(&codes::UNKNOWN_KIND, "kind", message, hint);
        };
        let metadata = tree.get("metadata").cloned().unwrap_or_default();
        if let Some(names) = self.identify(rule_kind.name(), &metadata) {
            self.spec(rule_kind, names, &mut tree);
        }
    }

    /// `type`, `name`, `spec`.
    fn enveloped(&mut self, mut tree: Value, kind: &str) {
        let Some(rule_kind) = RuleKind::from_type(kind) else {
            let hint = "known types are route-rule, destination-policy, ingress-rule and egress-rule";
            let message = format!("there is no type {kind}");
            return self.report(&codes::UNKNOWN_KIND, "type", message, hint);
        };
        let Some(name) = tree.get("name").and_then(Value::as_str).map(str::to_owned) else {
            let message = format!("the {} has no name", rule_kind.name());
            return self.report(
                &codes::MISSING_FIELD,
                "name",
                message,
                "add `name:` beside `type:`",
            );
        };
        // `istioctl get -o yaml` wrote the namespace into the envelope.
        let namespace = tree
            .get("namespace")
            .map_or(Some(DEFAULT_NAMESPACE), Value::as_str);
        let Some(namespace) = namespace.map(str::to_owned) else {
            let hint = "quote it";
            return self.report(&codes::WRONG_TYPE, "namespace", "a namespace is text", hint);
        };
        let Some(names) = self.name(rule_kind.name(), &namespace, &name) else {
            return;
        };
        let unknown: Vec<_> = tree
            .as_object()
            .into_iter()
            .flat_map(|map| map.keys())
            .filter(|key| !["type", "name", "namespace", "spec"].contains(&key.as_str()))
            .cloned()
            .collect();
        for key in unknown {
            let message = format!("there is no field `{key}` beside `type`");
            let hint = "the rule's own fields belong below `spec`";
            self.report(&codes::UNKNOWN_FIELD, &key, message, hint);
        }
        self.spec(rule_kind, names, &mut tree);
    }

    fn spec(&mut self, kind: RuleKind, names: (Arc<str>, Arc<str>), tree: &mut Value) {
        self.declare(kind, &names, true);
        let Some(mut spec) = tree.get_mut("spec").map(Value::take) else {
            let message = format!("the {} has no `spec`", kind.name());
            return self.report(&codes::MISSING_FIELD, "spec", message, "");
        };
        self.position.in_spec = true;
        self.rule(kind, names, &mut spec);
    }

    /// The fields of a rule or policy at the top of the document.
    fn bare(&mut self, mut tree: Value) {
        let is_policy = POLICY_FIELDS.iter().any(|field| tree.get(field).is_some());
        let kind = if is_policy {
            RuleKind::DestinationPolicy
        } else {
            RuleKind::RouteRule
        };
        let stem = Path::new(self.position.file().as_ref())
            .file_stem()
            .map_or_else(String::new, |stem| stem.to_string_lossy().to_lowercase());
        let stem: String = stem
            .chars()
            .map(|c| {
                if c.is_ascii_alphanumeric() || c == '.' {
                    c
                } else {
                    '-'
                }
            })
            .collect();
        let number = self.position.source().number() + 1;
        let name = format!("{}-{number}", stem.trim_matches(['-', '.']));
        let name = name.trim_start_matches('-').to_owned();
        if let Some(names) = self.name(kind.name(), DEFAULT_NAMESPACE, &name) {
            self.declare(kind, &names, false);
            self.rule(kind, names, &mut tree);
        }
    }

    /// Records that there is an object of this name, whatever its fields hold.
    fn declare(&mut self, kind: RuleKind, (namespace, name): &(Arc<str>, Arc<str>), in_spec: bool) {
        let key = ObjectKey {
            kind,
            namespace: namespace.clone(),
            name: name.clone(),
        };
        let mut position = self.position.clone();
        position.in_spec = in_spec;
        self.documents.declared.push(Declared { key, position });
    }

    fn rule(&mut self, kind: RuleKind, names: (Arc<str>, Arc<str>), spec: &mut Value) {
        let findings = match kind {
            RuleKind::RouteRule => self
                .decoded(names, spec)
                .map(|d| self.documents.route_rules.push(d)),
            RuleKind::DestinationPolicy => self
                .decoded(names, spec)
                .map(|d| self.documents.destination_policies.push(d)),
            RuleKind::IngressRule => self
                .decoded(names, spec)
                .map(|d| self.documents.ingress_rules.push(d)),
            RuleKind::EgressRule => self
                .decoded(names, spec)
                .map(|d| self.documents.egress_rules.push(d)),
        };
        if let Err(findings) = findings {
            self.documents.findings.extend(findings);
        }
    }

    fn decoded<T: DeserializeOwned>(
        &self,
        (namespace, name): (Arc<str>, Arc<str>),
        spec: &mut Value,
    ) -> Result<Document<T>, Vec<Finding>> {
        let body = decode::decode(spec, &self.position)?;
        Ok(Document {
            namespace,
            name,
            body,
            position: self.position.clone(),
        })
    }

    fn report(&mut self, code: &Code, field: &str, message: impl Into<String>, hint: &str) {
        let finding = self.position.finding(code, field, message, hint);
        self.documents.findings.push(finding);
    }
}

fn is_bare(tree: &Value) -> bool {
    let has = |field: &&str| tree.get(field).is_some();
    has(&"destination") || RULE_FIELDS.iter().any(has) || POLICY_FIELDS.iter().any(has)
}

/// A DNS-1123 name: labels of lower-case letters, digits and inner hyphens, joined by dots.
fn is_name(name: &str) -> bool {
    let is_label = |label: &str| {
        !label.is_empty()
            && label.len() <= 253
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label
                .bytes()
                .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
    };
    name.len() <= 253 && name.split('.').all(is_label)
}
