//! Names and capacities of the maps and programs, spelled once for both sides.

/// Hash: [`FrontendKey`](crate::service::FrontendKey) → service index (`u32`).
pub const FRONTENDS: &str = "FRONTENDS";
/// Array: service index → [`Service`](crate::service::Service). Memory-mapped.
pub const SERVICES: &str = "SERVICES";
/// Array: arena of `u64` cells that hold slot tables and class tables. Memory-mapped.
pub const SLOTS: &str = "SLOTS";
/// Array: arena of [`Subset`](crate::route::Subset). Memory-mapped.
pub const SUBSETS: &str = "SUBSETS";
/// Array: arena of [`Endpoint`](crate::endpoint::Endpoint). Memory-mapped.
pub const ENDPOINTS: &str = "ENDPOINTS";
/// Array: endpoint id → [`EndpointState`](crate::endpoint::EndpointState). Memory-mapped.
pub const ENDPOINT_STATES: &str = "ENDPOINT_STATES";
/// Array: limit id → [`Limit`](crate::limit::Limit). Memory-mapped.
pub const LIMITS: &str = "LIMITS";
/// Hash: cgroup id (`u64`) → [`SourceEntry`](crate::source::SourceEntry).
pub const SOURCES: &str = "SOURCES";
/// Array of one: [`Settings`](crate::settings::Settings). Memory-mapped.
pub const SETTINGS: &str = "SETTINGS";
/// Array: shard → [`Counters`](crate::reason::Counters). Memory-mapped.
pub const COUNTERS: &str = "COUNTERS";
/// Socket storage: socket → [`Connection`](crate::connection::Connection).
pub const CONNECTIONS: &str = "CONNECTIONS";
/// Hash: [`Tuple`](crate::connection::Tuple) → [`Origin`](crate::connection::Origin), from SYN to accept.
pub const HANDOVERS: &str = "HANDOVERS";

/// Longest-prefix trie: [`NetworkKey`](crate::network::NetworkKey) → [`NetworkEntry`](crate::network::NetworkEntry).
pub const NETWORKS: &str = "NETWORKS";
/// Hash: [`Addr`](crate::net::Addr) → 1, for addresses that are known although they may be no frontend's.
pub const ADDRESSES: &str = "ADDRESSES";
/// Hash: cgroup id (`u64`) → [`CONFINED`](crate::network::CONFINED) or [`EXEMPT`](crate::network::EXEMPT); the nearest
/// ancestor counts.
pub const CONFINEMENT: &str = "CONFINEMENT";

/// Least-recently-used hash: [`FlowKey`](crate::flow::FlowKey) → [`Flow`](crate::flow::Flow).
pub const FLOWS: &str = "FLOWS";

/// Every map that is pinned, in the order in which they are created.
pub const MAPS: [&str; 16] = [
    FRONTENDS,
    SERVICES,
    SLOTS,
    SUBSETS,
    ENDPOINTS,
    ENDPOINT_STATES,
    LIMITS,
    SOURCES,
    SETTINGS,
    COUNTERS,
    CONNECTIONS,
    HANDOVERS,
    NETWORKS,
    ADDRESSES,
    CONFINEMENT,
    FLOWS,
];

/// Program on `cgroup/connect4`.
pub const PROGRAM_CONNECT4: &str = "router_connect4";
/// Program on `cgroup/connect6`.
pub const PROGRAM_CONNECT6: &str = "router_connect6";
/// Program on `cgroup/sock_release`.
pub const PROGRAM_SOCK_RELEASE: &str = "router_release";
/// Program on `sock_ops`.
pub const PROGRAM_SOCK_OPS: &str = "router_sockops";
/// Program on `cgroup/sendmsg4`.
pub const PROGRAM_SENDMSG4: &str = "router_sendmsg4";
/// Program on `cgroup/sendmsg6`.
pub const PROGRAM_SENDMSG6: &str = "router_sendmsg6";
/// Program on `cgroup/recvmsg4`.
pub const PROGRAM_RECVMSG4: &str = "router_recvmsg4";
/// Program on `cgroup/recvmsg6`.
pub const PROGRAM_RECVMSG6: &str = "router_recvmsg6";

/// Every program, in the order in which they are attached: releases and the way back are in place before the first
/// connection or datagram is routed, and hand-overs, which are attached on demand, before the first one is sent to the proxy.
pub const PROGRAMS: [&str; 8] = [
    PROGRAM_SOCK_RELEASE,
    PROGRAM_SOCK_OPS,
    PROGRAM_CONNECT4,
    PROGRAM_CONNECT6,
    PROGRAM_RECVMSG4,
    PROGRAM_RECVMSG6,
    PROGRAM_SENDMSG4,
    PROGRAM_SENDMSG6,
];

/// Frontends (address, port, protocol) that fit.
pub const MAX_FRONTENDS: u32 = 65_536;
/// Services (frontend groups with one routing) that fit.
pub const MAX_SERVICES: u32 = 32_768;
/// Cells of the slot arena: 16 MiB of address space; pages that were never written cost userspace nothing.
pub const MAX_SLOT_CELLS: u32 = 2_097_152;
/// Subset descriptors that fit, old and new blocks together.
pub const MAX_SUBSETS: u32 = 131_072;
/// Endpoint entries that fit, old and new blocks together.
pub const MAX_ENDPOINTS: u32 = 524_288;
/// Distinct endpoints (address and port) that fit.
pub const MAX_ENDPOINT_STATES: u32 = 262_144;
/// Connection limits that fit. Id 0 means "no limit".
pub const MAX_LIMITS: u32 = 16_384;
/// Cgroups with a known workload that fit.
pub const MAX_SOURCES: u32 = 65_536;
/// Networks (prefix, port, protocol) of external services that fit.
pub const MAX_NETWORKS: u32 = 16_384;
/// Known addresses that fit.
pub const MAX_ADDRESSES: u32 = 524_288;
/// Confined and exempt cgroups that fit.
pub const MAX_CONFINEMENT: u32 = 131_072;
/// Flows of datagrams that fit, each of which takes two: about 4 MiB of the kernel's memory.
pub const MAX_FLOWS: u32 = 32_768;
/// Connections between SYN and accept that fit.
pub const MAX_HANDOVERS: u32 = 65_536;
/// Shards of the counters; a processor counts in shard `cpu % COUNTER_SHARDS`.
pub const COUNTER_SHARDS: u32 = 64;

/// Levels of the cgroup tree that are walked to find the caller's workload.
///
/// A container of a pod sits at level 4 or 5 on a Kubernetes node and at 9 in a node that is itself a container.
pub const MAX_CGROUP_DEPTH: i32 = 16;
