//! What only shows when everything is seen together: names that nothing has, rules that cannot be reached, policies
//! that cannot apply. It changes nothing.

mod chosen;
mod l4_fault;
mod order;
mod outlier;
mod transport;

pub(super) use order::hidden;

use std::{
    cell::OnceCell,
    collections::{BTreeMap, HashMap, HashSet},
};

use router_rules::{
    action::Fault,
    external::External,
    id::ServiceName,
    labels::Labels,
    model::{Match, Rule, Service},
    policy::Policy,
    source::{SourceMatch, Workload},
    text::TextMatch,
};

use super::{Placed, registry::Registry};
use crate::finding::{Finding, codes};

/// Unknown names for which the nearest known one is looked up; the search looks at every service.
const MAX_SUGGESTIONS: usize = 32;

/// Looks at the whole configuration.
pub(super) fn review(
    registry: &Registry,
    rules: &[Placed<'_, Rule>],
    policies: &[Placed<'_, Policy>],
    findings: &mut Vec<Finding>,
) {
    order::review(rules, findings);
    never_applied(rules, policies, findings);
    if registry.services.is_empty() {
        if let Some(first) = rules
            .first()
            .map(|r| r.position)
            .or(policies.first().map(|p| p.position))
        {
            let hint = "add Service and EndpointSlice or Pod objects, or check them together with the rules";
            let message = "there are no services: rules were checked only by themselves";
            findings.push(first.finding(&codes::NO_SERVICES, "", message, hint));
        }
        return;
    }
    let mut review = Review {
        services: registry.services.iter().map(|s| (&s.name, s)).collect(),
        externals: &registry.externals,
        callers: Callers::new(&registry.workloads),
        suggestions_left: MAX_SUGGESTIONS,
        findings,
    };
    for rule in rules {
        review.rule(rule);
    }
    for policy in policies {
        review.policy(policy);
    }
    let Review {
        services, findings, ..
    } = review;
    outlier::review(&services, rules, policies, findings);
}

/// Where an object writes its condition on the caller.
#[derive(Clone, Copy)]
struct SourceFields {
    service: &'static str,
    labels: &'static str,
}

impl SourceFields {
    const OF_RULE: Self = Self {
        service: "match.source",
        labels: "match.sourceTags",
    };
    const OF_POLICY: Self = Self {
        service: "source",
        labels: "source.labels",
    };
}

fn has_only_tcp(service: &Service) -> bool {
    !service.ports.is_empty() && !service.ports.iter().any(|port| port.protocol.is_http())
}

struct Review<'r> {
    services: HashMap<&'r ServiceName, &'r Service>,
    externals: &'r BTreeMap<ServiceName, External>,
    callers: Callers<'r>,
    suggestions_left: usize,
    findings: &'r mut Vec<Finding>,
}

impl<'r> Review<'r> {
    fn rule(&mut self, rule: &Placed<'_, Rule>) {
        let Some(destination) = self.exists(rule, "destination", &rule.item.destination) else {
            return;
        };
        for source in rule.item.any_of.iter().filter_map(|m| m.source.as_ref()) {
            self.source(rule, source, SourceFields::OF_RULE);
        }
        for (index, target) in rule.item.targets.iter().enumerate() {
            let field = format!("route[{index}]");
            let is_own = target.service == rule.item.destination;
            let service = if is_own {
                Some(destination)
            } else {
                self.exists(rule, &format!("{field}.destination"), &target.service)
            };
            if let Some(service) = service.filter(|_| target.weight > 0) {
                self.has_endpoints(rule, &format!("{field}.tags"), service, &target.labels);
            }
        }
        if rule.item.targets.is_empty() && rule.item.redirect.is_none() {
            self.has_endpoints(rule, "destination", destination, &Labels::default());
        }
        for mirror in &rule.item.mirrors {
            if let Some(service) = self.exists(rule, "mirror", &mirror.service) {
                self.has_endpoints(rule, "mirror", service, &mirror.labels);
            }
        }
        chosen::review(rule, self.externals, self.findings);
        self.weights(rule);
        self.authority_ports(rule, destination);
        self.needs_http(rule, destination);
        transport::review(rule, destination, self.findings);
        l4_fault::review(rule, destination, self.findings);
    }

    fn policy(&mut self, policy: &Placed<'_, Policy>) {
        self.source(policy, &policy.item.source, SourceFields::OF_POLICY);
        let Some(destination) = self.exists(policy, "destination", &policy.item.destination) else {
            return;
        };
        if !policy.item.http.is_empty() && has_only_tcp(destination) {
            let message = format!(
                "{} has no HTTP port, so limits on requests have no effect",
                destination.name
            );
            let hint = "name the port http-…, http2-… or grpc-…, or set its appProtocol";
            let finding =
                policy
                    .position
                    .finding(&codes::HTTP_MATCH_ON_TCP_PORT, "circuitBreaker", message, hint);
            self.findings.push(finding);
        }
    }

    fn exists<T>(&mut self, placed: &Placed<'_, T>, field: &str, name: &ServiceName) -> Option<&'r Service> {
        if let Some(&service) = self.services.get(name) {
            return Some(service);
        }
        let hint = self.nearest(name);
        let message = format!("there is no service {name}");
        let finding = placed
            .position
            .finding(&codes::UNKNOWN_SERVICE, field, message, hint);
        self.findings.push(finding);
        None
    }

    fn nearest(&mut self, name: &ServiceName) -> String {
        let Some(left) = self.suggestions_left.checked_sub(1) else {
            return String::new();
        };
        self.suggestions_left = left;
        let first_part = |name: &ServiceName| name.as_str().split('.').next().map(str::to_owned);
        let short_name = first_part(name);
        let distance = |other: &ServiceName| {
            // The same name in another namespace is nearer than any misspelling.
            if first_part(other) == short_name {
                0
            } else {
                strsim::damerau_levenshtein(name.as_str(), other.as_str())
            }
        };
        let best = self.services.keys().map(|other| (distance(other), *other)).min();
        match best {
            Some((distance, other)) if distance <= 3 => format!("did you mean {other}?"),
            _ => String::new(),
        }
    }

    fn source<T>(&mut self, placed: &Placed<'_, T>, source: &SourceMatch, fields: SourceFields) {
        if let Some(service) = &source.service
            && self.exists(placed, fields.service, service).is_none()
        {
            return;
        }
        if !source.is_empty() && !self.callers.any(source) {
            let field = if source.labels.is_empty() {
                fields.service
            } else {
                fields.labels
            };
            let message = format!("the caller would have to be {source}, which no workload is now");
            let finding = placed
                .position
                .finding(&codes::NO_MATCHING_SOURCE, field, message, "");
            self.findings.push(finding);
        }
    }

    fn has_endpoints(&mut self, rule: &Placed<'_, Rule>, field: &str, service: &Service, labels: &Labels) {
        let mut endpoints = service.ports.iter().flat_map(|port| &port.endpoints);
        let is_resolved_later = self.externals.get(&service.name) == Some(&External::Resolved);
        if (is_resolved_later && labels.is_empty())
            || endpoints.any(|endpoint| labels.select(&endpoint.labels))
        {
            return;
        }
        let message = if labels.is_empty() {
            format!("{} has no endpoint now", service.name)
        } else {
            format!("no endpoint of {} carries {labels} now", service.name)
        };
        let hint = match field {
            "mirror" => "copies that are sent there are lost",
            _ => "requests that are sent there are refused",
        };
        let finding = rule
            .position
            .finding(&codes::NO_MATCHING_ENDPOINTS, field, message, hint);
        self.findings.push(finding);
    }

    fn weights(&mut self, rule: &Placed<'_, Rule>) {
        let sum: u64 = rule.item.targets.iter().map(|t| u64::from(t.weight)).sum();
        if rule.item.targets.is_empty() || sum == 100 || self.has_bad_weight(rule) {
            return;
        }
        let (message, hint) = if sum == 0 {
            let hint = "everything that the rule matches is refused";
            ("every weight is 0".to_owned(), hint.to_owned())
        } else {
            let shares: Vec<_> = rule
                .item
                .targets
                .iter()
                .map(|t| format!("{:.4}", f64::from(t.weight) * 100.0 / sum as f64))
                .map(|share| format!("{}%", share.trim_end_matches('0').trim_end_matches('.')))
                .collect();
            let hint = format!("they are used in proportion: {}", shares.join(", "));
            (format!("the weights sum to {sum}, not to 100"), hint)
        };
        self.findings
            .push(rule.position.finding(&codes::WEIGHTS_SUM, "route", message, hint));
    }

    /// Hosts that name the destination with a port that it does not have.
    fn authority_ports(&mut self, rule: &Placed<'_, Rule>, destination: &Service) {
        for wanted in rule.item.any_of.iter().filter_map(|m| m.authority.as_ref()) {
            let TextMatch::Exact(authority) = wanted else {
                continue;
            };
            let Some((host, port)) = authority.rsplit_once(':') else {
                continue;
            };
            let Ok(port) = port.parse::<u16>() else { continue };
            let is_known = destination.ports.iter().any(|known| known.number == port);
            if is_known || !is_name_of(host, &destination.name) {
                continue;
            }
            let message = format!(
                "{} has no port {port}, so `{authority}` can never match",
                destination.name
            );
            let hint = "name one of its ports, or none";
            let finding = rule
                .position
                .finding(&codes::UNKNOWN_PORT, "match", message, hint);
            self.findings.push(finding);
        }
    }

    /// True when a weight of the rule was refused, which explains the sum.
    fn has_bad_weight(&self, rule: &Placed<'_, Rule>) -> bool {
        let object = rule.position.object();
        let of_rule = |f: &&Finding| f.object.as_ref() == object && f.place.file == *rule.position.file();
        let mut found = self.findings.iter().filter(of_rule);
        found.any(|f| f.code == codes::WEIGHT_OUT_OF_RANGE.name)
    }

    fn needs_http(&mut self, rule: &Placed<'_, Rule>, destination: &Service) {
        if !has_only_tcp(destination) {
            return;
        }
        let item = &rule.item;
        let needs = [
            (item.any_of.iter().any(Match::is_http), "match", "can never match"),
            (
                item.timeout.is_some() || item.overrides.timeout.is_some(),
                "httpReqTimeout",
                "has no effect",
            ),
            (item.retries.is_some(), "httpReqRetries", "has no effect"),
            (
                item.fault != Fault::default()
                    || item.overrides.delay.is_some()
                    || item.overrides.abort.is_some(),
                "httpFault",
                "has no effect",
            ),
            (item.redirect.is_some(), "redirect", "has no effect"),
            (!item.rewrite.is_empty(), "rewrite", "has no effect"),
            (!item.append_headers.is_empty(), "appendHeaders", "has no effect"),
            (item.cors.is_some(), "corsPolicy", "has no effect"),
            (!item.mirrors.is_empty(), "mirror", "has no effect"),
            (item.refuses_upgrades, "websocketUpgrade", "has no effect"),
        ];
        for (_, field, effect) in needs.into_iter().filter(|need| need.0) {
            let message = format!("{} has no HTTP port, so this {effect}", destination.name);
            let hint = "name the port http-…, http2-… or grpc-…, or set its appProtocol";
            let finding = rule
                .position
                .finding(&codes::HTTP_MATCH_ON_TCP_PORT, field, message, hint);
            self.findings.push(finding);
        }
    }
}

/// True when `host` is a name of the service: the whole one, or its beginning up to a dot.
fn is_name_of(host: &str, service: &ServiceName) -> bool {
    let rest = service.as_str().strip_prefix(host.to_ascii_lowercase().as_str());
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
}

/// Policies whose labels no rule routes to, and policies for the same labels.
fn never_applied(rules: &[Placed<'_, Rule>], policies: &[Placed<'_, Policy>], findings: &mut Vec<Finding>) {
    let mut routed: HashMap<&ServiceName, HashSet<&Labels>> = HashMap::new();
    for target in rules.iter().flat_map(|r| &r.item.targets) {
        routed.entry(&target.service).or_default().insert(&target.labels);
    }
    for mirror in rules.iter().flat_map(|r| &r.item.mirrors) {
        routed.entry(&mirror.service).or_default().insert(&mirror.labels);
    }
    let mut first: HashMap<(&ServiceName, &Labels, &SourceMatch), &Placed<'_, Policy>> = HashMap::new();
    for policy in policies {
        let item = &policy.item;
        let targets = routed.get(&item.destination).into_iter().flatten();
        let applies = || targets.clone().any(|labels| item.labels.select(labels));
        if !item.labels.is_empty() && !applies() {
            let message = format!(
                "no rule routes explicitly to {} of {}",
                item.labels, item.destination
            );
            let hint = "add a route rule with these tags, or remove the tags from the policy";
            findings.push(
                policy
                    .position
                    .finding(&codes::POLICY_NEVER_APPLIES, "tags", message, hint),
            );
        }
        let key = (&item.destination, &item.labels, &item.source);
        if let Some(earlier) = first.get(&key) {
            let message = format!(
                "{} is for the same instances and callers and is the one in force",
                earlier.item.origin
            );
            findings.push(
                policy
                    .position
                    .finding(&codes::POLICY_TIE, "", message, "merge the two policies"),
            );
        } else {
            first.insert(key, policy);
        }
    }
}

/// Workloads, found by their service or by one of their labels. They are many, and indexed when the first rule asks.
struct Callers<'w> {
    workloads: &'w [Workload],
    index: OnceCell<CallerIndex<'w>>,
}

#[derive(Default)]
struct CallerIndex<'w> {
    by_service: HashMap<&'w ServiceName, Vec<&'w Workload>>,
    by_label: HashMap<(&'w str, &'w str), Vec<&'w Workload>>,
}

impl<'w> CallerIndex<'w> {
    fn new(workloads: &'w [Workload]) -> Self {
        let mut index = Self::default();
        for workload in workloads {
            for service in workload.services.iter() {
                index.by_service.entry(service).or_default().push(workload);
            }
            for pair in workload.labels.iter() {
                index.by_label.entry(pair).or_default().push(workload);
            }
        }
        index
    }
}

impl<'w> Callers<'w> {
    const fn new(workloads: &'w [Workload]) -> Self {
        Self {
            workloads,
            index: OnceCell::new(),
        }
    }

    fn any(&self, source: &SourceMatch) -> bool {
        let index = self.index.get_or_init(|| CallerIndex::new(self.workloads));
        let candidates = match &source.service {
            Some(service) => index.by_service.get(service),
            None => {
                let carriers = source.labels.iter().map(|pair| index.by_label.get(&pair));
                carriers.min_by_key(|found| found.map_or(0, Vec::len)).flatten()
            }
        };
        candidates
            .into_iter()
            .flatten()
            .any(|workload| source.matches(workload))
    }
}
