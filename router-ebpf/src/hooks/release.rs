//! `sock_release`: whatever a socket holds is given back when it is closed, however its process ended.

use aya_ebpf::{cty::c_void, programs::SockContext};
use router_common::connection::{Connection, STATE_IDLE, STATE_OWN_ROUTED, STATE_PROXIED, STATE_ROUTED};

use crate::{
    limit,
    maps::{HANDOVERS, connection},
};

/// Never refuses: the return value of this hook is not a verdict.
#[inline(always)]
pub(crate) fn release(ctx: &SockContext) -> i32 {
    // SAFETY: in this hook the context is the socket.
    if let Some(connection) = unsafe { connection(ctx.sock.cast::<c_void>()) } {
        give_back(connection);
    }
    1
}

/// Gives back what a connection holds, if anything.
#[inline(always)]
pub(crate) fn give_back(connection: &mut Connection) {
    match connection.state {
        STATE_ROUTED | STATE_OWN_ROUTED => limit::release(connection),
        STATE_PROXIED => {
            connection.state = STATE_IDLE;
            if connection.handed_over != 0 {
                // Gone already when the proxy has accepted; there when the handshake never ended.
                let _ = HANDOVERS.remove(&connection.tuple);
            }
        }
        _ => {}
    }
}
