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
    net::Be16,
    reason::Reason,
};

use crate::{
    hooks::connect::IDLE,
    maps::{HANDOVERS, SETTINGS, connection, connection_or},
    rewrite, verdict,
};

const AF_INET: u32 = 2;

/// Looks at every TCP event of the node and acts on two, of connections to the proxy's port only. Some nine of ten calls
/// are neither, so each way out is the shortest there is.
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
    if !is_proxys(rewrite::remote_port(ctx)) {
        return;
    }
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
    if !is_proxys(rewrite::local_port(ctx)) {
        return;
    }
    let ends = rewrite::ends(ctx, ctx.family() == AF_INET);
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

/// True for the port at which the proxy listens.
#[inline(always)]
fn is_proxys(port: Be16) -> bool {
    SETTINGS
        .get(0)
        .is_some_and(|settings| settings.proxy_port == port)
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
