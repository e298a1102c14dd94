//! The maps as status, metrics and explanations see them: read from memory now, never remembered.
//!
//! It writes nothing. The names of services and policies, which the maps hold as hashes only, come from the mirror of
//! the last reconciliation.

use std::{
    collections::HashMap,
    io,
    net::SocketAddr,
    os::fd::AsFd as _,
    path::{Path, PathBuf},
    sync::Arc,
};

use arc_swap::ArcSwap;
use router_common::{
    abi,
    network::{BITS_BEFORE_ADDR, NetworkAddr, NetworkEntry, NetworkKey},
    reason::Reason,
    route::{Balance, RouteKind, RouteWord, TABLE_HEADER},
    service::Service,
    settings::EGRESS_REGISTRY_ONLY,
    source::SourceEntry,
};
use router_rules::{connection::Transport, id::ServiceName, snapshot::Port};

use super::{
    UpstreamIds, bpf,
    desired::frontend_key,
    kernel::{self, HookState},
    maps::Maps,
    mirror::Mirror,
};
use crate::{
    observe::{EndpointUse, Held, HeldSubset, Hook, LimitUse, MapContents, Observed, Routing, ServiceUse},
    registry::NodeCallers,
};

mod contents;

/// [`Observed`] by the kernel's maps.
#[derive(Debug)]
pub struct KernelObserver {
    maps: Arc<Maps>,
    pin_dir: PathBuf,
    callers: Arc<NodeCallers>,
    names: ArcSwap<Names>,
}

/// Indexes of the maps by the names that people use.
#[derive(Debug, Default)]
struct Names {
    /// A port is several services when rules tell its frontends apart.
    services: Arc<HashMap<(ServiceName, Transport, u16), Vec<u32>>>,
    ids: UpstreamIds,
    /// [`State::edition`](super::state::State::edition) that the services are of.
    edition: u64,
}

impl KernelObserver {
    /// Names are unknown before [`KernelObserver::follow`].
    pub fn new(maps: Arc<Maps>, pin_dir: PathBuf, callers: Arc<NodeCallers>) -> Self {
        Self {
            maps,
            pin_dir,
            callers,
            names: ArcSwap::default(),
        }
    }

    /// Takes over the names of what has been reconciled.
    pub fn follow(&self, mirror: &Mirror) {
        let state = mirror.state();
        let known = self.names.load();
        let services = if known.edition == state.edition() {
            Arc::clone(&known.services)
        } else {
            let mut services: HashMap<_, Vec<u32>> = HashMap::new();
            for installed in state.services() {
                if let Some(service) = &installed.described {
                    let key = (service.service.clone(), service.transport, service.port);
                    services.entry(key).or_default().push(installed.index);
                }
            }
            Arc::new(services)
        };
        self.names.store(Arc::new(Names {
            services,
            ids: mirror.ids().clone(),
            edition: state.edition(),
        }));
    }

    fn limit_at(&self, id: u32) -> Option<LimitUse> {
        (id != 0 && id < self.maps.limits.len()).then(|| {
            let limit = self.maps.limits.get(id);
            // More than `max` when it was lowered meanwhile, or for the few instructions that a refusal takes.
            LimitUse {
                max: limit.max,
                active: limit.active,
                refused: limit.refused,
            }
        })
    }

    fn endpoint_at(&self, id: u32) -> Option<EndpointUse> {
        (id != 0 && id < self.maps.endpoint_states.len()).then(|| {
            let state = self.maps.endpoint_states.get(id);
            EndpointUse {
                active: state.active,
                connects: state.connects,
            }
        })
    }

    fn service_at(&self, index: u32) -> Option<Service> {
        (index < self.maps.services.len()).then(|| self.maps.services.get(index))
    }

    fn cell(&self, cell: u32) -> u64 {
        if cell < self.maps.slots.len() {
            self.maps.slots.get(cell)
        } else {
            0
        }
    }

    /// The kernel's number of the class of a workload's cgroups; 0 when it knows none of them.
    fn class_of(&self, workload: Option<&str>) -> u32 {
        let Some(workload) = workload else { return 0 };
        let scanned = self.callers.scanned();
        let mut cgroups = scanned
            .iter()
            .filter(|(_, w)| &***w == workload)
            .map(|(&cgroup, _)| cgroup);
        let entry = |cgroup: u64| {
            bpf::lookup::<u64, SourceEntry>(self.maps.sources.as_fd(), &cgroup)
                .ok()
                .flatten()
        };
        cgroups.find_map(entry).map_or(0, |entry| entry.class)
    }

    /// The word for a class, as the kernel finds it.
    fn word_for(&self, word: RouteWord, class: u32) -> RouteWord {
        if word.kind() != RouteKind::BySource as u8 {
            return word;
        }
        let class = if class < u32::from(word.len()) { class } else { 0 };
        RouteWord(self.cell(word.base().saturating_add(class)))
    }

    /// True when the maps send some connection to the proxy.
    fn sends_to_proxy(&self) -> bool {
        let names = self.names.load();
        let indexes = names.services.values().flatten();
        let mut words = indexes.filter_map(|&index| Some(self.service_at(index)?.word()));
        words.any(|word| {
            let classes = if word.kind() == RouteKind::BySource as u8 {
                word.len()
            } else {
                1
            };
            (0..u32::from(classes)).any(|class| self.word_for(word, class).sends_to_proxy())
        })
    }

    fn held_by(&self, word: RouteWord) -> Held {
        let routing = routing(word);
        let slots = (0..u32::from(word.len())).map(|slot| self.cell(word.base().saturating_add(slot)) as u32);
        let mut order = Vec::new();
        let mut counts: HashMap<u32, u32> = HashMap::new();
        for subset in slots {
            let count = counts.entry(subset).or_insert_with(|| {
                order.push(subset);
                0
            });
            *count += 1;
        }
        let cursor = if word.is_empty() {
            0
        } else {
            self.cell(word.base().saturating_sub(TABLE_HEADER))
        };
        let subsets = order
            .iter()
            .filter_map(|subset| self.subset_at(*subset, counts[subset]));
        Held {
            routing,
            cursor,
            subsets: subsets.collect(),
        }
    }

    fn subset_at(&self, index: u32, slots: u32) -> Option<HeldSubset> {
        if index >= self.maps.subsets.len() {
            return None;
        }
        let subset = self.maps.subsets.get(index);
        let end = subset
            .endpoints
            .saturating_add(subset.endpoint_count)
            .min(self.maps.endpoints.len());
        let endpoint = |index| {
            let endpoint = self.maps.endpoints.get(index);
            let address = SocketAddr::new(endpoint.addr.to_ip(), endpoint.port.port());
            (address, self.endpoint_at(endpoint.id).unwrap_or_default())
        };
        Some(HeldSubset {
            slots,
            balance: balance(subset.balance),
            limit: self.limit_at(subset.limit),
            counted: subset.counted != 0,
            endpoints: (subset.endpoints..end).map(endpoint).collect(),
        })
    }
}

fn routing(word: RouteWord) -> Routing {
    const UNTOUCHED: u8 = RouteKind::Untouched as u8;
    const WEIGHTED: u8 = RouteKind::Weighted as u8;
    const PROXY: u8 = RouteKind::Proxy as u8;
    const PROXY_OR_REFUSE: u8 = RouteKind::ProxyOrRefuse as u8;
    match word.kind() {
        UNTOUCHED => Routing::Untouched,
        WEIGHTED => Routing::Weighted,
        PROXY => Routing::Proxy,
        PROXY_OR_REFUSE => Routing::ProxyOrRefuse,
        _ => Routing::Refuse(Reason::from_number(word.detail())),
    }
}

fn balance(number: u32) -> &'static str {
    let known = [Balance::RoundRobin, Balance::Random, Balance::LeastConn];
    match known.into_iter().find(|b| *b as u32 == number) {
        Some(Balance::RoundRobin) => "ROUND_ROBIN",
        Some(Balance::Random) => "RANDOM",
        Some(Balance::LeastConn) => "LEAST_CONN",
        None => "unknown",
    }
}

/// Where a program attaches.
fn hook_of(program: &str) -> &'static str {
    match program {
        abi::PROGRAM_CONNECT4 => "cgroup/connect4",
        abi::PROGRAM_CONNECT6 => "cgroup/connect6",
        abi::PROGRAM_SENDMSG4 => "cgroup/sendmsg4",
        abi::PROGRAM_SENDMSG6 => "cgroup/sendmsg6",
        abi::PROGRAM_RECVMSG4 => "cgroup/recvmsg4",
        abi::PROGRAM_RECVMSG6 => "cgroup/recvmsg6",
        abi::PROGRAM_SOCK_RELEASE => "cgroup/sock_release",
        abi::PROGRAM_SOCK_OPS => "sock_ops",
        _ => "unknown",
    }
}

/// Asks the kernel which programs of the pins in `pin_dir` it runs; no agent is needed. The one that is attached on demand
/// is taken for idle.
///
/// # Errors
///
/// The kernel refused to say.
pub fn observed_hooks(pin_dir: &Path) -> io::Result<Vec<Hook>> {
    let hook = |hook: kernel::Hook| {
        let program_id = match hook.state {
            HookState::Attached { program_id, .. } => Some(program_id),
            HookState::Missing | HookState::Detached => None,
            HookState::Unknown(error) => return Err(io::Error::other(error)),
        };
        Ok(Hook {
            program: hook.program.to_owned(),
            hook: hook_of(hook.program).to_owned(),
            program_id,
            link_id: None,
            is_idle: kernel::is_on_demand(hook.program),
        })
    };
    kernel::hooks(pin_dir).into_iter().map(hook).collect()
}

impl Observed for KernelObserver {
    fn hooks(&self) -> io::Result<Vec<Hook>> {
        let is_needed = self.sends_to_proxy();
        let mut hooks = observed_hooks(&self.pin_dir)?;
        hooks.iter_mut().for_each(|hook| hook.is_idle &= !is_needed);
        Ok(hooks)
    }

    fn refuses_unknown(&self) -> bool {
        self.maps.settings.get(0).egress == EGRESS_REGISTRY_ONLY
    }

    fn verdicts(&self) -> Vec<(Reason, u64)> {
        self.maps.verdicts().collect()
    }

    fn service(&self, port: &Port) -> Option<ServiceUse> {
        let key = (port.service().clone(), port.protocol().transport(), port.number());
        let names = self.names.load();
        let parts = names
            .services
            .get(&key)?
            .iter()
            .filter_map(|&index| self.service_at(index));
        Some(parts.fold(ServiceUse::default(), |sum, part| ServiceUse {
            routed: sum.routed + part.routed,
            proxied: sum.proxied + part.proxied,
            refused: sum.refused + part.refused,
        }))
    }

    fn limit(&self, policy: &str) -> Option<LimitUse> {
        self.limit_at(*self.names.load().ids.limits.get(policy)?)
    }

    fn endpoint(&self, address: SocketAddr) -> Option<EndpointUse> {
        self.endpoint_at(self.names.load().ids.endpoints.get(address)?)
    }

    fn held(&self, transport: Transport, frontend: SocketAddr, caller: Option<&str>) -> Option<Held> {
        let key = frontend_key(transport, frontend);
        let exact = bpf::lookup(self.maps.frontends.as_fd(), &key).ok()?;
        let index = match exact {
            Some(index) => index,
            None => {
                let bits = BITS_BEFORE_ADDR + 128;
                let of = NetworkAddr::of(&key);
                // The trie answers with the longest prefix.
                bpf::lookup::<_, NetworkEntry>(self.maps.networks.as_fd(), &NetworkKey { bits, of })
                    .ok()??
                    .service
            }
        };
        let word = self.service_at(index)?.word();
        Some(self.held_by(self.word_for(word, self.class_of(caller))))
    }

    fn maps(&self) -> io::Result<Vec<MapContents>> {
        contents::contents(self)
    }
}
