//! Small configurations for the tests of this module, by hand and at random.

use std::{collections::BTreeMap, net::SocketAddr, sync::Arc, time::Duration};

use proptest::prelude::*;
use router_common::{
    net::{Addr, Be16},
    service::FrontendKey,
};
use router_rules::{
    EndpointChange, Snapshot,
    action::{Fraction, Target},
    id::{Origin, ServiceName},
    l4_fault::Terminate,
    labels::Labels,
    model::{Endpoint, Match, Model, Port, Protocol, Rule, Service},
    outlier::Ejected,
    policy::{LoadBalancing, OutlierDetection, Policy},
    source::{ClassId, SourceMatch, Workload},
    text::TextMatch,
};

use super::{
    desired::{Desired, OnProxyDown, desired},
    state::Capacity,
};

/// Room for what [`World`]s need, three times over.
pub(crate) const CAPACITY: Capacity = Capacity {
    networks: 16,
    addresses: 16,
    confinement: 16,

    frontends: 16,
    services: 12,
    slots: 8192,
    subsets: 96,
    endpoints: 256,
    endpoint_states: 64,
    limits: 16,
    sources: 16,
};

pub(crate) const PORT: u16 = 80;
pub(crate) const ADDRESSES: u8 = 4;
pub(crate) const CGROUPS: u64 = 4;

pub(crate) fn name(service: u8) -> ServiceName {
    ServiceName::new(&format!("s{service}.default.svc.cluster.local"))
}

pub(crate) fn frontend(address: u8) -> FrontendKey {
    let address = std::net::Ipv4Addr::new(10, 96, 0, address);
    FrontendKey::tcp(Addr::from_ip(address.into()), Be16::from_port(PORT))
}

pub(crate) fn endpoint(host: u8) -> SocketAddr {
    ([10, 0, 0, host], 9080).into()
}

/// Version 0 stands for no label at all.
fn version(version: u8) -> Labels {
    let pair = (version > 0).then(|| ("version", format!("v{version}")));
    pair.into_iter().collect()
}

fn origin(kind: &str, number: usize) -> Origin {
    Origin {
        object: format!("{kind} {number}").into(),
        file: "rules.yaml".into(),
        line: 1,
    }
}

#[derive(Clone, Debug)]
pub(crate) struct ServiceSpec {
    pub(crate) addresses: Vec<u8>,
    pub(crate) http: bool,
    /// Host and version of each endpoint.
    pub(crate) endpoints: Vec<(u8, u8)>,
}

#[derive(Clone, Debug)]
pub(crate) struct RuleSpec {
    pub(crate) destination: u8,
    pub(crate) precedence: i32,
    /// Label `app` of the caller; 0: any caller.
    pub(crate) source: u8,
    pub(crate) path: bool,
    /// It terminates connections.
    pub(crate) l4_fault: bool,
    /// Service, version and weight of each target.
    pub(crate) targets: Vec<(u8, u8, u32)>,
}

#[derive(Clone, Debug)]
pub(crate) struct PolicySpec {
    pub(crate) destination: u8,
    pub(crate) version: u8,
    /// Label `app` of the caller; 0: any caller.
    pub(crate) source: u8,
    pub(crate) load_balancing: LoadBalancing,
    pub(crate) max: Option<u32>,
    /// Hosts that are ejected; with one, the policy ejects.
    pub(crate) ejected: Vec<u8>,
}

/// A configuration with the callers of a node.
#[derive(Clone, Debug, Default)]
pub(crate) struct World {
    pub(crate) services: BTreeMap<u8, ServiceSpec>,
    pub(crate) rules: Vec<RuleSpec>,
    pub(crate) policies: BTreeMap<usize, PolicySpec>,
    /// Label `app` of the workload of each cgroup.
    pub(crate) callers: BTreeMap<u64, u8>,
    pub(crate) reject: bool,
}

impl World {
    pub(crate) fn snapshot(&self) -> Snapshot {
        Snapshot::build(self.model(), 1)
    }

    pub(crate) fn model(&self) -> Model {
        let services = self.services.iter().map(|(&n, spec)| service(n, spec)).collect();
        let rules = self
            .rules
            .iter()
            .enumerate()
            .map(|(n, spec)| rule(n, spec))
            .collect();
        let policies = self.policies.iter().map(|(&n, spec)| policy(n, spec)).collect();
        let workloads = self
            .callers
            .iter()
            .map(|(&cgroup, &app)| workload(cgroup, app))
            .collect();
        Model {
            services,
            rules,
            policies,
            workloads,
            ..Model::default()
        }
    }

    /// The same with other endpoints of a service: as a change of what was.
    pub(crate) fn move_endpoints(&mut self, n: u8, endpoints: Vec<(u8, u8)>) -> Option<EndpointChange> {
        let spec = self.services.get_mut(&n)?;
        spec.endpoints = endpoints;
        let port = service(n, spec).ports.remove(0);
        let ports = BTreeMap::from([((port.protocol.transport(), port.number), port.endpoints)]);
        Some(EndpointChange {
            endpoints: BTreeMap::from([(name(n), ports)]),
            ..EndpointChange::default()
        })
    }

    pub(crate) fn desired(&self) -> Desired {
        let snapshot = self.snapshot();
        let (sources, on_proxy_down) = (self.sources(&snapshot), self.on_proxy_down());
        desired(&snapshot, &sources, on_proxy_down, &self.ejected())
    }

    pub(crate) fn sources(&self, snapshot: &Snapshot) -> BTreeMap<u64, ClassId> {
        let class = |cgroup: u64| snapshot.class_of(snapshot.workload(&format!("default/pod{cgroup}")));
        let callers = self.callers.keys();
        callers.map(|&cgroup| (cgroup, class(cgroup))).collect()
    }

    pub(crate) const fn on_proxy_down(&self) -> OnProxyDown {
        if self.reject {
            OnProxyDown::Reject
        } else {
            OnProxyDown::Direct
        }
    }

    pub(crate) fn ejected(&self) -> Ejected {
        let of = |(&n, spec): (&usize, &PolicySpec)| {
            let hosts = spec.ejected.iter().map(|&host| endpoint(host));
            (origin("policy", n).object, hosts.collect())
        };
        Ejected(self.policies.iter().map(of).collect())
    }
}

fn service(n: u8, spec: &ServiceSpec) -> Service {
    let endpoints = spec.endpoints.iter().map(|&(host, v)| Endpoint {
        address: endpoint(host),
        labels: Arc::new(version(v)),
        workload: None,
    });
    let address = |&a: &u8| std::net::Ipv4Addr::new(10, 96, 0, a).into();
    Service {
        name: name(n),
        addresses: spec.addresses.iter().map(address).collect(),
        ports: vec![Port {
            number: PORT,
            name: None,
            protocol: if spec.http { Protocol::Http } else { Protocol::Tcp },
            endpoints: endpoints.collect(),
        }],
    }
}

fn rule(n: usize, spec: &RuleSpec) -> Rule {
    let mut rule = Rule::new(origin("route-rule", n), name(spec.destination));
    rule.precedence = spec.precedence;
    let mut condition = Match {
        source: (spec.source > 0).then(|| from(spec.source)),
        ..Match::default()
    };
    if spec.path {
        condition.path = Some(TextMatch::Exact("/x".into()));
    }
    if !condition.is_empty() {
        rule.any_of = vec![condition];
    }
    let target = |&(service, v, weight): &(u8, u8, u32)| Target {
        service: name(service),
        labels: version(v),
        weight,
    };
    rule.targets = spec.targets.iter().map(target).collect();
    rule.l4_fault.terminate = spec.l4_fault.then_some(Terminate {
        fraction: Fraction::ALL,
        after: Duration::ZERO,
    });
    rule
}

/// Callers with this label `app`; 0: any caller.
fn from(app: u8) -> SourceMatch {
    let label = (app > 0).then(|| ("app", format!("app{app}")));
    SourceMatch {
        service: None,
        labels: label.into_iter().collect(),
    }
}

fn policy(n: usize, spec: &PolicySpec) -> Policy {
    let mut policy = Policy::new(origin("policy", n), name(spec.destination));
    policy.labels = version(spec.version);
    policy.source = from(spec.source);
    policy.load_balancing = spec.load_balancing;
    policy.max_connections = spec.max;
    policy.outlier_detection = (!spec.ejected.is_empty()).then(OutlierDetection::default);
    policy
}

fn workload(cgroup: u64, app: u8) -> Workload {
    Workload {
        name: format!("default/pod{cgroup}").into(),
        labels: [("app", format!("app{app}"))].into_iter().collect(),
        services: Default::default(),
        addresses: Default::default(),
    }
}

prop_compose! {
    fn service_spec()(
        addresses in proptest::collection::vec(0..ADDRESSES, 0..3),
        http in proptest::bool::weighted(0.3),
        endpoints in proptest::collection::vec((1_u8..9, 1_u8..3), 0..5),
    ) -> ServiceSpec {
        ServiceSpec { addresses, http, endpoints }
    }
}

prop_compose! {
    fn rule_spec()(
        destination in 0_u8..3,
        precedence in 0..3,
        source in 0_u8..3,
        path in proptest::bool::weighted(0.2),
        targets in proptest::collection::vec((0_u8..3, 0_u8..3, prop_oneof![Just(0_u32), Just(1), Just(25), Just(75)]), 0..3),
        redirected in proptest::bool::weighted(0.2),
        l4_fault in proptest::bool::weighted(0.1),
    ) -> RuleSpec {
        let own = |(service, v, weight)| (if redirected { service } else { destination }, v, weight);
        let targets = targets.into_iter().map(own).collect();
        RuleSpec { destination, precedence, source, path, l4_fault, targets }
    }
}

prop_compose! {
    fn policy_spec()(
        destination in 0_u8..3,
        version in 0_u8..3,
        source in prop_oneof![2 => Just(0_u8), 1 => 1_u8..3],
        load_balancing in prop_oneof![
            Just(LoadBalancing::RoundRobin),
            Just(LoadBalancing::Random),
            Just(LoadBalancing::LeastConn),
        ],
        max in proptest::option::of(0_u32..4),
        ejected in proptest::collection::vec(1_u8..9, 0..4),
    ) -> PolicySpec {
        PolicySpec { destination, version, source, load_balancing, max, ejected }
    }
}

prop_compose! {
    pub(crate) fn world()(
        services in proptest::collection::btree_map(0_u8..3, service_spec(), 0..4),
        rules in proptest::collection::vec(rule_spec(), 0..5),
        policies in proptest::collection::btree_map(0_usize..4, policy_spec(), 0..4),
        callers in proptest::collection::btree_map(1..=CGROUPS, 1_u8..4, 0..5),
        reject in proptest::bool::weighted(0.2),
    ) -> World {
        World { services, rules, policies, callers, reject }
    }
}

/// A world and what becomes of it: each next one differs in one part only, or in all.
pub(crate) fn history() -> impl Strategy<Value = Vec<World>> {
    proptest::collection::vec((world(), 0_u8..6), 1..6).prop_map(|steps| {
        let mut current = World::default();
        let mut next = |(new, part): (World, u8)| {
            match part {
                0 => current.services = new.services,
                1 => current.rules = new.rules,
                2 => current.policies = new.policies,
                3 => current.callers = new.callers,
                _ => current = new,
            }
            current.clone()
        };
        steps.into_iter().map(&mut next).collect()
    })
}
