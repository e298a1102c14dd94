//! Destinations at whatever address the client has chosen: networks, and hosts below a name. What a client has chosen
//! for another service is no address of theirs. It changes nothing.

use std::collections::BTreeMap;

use router_rules::{external::External, id::ServiceName, model::Rule};

use super::super::Placed;
use crate::finding::{Finding, codes};

/// Reports routes and mirrors into such a destination from a rule for another.
pub(super) fn review(
    rule: &Placed<'_, Rule>,
    externals: &BTreeMap<ServiceName, External>,
    findings: &mut Vec<Finding>,
) {
    let targets = rule.item.targets.iter().enumerate();
    let targets = targets.map(|(index, target)| (format!("route[{index}].destination"), &target.service));
    let mirrors = rule.item.mirrors.iter();
    let mirrors = mirrors.map(|mirror| ("mirror".to_owned(), &mirror.service));
    for (field, service) in targets.chain(mirrors) {
        let is_own = *service == rule.item.destination;
        let is_chosen = |external: &External| external.endpoint().is_some();
        if is_own || !externals.get(service).is_some_and(is_chosen) {
            continue;
        }
        let message = format!(
            "{service} is reached at the address that a client has chosen, and clients of {} have chosen another",
            rule.item.destination
        );
        let hint = "route to an egress rule of one address or name";
        let finding = rule
            .position
            .finding(&codes::NO_ADDRESS_OF_ITS_OWN, &field, message, hint);
        findings.push(finding);
    }
}
