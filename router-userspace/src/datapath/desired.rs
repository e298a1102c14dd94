//! What the maps should hold, from a snapshot: pure, ordered, and free of every id and address inside the maps.
//!
//! It does not know what the maps hold now ([`state`](super::state)) nor how to get from one to the other
//! ([`plan`](super::plan)).

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use router_common::{
    net::{Addr, Be16},
    reason::Reason,
    route::{Balance, MAX_TABLE_SLOTS},
    service::{FrontendKey, PROTOCOL_TCP, PROTOCOL_UDP},
};
use router_rules::{
    Snapshot,
    connection::Transport,
    id::ServiceName,
    labels::Labels,
    outlier::Ejected,
    policy::{LoadBalancing, PolicyId},
    snapshot::Port,
    source::ClassId,
};

mod egress;
mod routing;
mod touched;

pub use egress::Network;
pub use touched::{Base, Inputs, Touched};

const _: () = assert!(
    router_rules::weight::MAX_SLOTS <= MAX_TABLE_SLOTS,
    "the kernel reads longer tables"
);

/// What becomes of connections that need the proxy while the proxy is down.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum OnProxyDown {
    /// The kernel routes them by the default route.
    #[default]
    Direct,
    /// The kernel refuses them.
    Reject,
}

/// An endpoint's address and port, as the maps spell them.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct EndpointKey {
    /// Address.
    pub addr: Addr,
    /// Port.
    pub port: Be16,
}

impl From<SocketAddr> for EndpointKey {
    fn from(address: SocketAddr) -> Self {
        Self {
            addr: Addr::from_ip(address.ip()),
            port: Be16::from_port(address.port()),
        }
    }
}

impl From<EndpointKey> for SocketAddr {
    fn from(key: EndpointKey) -> Self {
        Self::new(key.addr.to_ip(), key.port.port())
    }
}

/// What the maps should hold.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Desired {
    /// Generation of the snapshot.
    pub generation: u64,
    /// Services by the hash of their names.
    pub services: BTreeMap<u64, Arc<Service>>,
    /// Limits by the hash of their policies' names.
    pub limits: BTreeMap<u64, Limit>,
    /// Every endpoint of every subset, so that the proxy's connections can be counted too.
    pub endpoints: BTreeSet<EndpointKey>,
    /// Source class of every cgroup that belongs to a workload.
    pub sources: BTreeMap<u64, ClassId>,
    /// Addresses that are known although they may be no frontend's; only those that make a difference.
    pub addresses: BTreeSet<Addr>,
    /// What is said of cgroups' reach: [`CONFINED`](router_common::network::CONFINED) or
    /// [`EXEMPT`](router_common::network::EXEMPT).
    pub confinement: BTreeMap<u64, u32>,
}

/// A connection limit.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Limit {
    /// Object name of the policy's origin.
    pub policy: Arc<str>,
    /// Connections that may be open at once.
    pub max: u64,
}

/// A service port, or those of its frontends that rules do not tell apart.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Service {
    /// Fully qualified name.
    pub service: ServiceName,
    /// What carries its connections.
    pub transport: Transport,
    /// Port that clients connect to.
    pub port: u16,
    /// Where clients reach it.
    pub frontends: Vec<FrontendKey>,
    /// The first of its frontends' addresses, when rules tell them from others of the port.
    pub apart: Option<IpAddr>,
    /// Networks in which it is reached at every address that is no frontend.
    pub networks: Vec<Network>,
    /// Subsets that its tables name, without the ones of weight zero. Subsets that hold the same are one.
    pub subsets: Vec<Subset>,
    /// Slot tables that its routes name.
    pub tables: Vec<Table>,
    /// Its routing.
    pub routing: Routing,
}

impl Service {
    /// True when `other` has the same name and the same frontends.
    pub fn is_called_like(&self, other: &Self) -> bool {
        let called = |service: &Self| (service.transport, service.port, service.apart);
        self.service == other.service
            && called(self) == called(other)
            && self.frontends == other.frontends
            && self.networks == other.networks
    }

    /// `fqdn:port/tcp` or `fqdn:port/tcp/address`: the text whose hash names the service in the maps.
    pub fn label(&self) -> String {
        let port = format!("{}:{}/{}", self.service, self.port, self.transport);
        match self.apart {
            None => port,
            Some(address) => format!("{port}/{address}"),
        }
    }
}

/// Endpoints with the policy in force for them.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Subset {
    /// The service and port its endpoints belong to, and the labels they carry: the first such name.
    pub of: SubsetName,
    /// Object name of the policy in force.
    pub policy: Option<Arc<str>>,
    /// Key of the policy's limit in [`Desired::limits`].
    pub limit: Option<u64>,
    /// How an endpoint is picked.
    pub balance: Balance,
    /// Whether open connections are counted: somebody acts on their number, which is a limit, or `LEAST_CONN` in any
    /// subset of the service.
    pub counted: bool,
    /// Its endpoints, sorted, each once.
    pub endpoints: Vec<EndpointKey>,
}

/// What a subset is called.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SubsetName {
    /// The service.
    pub service: ServiceName,
    /// The service's port.
    pub port: u16,
    /// Labels that its endpoints carry.
    pub labels: Labels,
}

/// A slot table with what it stands for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Table {
    /// Object name of the rule's origin; none: no rule matched.
    pub rule: Option<Arc<str>>,
    /// The rule's targets, those of weight zero included.
    pub targets: Vec<Target>,
    /// Index of a subset in [`Service::subsets`] per slot; never empty.
    pub slots: Vec<u32>,
}

/// A target of a rule.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Target {
    /// Its subset.
    pub of: SubsetName,
    /// Its weight as written.
    pub weight: u32,
    /// Index in [`Service::subsets`]; none when it gets no slot.
    pub subset: Option<u32>,
}

/// Routing of a service.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Routing {
    /// The same for every caller.
    Uniform(Route),
    /// By the caller's class.
    BySource {
        /// For callers of unknown class.
        unknown: Route,
        /// For class 1 and up.
        classes: Vec<Route>,
    },
}

impl Routing {
    /// The route of a class; classes that the snapshot does not know are treated as unknown.
    pub fn of_class(&self, class: ClassId) -> Route {
        match self {
            Self::Uniform(route) => *route,
            Self::BySource { unknown, classes } => {
                let known = (class.0 as usize).checked_sub(1).and_then(|i| classes.get(i));
                known.copied().unwrap_or(*unknown)
            }
        }
    }
}

/// Where connections go. Tables are indexes of [`Service::tables`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Route {
    /// To an endpoint, by a table.
    Weighted(u32),
    /// To the proxy; by the table while it is down. No table: every weight of the default route is zero.
    Proxy(Option<u32>),
    /// To the proxy; refused while it is down. The table is kept for readers only.
    ProxyOrRefuse(Option<u32>),
    /// Nowhere.
    Refuse(Reason),
}

impl Route {
    /// Its table.
    pub const fn table(self) -> Option<u32> {
        match self {
            Self::Weighted(table) => Some(table),
            Self::Proxy(table) | Self::ProxyOrRefuse(table) => table,
            Self::Refuse(_) => None,
        }
    }
}

/// What the maps should hold for `snapshot`, where `sources` says which cgroup belongs to which class, and connections
/// are to keep away from the endpoints that are `ejected`.
pub fn desired(
    snapshot: &Snapshot,
    sources: &BTreeMap<u64, ClassId>,
    on_proxy_down: OnProxyDown,
    ejected: &Ejected,
) -> Desired {
    let (limits, limit_of) = limits(snapshot);
    let in_force = ejected.in_force(snapshot);
    let inputs = routing::Inputs {
        snapshot,
        limit_of: &limit_of,
        in_force: &in_force,
        on_proxy_down,
    };
    let mut services = BTreeMap::new();
    for port in snapshot.ports().iter().filter(|port| is_known(snapshot, port)) {
        for service in services_of(inputs, port) {
            insert_named(&mut services, &service.label(), Arc::new(service));
        }
    }
    let endpoints = snapshot.subsets().iter().flat_map(|s| s.endpoints());
    let sources = sources.iter().filter(|&(_, &class)| class != ClassId::UNKNOWN);
    Desired {
        generation: snapshot.generation(),
        services,
        limits,
        endpoints: endpoints.map(|e| e.address.into()).collect(),
        sources: sources.map(|(&cgroup, &class)| (cgroup, class)).collect(),
        addresses: egress::addresses(snapshot),
        confinement: BTreeMap::new(),
    }
}

/// Of two ports with one name the snapshot knows the first only.
fn is_known(snapshot: &Snapshot, port: &Port) -> bool {
    let transport = port.protocol().transport();
    let known = snapshot.port_carried_of(transport, port.service(), port.number());
    known.is_some_and(|known| known.id() == port.id())
}

/// What a port is in the maps: a service for each group of frontends that are routed alike.
fn services_of(inputs: routing::Inputs<'_>, port: &Port) -> Vec<Service> {
    let snapshot = inputs.snapshot;
    let compiler = routing::Compiler { inputs, port };
    let service = |group: Group| Service {
        frontends: frontends(snapshot, port, &group),
        networks: match group.apart {
            None => egress::networks(snapshot, port),
            Some(_) => Vec::new(),
        },
        apart: group.apart,
        ..compiler.service(group.dialled)
    };
    groups(snapshot, port).into_iter().map(service).collect()
}

fn limits(snapshot: &Snapshot) -> (BTreeMap<u64, Limit>, BTreeMap<PolicyId, u64>) {
    let mut limits = BTreeMap::new();
    let mut limit_of = BTreeMap::new();
    for (policy, id) in snapshot.policies().iter().zip((0..).map(PolicyId)) {
        if let Some(max) = policy.max_connections {
            let limit = Limit {
                policy: policy.origin.object.clone(),
                max: max.into(),
            };
            limit_of.insert(id, insert_named(&mut limits, &policy.origin.object, limit));
        }
    }
    (limits, limit_of)
}

/// Frontends of a port that are routed alike.
struct Group {
    frontends: Vec<SocketAddr>,
    /// One of them, for all; none when it makes no difference.
    dialled: Option<IpAddr>,
    /// As [`Service::apart`].
    apart: Option<IpAddr>,
}

/// The frontends of `port` by how they are routed. The first goes by the name of the port alone.
fn groups(snapshot: &Snapshot, port: &Port) -> Vec<Group> {
    let whole = |dialled| Group {
        frontends: port.frontends().to_vec(),
        dialled,
        apart: None,
    };
    // The proxy looks at the dialled address itself.
    if port.needs_proxy() {
        return vec![whole(None)];
    }
    let mut groups = snapshot.frontend_groups(port);
    if groups.len() <= 1 {
        return vec![whole(port.frontends().first().map(SocketAddr::ip))];
    }
    groups.sort();
    let numbered = groups.into_iter().enumerate();
    let group = |(i, frontends): (usize, Vec<SocketAddr>)| {
        let first = frontends.iter().map(SocketAddr::ip).min();
        Group {
            frontends,
            dialled: first,
            apart: first.filter(|_| i > 0),
        }
    };
    numbered.map(group).collect()
}

fn frontends(snapshot: &Snapshot, port: &Port, group: &Group) -> Vec<FrontendKey> {
    let transport = port.protocol().transport();
    let reached = group.frontends.iter().filter(|f| {
        let owner = snapshot.port_carried_at(transport, **f);
        owner.is_some_and(|owner| owner.id() == port.id())
    });
    let keys: BTreeSet<_> = reached.map(|&f| frontend_key(transport, f)).collect();
    keys.into_iter().collect()
}

/// A frontend as the maps spell it.
pub fn frontend_key(transport: Transport, frontend: SocketAddr) -> FrontendKey {
    let protocol = match transport {
        Transport::Tcp => PROTOCOL_TCP,
        Transport::Udp => PROTOCOL_UDP,
    };
    let address = Addr::from_ip(frontend.ip());
    FrontendKey::new(protocol, address, Be16::from_port(frontend.port()))
}

const fn balance(load_balancing: LoadBalancing) -> Balance {
    match load_balancing {
        LoadBalancing::RoundRobin => Balance::RoundRobin,
        LoadBalancing::Random => Balance::Random,
        LoadBalancing::LeastConn => Balance::LeastConn,
    }
}

/// Inserts under the first of the names of `text` that no other text has taken.
fn insert_named<V>(map: &mut BTreeMap<u64, V>, text: &str, value: V) -> u64 {
    let free = names(text).find(|name| !map.contains_key(name));
    // There are more names than a map can hold.
    let name = free.unwrap_or_default();
    map.insert(name, value);
    name
}

/// The names that something called `text` may have in the maps: its hash, and the hashes of variations of it.
pub(super) fn names(text: &str) -> impl Iterator<Item = u64> {
    let variations = (1_u32..).map(move |variation| hash(&format!("{text}#{variation}")));
    std::iter::once(hash(text)).chain(variations)
}

/// FNV-1a, 64 bits: names must hash alike in every version of the agent, since they outlive it in pinned maps.
/// Never 0, which means "free" there.
fn hash(text: &str) -> u64 {
    let step = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
    text.bytes().fold(0xcbf2_9ce4_8422_2325, step).max(1)
}

#[cfg(test)]
mod tests;
