//! Model → snapshot: orders rules, resolves targets to subsets, finds the policy of each subset.

use std::collections::{BTreeSet, HashMap};
use std::net::SocketAddr;

use crate::{
    action::{DEFAULT_TIMEOUT, Target},
    id::ServiceName,
    labels::Labels,
    matcher::Conditions,
    model,
    policy::{LoadBalancing, Policy, PolicyId},
    snapshot::{Port, PortId, Rule, RuleId, Snapshot, Subset, SubsetId},
    source::{SourceId, SourceMatch, Sources, WorkloadId},
    weight::SlotTable,
};

/// Weight of the only target of what names no targets.
const EVERY_INSTANCE_WEIGHT: u32 = 100;

/// Compiles a model.
pub(crate) fn build(model: model::Model, generation: u64) -> Snapshot {
    let conditions = source_conditions(&model.rules);
    let source_ids = conditions.iter().cloned().zip((0..).map(SourceId)).collect();
    let mut builder = Builder {
        services: model.services.iter().map(|s| (&s.name, s)).collect(),
        source_ids,
        subset_ids: HashMap::new(),
        snapshot: Snapshot {
            generation,
            sources: Sources::new(conditions, &model.workloads),
            policies: model.policies,
            workload_by_name: model
                .workloads
                .iter()
                .map(|w| w.name.clone())
                .zip((0..).map(WorkloadId))
                .collect(),
            workloads: model.workloads,
            ..Snapshot::default()
        },
    };
    let rules = ordered_by_destination(&model.rules);
    for service in &model.services {
        let rules = rules.get(&service.name).map_or(&[][..], Vec::as_slice);
        for port in &service.ports {
            builder.port(service, port, rules);
        }
    }
    builder.snapshot
}

fn source_conditions(rules: &[model::Rule]) -> Vec<SourceMatch> {
    let distinct: BTreeSet<_> = rules
        .iter()
        .flat_map(|r| &r.any_of)
        .filter_map(|m| m.source.clone())
        .collect();
    distinct.into_iter().collect()
}

fn ordered_by_destination(rules: &[model::Rule]) -> HashMap<&ServiceName, Vec<&model::Rule>> {
    let mut by_destination: HashMap<_, Vec<_>> = HashMap::new();
    for rule in rules {
        by_destination.entry(&rule.destination).or_default().push(rule);
    }
    for rules in by_destination.values_mut() {
        rules.sort_by_key(|r| (std::cmp::Reverse(r.precedence), r.origin.object.clone()));
    }
    by_destination
}

struct Builder<'m> {
    services: HashMap<&'m ServiceName, &'m model::Service>,
    source_ids: HashMap<SourceMatch, SourceId>,
    /// Subsets are shared between rules: one per service port and labels.
    subset_ids: HashMap<(ServiceName, u16, Labels), SubsetId>,
    snapshot: Snapshot,
}

impl Builder<'_> {
    fn port(&mut self, service: &model::Service, port: &model::Port, rules: &[&model::Rule]) {
        let id = PortId(self.snapshot.ports.len() as u32);
        let frontends: Vec<_> = service
            .addresses
            .iter()
            .map(|&a| SocketAddr::new(a, port.number))
            .collect();
        for frontend in &frontends {
            self.snapshot
                .by_frontend
                .entry((frontend.ip(), frontend.port()))
                .or_insert(id);
        }
        self.snapshot
            .by_name
            .entry((service.name.clone(), port.number))
            .or_insert(id);
        let unrouted = self.subset(&service.name, port, &Labels::default());
        let rules = rules.iter().map(|rule| self.rule(rule, port)).collect();
        self.snapshot.ports.push(Port {
            id,
            service: service.name.clone(),
            number: port.number,
            protocol: port.protocol,
            frontends,
            rules,
            unrouted: (unrouted, EVERY_INSTANCE_WEIGHT),
        });
    }

    fn rule(&mut self, rule: &model::Rule, port: &model::Port) -> RuleId {
        let every_instance = [Target {
            service: rule.destination.clone(),
            labels: Labels::default(),
            weight: EVERY_INSTANCE_WEIGHT,
        }];
        let targets = if rule.targets.is_empty() {
            &every_instance[..]
        } else {
            &rule.targets
        };
        let weights: Vec<u32> = targets.iter().map(|t| t.weight).collect();
        let targets = targets.iter().map(|t| (self.target(t, port), t.weight)).collect();
        let id = RuleId(self.snapshot.rules.len() as u32);
        let any_of = rule.any_of.iter().map(|m| self.conditions(m)).collect();
        self.snapshot.rules.push(Rule {
            id,
            origin: rule.origin.clone(),
            precedence: rule.precedence,
            any_of,
            targets,
            table: SlotTable::new(&weights),
            timeout: rule.timeout.unwrap_or(DEFAULT_TIMEOUT),
            retries: rule.retries,
            fault: rule.fault,
        });
        id
    }

    fn conditions(&self, m: &model::Match) -> Conditions {
        Conditions {
            source: m.source.as_ref().map(|s| self.source_ids[s]),
            path: m.path.clone(),
            method: m.method.clone(),
            scheme: m.scheme.clone(),
            authority: m.authority.clone(),
            headers: m.headers.clone().into(),
        }
    }

    /// The target's subset on the port of its service that corresponds to `port`.
    fn target(&mut self, target: &Target, port: &model::Port) -> SubsetId {
        let absent = model::Port {
            endpoints: Vec::new(),
            ..port.clone()
        };
        let port = self
            .services
            .get(&target.service)
            .and_then(|s| corresponding_port(s, port))
            .unwrap_or(&absent);
        self.subset(&target.service, port, &target.labels)
    }

    fn subset(&mut self, service: &ServiceName, port: &model::Port, labels: &Labels) -> SubsetId {
        let key = (service.clone(), port.number, labels.clone());
        if let Some(&id) = self.subset_ids.get(&key) {
            return id;
        }
        let id = SubsetId(self.snapshot.subsets.len() as u32);
        let policy = policy_for(&self.snapshot.policies, service, labels);
        let load_balancing = policy.map_or(LoadBalancing::default(), |id| {
            self.snapshot.policies[id.0 as usize].load_balancing
        });
        self.snapshot.subsets.push(Subset {
            id,
            service: service.clone(),
            port: port.number,
            protocol: port.protocol,
            labels: labels.clone(),
            policy,
            load_balancing,
            endpoints: port
                .endpoints
                .iter()
                .filter(|e| labels.select(&e.labels))
                .cloned()
                .collect(),
        });
        self.subset_ids.insert(key, id);
        id
    }
}

/// The port of `service` that stands for `port` of another: same number, else same name, else its only one.
fn corresponding_port<'m>(service: &'m model::Service, port: &model::Port) -> Option<&'m model::Port> {
    let by_number = service.ports.iter().find(|p| p.number == port.number);
    let by_name = || {
        port.name
            .as_ref()
            .and_then(|name| service.ports.iter().find(|p| p.name.as_ref() == Some(name)))
    };
    let only = || service.ports.first().filter(|_| service.ports.len() == 1);
    by_number.or_else(by_name).or_else(only)
}

/// The policy of a subset: of those whose labels the subset was asked for with, the one with the most labels; ties
/// in the order of their object names. A policy without labels is for every subset that has none of its own.
fn policy_for(policies: &[Policy], service: &ServiceName, labels: &Labels) -> Option<PolicyId> {
    let applies = |p: &Policy| p.destination == *service && p.labels.select(labels);
    let candidates = policies
        .iter()
        .zip((0..).map(PolicyId))
        .filter(|(p, _)| applies(p));
    candidates
        .min_by_key(|(p, _)| (std::cmp::Reverse(p.labels.len()), p.origin.object.clone()))
        .map(|(_, id)| id)
}
