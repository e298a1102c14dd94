//! Ties in precedence, and rules behind others that take everything they could match. It does not know which services
//! exist.

use std::collections::HashMap;

use router_rules::{
    id::ServiceName,
    labels::Labels,
    model::{Match, Rule},
    source::SourceMatch,
    text::TextMatch,
};

use super::{Placed, transport};
use crate::finding::{Finding, codes};

/// Rules of one destination that each later one is compared with. Identical conditions are found among all.
const MAX_COMPARED: usize = 200;

/// Looks at the rules of each destination in their order.
pub(super) fn review(rules: &[Placed<'_, Rule>], findings: &mut Vec<Finding>) {
    for mut rules in by_destination(rules) {
        rules.sort_by_key(|r| r.item.rank());
        for pair in rules.windows(2) {
            if pair[0].item.precedence == pair[1].item.precedence {
                tie(pair[0], pair[1], findings);
            }
        }
        unreachable(&rules, findings);
    }
}

/// Looks for rules of one destination behind others that take everything they could match.
pub(in crate::compile) fn hidden(rules: &[Placed<'_, Rule>], findings: &mut Vec<Finding>) {
    for mut rules in by_destination(rules) {
        rules.sort_by_key(|r| r.item.rank());
        unreachable(&rules, findings);
    }
}

fn by_destination<'r, 'd>(rules: &'r [Placed<'d, Rule>]) -> impl Iterator<Item = Vec<&'r Placed<'d, Rule>>> {
    let mut by_destination: HashMap<&ServiceName, Vec<_>> = HashMap::new();
    for rule in rules {
        let same = by_destination.entry(&rule.item.destination).or_default();
        same.push(rule);
    }
    by_destination.into_values()
}

fn tie(earlier: &Placed<'_, Rule>, later: &Placed<'_, Rule>, findings: &mut Vec<Finding>) {
    let other = &earlier.item.origin;
    let precedence = earlier.item.precedence;
    let message = format!("{other} has precedence {precedence} too; it is tried first because of its name");
    let hint = "give the rules of a destination different precedences";
    findings.push(
        later
            .position
            .finding(&codes::PRECEDENCE_TIE, "precedence", message, hint),
    );
}

fn unreachable(rules: &[&Placed<'_, Rule>], findings: &mut Vec<Finding>) {
    let mut catch_all: Option<&Placed<'_, Rule>> = None;
    let mut seen: HashMap<String, &Placed<'_, Rule>> = HashMap::new();
    let mut earlier: Vec<&Placed<'_, Rule>> = Vec::new();
    for &rule in rules {
        let same = || seen.get(&format!("{:?}", rule.item.any_of)).copied();
        let wider = || {
            earlier
                .iter()
                .copied()
                .find(|other| covers(&other.item, &rule.item))
        };
        let blocker = catch_all
            .map(|r| (r, "takes everything"))
            .or_else(|| Some((same()?, "has the same conditions")))
            .or_else(|| Some((wider()?, "takes everything that this could match")));
        if let Some((earlier, how)) = blocker {
            let message = format!("{} is tried before and {how}", earlier.item.origin);
            let hint = "give this rule the higher precedence, or remove it";
            findings.push(rule.position.finding(&codes::UNREACHABLE_RULE, "", message, hint));
        } else if rule.item.any_of.is_empty() {
            catch_all = Some(rule);
        } else {
            seen.insert(format!("{:?}", rule.item.any_of), rule);
            if earlier.len() < MAX_COMPARED {
                earlier.push(rule);
            }
        }
    }
}

/// True when it is certain that `wide` matches whatever `narrow` matches.
fn covers(wide: &Rule, narrow: &Rule) -> bool {
    let covered = |narrow: &Match| wide.any_of.iter().any(|wide| implies(narrow, wide));
    !narrow.any_of.is_empty() && narrow.any_of.iter().all(covered)
}

/// True when it is certain that `wide` holds wherever `narrow` holds.
fn implies(narrow: &Match, wide: &Match) -> bool {
    // Taken apart, so that no condition is forgotten here.
    let Match {
        source,
        transport,
        path,
        method,
        scheme,
        authority,
        headers,
    } = wide;
    let of_header = |name| {
        narrow
            .headers
            .iter()
            .find(|(other, _)| other == name)
            .map(|(_, wanted)| wanted)
    };
    let parts = [
        (path, &narrow.path),
        (method, &narrow.method),
        (scheme, &narrow.scheme),
        (authority, &narrow.authority),
    ];
    source_implies(narrow.source.as_ref(), source.as_ref())
        && transport::implies(narrow.transport.as_ref(), transport.as_ref())
        && parts.iter().all(|(wide, narrow)| {
            wide.as_ref()
                .is_none_or(|wide| narrow.as_ref().is_some_and(|narrow| text_implies(narrow, wide)))
        })
        && headers
            .iter()
            .all(|(name, wide)| of_header(name).is_some_and(|narrow| text_implies(narrow, wide)))
}

fn source_implies(narrow: Option<&SourceMatch>, wide: Option<&SourceMatch>) -> bool {
    let Some(wide) = wide else { return true };
    let any = Labels::default();
    let labels = narrow.map_or(&any, |narrow| &narrow.labels);
    let service = wide.service.is_none() || narrow.is_some_and(|narrow| narrow.service == wide.service);
    service && wide.labels.select(labels)
}

fn text_implies(narrow: &TextMatch, wide: &TextMatch) -> bool {
    match (narrow, wide) {
        (_, TextMatch::Present) => true,
        (TextMatch::Exact(text), wide) => wide.matches(text),
        (TextMatch::Prefix(narrow), TextMatch::Prefix(wide)) => narrow.starts_with(wide),
        (TextMatch::Regex(narrow), TextMatch::Regex(wide)) => narrow == wide,
        _ => false,
    }
}
