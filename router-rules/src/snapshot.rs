//! The compiled configuration: immutable, indexed, and the only thing that decides.

mod connections;
mod l4_fault;
mod rule;

use std::{
    collections::HashMap,
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use http::HeaderMap;
use ipnet::IpNet;

use crate::{
    action::DEFAULT_TIMEOUT,
    builder,
    chunks::Chunks,
    connection::{Connection, Transport},
    external::External,
    follow::Users,
    gateway::Entrance,
    id::ServiceName,
    index::{Entry, RuleIndex},
    labels::Labels,
    matcher::{Conditions, Request},
    model::{Endpoint, Model, Protocol},
    policy::{LoadBalancing, Policy, PolicyId},
    source::{ClassId, SourceId, Sources, Workload, WorkloadId},
    text::TextMatch,
};

pub(crate) mod names;
pub(crate) mod networks;

use names::WorkloadNames;

pub use networks::Spoken;
pub use rule::Rule;

/// Index of a service port in a snapshot.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct PortId(pub u32);

/// Index of a subset in a snapshot.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct SubsetId(pub u32);

/// Index of a compiled rule in a snapshot. A rule is compiled once for every port of its destination.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct RuleId(pub u32);

/// The compiled configuration. Only [`Snapshot::build`] makes one, and [`Snapshot::with_endpoints`] from another.
///
/// What a change of endpoints leaves as it is, the snapshot before and the one after share.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    pub(crate) generation: u64,
    pub(crate) ports: Arc<[Port]>,
    pub(crate) rules: Arc<[Rule]>,
    pub(crate) subsets: Chunks<Subset>,
    pub(crate) users: Arc<Users>,
    pub(crate) policies: Arc<[Policy]>,
    pub(crate) workloads: Chunks<Workload>,
    pub(crate) workload_names: Arc<WorkloadNames>,
    pub(crate) by_frontend: Arc<HashMap<(Transport, SocketAddr), PortId>>,
    pub(crate) by_name: Arc<HashMap<(Transport, ServiceName, u16), PortId>>,
    /// By port, the longest prefix first; of equal ones the first service's.
    pub(crate) by_network: Arc<HashMap<u16, Vec<(IpNet, PortId)>>>,
    pub(crate) addresses: Arc<[IpAddr]>,
    pub(crate) elsewhere: Option<Arc<Port>>,
    /// In the order of their ports.
    pub(crate) gateways: Arc<[Entrance]>,
    pub(crate) sources: Arc<Sources>,
}

/// A port of a service with its ordered rules.
#[derive(Debug)]
pub struct Port {
    pub(crate) id: PortId,
    pub(crate) service: ServiceName,
    pub(crate) number: u16,
    pub(crate) protocol: Protocol,
    pub(crate) frontends: Vec<SocketAddr>,
    pub(crate) external: Option<External>,
    pub(crate) rules: Vec<RuleId>,
    pub(crate) index: RuleIndex,
    /// As a rule's only target would be.
    pub(crate) unrouted: (SubsetId, u32),
    /// A policy of every instance looks at requests.
    pub(crate) policy_looks_at_requests: bool,
    /// A rule that may decide connections has faults for them.
    pub(crate) l4_faults: bool,
}

impl Port {
    /// Its index.
    pub const fn id(&self) -> PortId {
        self.id
    }
    /// The service it belongs to.
    pub const fn service(&self) -> &ServiceName {
        &self.service
    }
    /// Port that clients connect to.
    pub const fn number(&self) -> u16 {
        self.number
    }
    /// What is spoken on it.
    pub const fn protocol(&self) -> Protocol {
        self.protocol
    }
    /// Addresses and port that clients connect to.
    pub fn frontends(&self) -> &[SocketAddr] {
        &self.frontends
    }
    /// How its hosts are known, when they are outside the cluster.
    pub const fn external(&self) -> Option<&External> {
        self.external.as_ref()
    }
    /// Its rules in the order of evaluation.
    pub fn rules(&self) -> &[RuleId] {
        &self.rules
    }
    /// Every instance: where connections go that no rule matches.
    pub const fn unrouted(&self) -> SubsetId {
        self.unrouted.0
    }
    /// True when connections must pass the proxy: HTTP is spoken, and there is a rule or a policy that looks at requests; or
    /// only what clients send tells whether they mean this service.
    pub const fn needs_proxy(&self) -> bool {
        (self.protocol.is_http() && (!self.rules.is_empty() || self.policy_looks_at_requests))
            || self.is_named()
    }
    /// True when [`Snapshot::route_connection`] may answer differently for different connections. False: it answers
    /// [`Snapshot::default_route`] for every one.
    pub fn tells_connections_apart(&self) -> bool {
        !self.index.without_http().is_empty()
    }
}

/// Instances of a service port that carry given labels, with the policy in force for them.
#[derive(Clone, Debug)]
pub struct Subset {
    pub(crate) id: SubsetId,
    pub(crate) service: ServiceName,
    pub(crate) port: u16,
    pub(crate) protocol: Protocol,
    pub(crate) labels: Labels,
    /// Policies in the order of choice; only the last may be for every caller.
    pub(crate) policies: Box<[PolicyChoice]>,
    pub(crate) endpoints: Arc<[Endpoint]>,
}

/// A policy that is in force for the callers that it is for, unless one before it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct PolicyChoice {
    /// The condition on the caller; none: every caller.
    pub(crate) source: Option<SourceId>,
    pub(crate) policy: PolicyId,
    pub(crate) load_balancing: LoadBalancing,
}

impl Subset {
    /// Its index; dense from 0 to [`Snapshot::subsets`]`.len()`.
    pub const fn id(&self) -> SubsetId {
        self.id
    }
    /// The service.
    pub const fn service(&self) -> &ServiceName {
        &self.service
    }
    /// The service's port.
    pub const fn port(&self) -> u16 {
        self.port
    }
    /// What its instances speak.
    pub const fn protocol(&self) -> Protocol {
        self.protocol
    }
    /// Labels that its instances carry.
    pub const fn labels(&self) -> &Labels {
        &self.labels
    }
    /// The policy in force for callers that no policy with a source is for.
    pub fn policy(&self) -> Option<PolicyId> {
        self.for_every_caller().map(|choice| choice.policy)
    }
    /// Load balancing in force for those callers.
    pub fn load_balancing(&self) -> LoadBalancing {
        self.for_every_caller()
            .map_or(LoadBalancing::default(), |choice| choice.load_balancing)
    }
    /// Every policy that may be in force, by the caller, in the order of choice.
    pub fn policies(&self) -> impl Iterator<Item = PolicyId> {
        self.policies.iter().map(|choice| choice.policy)
    }
    /// True when a policy is for some callers only.
    pub fn tells_callers_apart(&self) -> bool {
        self.policies.iter().any(|choice| choice.source.is_some())
    }
    /// True when the load balancing of a policy counts what is under way.
    pub fn counts_load(&self) -> bool {
        self.policies
            .iter()
            .any(|choice| choice.load_balancing == LoadBalancing::LeastConn)
    }
    /// The instances.
    pub fn endpoints(&self) -> &[Endpoint] {
        &self.endpoints
    }

    fn for_every_caller(&self) -> Option<&PolicyChoice> {
        self.policies.last().filter(|choice| choice.source.is_none())
    }

    fn policy_choice(&self, sources: &Sources, caller: ClassId) -> Option<&PolicyChoice> {
        self.policies.iter().find(|choice| {
            choice
                .source
                .is_none_or(|source| sources.satisfies(caller, source))
        })
    }
}

/// Where a request or connection goes: the rule that matched, or the service's every instance.
#[derive(Clone, Copy, Debug)]
pub struct Route<'s> {
    snapshot: &'s Snapshot,
    port: &'s Port,
    caller: ClassId,
    rule: Option<&'s Rule>,
    /// The path condition that held, when the rule rewrites paths.
    matched_path: Option<&'s TextMatch>,
}

/// Every weight of the rule is zero.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("every weight of the rule is zero")]
pub struct NoWeight;

impl<'s> Route<'s> {
    /// The rule that matched; none: no rule did.
    pub const fn rule(&self) -> Option<&'s Rule> {
        self.rule
    }
    /// The port it was asked for.
    pub const fn port(&self) -> &'s Port {
        self.port
    }
    /// The policy in force for the caller at a subset.
    pub fn policy(&self, subset: &Subset) -> Option<PolicyId> {
        let choice = subset.policy_choice(&self.snapshot.sources, self.caller);
        choice.map(|choice| choice.policy)
    }
    /// Load balancing in force for the caller at a subset.
    pub fn load_balancing(&self, subset: &Subset) -> LoadBalancing {
        let choice = subset.policy_choice(&self.snapshot.sources, self.caller);
        choice.map_or(LoadBalancing::default(), |choice| choice.load_balancing)
    }
    /// Limit of a whole request with these header fields; zero: none.
    pub fn timeout(&self, headers: &HeaderMap) -> Duration {
        let Some(rule) = self.rule else {
            // Who only says which hosts may be reached has not asked for an end of long downloads.
            return if self.port.is_named() {
                Duration::ZERO
            } else {
                DEFAULT_TIMEOUT
            };
        };
        rule.overrides.timeout(headers).unwrap_or(rule.timeout)
    }
    /// The path for the endpoint in place of the request's; none: it stays.
    pub fn rewritten_path(&self, path: &str) -> Option<String> {
        self.rule?.rewrite.path(path, self.matched_path)
    }
    /// Subsets with their weights; one with weight 100 when no rule matched.
    pub fn targets(&self) -> impl ExactSizeIterator<Item = (&'s Subset, u32)> + use<'s> {
        let snapshot = self.snapshot;
        let targets = match self.rule {
            Some(rule) => &*rule.targets,
            None => std::slice::from_ref(&self.port.unrouted),
        };
        targets
            .iter()
            .map(|&(subset, weight)| (snapshot.subset(subset), weight))
    }
    /// The subset whose turn it is at `cursor`.
    ///
    /// # Errors
    ///
    /// [`NoWeight`] when every weight is zero.
    pub fn pick(&self, cursor: u64) -> Result<&'s Subset, NoWeight> {
        let Some(rule) = self.rule else {
            return Ok(self.snapshot.subset(self.port.unrouted()));
        };
        let target = rule.table.pick(cursor).ok_or(NoWeight)?;
        Ok(self.snapshot.subset(rule.targets[target].0))
    }
}

impl Snapshot {
    /// Compiles a model. `generation` numbers the result.
    pub fn build(model: Model, generation: u64) -> Self {
        builder::build(model, generation)
    }

    /// Number of this configuration; a later one has a larger number.
    pub const fn generation(&self) -> u64 {
        self.generation
    }
    /// Every service port.
    pub fn ports(&self) -> &[Port] {
        &self.ports
    }
    /// Every subset.
    pub const fn subsets(&self) -> &Chunks<Subset> {
        &self.subsets
    }
    /// Every policy.
    pub fn policies(&self) -> &[Policy] {
        &self.policies
    }
    /// Every caller.
    pub const fn workloads(&self) -> &Chunks<Workload> {
        &self.workloads
    }
    /// Number of compiled rules; ids are below it.
    pub fn rule_count(&self) -> usize {
        self.rules.len()
    }
    /// A rule of this snapshot.
    pub fn rule(&self, id: RuleId) -> &Rule {
        &self.rules[id.0 as usize]
    }
    /// A subset of this snapshot.
    pub fn subset(&self, id: SubsetId) -> &Subset {
        &self.subsets[id.0 as usize]
    }
    /// A policy of this snapshot.
    pub fn policy(&self, id: PolicyId) -> &Policy {
        &self.policies[id.0 as usize]
    }
    /// True when a policy of the subset acts on the number of open connections: a limit, or least connections.
    pub fn acts_on_connections(&self, subset: &Subset) -> bool {
        let mut policies = subset.policies().map(|id| self.policy(id));
        subset.counts_load() || policies.any(|policy| policy.max_connections.is_some())
    }
    /// The TCP port of a service.
    pub fn port_of(&self, service: &ServiceName, port: u16) -> Option<&Port> {
        self.port_carried_of(Transport::Tcp, service, port)
    }
    /// The port of a service on `transport`.
    pub fn port_carried_of(&self, transport: Transport, service: &ServiceName, port: u16) -> Option<&Port> {
        self.by_name
            .get(&(transport, service.clone(), port))
            .map(|id| &self.ports[id.0 as usize])
    }
    /// A caller by its name, `namespace/name`.
    pub fn workload(&self, name: &str) -> Option<WorkloadId> {
        self.workload_names.find(&self.workloads, name)
    }
    /// Class of a caller; unknown callers have [`ClassId::UNKNOWN`].
    pub fn class_of(&self, caller: Option<WorkloadId>) -> ClassId {
        caller.map_or(ClassId::UNKNOWN, |workload| self.sources.class_of(workload))
    }
    /// Number of classes; ids are below it.
    pub fn class_count(&self) -> u32 {
        self.sources.class_count()
    }

    /// Decides a request: the first rule of `port` that matches.
    pub fn route_http<'s>(
        &'s self,
        port: &'s Port,
        connection: impl Into<Connection>,
        request: &Request<'_>,
    ) -> Route<'s> {
        let connection = connection.into();
        let holds = |entry| {
            self.conditions(port, entry)
                .hold(&self.sources, &connection, request)
        };
        let first = port.index.first(&self.sources, connection.class, request, holds);
        let route = self.route(port, first);
        let rewriting = route.rule.filter(|rule| rule.rewrite.uri.is_some());
        let mut alternatives = rewriting.iter().flat_map(|rule| &rule.any_of);
        let held = alternatives.find(|alternative| alternative.hold(&self.sources, &connection, request));
        Route {
            caller: connection.class,
            matched_path: held.and_then(|alternative| alternative.path.as_ref()),
            ..route
        }
    }

    /// Where connections to `port` go when nobody looks at requests or callers: the first rule without any
    /// condition, else every instance. The kernel routes a port that needs the proxy by it while the proxy is down.
    pub fn default_route<'s>(&'s self, port: &'s Port) -> Route<'s> {
        self.route(port, port.index.catch_all())
    }

    fn conditions(&self, port: &Port, entry: Entry) -> &Conditions {
        let rule = self.rule(port.rules[entry.rule as usize]);
        &rule.any_of[entry.alternative as usize]
    }

    fn route<'s>(&'s self, port: &'s Port, position: Option<usize>) -> Route<'s> {
        Route {
            snapshot: self,
            port,
            caller: ClassId::UNKNOWN,
            rule: position.map(|position| self.rule(port.rules[position])),
            matched_path: None,
        }
    }
}
