//! Two configurations → how routes differ, port by port, rule by rule, share by share. It knows no files and no text of
//! rules: what it says is what the snapshots do.

mod gateways;
mod text;

use std::collections::{BTreeMap, BTreeSet};

use http::HeaderMap;
use router_rules::{
    Snapshot, explain,
    model::{Model, Rule as ModelRule},
    snapshot::{Port, Rule, Subset, SubsetId},
};
use serde::Serialize;

use crate::{admin::explain::words, cli::output::counted};

/// How the routes of two configurations differ.
#[derive(Debug, PartialEq, Serialize)]
pub(super) struct Effect {
    /// Ports whose routes differ.
    pub(super) ports: Vec<PortEffect>,
}

/// How the routes of a service port differ.
#[derive(Debug, PartialEq, Serialize)]
pub(super) struct PortEffect {
    /// The service's name.
    service: String,
    /// Its port.
    port: u16,
    /// `kernel` or `proxy`.
    routed_by: Versions,
    /// Rules in the order of evaluation, those that go where they were.
    rules: Vec<RuleEffect>,
    /// What no rule matches; none: a rule matches everything, before and after.
    unmatched: Option<TargetEffect>,
}

/// What becomes of something.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Fate {
    /// It is new.
    Added,
    /// It goes.
    Removed,
    /// It differs.
    Changed,
    /// It stays as it is.
    Same,
}

/// A value before and after.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Versions {
    before: Option<String>,
    after: Option<String>,
}

/// How a rule differs.
#[derive(Debug, PartialEq, Serialize)]
pub(super) struct RuleEffect {
    /// Kind and name.
    rule: String,
    fate: Fate,
    /// True when other requests match it than before.
    conditions_differ: bool,
    /// Precedence, timeout, retries and the like by name; those it never had are left out.
    actions: Vec<Attribute>,
    /// Where it sends.
    targets: Vec<TargetEffect>,
}

/// How a destination of a rule differs.
#[derive(Debug, PartialEq, Serialize)]
pub(super) struct TargetEffect {
    /// Labels of the instances, after the service's name when it is another.
    instances: String,
    fate: Fate,
    /// Share, load balancing, limit, endpoints.
    attributes: Vec<Attribute>,
}

/// Something that has a value before, after, or both.
#[derive(Debug, PartialEq, Serialize)]
pub(super) struct Attribute {
    name: &'static str,
    #[serde(flatten)]
    versions: Versions,
}

/// Named values of one configuration, in the order in which they are shown.
type Values = Vec<(&'static str, String)>;

/// A destination of a rule in one configuration.
type Target = (String, Values);

/// A rule in one configuration.
#[derive(Default)]
struct RuleView {
    actions: Values,
    targets: Vec<Target>,
}

/// Compares what two models do.
pub(super) fn between(before: Model, after: Model) -> Effect {
    let differing = conditions_that_differ(&before.rules, &after.rules);
    let before = Snapshot::build(before, 1);
    let after = Snapshot::build(after, 2);
    let keys: BTreeSet<_> = [&before, &after]
        .iter()
        .flat_map(|snapshot| snapshot.ports())
        .map(|port| (port.service().clone(), port.number(), port.protocol().transport()))
        .collect();
    let port = |(service, number, transport)| {
        let sides = [&before, &after].map(|snapshot| {
            let port = snapshot.port_carried_of(transport, &service, number)?;
            Some((snapshot, port))
        });
        PortEffect {
            service: service.to_string(),
            port: number,
            routed_by: routed_by(sides),
            rules: rules(sides, &differing),
            unmatched: unmatched(sides),
        }
    };
    let mut ports = gateways::between(&before, &after);
    ports.extend(keys.into_iter().map(port).filter(PortEffect::differs));
    Effect { ports }
}

/// Objects whose rule matches other requests in `after`.
fn conditions_that_differ(before: &[ModelRule], after: &[ModelRule]) -> BTreeSet<String> {
    let known: BTreeMap<_, _> = before.iter().map(|rule| (&rule.origin.object, rule)).collect();
    after
        .iter()
        .filter(|rule| {
            known
                .get(&rule.origin.object)
                .is_some_and(|old| old.any_of != rule.any_of)
        })
        .map(|rule| rule.origin.object.to_string())
        .collect()
}

type Side<'s> = Option<(&'s Snapshot, &'s Port)>;

fn routed_by(sides: [Side<'_>; 2]) -> Versions {
    let name = |(_, port): (_, &Port)| words::routed_by(port);
    let [before, after] = sides.map(|side| side.map(name).map(str::to_owned));
    Versions { before, after }
}

/// Rules after, in their order; then those that went.
fn rules(sides: [Side<'_>; 2], differing: &BTreeSet<String>) -> Vec<RuleEffect> {
    let [old, new] = sides.map(|side| {
        let rules = side.into_iter().flat_map(|(snapshot, port)| {
            let rules = port.rules().iter().map(|&id| snapshot.rule(id));
            rules.map(|rule| (rule.origin().object.to_string(), view(snapshot, port, rule)))
        });
        rules.collect::<Vec<_>>()
    });
    let kept: BTreeSet<_> = new.iter().map(|(name, _)| name.clone()).collect();
    let mut earlier: BTreeMap<_, _> = old.iter().map(|(name, view)| (name.as_str(), view)).collect();
    let mut effects: Vec<_> = new
        .iter()
        .map(|(name, view)| rule(name, earlier.remove(name.as_str()), Some(view), differing))
        .collect();
    let gone = old.iter().filter(|(name, _)| !kept.contains(name));
    effects.extend(gone.map(|(name, view)| rule(name, Some(view), None, differing)));
    effects
}

fn view(snapshot: &Snapshot, port: &Port, rule: &Rule) -> RuleView {
    let mut actions = vec![("precedence", rule.precedence().to_string())];
    let conditions = explain::conditions(snapshot, rule);
    if !conditions.is_empty() {
        actions.push(("match", conditions.join(" or ")));
    }
    if port.protocol().is_http() {
        actions.push(("timeout", format!("{:?}", rule.timeout())));
        // Of a request that says nothing about itself.
        let headers = HeaderMap::new();
        let retries = rule.retries(&headers).filter(|r| r.attempts > 0);
        actions.extend(retries.map(|r| ("retries", words::retries(&r))));
        let faults = words::faults(&rule.fault(&headers));
        if !faults.is_empty() {
            actions.push(("faults", faults.join(", ")));
        }
        actions.extend(words::changes(snapshot, rule));
    }
    let faults = words::l4_faults(rule.l4_fault());
    if port.has_l4_faults() && !faults.is_empty() {
        actions.push(("connection faults", faults.join(", ")));
    }
    // A subset that a rule names twice gets both shares.
    let mut weights: Vec<(SubsetId, u32)> = Vec::new();
    for &(subset, weight) in rule.targets() {
        match weights.iter_mut().find(|(known, _)| *known == subset) {
            Some((_, sum)) => *sum += weight,
            None => weights.push((subset, weight)),
        }
    }
    let sum: u32 = weights.iter().map(|(_, weight)| weight).sum();
    let targets = weights
        .into_iter()
        .map(|(subset, weight)| target(snapshot, port, subset, Some((weight, sum))))
        .collect();
    RuleView { actions, targets }
}

/// `share` is a weight and the sum that it is a part of.
fn target(snapshot: &Snapshot, port: &Port, subset: SubsetId, share: Option<(u32, u32)>) -> Target {
    let subset = snapshot.subset(subset);
    let labels = if subset.labels().is_empty() {
        "every instance".to_owned()
    } else {
        subset.labels().to_string()
    };
    let instances = if subset.service() == port.service() {
        labels
    } else {
        format!("{} {labels}", subset.service())
    };
    let mut values = Vec::new();
    values.extend(share.map(|(weight, sum)| ("share", percent(weight, sum))));
    values.push(("load balancing", subset.load_balancing().name().to_owned()));
    let policy = subset.policy().map(|id| snapshot.policy(id));
    let limit = policy.and_then(|policy| policy.max_connections);
    values.extend(limit.map(|max| {
        (
            "limit",
            format!("at most {}", counted(max as usize, "connection")),
        )
    }));
    let requests = policy.map_or_else(Vec::new, |policy| words::http_limits(&policy.http));
    if !requests.is_empty() {
        values.push(("requests", requests.join(", ")));
    }
    let ejection = policy.and_then(|policy| policy.outlier_detection);
    values.extend(ejection.map(|settings| ("ejects", words::outlier_detection(&settings))));
    let callers = for_some_callers(snapshot, subset);
    if !callers.is_empty() {
        values.push(("for some callers", callers.join("; ")));
    }
    values.push(("endpoints", counted(subset.endpoints().len(), "endpoint")));
    (instances, values)
}

/// What policies with a source say, each for its callers: `productpage.default: RANDOM, at most 5 connections`.
fn for_some_callers(snapshot: &Snapshot, subset: &Subset) -> Vec<String> {
    let policies = subset.policies().map(|id| snapshot.policy(id));
    policies
        .filter(|policy| !policy.source.is_empty())
        .map(|policy| {
            let mut said = vec![policy.load_balancing.name().to_owned()];
            let limit = policy.max_connections;
            said.extend(limit.map(|max| format!("at most {}", counted(max as usize, "connection"))));
            said.extend(words::http_limits(&policy.http));
            let ejection = policy.outlier_detection.as_ref();
            said.extend(ejection.map(|settings| format!("ejects {}", words::outlier_detection(settings))));
            format!("{}: {}", policy.source, said.join(", "))
        })
        .collect()
}

/// `75 %`, `33.33 %`.
fn percent(weight: u32, sum: u32) -> String {
    let share = f64::from(weight) * 100.0 / f64::from(sum.max(1));
    let text = format!("{share:.2}");
    format!("{} %", text.trim_end_matches('0').trim_end_matches('.'))
}

/// Where goes what no rule matches, unless nothing is left for it.
fn unmatched(sides: [Side<'_>; 2]) -> Option<TargetEffect> {
    let [before, after] = sides.map(|side| {
        let (snapshot, port) = side?;
        let remains = snapshot.default_route(port).rule().is_none();
        remains.then(|| target(snapshot, port, port.unrouted(), None).1)
    });
    (before.is_some() || after.is_some())
        .then(|| TargetEffect::new("otherwise every instance", before.as_ref(), after.as_ref()))
}

fn rule(
    name: &str,
    before: Option<&RuleView>,
    after: Option<&RuleView>,
    differing: &BTreeSet<String>,
) -> RuleEffect {
    let nothing = RuleView::default();
    let (old, new) = (before.unwrap_or(&nothing), after.unwrap_or(&nothing));
    let actions = attributes(Some(&old.actions), Some(&new.actions));
    let find = |targets: &'_ [Target], name: &str| targets.iter().position(|(of, _)| of == name);
    let gone = old
        .targets
        .iter()
        .filter(|(name, _)| find(&new.targets, name).is_none());
    let targets: Vec<_> = new
        .targets
        .iter()
        .chain(gone)
        .map(|(name, _)| {
            let [old, new] = [old, new].map(|view| find(&view.targets, name).map(|at| &view.targets[at].1));
            TargetEffect::new(name, old, new)
        })
        .collect();
    let conditions_differ = before.is_some() && after.is_some() && differing.contains(name);
    let differs = conditions_differ
        || actions.iter().any(Attribute::differs)
        || targets.iter().any(|target| target.fate != Fate::Same);
    RuleEffect {
        rule: name.to_owned(),
        fate: Fate::of(before.is_some(), after.is_some(), differs),
        conditions_differ,
        actions,
        targets,
    }
}

fn attributes(before: Option<&Values>, after: Option<&Values>) -> Vec<Attribute> {
    let value = |values: Option<&Values>, name: &str| {
        let mut values = values.into_iter().flatten();
        values.find(|(of, _)| *of == name).map(|(_, value)| value.clone())
    };
    let mut names: Vec<&'static str> = Vec::new();
    for (name, _) in after.into_iter().chain(before).flatten() {
        if !names.contains(name) {
            names.push(name);
        }
    }
    names
        .into_iter()
        .map(|name| Attribute {
            name,
            versions: Versions {
                before: value(before, name),
                after: value(after, name),
            },
        })
        .collect()
}

impl Fate {
    const fn of(before: bool, after: bool, differs: bool) -> Self {
        match (before, after) {
            (false, true) => Self::Added,
            (true, false) => Self::Removed,
            _ if differs => Self::Changed,
            _ => Self::Same,
        }
    }
}

impl Versions {
    fn differs(&self) -> bool {
        self.before != self.after
    }
}

impl Attribute {
    fn differs(&self) -> bool {
        self.versions.differs()
    }
}

impl TargetEffect {
    fn new(instances: &str, before: Option<&Values>, after: Option<&Values>) -> Self {
        let attributes = attributes(before, after);
        let differs = attributes.iter().any(Attribute::differs);
        Self {
            instances: instances.to_owned(),
            fate: Fate::of(before.is_some(), after.is_some(), differs),
            attributes,
        }
    }
}

impl PortEffect {
    fn differs(&self) -> bool {
        self.routed_by.differs()
            || self.rules.iter().any(|rule| rule.fate != Fate::Same)
            || self
                .unmatched
                .as_ref()
                .is_some_and(|target| target.fate != Fate::Same)
    }
}

#[cfg(test)]
mod tests;
