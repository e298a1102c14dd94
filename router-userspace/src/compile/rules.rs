//! 0.1 route rules → rules of the model, one by one. It does not know which services exist.

mod actions;
mod address;
mod condition;
mod cors;
mod faults;
mod headers;
mod impossible;
mod l4_fault;
mod mirror;
mod overrides;
mod transport;

use router_rules::{action::Target, id::ServiceName, labels::Labels, model::Rule, weight::MAX_SLOTS};

use super::{Placed, names, origin};
use crate::{
    config::{
        Document, Many, Position,
        rules_v1alpha1::{self as dsl, RouteRule, ServiceReference},
    },
    finding::{Code, Finding, codes},
};

pub(super) fn compile<'d>(
    documents: &'d Many<Document<RouteRule>>,
    findings: &mut Vec<Finding>,
) -> Vec<Placed<'d, Rule>> {
    let mut rules: Vec<_> = documents
        .iter()
        .filter_map(|document| {
            let mut compiler = Compiler::new(document, findings);
            let item = compiler.rule(&document.body)?;
            Some(Placed {
                item,
                position: &document.position,
            })
        })
        .collect();
    rules.sort_by(|a, b| a.item.origin.cmp(&b.item.origin));
    rules
}

/// Compiles the fields of one object, reporting what is wrong with each.
pub(super) struct Compiler<'c> {
    namespace: &'c str,
    position: &'c Position,
    findings: &'c mut Vec<Finding>,
}

impl<'c> Compiler<'c> {
    pub(super) fn new<T>(document: &'c Document<T>, findings: &'c mut Vec<Finding>) -> Self {
        Self {
            namespace: &document.namespace,
            position: &document.position,
            findings,
        }
    }

    pub(super) const fn namespace(&self) -> &'c str {
        self.namespace
    }

    pub(super) const fn findings(&mut self) -> &mut Vec<Finding> {
        self.findings
    }

    pub(super) const fn position(&self) -> &'c Position {
        self.position
    }

    pub(super) fn report(
        &mut self,
        code: &Code,
        field: &str,
        message: impl Into<String>,
        hint: impl Into<String>,
    ) {
        let finding = self.position.finding(code, field, message, hint);
        self.findings.push(finding);
    }

    fn rule(&mut self, rule: &RouteRule) -> Option<Rule> {
        let destination = self.destination(rule.destination.as_ref());
        let any_of = rule
            .r#match
            .as_ref()
            .map(|m| self.alternatives(m))
            .unwrap_or_default();
        let entries = rule.route.as_deref().unwrap_or_default();
        let targets = self.targets(destination.as_ref(), entries);
        let timeout = rule.http_req_timeout.as_ref().and_then(|t| self.timeout(t));
        let retries = rule.http_req_retries.as_ref().and_then(|r| self.retries(r));
        let fault = rule
            .http_fault
            .as_ref()
            .map(|f| self.fault(f))
            .unwrap_or_default();
        let l4_fault = rule.l4_fault.as_ref().map(|f| self.l4_fault(f));
        self.contradictions(rule);
        let overrides = self.overrides(rule);
        let redirect = rule.redirect.as_ref().and_then(|r| self.redirect(r));
        let rewrite = rule.rewrite.as_ref().map(|r| self.rewrite(r)).unwrap_or_default();
        let append_headers = self.append_headers(rule.append_headers.as_ref());
        let cors = rule.cors_policy.as_ref().map(|cors| self.cors(cors));
        let mirror = rule.mirror.as_ref();
        let mirrors = mirror.and_then(|to| self.mirror(destination.as_ref(), to));
        Some(Rule {
            origin: origin(self.position),
            destination: destination?,
            precedence: rule.precedence.unwrap_or(0),
            any_of,
            targets,
            timeout,
            retries,
            fault,
            l4_fault: l4_fault.unwrap_or_default(),
            overrides,
            redirect,
            rewrite,
            append_headers,
            cors,
            mirrors: mirrors.into_iter().collect(),
            refuses_upgrades: rule.websocket_upgrade == Some(false),
        })
    }

    /// The service that a rule is for. It may not carry labels there.
    pub(super) fn destination(&mut self, reference: Option<&ServiceReference>) -> Option<ServiceName> {
        let Some(given) = reference else {
            let hint = "add `destination:` with the name of a service";
            self.report(
                &codes::MISSING_DESTINATION,
                "",
                "the rule names no destination",
                hint,
            );
            return None;
        };
        let name = self.service("destination", given);
        if labels_of(reference).is_some() {
            let hint = "put them below `route` as `labels`";
            let message = "a rule's own destination has no labels";
            self.report(&codes::CONFLICTING_FIELDS, "destination.labels", message, hint);
        }
        name
    }

    /// The service at `field`. Reports when there is none.
    pub(super) fn service(&mut self, field: &str, reference: &ServiceReference) -> Option<ServiceName> {
        if let ServiceReference::Structured(service) = reference
            && service.service.is_some()
            && (service.name.is_some() || service.namespace.is_some() || service.domain.is_some())
        {
            let hint = "keep either `service` or `name`, `namespace` and `domain`";
            let message = "`service` is the whole name already";
            self.report(
                &codes::CONFLICTING_FIELDS,
                &format!("{field}.service"),
                message,
                hint,
            );
        }
        let name = names::resolve(reference, self.namespace);
        let Some(name) = name else {
            let hint = "name a service, such as reviews.default.svc.cluster.local";
            self.report(
                &codes::MISSING_DESTINATION,
                field,
                "no service is named here",
                hint,
            );
            return None;
        };
        let is_name = name.as_str().len() <= 253 && name.as_str().split('.').all(names::is_part);
        if !is_name && names::external(name.as_str()).is_none() {
            let hint = "name a service, such as reviews.default.svc.cluster.local";
            self.report(
                &codes::INVALID_NAME,
                field,
                format!("`{name}` is no service name"),
                hint,
            );
            return None;
        }
        Some(name)
    }

    fn targets(&mut self, own: Option<&ServiceName>, entries: &[dsl::DestinationWeight]) -> Vec<Target> {
        if entries.len() > MAX_SLOTS {
            let message = format!("{} targets are given, {MAX_SLOTS} fit", entries.len());
            let hint = "nothing was changed; make several rules with different matches";
            self.report(&codes::CAPACITY, "route", message, hint);
        }
        let mut targets = Vec::with_capacity(entries.len());
        for (index, entry) in entries.iter().enumerate() {
            let field = format!("route[{index}]");
            let service = match &entry.destination {
                Some(reference) => self.service(&format!("{field}.destination"), reference),
                None => own.cloned(),
            };
            if entry.tags.is_some() && entry.labels.is_some() {
                let hint = "keep one of `tags` and `labels`";
                let message = "labels are given in two spellings";
                self.report(
                    &codes::CONFLICTING_FIELDS,
                    &format!("{field}.labels"),
                    message,
                    hint,
                );
            }
            if labels_of(entry.destination.as_ref()).is_some() {
                let hint = "put them beside `destination`, not into it";
                let message = "labels of instances belong to the route";
                self.report(
                    &codes::CONFLICTING_FIELDS,
                    &format!("{field}.destination.labels"),
                    message,
                    hint,
                );
            }
            let weight = entry.weight.unwrap_or(100);
            if !(0..=100).contains(&weight) {
                let message = format!("the weight {weight} is not between 0 and 100");
                let hint = "weights are percentages that sum to 100";
                self.report(
                    &codes::WEIGHT_OUT_OF_RANGE,
                    &format!("{field}.weight"),
                    message,
                    hint,
                );
            }
            if let (Some(service), Ok(weight)) = (service, u32::try_from(weight)) {
                let labels = labels(entry.tags.as_ref().or(entry.labels.as_ref()));
                targets.push(Target {
                    service,
                    labels,
                    weight,
                });
            }
        }
        targets
    }
}

/// Labels inside a structured reference.
pub(super) fn labels_of(reference: Option<&ServiceReference>) -> Option<&dsl::Labels> {
    match reference {
        Some(ServiceReference::Structured(service)) => service.labels.as_ref().filter(|l| !l.is_empty()),
        _ => None,
    }
}

pub(super) fn labels(pairs: Option<&dsl::Labels>) -> Labels {
    let shared = pairs.and_then(dsl::Labels::shared);
    shared.cloned().map(Labels::from).unwrap_or_default()
}
