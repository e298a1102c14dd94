//! Who is calling: the source class of the current process, by its cgroup or the nearest ancestor with a workload.

use aya_ebpf::helpers::generated::{bpf_get_current_ancestor_cgroup_id, bpf_get_current_cgroup_id};
use router_common::{abi::MAX_CGROUP_DEPTH, source::CLASS_UNKNOWN};

use crate::maps::SOURCES;

/// Cgroup id of the current process.
#[inline(always)]
pub(crate) fn cgroup() -> u64 {
    unsafe { bpf_get_current_cgroup_id() }
}

/// Source class of the current process.
#[inline(always)]
pub(crate) fn class() -> u32 {
    nearest(|cgroup| unsafe { SOURCES.get(cgroup) }.map(|entry| entry.class)).unwrap_or(CLASS_UNKNOWN)
}

/// What is said of the current process's cgroup, or of its nearest ancestor of which something is said.
#[inline(always)]
pub(crate) fn nearest(said_of: impl Fn(&u64) -> Option<u32>) -> Option<u32> {
    if let Some(said) = said_of(&cgroup()) {
        return Some(said);
    }
    let mut level = MAX_CGROUP_DEPTH;
    while level > 0 {
        // 0 for levels below the process's own.
        let ancestor = unsafe { bpf_get_current_ancestor_cgroup_id(level) };
        if ancestor != 0
            && let Some(said) = said_of(&ancestor)
        {
            return Some(said);
        }
        level -= 1;
    }
    None
}
