//! Connection limits and endpoint counts: reserved at connect, given back exactly once.

use router_common::{
    connection::{Connection, STATE_IDLE},
    reason::Reason,
};

use crate::maps::{ENDPOINT_STATES, LIMITS, fetch_add};

const MINUS_ONE: u64 = u64::MAX;

/// Takes a place under the limit; id 0 is no limit.
///
/// # Errors
///
/// [`Reason::LimitReached`] when every place is taken.
#[inline(always)]
pub(crate) fn reserve(id: u32) -> Result<(), Reason> {
    if id == 0 {
        return Ok(());
    }
    let limit = LIMITS.get_ptr_mut(id).ok_or(Reason::Inconsistent)?;
    // Add first and look at the value from before: of any number of concurrent connections exactly `max` see a
    // value below it.
    unsafe {
        if fetch_add(&raw mut (*limit).active, 1) < (*limit).max {
            return Ok(());
        }
        fetch_add(&raw mut (*limit).active, MINUS_ONE);
        fetch_add(&raw mut (*limit).refused, 1);
    }
    Err(Reason::LimitReached)
}

/// Counts an open connection of an endpoint, which [`release`] takes back; id 0 is none.
#[inline(always)]
pub(crate) fn count_open(id: u32) {
    if id != 0
        && let Some(state) = ENDPOINT_STATES.get_ptr_mut(id)
    {
        fetch_add(unsafe { &raw mut (*state).active }, 1);
    }
}

/// Counts a connection of an endpoint for good; id 0 is none.
#[inline(always)]
pub(crate) fn count_connect(id: u32) {
    if id != 0
        && let Some(state) = ENDPOINT_STATES.get_ptr_mut(id)
    {
        fetch_add(unsafe { &raw mut (*state).connects }, 1);
    }
}

/// Gives a place under a limit back.
#[inline(always)]
pub(crate) fn unreserve(id: u32) {
    if id != 0
        && let Some(limit) = LIMITS.get_ptr_mut(id)
    {
        fetch_add(unsafe { &raw mut (*limit).active }, MINUS_ONE);
    }
}

/// Gives back what a connection holds.
///
/// Exactly once: a socket is connected under its lock and released after its last use, so nothing runs beside
/// this, and the state that says "holds something" is left here.
#[inline(always)]
pub(crate) fn release(connection: &mut Connection) {
    connection.state = STATE_IDLE;
    unreserve(connection.limit);
    if connection.endpoint != 0
        && let Some(state) = ENDPOINT_STATES.get_ptr_mut(connection.endpoint)
    {
        fetch_add(unsafe { &raw mut (*state).active }, MINUS_ONE);
    }
}
