//! The routing of one service port: which routes its callers take, as tables over subsets.
//!
//! It does not know frontends, and compares nothing with what is installed.

use std::{
    collections::{BTreeMap, HashMap},
    net::IpAddr,
};

use router_common::{reason::Reason, route::Balance};
use router_rules::{
    Snapshot,
    connection::{Connection, Transport},
    outlier::InForce,
    policy::PolicyId,
    snapshot::{Port, Route as Decision, RuleId, SubsetId},
    source::ClassId,
};

use super::{OnProxyDown, Route, Routing, Service, Subset, SubsetName, Table, Target, balance};

/// What the routing of every service is made from.
#[derive(Clone, Copy)]
pub(super) struct Inputs<'s> {
    pub(super) snapshot: &'s Snapshot,
    /// Keys of the limits of policies that have one.
    pub(super) limit_of: &'s BTreeMap<PolicyId, u64>,
    /// Which endpoints are left.
    pub(super) in_force: &'s InForce<'s>,
    pub(super) on_proxy_down: OnProxyDown,
}

/// What the routing of a port is made from.
#[derive(Clone, Copy)]
pub(super) struct Compiler<'s> {
    pub(super) inputs: Inputs<'s>,
    pub(super) port: &'s Port,
}

impl Compiler<'_> {
    /// The service of those who dial `dialled`, without its frontends.
    pub(super) fn service(self, dialled: Option<IpAddr>) -> Service {
        let mut tables = Tables {
            inputs: self.inputs,
            port: self.port,
            subsets: Vec::new(),
            subset_index: HashMap::new(),
            tables: Vec::new(),
            table_index: HashMap::new(),
        };
        let routing = tables.routing(dialled);
        tables.count_where_needed();
        tables.subsets.shrink_to_fit();
        tables.tables.shrink_to_fit();
        Service {
            service: self.port.service().clone(),
            transport: self.port.protocol().transport(),
            port: self.port.number(),
            frontends: Vec::new(),
            networks: Vec::new(),
            apart: None,
            subsets: tables.subsets,
            tables: tables.tables,
            routing,
        }
    }
}

/// Subsets and tables of a service, each once, in the order in which its routes name them.
struct Tables<'s> {
    inputs: Inputs<'s>,
    port: &'s Port,
    subsets: Vec<Subset>,
    /// By the policy in force as well, which may differ by the caller.
    subset_index: HashMap<(SubsetId, Option<PolicyId>), u32>,
    tables: Vec<Table>,
    table_index: HashMap<TableKey, u32>,
}

/// What makes two tables of a service differ: the rule, where none stands for "no rule matched", and the policy in
/// force at each of its targets.
type TableKey = (Option<RuleId>, Box<[Option<PolicyId>]>);

fn table_key(decision: &Decision<'_>) -> TableKey {
    let policies = decision.targets().map(|(subset, _)| decision.policy(subset));
    (decision.rule().map(|rule| rule.id()), policies.collect())
}

impl<'s> Tables<'s> {
    fn routing(&mut self, dialled: Option<IpAddr>) -> Routing {
        let (snapshot, port) = (self.inputs.snapshot, self.port);
        if port.needs_proxy() {
            let default = snapshot.default_route(port);
            return Routing::Uniform(self.proxy(&default));
        }
        let of_class = |class| Connection {
            class: ClassId(class),
            client: None,
            dialled,
        };
        // The default route comes first: tables are in the order in which routes name them.
        let unknown = self.route(of_class(0));
        let classes: Vec<_> = (1..snapshot.class_count())
            .map(|class| self.route(of_class(class)))
            .collect();
        // Today's known callers may all take the same route as an unknown one, and yet the next may not.
        let is_uniform = classes.iter().all(|route| *route == unknown);
        if is_uniform && !self.is_undecided(of_class(0)) {
            return Routing::Uniform(unknown);
        }
        Routing::BySource { unknown, classes }
    }

    /// The route of those of whom this much is known. When more would have to be known, the proxy decides, which
    /// knows more; a datagram has no proxy, and a miss is never permission.
    fn route(&mut self, connection: Connection) -> Route {
        let (snapshot, port) = (self.inputs.snapshot, self.port);
        if !self.is_undecided(connection) {
            let decision = snapshot.route_connection(port, connection);
            return match self.direct(&decision) {
                // Only the proxy can hold bytes up, or reset a connection that is established.
                Route::Weighted(_) if decision.l4_fault().is_some() => self.proxy(&decision),
                route => route,
            };
        }
        match port.protocol().transport() {
            Transport::Tcp => self.proxy(&snapshot.default_route(port)),
            Transport::Udp => Route::Refuse(Reason::UnknownCaller),
        }
    }

    /// True when a rule, or the policy of where the connection would go, asks for more than is known of the caller.
    fn is_undecided(&self, connection: Connection) -> bool {
        let (snapshot, port) = (self.inputs.snapshot, self.port);
        let decision = snapshot.route_connection(port, connection);
        let mut targets = decision.targets();
        let is_unknown = connection.class == ClassId::UNKNOWN;
        is_unknown && targets.any(|(subset, _)| subset.tells_callers_apart())
            || snapshot.is_undecided(port, connection)
    }

    /// To the proxy, and by `fallback` while it is down.
    fn proxy(&mut self, fallback: &Decision<'s>) -> Route {
        let fallback = self.table(fallback);
        match self.inputs.on_proxy_down {
            OnProxyDown::Direct => Route::Proxy(fallback),
            OnProxyDown::Reject => Route::ProxyOrRefuse(fallback),
        }
    }

    fn direct(&mut self, decision: &Decision<'s>) -> Route {
        let reachable = |&(subset, weight): &(&router_rules::snapshot::Subset, u32)| {
            weight > 0 && !subset.endpoints().is_empty()
        };
        if decision.targets().all(|(_, weight)| weight == 0) {
            return Route::Refuse(Reason::NoWeight);
        }
        if !decision.targets().any(|target| reachable(&target)) {
            return Route::Refuse(Reason::NoEndpoints);
        }
        self.table(decision)
            .map_or(Route::Refuse(Reason::NoWeight), Route::Weighted)
    }

    /// The table of a decision; none when every weight is zero.
    fn table(&mut self, decision: &Decision<'s>) -> Option<u32> {
        let key = table_key(decision);
        if let Some(&table) = self.table_index.get(&key) {
            return Some(table);
        }
        let targets: Vec<Target> = decision
            .targets()
            .map(|(subset, weight)| Target {
                of: name(subset),
                weight,
                subset: (weight > 0).then(|| self.subset(decision, subset)),
            })
            .collect();
        let pattern = decision.rule().map_or(&[0][..], |rule| rule.table().slots());
        // A target of weight zero has no subset and no slot either.
        let slots: Vec<u32> = pattern
            .iter()
            .filter_map(|&target| targets.get(usize::from(target))?.subset)
            .collect();
        if slots.is_empty() {
            return None;
        }
        let table = self.tables.len() as u32;
        self.tables.push(Table {
            rule: decision.rule().map(|rule| rule.origin().object.clone()),
            targets,
            slots,
        });
        self.table_index.insert(key, table);
        Some(table)
    }

    /// Once every subset is known: endpoints of one service may be in several of its subsets, and `LEAST_CONN` in one
    /// of them wants to know of the connections made through the others.
    fn count_where_needed(&mut self) {
        let compared = self.subsets.iter().any(|s| s.balance == Balance::LeastConn);
        for subset in &mut self.subsets {
            subset.counted = compared || subset.limit.is_some();
        }
    }

    fn subset(&mut self, decision: &Decision<'_>, subset: &router_rules::snapshot::Subset) -> u32 {
        let policy = decision.policy(subset);
        let key = (subset.id(), policy);
        if let Some(&index) = self.subset_index.get(&key) {
            return index;
        }
        let left = self.inputs.in_force.left(subset, policy);
        let mut endpoints: Vec<_> = left.map(|e| e.address.into()).collect();
        endpoints.sort_unstable();
        endpoints.dedup();
        endpoints.shrink_to_fit();
        let wanted = Subset {
            of: name(subset),
            policy: policy.map(|id| self.inputs.snapshot.policy(id).origin.object.clone()),
            limit: policy.and_then(|id| self.inputs.limit_of.get(&id).copied()),
            balance: balance(decision.load_balancing(subset)),
            counted: false,
            endpoints,
        };
        let known = self.subsets.iter().position(|known| {
            known.endpoints == wanted.endpoints
                && known.balance == wanted.balance
                && known.limit == wanted.limit
        });
        let index = known.unwrap_or(self.subsets.len()) as u32;
        if known.is_none() {
            self.subsets.push(wanted);
        }
        self.subset_index.insert(key, index);
        index
    }
}

fn name(subset: &router_rules::snapshot::Subset) -> SubsetName {
    SubsetName {
        service: subset.service().clone(),
        port: subset.port(),
        labels: subset.labels().clone(),
    }
}
