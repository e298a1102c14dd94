//! From a route word to an endpoint: the slot whose turn it is, then the subset's load balancing.

use aya_ebpf::helpers::generated::bpf_get_prandom_u32;
use router_common::{
    endpoint::Endpoint,
    reason::Reason,
    route::{Balance, RouteWord, Subset, TABLE_HEADER, slot_of},
};

use crate::maps::{ENDPOINT_STATES, ENDPOINTS, SLOTS, SUBSETS, fetch_add};

/// What a connection was given: where to connect, and what it counts against.
pub(crate) struct Choice {
    pub(crate) endpoint: &'static Endpoint,
    pub(crate) limit: u32,
    /// Whether the connection is to be remembered until it is closed.
    pub(crate) counted: bool,
}

/// Picks the endpoint for one connection.
#[inline(always)]
pub(crate) fn choose(table: RouteWord) -> Result<Choice, Reason> {
    let subset = SUBSETS.get_ptr_mut(slot(table)?).ok_or(Reason::Inconsistent)?;
    // SAFETY: the value lives as long as the map; it is immutable once named, but for the cursor.
    let (first, count, balance, limit, counted) = unsafe {
        (
            (*subset).endpoints,
            (*subset).endpoint_count,
            (*subset).balance,
            (*subset).limit,
            (*subset).counted != 0,
        )
    };
    if count == 0 {
        return Err(Reason::NoEndpoints);
    }
    let index = first + position(subset, first, count, balance);
    let endpoint = ENDPOINTS.get(index).ok_or(Reason::Inconsistent)?;
    Ok(Choice {
        endpoint,
        limit,
        counted,
    })
}

/// Subset index in the slot whose turn it is. All processors share the cursor, so shares are exact.
#[inline(always)]
fn slot(table: RouteWord) -> Result<u32, Reason> {
    if table.is_empty() {
        return Err(Reason::NoWeight);
    }
    let cursor = SLOTS
        .get_ptr_mut(table.base().wrapping_sub(TABLE_HEADER))
        .ok_or(Reason::Inconsistent)?;
    let turn = fetch_add(cursor, 1);
    let cell = SLOTS
        .get(table.base() + slot_of(turn, table.len()))
        .ok_or(Reason::Inconsistent)?;
    Ok(*cell as u32)
}

/// Position of the endpoint in the subset's list, below `count`.
#[inline(always)]
fn position(subset: *mut Subset, first: u32, count: u32, balance: u32) -> u32 {
    if count == 1 {
        return 0;
    }
    if balance == Balance::Random as u32 {
        return random() % count;
    }
    if balance == Balance::LeastConn as u32 {
        // Two different ones: the second is one of the others, so that of two endpoints both are looked at.
        let one = random() % count;
        let other = (one + 1 + random() % (count - 1)) % count;
        return less_busy(first, one, other);
    }
    (fetch_add(unsafe { &raw mut (*subset).cursor }, 1) % u64::from(count)) as u32
}

/// Of two positions, the one whose endpoint has fewer open connections; the first when equal.
#[inline(always)]
fn less_busy(first: u32, a: u32, b: u32) -> u32 {
    if open_connections(first + b) < open_connections(first + a) {
        b
    } else {
        a
    }
}

#[inline(always)]
fn open_connections(index: u32) -> u64 {
    let state = ENDPOINTS
        .get(index)
        .and_then(|endpoint| ENDPOINT_STATES.get(endpoint.id));
    state.map_or(u64::MAX, |state| state.active)
}

#[inline(always)]
fn random() -> u32 {
    unsafe { bpf_get_prandom_u32() }
}
