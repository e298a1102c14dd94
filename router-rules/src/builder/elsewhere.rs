//! The port of hosts that are nobody's: there while some services are known by the names that clients send.

use super::{Builder, EVERY_INSTANCE_WEIGHT};
use crate::{
    external::{External, ORIGINAL_DESTINATION, at},
    id::ServiceName,
    index::RuleIndex,
    labels::Labels,
    model::Protocol,
    snapshot::{Port, PortId, Subset, SubsetId},
};

/// What access records call the service of such hosts; no service can be called so.
const NAME: &str = "*";

impl Builder<'_> {
    /// A port that is none of the services': whatever address was dialled, without rules and policies. It is in no index.
    pub(super) fn elsewhere(&mut self) -> Option<Port> {
        let by_name = |external: &External| matches!(external, External::Below(_));
        if !self.externals.values().any(by_name) {
            return None;
        }
        let subsets = &mut self.draft.subsets;
        let id = SubsetId(subsets.len() as u32);
        subsets.push(Subset {
            id,
            service: ServiceName::new(NAME),
            port: 0,
            protocol: Protocol::Http,
            labels: Labels::new(),
            policies: Box::default(),
            endpoints: vec![at(ORIGINAL_DESTINATION)].into(),
        });
        Some(Port {
            id: PortId(u32::MAX),
            service: ServiceName::new(NAME),
            number: 0,
            protocol: Protocol::Http,
            frontends: Vec::new(),
            external: Some(External::Below("".into())),
            rules: Vec::new(),
            index: RuleIndex::new([]),
            unrouted: (id, EVERY_INSTANCE_WEIGHT),
            policy_looks_at_requests: false,
            l4_faults: false,
        })
    }
}
