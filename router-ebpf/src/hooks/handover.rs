//! `sock_ops`: original destination and caller travel from the client's socket to the accepted one.
//!
//! The client's side writes them under the connection's 4-tuple before the SYN leaves; the proxy's side moves them
//! into the accepted socket's own storage when the handshake completes. Nothing can be evicted in between, and a
//! handshake that never completes is cleaned up when the client's socket closes.

use aya_ebpf::{
    bindings::{BPF_SOCK_OPS_PASSIVE_ESTABLISHED_CB, BPF_SOCK_OPS_TCP_CONNECT_CB},
    cty::c_void,
    programs::SockOpsContext,
};
use router_common::{
    connection::{Connection, STATE_ACCEPTED, STATE_PROXIED, Tuple},
    reason::Reason,
};

use crate::{
    hooks::connect::IDLE,
    maps::{HANDOVERS, SETTINGS, connection, connection_or},
    rewrite, verdict,
};

const AF_INET: u32 = 2;

/// Looks at every TCP event of the node and acts on two.
#[inline(always)]
pub(crate) fn handover(ctx: &SockOpsContext) -> u32 {
    match ctx.op() {
        BPF_SOCK_OPS_TCP_CONNECT_CB => leave(ctx),
        BPF_SOCK_OPS_PASSIVE_ESTABLISHED_CB => arrive(ctx),
        _ => {}
    }
    1
}

/// The client's side, before the SYN.
#[inline(always)]
fn leave(ctx: &SockOpsContext) {
    let Some(socket) = socket(ctx) else { return };
    // SAFETY: the socket of the context, checked for null as the verifier asks.
    let Some(connection) = (unsafe { connection(socket) }) else {
        return;
    };
    if connection.state != STATE_PROXIED {
        return;
    }
    // A dual-stack socket on its way to an IPv4 address has its IPv4 fields filled at this moment, not the others.
    let client = rewrite::ends(ctx, connection.tuple.proxy.is_v4());
    connection.tuple.client = client.local;
    connection.tuple.client_port = client.local_port;
    let (tuple, origin) = (connection.tuple, connection.origin);
    if HANDOVERS.insert(&tuple, &origin, 0).is_ok() {
        connection.handed_over = 1;
    } else {
        verdict::count(Reason::HandoverFull);
    }
}

/// The proxy's side, when the handshake is complete.
#[inline(always)]
fn arrive(ctx: &SockOpsContext) {
    let Some(settings) = SETTINGS.get(0) else { return };
    let ends = rewrite::ends(ctx, ctx.family() == AF_INET);
    if ends.local_port != settings.proxy_port {
        return;
    }
    let tuple = Tuple {
        client: ends.remote,
        proxy: ends.local,
        client_port: ends.remote_port,
        proxy_port: ends.local_port,
    };
    let Some(origin) = (unsafe { HANDOVERS.get(&tuple) }) else {
        return;
    };
    let mut accepted = Connection {
        state: STATE_ACCEPTED,
        origin: *origin,
        ..IDLE
    };
    let Some(socket) = socket(ctx) else { return };
    // Without memory the proxy finds no origin and closes the connection.
    let _ = unsafe { connection_or(socket, &mut accepted) };
    let _ = HANDOVERS.remove(&tuple);
}

#[inline(always)]
fn socket(ctx: &SockOpsContext) -> Option<*mut c_void> {
    let socket = unsafe { (*ctx.ops).__bindgen_anon_2.sk };
    if socket.is_null() {
        None
    } else {
        Some(socket.cast())
    }
}
