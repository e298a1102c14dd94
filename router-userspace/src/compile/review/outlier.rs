//! Policies that mean to eject endpoints and never can. It changes nothing.

use std::collections::{BTreeSet, HashMap};

use router_rules::{
    id::ServiceName,
    labels::Labels,
    model::{Rule, Service},
    policy::{OutlierDetection, Policy},
};

use crate::{
    compile::Placed,
    finding::{Finding, codes},
};

/// Looks at the policies that eject.
pub(super) fn review(
    services: &HashMap<&ServiceName, &Service>,
    rules: &[Placed<'_, Rule>],
    policies: &[Placed<'_, Policy>],
    findings: &mut Vec<Finding>,
) {
    let mut routed: HashMap<&ServiceName, BTreeSet<&Labels>> = HashMap::new();
    for target in rules.iter().flat_map(|rule| &rule.item.targets) {
        routed.entry(&target.service).or_default().insert(&target.labels);
    }
    for policy in policies {
        let item = &policy.item;
        let Some((settings, service)) = item.outlier_detection.zip(services.get(&item.destination)) else {
            continue;
        };
        let nowhere = BTreeSet::new();
        let pools = Pools {
            policy: item,
            policies,
            service,
            routed: routed.get(&item.destination).unwrap_or(&nowhere),
        };
        if let Some((message, hint)) = pools.fault(&settings) {
            let field = "circuitBreaker";
            findings.push(policy.position.finding(&codes::NO_EJECTION, field, message, hint));
        }
    }
}

/// What a policy's endpoints are balanced in.
struct Pools<'p> {
    policy: &'p Policy,
    policies: &'p [Placed<'p, Policy>],
    service: &'p Service,
    /// Labels that rules route to.
    routed: &'p BTreeSet<&'p Labels>,
}

impl Pools<'_> {
    /// Why nobody is ever ejected, from some of them at least, and what to do about it.
    fn fault(&self, settings: &OutlierDetection) -> Option<(String, String)> {
        let service = self.service;
        if service.ports.is_empty() {
            return None;
        }
        if !service.ports.iter().any(|port| port.protocol.is_http()) {
            let message = format!(
                "{} has no HTTP port, and nobody sees what becomes of connections that the kernel routes",
                service.name
            );
            let hint = "name the port http-…, http2-… or grpc-…, or set its appProtocol";
            return Some((message, hint.to_owned()));
        }
        let percent = u64::from(settings.max_ejection_percent);
        if percent == 0 {
            let message = "at most 0 % of the endpoints may be ejected, which is none";
            return Some((
                message.to_owned(),
                "leave `httpMaxEjectionPercent` out for 10".to_owned(),
            ));
        }
        let mut without: Vec<_> = self.sizes().collect();
        without.retain(|(size, _)| *size == 1 || percent * size < 100);
        let (size, of) = without.first()?;
        let others = match without.len() - 1 {
            0 => String::new(),
            more => format!(" (and {more} more)"),
        };
        Some(if *size == 1 {
            let message =
                format!("{of}{others} has one endpoint, which is ejected to no effect or not at all");
            (
                message,
                "add endpoints: there is no other to send requests to".to_owned(),
            )
        } else {
            let enough = 100_u64.div_ceil(*size);
            let message = format!("{percent} % of the {size} endpoints of {of}{others} is less than one");
            (message, format!("`httpMaxEjectionPercent: {enough}` allows one"))
        })
    }

    /// Number of endpoints and name of each pool; without empty ones, of which others speak.
    fn sizes(&self) -> impl Iterator<Item = (u64, String)> {
        static EVERY_INSTANCE: Labels = Labels::new();
        let own = self
            .routed
            .iter()
            .copied()
            .filter(|labels| self.is_in_force(labels));
        let all = Some(&EVERY_INSTANCE).filter(|labels| self.routed.is_empty() && self.is_in_force(labels));
        own.chain(all).filter_map(|labels| {
            let ports = self.service.ports.iter().filter(|port| port.protocol.is_http());
            let count = |port: &router_rules::model::Port| {
                let carriers = port.endpoints.iter().filter(|e| labels.select(&e.labels));
                carriers.count() as u64
            };
            let largest = ports.map(count).max().filter(|count| *count > 0)?;
            let name = if labels.is_empty() {
                self.service.name.to_string()
            } else {
                format!("{} {labels}", self.service.name)
            };
            Some((largest, name))
        })
    }

    /// True when instances with these labels, explicitly routed to, are under this policy rather than another.
    fn is_in_force(&self, labels: &Labels) -> bool {
        let same = self.policies.iter().map(|other| &other.item);
        let of_service = same.filter(|other| other.destination == self.policy.destination);
        let applies = |policy: &Policy| policy.labels.select(labels);
        let more_particular =
            |other: &Policy| applies(other) && other.labels.len() > self.policy.labels.len();
        applies(self.policy) && !of_service.into_iter().any(more_particular)
    }
}
