//! What a rule asks of the transport: its kind, and the subnets that both ends must be in.

use router_rules::{
    cidr::{self, Subnets},
    connection::{Transport, TransportMatch},
    model::Match,
};

use super::Compiler;
use crate::{config::rules_v1alpha1 as dsl, finding::codes};

impl Compiler<'_> {
    /// The alternatives that `condition` stands for. A call has one transport: `tcp` and `udp` together are two.
    pub(in crate::compile) fn alternatives(&mut self, condition: &dsl::MatchCondition) -> Vec<Match> {
        let compiled = self.condition(condition);
        let transports = [
            (Transport::Tcp, "match.tcp", &condition.tcp),
            (Transport::Udp, "match.udp", &condition.udp),
        ];
        let mut alternatives = Vec::new();
        for (transport, field, written) in transports {
            let Some(written) = written else { continue };
            let transport = TransportMatch {
                transport,
                sources: self.subnets(&format!("{field}.sourceSubnet"), written.source_subnet.as_deref()),
                destinations: self.subnets(
                    &format!("{field}.destinationSubnet"),
                    written.destination_subnet.as_deref(),
                ),
            };
            alternatives.push(Match {
                transport: Some(transport),
                ..compiled.clone()
            });
        }
        if alternatives.is_empty() && !compiled.is_empty() {
            alternatives.push(compiled);
        }
        alternatives
    }

    fn subnets(&mut self, field: &str, written: Option<&[String]>) -> Subnets {
        let mut subnets = Vec::new();
        for (index, text) in written.unwrap_or_default().iter().enumerate() {
            match cidr::parse(text) {
                Ok(subnet) => subnets.push(subnet),
                Err(error) => {
                    let field = format!("{field}[{index}]");
                    let hint = "write an address, or an address and a prefix length: 10.0.0.0/8, fd00::/8";
                    self.report(&codes::INVALID_SUBNET, &field, error.to_string(), hint);
                }
            }
        }
        subnets.into_iter().collect()
    }
}
