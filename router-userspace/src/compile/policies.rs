//! 0.1 destination policies → policies of the model. The list layout becomes one policy per entry. It does not know
//! which services exist.

mod limits;
mod outlier;

use std::sync::Arc;

use router_rules::{
    id::{Origin, ServiceName},
    labels::Labels,
    policy::{LoadBalancing, Policy},
    source::SourceMatch,
};

use limits::NO_CONNECTION;

use super::{
    Placed, origin,
    rules::{self, Compiler},
};
use crate::{
    config::{
        Document, Many,
        rules_v1alpha1::{self as dsl, DestinationPolicy},
    },
    finding::{Finding, codes},
};

pub(super) fn compile<'d>(
    documents: &'d Many<Document<DestinationPolicy>>,
    findings: &mut Vec<Finding>,
) -> Vec<Placed<'d, Policy>> {
    let mut policies = Vec::with_capacity(documents.len());
    for document in documents {
        let items = Compiler::new(document, findings).policies(&document.body, &origin(&document.position));
        policies.extend(items.into_iter().map(|item| Placed {
            item,
            position: &document.position,
        }));
    }
    policies.sort_by(|a, b| a.item.origin.cmp(&b.item.origin));
    policies
}

/// What the flat layout and an entry of the list have in common.
struct Entry<'e> {
    /// Path of the entry with a dot behind it; empty for the flat layout.
    prefix: String,
    labels: Labels,
    load_balancing: Option<&'e dsl::LoadBalancing>,
    circuit_breaker: Option<&'e dsl::CircuitBreaker>,
    custom: Option<dsl::Opaque>,
}

impl Compiler<'_> {
    fn policies(&mut self, policy: &DestinationPolicy, origin: &Origin) -> Vec<Policy> {
        let reference = policy.destination.as_ref();
        let Some(reference) = reference else {
            let hint = "add `destination:` with the name of a service";
            self.report(
                &codes::MISSING_DESTINATION,
                "",
                "the policy names no destination",
                hint,
            );
            return Vec::new();
        };
        let destination = self.service("destination", reference);
        let of_destination = rules::labels_of(Some(reference));
        if of_destination.is_some() && policy.tags.is_some() {
            let hint = "keep one of `tags` and `destination.labels`";
            let message = "labels are given in two spellings";
            self.report(&codes::CONFLICTING_FIELDS, "tags", message, hint);
        }
        let source = self.policy_source(policy.source.as_ref());
        let is_flat = policy.tags.is_some()
            || policy.load_balancing.is_some()
            || policy.circuit_breaker.is_some()
            || policy.custom.is_some();
        if policy.policy.is_some() && (is_flat || of_destination.is_some()) {
            let hint = "move everything into the entries of `policy`";
            let message = "the flat layout and the list are mixed";
            self.report(&codes::CONFLICTING_FIELDS, "policy", message, hint);
        }
        let entries = match &policy.policy {
            Some(list) => list
                .iter()
                .enumerate()
                .map(|(i, entry)| listed(i, entry))
                .collect(),
            None => vec![Entry {
                prefix: String::new(),
                labels: rules::labels(policy.tags.as_ref().or(of_destination)),
                load_balancing: policy.load_balancing.as_ref(),
                circuit_breaker: policy.circuit_breaker.as_ref(),
                custom: policy.custom,
            }],
        };
        let mut compiled: Vec<Policy> = Vec::with_capacity(entries.len());
        for entry in entries {
            if compiled.iter().any(|earlier| earlier.labels == entry.labels) {
                let message = format!("an earlier entry is for {} too", entry.labels);
                let field = entry.prefix.trim_end_matches('.');
                self.report(
                    &codes::CONFLICTING_FIELDS,
                    field,
                    message,
                    "merge the two entries",
                );
                continue;
            }
            let policy = self.policy(&entry, destination.as_ref(), entry_origin(origin, &entry));
            compiled.extend(policy.map(|policy| Policy {
                source: source.clone(),
                ..policy
            }));
        }
        compiled
    }

    /// The callers that a policy is for.
    fn policy_source(&mut self, reference: Option<&dsl::ServiceReference>) -> SourceMatch {
        let labels = rules::labels(rules::labels_of(reference));
        // Labels alone name no service, and need none.
        let named = reference.filter(|r| labels.is_empty() || names_service(r));
        SourceMatch {
            service: named.and_then(|reference| self.service("source", reference)),
            labels,
        }
    }

    fn policy(
        &mut self,
        entry: &Entry<'_>,
        destination: Option<&ServiceName>,
        origin: Origin,
    ) -> Option<Policy> {
        self.custom(entry.prefix.trim_end_matches('.'), entry.custom);
        let load_balancing = match entry.load_balancing {
            Some(written) => self.load_balancing(&format!("{}loadBalancing", entry.prefix), written),
            None => Some(LoadBalancing::default()),
        };
        let simple = self.simple_cb(entry);
        let outlier_detection = simple.and_then(|simple| self.outlier_detection(&entry.prefix, simple));
        let max_connections = simple.and_then(|simple| simple.max_connections);
        let max_connections =
            max_connections.and_then(|n| self.limit(entry, "maxConnections", (n, NO_CONNECTION)));
        let http = simple
            .map(|simple| self.http_limits(entry, simple))
            .unwrap_or_default();
        Some(Policy {
            origin,
            destination: destination?.clone(),
            labels: entry.labels.clone(),
            source: SourceMatch::default(),
            load_balancing: load_balancing?,
            max_connections,
            outlier_detection,
            http,
        })
    }

    fn simple_cb<'e>(&mut self, entry: &Entry<'e>) -> Option<&'e dsl::SimpleCircuitBreaker> {
        let breaker = entry.circuit_breaker?;
        let field = format!("{}circuitBreaker", entry.prefix);
        self.custom(&field, breaker.custom);
        if breaker.simple_cb.is_none() && breaker.custom.is_none() {
            self.missing(&field, "simpleCb");
        }
        breaker.simple_cb.as_ref()
    }

    fn load_balancing(&mut self, field: &str, written: &dsl::LoadBalancing) -> Option<LoadBalancing> {
        self.custom(field, written.custom);
        let Some(written) = written.name.as_deref() else {
            if written.custom.is_none() {
                self.missing(field, "name");
            }
            return Some(LoadBalancing::default());
        };
        // Numbers are those of the proto's enum.
        let known = match written {
            "ROUND_ROBIN" | "0" => Some(LoadBalancing::RoundRobin),
            "LEAST_CONN" | "1" => Some(LoadBalancing::LeastConn),
            "RANDOM" | "2" => Some(LoadBalancing::Random),
            _ => None,
        };
        if known.is_none() {
            let message = format!("there is no load balancing `{written}`");
            let hint = "known are ROUND_ROBIN, LEAST_CONN and RANDOM";
            self.report(&codes::INVALID_VALUE, field, message, hint);
        }
        known
    }
}

fn listed(index: usize, entry: &dsl::VersionPolicy) -> Entry<'_> {
    Entry {
        prefix: format!("policy[{index}]."),
        labels: rules::labels(entry.tags.as_ref()),
        load_balancing: entry.load_balancing.as_ref(),
        circuit_breaker: entry.circuit_breaker.as_ref(),
        custom: entry.custom,
    }
}

/// True when a reference says more than labels.
fn names_service(reference: &dsl::ServiceReference) -> bool {
    match reference {
        dsl::ServiceReference::Name(_) => true,
        dsl::ServiceReference::Structured(service) => service.name.is_some() || service.service.is_some(),
    }
}

/// Entries of a list are told apart by their labels, so that an entry keeps its limit's use when others come and go.
fn entry_origin(origin: &Origin, entry: &Entry<'_>) -> Origin {
    if entry.prefix.is_empty() || entry.labels.is_empty() {
        return origin.clone();
    }
    Origin {
        object: Arc::from(format!("{}[{}]", origin.object, entry.labels)),
        ..origin.clone()
    }
}
