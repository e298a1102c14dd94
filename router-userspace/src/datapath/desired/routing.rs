//! The routing of one service port: which routes its callers take, as tables over subsets.
//!
//! It does not know frontends, and compares nothing with what is installed.

use std::collections::{BTreeMap, HashMap};

use router_common::{reason::Reason, route::Balance};
use router_rules::{
    Snapshot,
    explain::{Outcome, explain},
    matcher::Mismatch,
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

/// The service of `port`, without its frontends.
pub(super) fn service(inputs: Inputs<'_>, port: &Port) -> Service {
    let Inputs {
        snapshot,
        limit_of,
        in_force,
        on_proxy_down,
    } = inputs;
    let mut tables = Tables {
        snapshot,
        limit_of,
        in_force,
        on_proxy_down,
        subsets: Vec::new(),
        subset_index: HashMap::new(),
        tables: Vec::new(),
        table_index: HashMap::new(),
    };
    let routing = tables.routing(port);
    tables.count_where_needed();
    Service {
        service: port.service().clone(),
        port: port.number(),
        frontends: Vec::new(),
        subsets: tables.subsets,
        tables: tables.tables,
        routing,
    }
}

/// Subsets and tables of a service, each once, in the order in which its routes name them.
struct Tables<'s> {
    snapshot: &'s Snapshot,
    limit_of: &'s BTreeMap<PolicyId, u64>,
    in_force: &'s InForce<'s>,
    on_proxy_down: OnProxyDown,
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

impl Tables<'_> {
    fn routing(&mut self, port: &Port) -> Routing {
        if port.needs_proxy() {
            return Routing::Uniform(self.proxy(port));
        }
        let snapshot = self.snapshot;
        let decide = |class| snapshot.route_tcp(port, ClassId(class));
        let classes = 1..snapshot.class_count();
        let of_unknown = table_key(&decide(0));
        let by_source = classes
            .clone()
            .any(|class| table_key(&decide(class)) != of_unknown);
        if !by_source && !asks_for_caller(snapshot, port) {
            return Routing::Uniform(self.direct(&decide(0)));
        }
        Routing::BySource {
            unknown: self.proxy(port),
            classes: classes.map(|class| self.direct(&decide(class))).collect(),
        }
    }

    fn proxy(&mut self, port: &Port) -> Route {
        let default = self.table(&self.snapshot.default_route(port));
        match self.on_proxy_down {
            OnProxyDown::Direct => Route::Proxy(default),
            OnProxyDown::Reject => Route::ProxyOrRefuse(default),
        }
    }

    fn direct(&mut self, decision: &Decision<'_>) -> Route {
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
    fn table(&mut self, decision: &Decision<'_>) -> Option<u32> {
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
        let left = self.in_force.left(subset, policy);
        let mut endpoints: Vec<_> = left.map(|e| e.address.into()).collect();
        endpoints.sort_unstable();
        endpoints.dedup();
        let wanted = Subset {
            of: name(subset),
            policy: policy.map(|id| self.snapshot.policy(id).origin.object.clone()),
            limit: policy.and_then(|id| self.limit_of.get(&id).copied()),
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

/// True when an unknown caller was turned away from a rule or a policy for being unknown. Today's known callers may
/// all take the same route, and yet the next one may not: a miss is never permission.
fn asks_for_caller(snapshot: &Snapshot, port: &Port) -> bool {
    let unknown = snapshot.route_tcp(port, ClassId::UNKNOWN);
    if unknown.targets().any(|(subset, _)| subset.tells_callers_apart()) {
        return true;
    }
    let steps = explain(snapshot, port, ClassId::UNKNOWN, None);
    let by_source = |reason: &Mismatch| matches!(reason, Mismatch::Source { .. });
    steps
        .iter()
        .any(|step| matches!(&step.outcome, Outcome::NotMatched(reasons) if reasons.iter().any(by_source)))
}
