//! Every map's contents for people and programs that look for a defect. What nothing names is left out.

use std::{collections::BTreeSet, io, net::SocketAddr, os::fd::AsFd as _};

use router_common::{
    abi,
    flow::{Flow, FlowKey, TO_ENDPOINT},
    net::{Addr, Be16},
    network::{BITS_BEFORE_ADDR, CONFINED, NetworkEntry, NetworkKey, UNKNOWN_ONLY},
    reason::Reason,
    route::{RouteKind, RouteWord, Subset, TABLE_HEADER},
    service::{FrontendKey, PROTOCOL_TCP, PROTOCOL_UDP},
    source::SourceEntry,
};

use super::{KernelObserver, balance, bpf, routing};
use crate::observe::{MapContents, MapEntry, Routing};

/// What is reached from the services, so that arenas are not walked to their ends.
#[derive(Default)]
struct Reached {
    tables: BTreeSet<RouteWordKey>,
    subsets: BTreeSet<u32>,
    endpoints: BTreeSet<u32>,
    states: BTreeSet<u32>,
    limits: BTreeSet<u32>,
}

/// A table by its place and length.
type RouteWordKey = (u32, u16);

pub(super) fn contents(observer: &KernelObserver) -> io::Result<Vec<MapContents>> {
    let maps = &observer.maps;
    let blank = FrontendKey::tcp(Addr::default(), Be16::default());
    let mut frontends: Vec<(FrontendKey, u32)> = bpf::entries(maps.frontends.as_fd(), blank)?;
    frontends.sort_unstable();
    let mut sources: Vec<(u64, SourceEntry)> = bpf::entries(maps.sources.as_fd(), 0_u64)?;
    sources.sort_unstable_by_key(|(cgroup, _)| *cgroup);
    let services: BTreeSet<u32> = frontends.iter().map(|&(_, service)| service).collect();
    let reached = reach(observer, &services);
    let source =
        |(cgroup, entry_): &(u64, SourceEntry)| entry(cgroup, vec![("class", entry_.class.to_string())]);
    Ok(vec![
        map(abi::SETTINGS, 1, vec![settings(observer)]),
        map(
            abi::FRONTENDS,
            abi::MAX_FRONTENDS,
            frontends.iter().map(frontend).collect(),
        ),
        map(
            abi::SERVICES,
            abi::MAX_SERVICES,
            services.iter().map(|&i| service(observer, i)).collect(),
        ),
        map(
            abi::SLOTS,
            abi::MAX_SLOT_CELLS,
            reached.tables.iter().map(|&t| table(observer, t)).collect(),
        ),
        map(
            abi::SUBSETS,
            abi::MAX_SUBSETS,
            reached.subsets.iter().map(|&i| subset(observer, i)).collect(),
        ),
        map(
            abi::ENDPOINTS,
            abi::MAX_ENDPOINTS,
            reached.endpoints.iter().map(|&i| endpoint(observer, i)).collect(),
        ),
        map(
            abi::ENDPOINT_STATES,
            abi::MAX_ENDPOINT_STATES,
            reached
                .states
                .iter()
                .map(|&i| endpoint_state(observer, i))
                .collect(),
        ),
        map(
            abi::LIMITS,
            abi::MAX_LIMITS,
            reached.limits.iter().map(|&i| limit(observer, i)).collect(),
        ),
        map(
            abi::SOURCES,
            abi::MAX_SOURCES,
            sources.iter().map(source).collect(),
        ),
        map(abi::NETWORKS, abi::MAX_NETWORKS, networks(observer)?),
        map(abi::ADDRESSES, abi::MAX_ADDRESSES, addresses(observer)?),
        map(abi::CONFINEMENT, abi::MAX_CONFINEMENT, confinement(observer)?),
        map(abi::FLOWS, abi::MAX_FLOWS, flows(observer)?),
        map(abi::COUNTERS, abi::COUNTER_SHARDS, vec![counters(observer)]),
    ])
}

fn frontend((key, service): &(FrontendKey, u32)) -> MapEntry {
    let protocol = match key.protocol {
        PROTOCOL_TCP => "tcp".to_owned(),
        PROTOCOL_UDP => "udp".to_owned(),
        other => other.to_string(),
    };
    entry(
        SocketAddr::new(key.addr.to_ip(), key.port.port()),
        vec![("protocol", protocol), ("service", service.to_string())],
    )
}

fn networks(observer: &KernelObserver) -> io::Result<Vec<MapEntry>> {
    let mut networks: Vec<(NetworkKey, NetworkEntry)> =
        bpf::entries(observer.maps.networks.as_fd(), NetworkKey::default())?;
    networks.sort_unstable_by_key(|(key, _)| *key);
    let network = |(key, value): &(NetworkKey, NetworkEntry)| {
        let bits = key.bits.saturating_sub(BITS_BEFORE_ADDR);
        let address = key.of.addr.to_ip();
        let prefix = if address.is_ipv4() {
            bits.saturating_sub(96)
        } else {
            bits
        };
        let unknown_only = value.flags & UNKNOWN_ONLY != 0;
        entry(
            format!("{address}/{prefix} port {}", key.of.port.port()),
            vec![
                ("service", value.service.to_string()),
                ("unknown_only", unknown_only.to_string()),
            ],
        )
    };
    Ok(networks.iter().map(network).collect())
}

fn addresses(observer: &KernelObserver) -> io::Result<Vec<MapEntry>> {
    let mut addresses: Vec<(Addr, u32)> = bpf::entries(observer.maps.addresses.as_fd(), Addr::default())?;
    addresses.sort_unstable_by_key(|(address, _)| address.to_ip());
    Ok(addresses
        .iter()
        .map(|(address, _)| entry(address.to_ip(), Vec::new()))
        .collect())
}

fn confinement(observer: &KernelObserver) -> io::Result<Vec<MapEntry>> {
    let mut cgroups: Vec<(u64, u32)> = bpf::entries(observer.maps.confinement.as_fd(), 0_u64)?;
    cgroups.sort_unstable();
    let cgroup =
        |&(cgroup, value): &(u64, u32)| entry(cgroup, vec![("confined", (value == CONFINED).to_string())]);
    Ok(cgroups.iter().map(cgroup).collect())
}

fn flows(observer: &KernelObserver) -> io::Result<Vec<MapEntry>> {
    let most = abi::MAX_FLOWS as usize;
    let mut flows: Vec<(FlowKey, Flow)> =
        bpf::entries_up_to(observer.maps.flows.as_fd(), FlowKey::default(), most)?;
    flows.retain(|(key, _)| key.direction == TO_ENDPOINT);
    flows.sort_unstable_by_key(|(key, _)| *key);
    flows.dedup_by_key(|(key, _)| *key);
    let flow = |(key, value): &(FlowKey, Flow)| {
        let dialled = SocketAddr::new(key.addr.to_ip(), key.port.port());
        let endpoint = SocketAddr::new(value.addr.to_ip(), value.port.port());
        entry(
            format!("socket {} to {dialled}", key.cookie),
            vec![("endpoint", endpoint.to_string())],
        )
    };
    Ok(flows.iter().map(flow).collect())
}

const fn map(map: &'static str, capacity: u32, entries: Vec<MapEntry>) -> MapContents {
    MapContents {
        map,
        capacity,
        entries,
    }
}

fn entry(key: impl ToString, fields: Vec<(&'static str, String)>) -> MapEntry {
    MapEntry {
        key: key.to_string(),
        fields,
    }
}

fn reach(observer: &KernelObserver, services: &BTreeSet<u32>) -> Reached {
    let mut reached = Reached::default();
    // Ids that are known by name are in use although no table may name them: the proxy counts in them.
    let names = observer.names.load();
    reached.limits.extend(names.ids.limits.values());
    reached.states.extend(names.ids.endpoints.ids());
    for service in services.iter().filter_map(|&index| observer.service_at(index)) {
        reach_word(observer, service.word(), &mut reached);
    }
    for &index in &reached.subsets {
        let subset = subset_at(observer, index);
        let end = subset
            .endpoints
            .saturating_add(subset.endpoint_count)
            .min(observer.maps.endpoints.len());
        reached.endpoints.extend(subset.endpoints..end);
        reached.limits.extend(Some(subset.limit).filter(|&id| id != 0));
    }
    let states = reached
        .endpoints
        .iter()
        .map(|&index| observer.maps.endpoints.get(index).id);
    reached.states.extend(states.filter(|&id| id != 0));
    reached
}

fn reach_word(observer: &KernelObserver, word: RouteWord, reached: &mut Reached) {
    if word.kind() == RouteKind::BySource as u8 {
        for class in 0..u32::from(word.len()) {
            // A class word is never by source itself; if it were, it is not followed.
            let word = RouteWord(observer.cell(word.base().saturating_add(class)));
            if word.kind() != RouteKind::BySource as u8 {
                reach_word(observer, word, reached);
            }
        }
    } else if !word.is_empty() && reached.tables.insert((word.base(), word.len())) {
        let cells =
            (0..u32::from(word.len())).map(|slot| observer.cell(word.base().saturating_add(slot)) as u32);
        reached
            .subsets
            .extend(cells.filter(|&index| index < observer.maps.subsets.len()));
    }
}

fn subset_at(observer: &KernelObserver, index: u32) -> Subset {
    if index < observer.maps.subsets.len() {
        observer.maps.subsets.get(index)
    } else {
        Subset::default()
    }
}

fn settings(observer: &KernelObserver) -> MapEntry {
    let settings = observer.maps.settings.get(0);
    let age = u64::try_from(crate::clock::kernel().as_nanos())
        .unwrap_or(u64::MAX)
        .saturating_sub(settings.heartbeat);
    entry(
        0,
        vec![
            ("abi", settings.abi.to_string()),
            (
                "proxy",
                SocketAddr::new(settings.proxy_v4.to_ip(), settings.proxy_port.port()).to_string(),
            ),
            (
                "proxy6",
                SocketAddr::new(settings.proxy_v6.to_ip(), settings.proxy_port.port()).to_string(),
            ),
            ("heartbeatAgeMs", (age / 1_000_000).to_string()),
            ("staleAfterMs", (settings.stale_after / 1_000_000).to_string()),
        ],
    )
}

fn words(observer: &KernelObserver, word: RouteWord) -> String {
    if word.kind() == RouteKind::BySource as u8 {
        let class = |class| describe(RouteWord(observer.cell(word.base().saturating_add(class))));
        let classes: Vec<_> = (0..u32::from(word.len())).map(class).collect();
        return format!("by-source[{}]", classes.join(", "));
    }
    describe(word)
}

fn describe(word: RouteWord) -> String {
    let routing = routing(word);
    match routing {
        Routing::Refuse(reason) => format!("refuse:{}", reason.map_or("unknown", Reason::name)),
        _ if word.is_empty() => routing.name().to_owned(),
        _ => format!("{}@{}+{}", routing.name(), word.base(), word.len()),
    }
}

fn service(observer: &KernelObserver, index: u32) -> MapEntry {
    let service = observer.service_at(index).unwrap_or_default();
    let names = observer.names.load();
    let name = names
        .services
        .iter()
        .find(|(_, parts)| parts.contains(&index))
        .map(|((name, transport, port), _)| format!("{name}:{port}/{transport}"));
    entry(
        index,
        vec![
            (
                "service",
                name.unwrap_or_else(|| format!("{:016x}", service.name)),
            ),
            ("route", words(observer, service.word())),
            ("routed", service.routed.to_string()),
            ("proxied", service.proxied.to_string()),
            ("refused", service.refused.to_string()),
        ],
    )
}

fn table(observer: &KernelObserver, (base, len): RouteWordKey) -> MapEntry {
    let slots: Vec<_> = (0..u32::from(len))
        .map(|slot| observer.cell(base.saturating_add(slot)).to_string())
        .collect();
    entry(
        base,
        vec![
            (
                "cursor",
                observer.cell(base.saturating_sub(TABLE_HEADER)).to_string(),
            ),
            ("slots", len.to_string()),
            ("subsets", slots.join(" ")),
        ],
    )
}

fn subset(observer: &KernelObserver, index: u32) -> MapEntry {
    let subset = subset_at(observer, index);
    entry(
        index,
        vec![
            (
                "endpoints",
                format!("{}+{}", subset.endpoints, subset.endpoint_count),
            ),
            ("balance", balance(subset.balance).to_owned()),
            ("limit", subset.limit.to_string()),
            ("counted", (subset.counted != 0).to_string()),
            ("cursor", subset.cursor.to_string()),
        ],
    )
}

fn endpoint(observer: &KernelObserver, index: u32) -> MapEntry {
    let endpoint = observer.maps.endpoints.get(index);
    let address = SocketAddr::new(endpoint.addr.to_ip(), endpoint.port.port());
    entry(
        index,
        vec![("address", address.to_string()), ("id", endpoint.id.to_string())],
    )
}

fn endpoint_state(observer: &KernelObserver, id: u32) -> MapEntry {
    let state = observer.maps.endpoint_states.get(id);
    let address = SocketAddr::new(state.addr.to_ip(), state.port.port());
    entry(
        id,
        vec![
            ("address", address.to_string()),
            ("active", state.active.to_string()),
            ("connects", state.connects.to_string()),
        ],
    )
}

fn limit(observer: &KernelObserver, id: u32) -> MapEntry {
    let limit = observer.maps.limits.get(id);
    let names = observer.names.load();
    let policy = names
        .ids
        .limits
        .iter()
        .find(|(_, i)| **i == id)
        .map(|(policy, _)| policy.to_string());
    entry(
        id,
        vec![
            ("policy", policy.unwrap_or_else(|| format!("{:016x}", limit.name))),
            ("max", limit.max.to_string()),
            ("active", limit.active.to_string()),
            ("refused", limit.refused.to_string()),
        ],
    )
}

/// The sum of every shard.
fn counters(observer: &KernelObserver) -> MapEntry {
    entry(
        "sum",
        observer
            .maps
            .verdicts()
            .map(|(reason, count)| (reason.name(), count.to_string()))
            .collect(),
    )
}
