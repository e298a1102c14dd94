//! How the ports of the node differ: their rules, where these lead, and what they prove to be.

use std::collections::BTreeSet;

use router_rules::{
    Snapshot, explain,
    gateway::{Entrance, EntranceRule},
};

use super::{PortEffect, RuleEffect, RuleView, Values, Versions, rule};
use crate::admin::certificate;

/// What stands for the service in the title of a port of the node.
const INGRESS: &str = "ingress";

/// The ports that differ.
pub(super) fn between(before: &Snapshot, after: &Snapshot) -> Vec<PortEffect> {
    let sides = [before, after];
    let ports: BTreeSet<u16> = sides
        .iter()
        .flat_map(|snapshot| snapshot.gateways())
        .map(Entrance::port)
        .collect();
    let port = |number| {
        let [old, new] = sides.map(|snapshot| snapshot.gateway(number).map(|entrance| (snapshot, entrance)));
        let there = |side: Option<_>| side.map(|_| "proxy".to_owned());
        PortEffect {
            service: INGRESS.to_owned(),
            port: number,
            routed_by: Versions {
                before: there(old),
                after: there(new),
            },
            rules: rules(old, new),
            unmatched: None,
        }
    };
    ports.into_iter().map(port).filter(PortEffect::differs).collect()
}

type Side<'s> = Option<(&'s Snapshot, &'s Entrance)>;

/// Rules after, in their order; then those that went.
fn rules(old: Side<'_>, new: Side<'_>) -> Vec<RuleEffect> {
    let views = |side: Side<'_>| -> Vec<(String, RuleView)> {
        let rules = side.into_iter().flat_map(|(snapshot, entrance)| {
            let rules = entrance.rules().iter();
            rules.map(move |rule| (rule.origin().object.to_string(), view(snapshot, entrance, rule)))
        });
        rules.collect()
    };
    let (old, new) = (views(old), views(new));
    let of = |views: &'_ [(String, RuleView)], name: &str| views.iter().position(|(of, _)| of == name);
    let gone = old.iter().filter(|(name, _)| of(&new, name).is_none());
    let names = new.iter().chain(gone).map(|(name, _)| name);
    names
        .map(|name| {
            let before = of(&old, name).map(|at| &old[at].1);
            let after = of(&new, name).map(|at| &new[at].1);
            rule(name, before, after, &BTreeSet::new())
        })
        .collect()
}

fn view(snapshot: &Snapshot, entrance: &Entrance, rule: &EntranceRule) -> RuleView {
    let (service, port) = rule.leads_to();
    let mut actions: Values = vec![("precedence", rule.precedence().to_string())];
    let conditions = explain::conditions_of_entrance(snapshot, rule);
    if !conditions.is_empty() {
        actions.push(("match", conditions.join(" or ")));
    }
    actions.push(("to", format!("{service}:{port}")));
    let own = entrance
        .credentials()
        .iter()
        .find(|credential| Some(&*credential.secret) == rule.secret());
    actions.extend(own.map(|credential| {
        let shown = certificate(credential);
        let names = shown.names.join(", ");
        (
            "certificate",
            format!("{} for {names} until {}", shown.secret, shown.until),
        )
    }));
    RuleView {
        actions,
        targets: Vec::new(),
    }
}
