//! Gateways of the model → entrances of the snapshot. The ports of services are there already.

use std::sync::Arc;

use super::Builder;
use crate::{
    connection::Transport,
    gateway::{Credential, Entrance, EntranceRule, Gateway, GatewayRule},
    index::RuleIndex,
};

impl Builder<'_> {
    pub(super) fn entrances(&self, gateways: &[Gateway]) -> Vec<Entrance> {
        let mut entrances: Vec<_> = gateways.iter().map(|gateway| self.entrance(gateway)).collect();
        entrances.sort_by_key(Entrance::port);
        entrances
    }

    fn entrance(&self, gateway: &Gateway) -> Entrance {
        let mut written: Vec<&GatewayRule> = gateway.rules.iter().collect();
        written.sort_by_key(|rule| rule.rank());
        let mut credentials: Vec<Arc<Credential>> = Vec::new();
        for credential in written.iter().filter_map(|rule| rule.credential.as_ref()) {
            if !credentials.iter().any(|known| known.secret == credential.secret) {
                credentials.push(credential.clone());
            }
        }
        let rules: Box<[_]> = written.into_iter().map(|rule| self.entrance_rule(rule)).collect();
        Entrance {
            port: gateway.port,
            index: RuleIndex::new(rules.iter().map(|rule| &*rule.any_of)),
            rules,
            credentials: credentials.into(),
        }
    }

    fn entrance_rule(&self, rule: &GatewayRule) -> EntranceRule {
        let key = (Transport::Tcp, rule.service.clone(), rule.service_port);
        let alternatives = rule.any_of.iter();
        EntranceRule {
            origin: rule.origin.clone(),
            precedence: rule.precedence,
            any_of: alternatives.map(|m| self.conditions(m, Transport::Tcp)).collect(),
            service: rule.service.clone(),
            service_port: rule.service_port,
            leads_to: self.draft.by_name.get(&key).copied(),
            secret: rule
                .credential
                .as_ref()
                .map(|credential| credential.secret.clone()),
        }
    }
}
