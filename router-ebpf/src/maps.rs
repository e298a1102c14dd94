//! Every map, and the few ways to reach into one. Sizes and layouts are `router-common`'s.
//!
//! Userspace pins each of them by its name. Arrays are memory-mapped: userspace stores a word and the next
//! connection acts on it.

use core::intrinsics::{AtomicOrdering, atomic_xadd};

use aya_ebpf::{
    bindings::{BPF_F_MMAPABLE, BPF_F_NO_PREALLOC, BPF_SK_STORAGE_GET_F_CREATE},
    btf_maps::SkStorage,
    cty::c_void,
    helpers::generated::bpf_sk_storage_get,
    macros::{btf_map, map},
    maps::{Array, HashMap, LpmTrie, LruHashMap},
};
use router_common::{
    abi,
    connection::{Connection, Origin, Tuple},
    endpoint::{Endpoint, EndpointState},
    flow::{Flow, FlowKey},
    limit::Limit,
    net::Addr,
    network::{NetworkAddr, NetworkEntry},
    reason::Counters,
    route::Subset,
    service::{FrontendKey, Service},
    settings::Settings,
    source::SourceEntry,
};

#[map]
pub(crate) static FRONTENDS: HashMap<FrontendKey, u32> =
    HashMap::with_max_entries(abi::MAX_FRONTENDS, BPF_F_NO_PREALLOC);
#[map]
pub(crate) static SERVICES: Array<Service> = Array::with_max_entries(abi::MAX_SERVICES, BPF_F_MMAPABLE);
#[map]
pub(crate) static SLOTS: Array<u64> = Array::with_max_entries(abi::MAX_SLOT_CELLS, BPF_F_MMAPABLE);
#[map]
pub(crate) static SUBSETS: Array<Subset> = Array::with_max_entries(abi::MAX_SUBSETS, BPF_F_MMAPABLE);
#[map]
pub(crate) static ENDPOINTS: Array<Endpoint> = Array::with_max_entries(abi::MAX_ENDPOINTS, BPF_F_MMAPABLE);
#[map]
pub(crate) static ENDPOINT_STATES: Array<EndpointState> =
    Array::with_max_entries(abi::MAX_ENDPOINT_STATES, BPF_F_MMAPABLE);
#[map]
pub(crate) static LIMITS: Array<Limit> = Array::with_max_entries(abi::MAX_LIMITS, BPF_F_MMAPABLE);
#[map]
pub(crate) static SOURCES: HashMap<u64, SourceEntry> =
    HashMap::with_max_entries(abi::MAX_SOURCES, BPF_F_NO_PREALLOC);
#[map]
pub(crate) static SETTINGS: Array<Settings> = Array::with_max_entries(1, BPF_F_MMAPABLE);
#[map]
pub(crate) static COUNTERS: Array<Counters> = Array::with_max_entries(abi::COUNTER_SHARDS, BPF_F_MMAPABLE);
#[map]
pub(crate) static HANDOVERS: HashMap<Tuple, Origin> =
    HashMap::with_max_entries(abi::MAX_HANDOVERS, BPF_F_NO_PREALLOC);
#[map]
pub(crate) static NETWORKS: LpmTrie<NetworkAddr, NetworkEntry> =
    LpmTrie::with_max_entries(abi::MAX_NETWORKS, 0);
#[map]
pub(crate) static ADDRESSES: HashMap<Addr, u32> =
    HashMap::with_max_entries(abi::MAX_ADDRESSES, BPF_F_NO_PREALLOC);
#[map]
pub(crate) static CONFINEMENT: HashMap<u64, u32> =
    HashMap::with_max_entries(abi::MAX_CONFINEMENT, BPF_F_NO_PREALLOC);
#[map]
pub(crate) static FLOWS: LruHashMap<FlowKey, Flow> = LruHashMap::with_max_entries(abi::MAX_FLOWS, 0);
#[btf_map]
static CONNECTIONS: SkStorage<Connection> = SkStorage::new();

/// What is remembered of a socket, if anything.
///
/// # Safety
///
/// `socket` is the context's socket (or, in `sock_release`, the context itself); the verifier checks it.
#[inline(always)]
pub(crate) unsafe fn connection(socket: *mut c_void) -> Option<&'static mut Connection> {
    unsafe { storage(socket, core::ptr::null_mut(), 0) }
}

/// What is remembered of a socket; `initial` when nothing was. `None` when memory is short.
///
/// # Safety
///
/// As [`connection`].
#[inline(always)]
pub(crate) unsafe fn connection_or(
    socket: *mut c_void,
    initial: &mut Connection,
) -> Option<&'static mut Connection> {
    unsafe { storage(socket, initial, BPF_SK_STORAGE_GET_F_CREATE.into()) }
}

#[inline(always)]
unsafe fn storage(
    socket: *mut c_void,
    initial: *mut Connection,
    flags: u64,
) -> Option<&'static mut Connection> {
    // aya's own method takes a `sock_addr` context only; the helper takes any hook's socket.
    let map = (&raw const CONNECTIONS).cast_mut().cast();
    unsafe {
        bpf_sk_storage_get(map, socket, initial.cast(), flags)
            .cast::<Connection>()
            .as_mut()
    }
}

/// Adds to a shared counter and returns its value from before.
///
/// Sequentially consistent because LLVM emits the non-fetching instruction for a relaxed addition, even when the
/// result is used.
#[inline(always)]
pub(crate) fn fetch_add(counter: *mut u64, amount: u64) -> u64 {
    // SAFETY: callers pass the address of an aligned `u64` in a map value or in socket storage.
    unsafe { atomic_xadd::<u64, u64, { AtomicOrdering::SeqCst }>(counter, amount) }
}
