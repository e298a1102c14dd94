//! The fake maps walked as the kernel walks them: connections, and what a connection would be up against.
//!
//! It writes nothing but cursors and counters, as the kernel does.

use router_common::{
    reason::Reason,
    route::{Balance, RouteKind, RouteWord, TABLE_HEADER, slot_of},
    service::FrontendKey,
};

use super::FakeMaps;
use crate::datapath::desired::EndpointKey;

/// Where a connection went.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Verdict {
    NotAService,
    Proxied,
    Routed {
        endpoint: EndpointKey,
        endpoint_id: u32,
        limit: u32,
        counted: bool,
    },
    Refused(Reason),
}

/// What a word leads to, resolved to names: comparable between maps with different ids and places.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Meaning {
    Nothing,
    Refuse(u8),
    Table {
        kind: u8,
        slots: Vec<(Vec<EndpointKey>, u32, Option<u64>)>,
    },
}

impl FakeMaps {
    /// Connects as the kernel does.
    pub(crate) fn connect(&mut self, frontend: FrontendKey, cgroup: u64) -> Verdict {
        let Some(&service) = self.frontends.get(&frontend) else {
            return Verdict::NotAService;
        };
        let verdict = self.route(self.word_for(service, cgroup));
        let counters = &mut self.services[service as usize];
        match verdict {
            Verdict::NotAService => {}
            Verdict::Proxied => counters.proxied += 1,
            Verdict::Routed { .. } => counters.routed += 1,
            Verdict::Refused(_) => counters.refused += 1,
        }
        verdict
    }

    /// Gives back what [`FakeMaps::connect`] reserved.
    pub(crate) fn close(&mut self, verdict: Verdict) {
        if let Verdict::Routed {
            endpoint_id,
            limit,
            counted: true,
            ..
        } = verdict
        {
            self.endpoint_states[endpoint_id as usize].active -= 1;
            if limit != 0 {
                self.limits[limit as usize].active -= 1;
            }
        }
    }

    fn word_for(&self, service: u32, cgroup: u64) -> RouteWord {
        let word = self.services[service as usize].word();
        if word.kind() != RouteKind::BySource as u8 {
            return word;
        }
        let class = self.sources.get(&cgroup).copied().unwrap_or(0);
        let class = if class < u32::from(word.len()) { class } else { 0 };
        RouteWord(self.slots[(word.base() + class) as usize])
    }

    fn route(&mut self, word: RouteWord) -> Verdict {
        let kind = word.kind();
        let proxy = [RouteKind::Proxy as u8, RouteKind::ProxyOrRefuse as u8].contains(&kind);
        if proxy && self.proxy_up {
            return Verdict::Proxied;
        }
        if kind == RouteKind::Refuse as u8 {
            return Verdict::Refused(Reason::from_number(word.detail()).unwrap());
        }
        if kind == RouteKind::ProxyOrRefuse as u8 {
            return Verdict::Refused(Reason::ProxyDown);
        }
        if word.is_empty() {
            return Verdict::Refused(Reason::NoWeight);
        }
        let cursor = &mut self.slots[(word.base() - TABLE_HEADER) as usize];
        let slot = slot_of(*cursor, word.len());
        *cursor += 1;
        self.pick(self.slots[(word.base() + slot) as usize] as usize)
    }

    fn pick(&mut self, index: usize) -> Verdict {
        let subset = &mut self.subsets[index];
        if subset.endpoint_count == 0 {
            return Verdict::Refused(Reason::NoEndpoints);
        }
        // Every balance in turn: which endpoint is drawn does not matter to what is tested with these maps.
        let turn = (subset.cursor % u64::from(subset.endpoint_count)) as u32;
        subset.cursor += u64::from(subset.balance == Balance::RoundRobin as u32);
        let counted = subset.counted != 0;
        let (limit, endpoint) = (subset.limit, self.endpoints[(subset.endpoints + turn) as usize]);
        if limit != 0 {
            let limit = &mut self.limits[limit as usize];
            if limit.active >= limit.max {
                limit.refused += 1;
                return Verdict::Refused(Reason::LimitReached);
            }
            limit.active += 1;
        }
        let state = &mut self.endpoint_states[endpoint.id as usize];
        state.active += u64::from(counted);
        state.connects += 1;
        Verdict::Routed {
            endpoint: EndpointKey {
                addr: endpoint.addr,
                port: endpoint.port,
            },
            endpoint_id: endpoint.id,
            limit,
            counted,
        }
    }

    /// What a connection would be up against, without making it.
    pub(crate) fn meaning(&self, frontend: FrontendKey, cgroup: u64) -> Meaning {
        let Some(&service) = self.frontends.get(&frontend) else {
            return Meaning::Nothing;
        };
        let word = self.word_for(service, cgroup);
        if word.kind() == RouteKind::Refuse as u8 {
            return Meaning::Refuse(word.detail());
        }
        let slots = (0..u32::from(word.len())).map(|n| self.slots[(word.base() + n) as usize]);
        Meaning::Table {
            kind: word.kind(),
            slots: slots.map(|index| self.subset_meaning(index as usize)).collect(),
        }
    }

    fn subset_meaning(&self, index: usize) -> (Vec<EndpointKey>, u32, Option<u64>) {
        let subset = self.subsets[index];
        let entries = subset.endpoints..subset.endpoints + subset.endpoint_count;
        let endpoints = entries.map(|at| {
            let entry = self.endpoints[at as usize];
            EndpointKey {
                addr: entry.addr,
                port: entry.port,
            }
        });
        let limit = (subset.limit != 0).then(|| self.limits[subset.limit as usize].name);
        (endpoints.collect(), subset.balance, limit)
    }
}
