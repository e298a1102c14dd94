//! The kernel half of router: it routes connections at `connect()`, gives reservations back when sockets close, and
//! hands the original destination to the proxy.
//!
//! Entry points only. It knows nothing of rules, names or HTTP: what it does is written in the maps, whose layout
//! is `router-common`.
#![no_std]
#![no_main]
#![expect(
    internal_features,
    reason = "core has no read-modify-write atomics for this target; the intrinsic works"
)]
#![allow(
    missing_docs,
    reason = "the attribute macros make undocumented items of documented functions"
)]
#![allow(
    clippy::needless_borrows_for_generic_args,
    reason = "a key or value passed by value would be copied to the program's stack of 512 bytes"
)]
#![feature(core_intrinsics)]

mod egress;
mod hooks;
mod limit;
mod lookup;
mod maps;
mod rewrite;
mod select;
mod source;
mod verdict;

use aya_ebpf::{
    macros::{cgroup_sock, cgroup_sock_addr, sock_ops},
    programs::{SockAddrContext, SockContext, SockOpsContext},
};

/// TCP connections and connected UDP sockets over IPv4.
#[cgroup_sock_addr(connect4)]
pub(crate) fn router_connect4(ctx: SockAddrContext) -> i32 {
    verdict::finish(&ctx, hooks::connect::connect(&rewrite::V4(&ctx)))
}

/// TCP connections and connected UDP sockets over IPv6, v4-mapped ones included.
#[cgroup_sock_addr(connect6)]
pub(crate) fn router_connect6(ctx: SockAddrContext) -> i32 {
    verdict::finish(&ctx, hooks::connect::connect(&rewrite::V6(&ctx)))
}

/// Datagrams over IPv4 of sockets that send without connecting; of sockets of either family.
#[cgroup_sock_addr(sendmsg4)]
pub(crate) fn router_sendmsg4(ctx: SockAddrContext) -> i32 {
    verdict::finish_datagram(&ctx, hooks::datagram::send(&rewrite::V4(&ctx)))
}

/// Datagrams over IPv6 of sockets that send without connecting.
#[cgroup_sock_addr(sendmsg6)]
pub(crate) fn router_sendmsg6(ctx: SockAddrContext) -> i32 {
    verdict::finish_datagram(&ctx, hooks::datagram::send(&rewrite::V6Datagram(&ctx)))
}

/// Who sent what an IPv4 socket receives.
#[cgroup_sock_addr(recvmsg4)]
pub(crate) fn router_recvmsg4(ctx: SockAddrContext) -> i32 {
    hooks::datagram::receive(&rewrite::V4(&ctx));
    verdict::PROCEED
}

/// Who sent what an IPv6 socket receives, over IPv4 too.
#[cgroup_sock_addr(recvmsg6)]
pub(crate) fn router_recvmsg6(ctx: SockAddrContext) -> i32 {
    hooks::datagram::receive(&rewrite::V6(&ctx));
    verdict::PROCEED
}

/// Every socket that is closed.
#[cgroup_sock(sock_release)]
pub(crate) fn router_release(ctx: SockContext) -> i32 {
    hooks::release::release(&ctx)
}

/// Both ends of connections to the proxy.
#[sock_ops]
pub(crate) fn router_sockops(ctx: SockOpsContext) -> u32 {
    hooks::handover::handover(&ctx)
}

/// Never reached: the verifier rejects a program in which it could be.
#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}

/// The helpers are open to GPL-compatible programs.
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
