//! What becomes of a connection, and the one place that says so to the kernel and counts it.

use core::ptr::read_volatile;

use aya_ebpf::{
    helpers::generated::{bpf_get_smp_processor_id, bpf_set_retval},
    programs::SockAddrContext,
};
use aya_log_ebpf::debug;
use router_common::{abi::COUNTER_SHARDS, reason::Reason};

use crate::maps::{COUNTERS, fetch_add};

/// Let the connection through (rewritten or not), or refuse it. A `Result`, so the compiler warns when one does not
/// reach [`finish`].
pub(crate) type Verdict = Result<Reason, Reason>;

pub(crate) const PROCEED: i32 = 1;
/// Reason numbers are below 32.
const REASON_MASK: u32 = 31;
const REFUSE: i32 = 0;
const ECONNREFUSED: i32 = 111;

/// The sole exit of the connect programs, beside [`finish_datagram`] of the others.
#[inline(always)]
pub(crate) fn finish(ctx: &SockAddrContext, verdict: Verdict) -> i32 {
    match verdict {
        Ok(reason) => {
            count(reason);
            PROCEED
        }
        Err(reason) => {
            count(reason);
            debug!(ctx, "refused: reason {}", reason as u8);
            // Without it the caller would see EPERM.
            unsafe { bpf_set_retval(-ECONNREFUSED) };
            REFUSE
        }
    }
}

/// The exit of the programs that route datagrams. A refused one fails with EPERM. Not every datagram is counted: see
/// [`send`](crate::hooks::datagram::send).
#[inline(always)]
pub(crate) fn finish_datagram(ctx: &SockAddrContext, verdict: Option<Verdict>) -> i32 {
    match verdict {
        None => PROCEED,
        Some(Ok(reason)) => {
            count(reason);
            PROCEED
        }
        Some(Err(reason)) => {
            count(reason);
            debug!(ctx, "datagram refused: reason {}", reason as u8);
            REFUSE
        }
    }
}

/// Counts a verdict in this processor's shard.
#[inline(always)]
pub(crate) fn count(reason: Reason) {
    let shard = unsafe { bpf_get_smp_processor_id() } as u32 % COUNTER_SHARDS;
    if let Some(counters) = COUNTERS.get_ptr_mut(shard) {
        // LLVM knows the numbers of reasons and computes their offsets in ways that the verifier cannot bound; it does not
        // know what a volatile read gives, and keeps the mask.
        let written = reason as u32;
        let number = unsafe { read_volatile(&raw const written) } & REASON_MASK;
        // SAFETY: the number is below 32, and the shard's value lives as long as the map.
        fetch_add(unsafe { &raw mut (*counters).by_reason[number as usize] }, 1);
    }
}
