//! Model → snapshot: orders rules, resolves targets to subsets, finds the policy of each subset.

mod elsewhere;
mod gateways;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    net::SocketAddr,
    sync::Arc,
};

use ipnet::IpNet;

use crate::{
    action::{DEFAULT_TIMEOUT, Fraction, Mirror, Target},
    chunks::Chunks,
    cidr::Subnets,
    connection::Transport,
    external::External,
    follow::Users,
    gateway::Gateway,
    id::ServiceName,
    index::RuleIndex,
    labels::Labels,
    matcher::Conditions,
    model,
    policy::{Policy, PolicyId},
    snapshot::{
        PolicyChoice, Port, PortId, Rule, RuleId, Snapshot, Subset, SubsetId, names::WorkloadNames, networks,
    },
    source::{SourceId, SourceMatch, Sources, SubnetsId, Workload},
    weight::SlotTable,
};

/// Weight of the only target of what names no targets.
const EVERY_INSTANCE_WEIGHT: u32 = 100;

static NO_LABELS: Labels = Labels::new();

/// Compiles a model.
pub(crate) fn build(model: model::Model, generation: u64) -> Snapshot {
    let model::Model {
        services,
        workloads,
        rules,
        policies,
        externals,
        gateways,
        mut addresses,
    } = model;
    let matches = matches(&rules, &gateways);
    let conditions = conditions(&matches, &policies);
    let subnets = subnets(&matches);
    let callers = Callers::new(
        conditions.iter().copied().cloned().collect(),
        subnets.iter().copied().cloned().collect(),
        workloads,
    );
    let mut builder = Builder {
        services: services.iter().map(|s| (&s.name, s)).collect(),
        every_policy: &policies,
        policies: policies_by_destination(&policies),
        source_ids: conditions.iter().copied().zip((0..).map(SourceId)).collect(),
        subnets_ids: subnets.iter().copied().zip((0..).map(SubnetsId)).collect(),
        subset_ids: HashMap::new(),
        externals: &externals,
        draft: Draft::default(),
    };
    let rules = ordered_by_destination(&rules);
    for service in &services {
        let rules = rules.get(&service.name).map_or(&[][..], Vec::as_slice);
        for port in &service.ports {
            builder.port(service, port, rules);
        }
    }
    let gateways = builder.entrances(&gateways);
    let elsewhere = builder.elsewhere();
    let Draft {
        ports,
        rules,
        subsets,
        by_frontend,
        by_name,
        by_network,
    } = builder.draft;
    addresses.sort_unstable();
    addresses.dedup();
    Snapshot {
        generation,
        users: Arc::new(Users::new(&ports, &rules, &subsets)),
        ports: ports.into(),
        rules: rules.into(),
        subsets: subsets.into_iter().collect(),
        policies: policies.into(),
        workloads: callers.workloads,
        workload_names: Arc::new(callers.names),
        by_frontend: Arc::new(by_frontend),
        by_name: Arc::new(by_name),
        by_network: Arc::new(networks::ordered(by_network)),
        addresses: addresses.into(),
        gateways: gateways.into(),
        elsewhere: elsewhere.map(Arc::new),
        sources: Arc::new(callers.sources),
    }
}

/// What is known of callers.
struct Callers {
    sources: Sources,
    workloads: Chunks<Workload>,
    names: WorkloadNames,
}

impl Callers {
    fn new(conditions: Vec<SourceMatch>, subnets: Vec<Subnets>, workloads: Vec<Workload>) -> Self {
        let sources = Sources::new(conditions, subnets, &workloads);
        let workloads: Chunks<Workload> = workloads.into_iter().collect();
        Self {
            sources,
            names: WorkloadNames::new(&workloads),
            workloads,
        }
    }
}

/// What rules ask for, those of services and those of gateways.
fn matches<'m>(rules: &'m [model::Rule], gateways: &'m [Gateway]) -> Vec<&'m model::Match> {
    let of_rules = rules.iter().flat_map(|rule| &rule.any_of);
    let at_gateways = gateways.iter().flat_map(|gateway| &gateway.rules);
    of_rules
        .chain(at_gateways.flat_map(|rule| &rule.any_of))
        .collect()
}

/// The conditions on callers, each once.
fn conditions<'m>(matches: &[&'m model::Match], policies: &'m [Policy]) -> BTreeSet<&'m SourceMatch> {
    let matches = matches.iter();
    matches
        .filter_map(|m| m.source.as_ref())
        .chain(policies.iter().map(|policy| &policy.source))
        .filter(|source| !source.is_empty())
        .collect()
}

/// The subnets that callers are to be in, each once.
fn subnets<'m>(matches: &[&'m model::Match]) -> BTreeSet<&'m Subnets> {
    let matches = matches.iter();
    matches
        .filter_map(|m| Some(&m.transport.as_ref()?.sources))
        .filter(|sources| !sources.is_empty())
        .collect()
}

/// What grows port by port.
#[derive(Default)]
struct Draft {
    ports: Vec<Port>,
    rules: Vec<Rule>,
    subsets: Vec<Subset>,
    by_frontend: HashMap<(Transport, SocketAddr), PortId>,
    by_name: HashMap<(Transport, ServiceName, u16), PortId>,
    by_network: HashMap<u16, Vec<(IpNet, PortId)>>,
}

/// The rules of each destination in the order of evaluation.
fn ordered_by_destination(rules: &[model::Rule]) -> HashMap<&ServiceName, Vec<&model::Rule>> {
    let mut by_destination: HashMap<_, Vec<_>> = HashMap::new();
    for rule in rules {
        by_destination.entry(&rule.destination).or_default().push(rule);
    }
    for rules in by_destination.values_mut() {
        rules.sort_by_key(|rule| rule.rank());
    }
    by_destination
}

/// The policies of each destination in the order of choice.
fn policies_by_destination(policies: &[Policy]) -> HashMap<&ServiceName, Vec<(&Policy, PolicyId)>> {
    let mut by_destination: HashMap<_, Vec<_>> = HashMap::new();
    for (policy, id) in policies.iter().zip((0..).map(PolicyId)) {
        let same = by_destination.entry(&policy.destination).or_default();
        same.push((policy, id));
    }
    for same in by_destination.values_mut() {
        same.sort_by_key(|(policy, _)| policy.rank());
    }
    by_destination
}

struct Builder<'m> {
    services: HashMap<&'m ServiceName, &'m model::Service>,
    every_policy: &'m [Policy],
    policies: HashMap<&'m ServiceName, Vec<(&'m Policy, PolicyId)>>,
    source_ids: HashMap<&'m SourceMatch, SourceId>,
    subnets_ids: HashMap<&'m Subnets, SubnetsId>,
    /// Subsets are shared between rules: one per service port and labels.
    subset_ids: HashMap<(&'m ServiceName, Transport, u16, &'m Labels), SubsetId>,
    externals: &'m BTreeMap<ServiceName, External>,
    draft: Draft,
}

impl<'m> Builder<'m> {
    fn port(&mut self, service: &'m model::Service, port: &'m model::Port, rules: &[&'m model::Rule]) {
        let id = PortId(self.draft.ports.len() as u32);
        let addresses = service.addresses.iter();
        let frontends: Vec<_> = addresses.map(|&a| SocketAddr::new(a, port.number)).collect();
        for frontend in &frontends {
            let key = (port.protocol.transport(), *frontend);
            self.draft.by_frontend.entry(key).or_insert(id);
        }
        let external = self.externals.get(&service.name).cloned();
        for network in external.iter().flat_map(External::networks) {
            let of_port = self.draft.by_network.entry(port.number).or_default();
            of_port.push((network, id));
        }
        let key = (port.protocol.transport(), service.name.clone(), port.number);
        self.draft.by_name.entry(key).or_insert(id);
        let unrouted = self.subset(Instances::of(&service.name, port), &NO_LABELS);
        let choices = &self.draft.subsets[unrouted.0 as usize].policies;
        let mut of_unrouted = choices
            .iter()
            .map(|choice| &self.every_policy[choice.policy.0 as usize]);
        let policy_looks_at_requests = of_unrouted.any(Policy::looks_at_requests);
        let first = self.draft.rules.len();
        for rule in rules {
            let compiled = self.rule(rule, port);
            self.draft.rules.push(compiled);
        }
        let rules = &self.draft.rules[first..];
        let is_tcp = port.protocol.transport() == Transport::Tcp;
        let l4_faults = is_tcp && rules.iter().any(Rule::may_strike_connections);
        self.draft.ports.push(Port {
            id,
            service: service.name.clone(),
            number: port.number,
            protocol: port.protocol,
            frontends,
            external,
            rules: rules.iter().map(Rule::id).collect(),
            index: RuleIndex::new(rules.iter().map(|rule| &*rule.any_of)),
            unrouted: (unrouted, EVERY_INSTANCE_WEIGHT),
            l4_faults,
            policy_looks_at_requests,
        });
    }

    fn rule(&mut self, rule: &'m model::Rule, port: &'m model::Port) -> Rule {
        let mut targets: Vec<(SubsetId, u32)> = rule
            .targets
            .iter()
            .map(|target| (self.target(target, port), target.weight))
            .collect();
        if targets.is_empty() {
            let every_instance = self.subset(self.instances(&rule.destination, port), &NO_LABELS);
            targets.push((every_instance, EVERY_INSTANCE_WEIGHT));
        }
        let weights: Vec<u32> = targets.iter().map(|&(_, weight)| weight).collect();
        Rule {
            id: RuleId(self.draft.rules.len() as u32),
            origin: rule.origin.clone(),
            precedence: rule.precedence,
            any_of: rule
                .any_of
                .iter()
                .map(|m| self.conditions(m, port.protocol.transport()))
                .collect(),
            targets: targets.into(),
            table: SlotTable::new(&weights),
            timeout: rule.timeout.unwrap_or(DEFAULT_TIMEOUT),
            retries: rule.retries,
            fault: rule.fault,
            l4_fault: rule.l4_fault,
            overrides: rule.overrides.clone(),
            redirect: rule.redirect.clone(),
            rewrite: rule.rewrite.clone(),
            append_headers: rule.append_headers.clone().into(),
            refuses_upgrades: rule.refuses_upgrades,
            cors: rule.cors.clone(),
            mirrors: rule
                .mirrors
                .iter()
                .map(|mirror| self.mirror(mirror, port))
                .collect(),
        }
    }

    fn conditions(&self, m: &model::Match, transport: Transport) -> Conditions {
        let source = m.source.as_ref();
        let wanted = m.transport.as_ref();
        Conditions {
            other_transport: wanted.map(|w| w.transport).filter(|&t| t != transport),
            destinations: wanted.map(|w| w.destinations.clone()).unwrap_or_default(),
            source_subnets: wanted.and_then(|w| self.subnets_ids.get(&w.sources)).copied(),
            // A condition that asks for nothing has no id: it is none.
            source: source.and_then(|s| self.source_ids.get(s)).copied(),
            path: m.path.clone(),
            method: m.method.clone(),
            scheme: m.scheme.clone(),
            authority: m.authority.clone(),
            headers: m.headers.clone().into(),
        }
    }

    fn target(&mut self, target: &'m Target, port: &'m model::Port) -> SubsetId {
        self.subset(self.instances(&target.service, port), &target.labels)
    }

    fn mirror(&mut self, mirror: &'m Mirror, port: &'m model::Port) -> (SubsetId, Fraction) {
        let instances = self.instances(&mirror.service, port);
        (self.subset(instances, &mirror.labels), mirror.fraction)
    }

    /// The instances on the port of `service` that corresponds to `port`; none when there is no such service or port.
    fn instances(&self, service: &'m ServiceName, port: &'m model::Port) -> Instances<'m> {
        let found = self.services.get(service);
        match found.and_then(|found| corresponding_port(found, port)) {
            Some(port) => Instances::of(service, port),
            None => Instances {
                endpoints: &[],
                ..Instances::of(service, port)
            },
        }
    }

    fn subset(&mut self, instances: Instances<'m>, labels: &'m Labels) -> SubsetId {
        let Instances {
            service,
            port,
            protocol,
            endpoints,
        } = instances;
        let subsets = &mut self.draft.subsets;
        let key = (service, protocol.transport(), port, labels);
        *self.subset_ids.entry(key).or_insert_with(|| {
            let id = SubsetId(subsets.len() as u32);
            let of_service = self.policies.get(service).map_or(&[][..], Vec::as_slice);
            let policies = policies_for(of_service, labels, &self.source_ids);
            let selected = endpoints.iter().filter(|e| labels.select(&e.labels));
            subsets.push(Subset {
                id,
                service: service.clone(),
                port,
                protocol,
                labels: labels.clone(),
                policies,
                endpoints: selected.cloned().collect(),
            });
            id
        })
    }
}

/// What listens on a port of a service.
#[derive(Clone, Copy)]
struct Instances<'m> {
    service: &'m ServiceName,
    port: u16,
    protocol: model::Protocol,
    endpoints: &'m [model::Endpoint],
}

impl<'m> Instances<'m> {
    fn of(service: &'m ServiceName, port: &'m model::Port) -> Self {
        Self {
            service,
            port: port.number,
            protocol: port.protocol,
            endpoints: &port.endpoints,
        }
    }
}

/// The port of `service` that stands for `port` of another: of those on the same transport the one of the same number,
/// else of the same name, else the only one.
fn corresponding_port<'m>(service: &'m model::Service, port: &model::Port) -> Option<&'m model::Port> {
    let transport = port.protocol.transport();
    let carried = || {
        service
            .ports
            .iter()
            .filter(|p| p.protocol.transport() == transport)
    };
    let by_number = carried().find(|p| p.number == port.number);
    let by_name = || {
        port.name
            .as_ref()
            .and_then(|name| carried().find(|p| p.name.as_ref() == Some(name)))
    };
    let only = || carried().next().filter(|_| carried().count() == 1);
    by_number.or_else(by_name).or_else(only)
}

/// The policies of a subset in the order of choice, up to the first that is for every caller: those whose labels the
/// subset was asked for with. A policy without labels is for every subset that has none of its own.
fn policies_for(
    policies: &[(&Policy, PolicyId)],
    labels: &Labels,
    source_ids: &HashMap<&SourceMatch, SourceId>,
) -> Box<[PolicyChoice]> {
    let mut choices = Vec::new();
    for &(policy, id) in policies.iter().filter(|(p, _)| p.labels.select(labels)) {
        let source = source_ids.get(&policy.source).copied();
        choices.push(PolicyChoice {
            source,
            policy: id,
            load_balancing: policy.load_balancing,
        });
        if source.is_none() {
            break;
        }
    }
    choices.into()
}
