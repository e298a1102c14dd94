//! Reading and writing the addresses of contexts: the only pointer arithmetic on them.

use core::ptr::{read_volatile, write_volatile};

use aya_ebpf::{
    cty::c_void,
    programs::{SockAddrContext, SockOpsContext},
};
use router_common::{
    net::{Addr, Be16},
    service::{PROTOCOL_TCP, PROTOCOL_UDP},
};

/// A connect context of either family.
pub(crate) trait Destination {
    /// The context itself.
    fn context(&self) -> &SockAddrContext;
    /// Where the program wants to connect to.
    fn addr(&self) -> Addr;
    /// True when a socket of this family can connect to `addr`.
    fn reaches(&self, addr: &Addr) -> bool;
    /// Makes the socket connect to `addr` instead, which it [reaches](Destination::reaches).
    fn set_addr(&self, addr: &Addr);

    /// The port the program wants to connect to.
    #[inline(always)]
    fn port(&self) -> Be16 {
        // SAFETY: the context is valid for the program's run; so in all of this file. Volatile, because the
        // verifier wants accesses of the declared width.
        Be16(unsafe { read_volatile(&raw const (*self.context().sock_addr).user_port) } as u16)
    }

    /// Makes the socket connect to `port` instead.
    #[inline(always)]
    fn set_port(&self, port: Be16) {
        unsafe { write_volatile(&raw mut (*self.context().sock_addr).user_port, u32::from(port.0)) };
    }

    /// The number of TCP or UDP; others (SCTP, MPTCP's own number) are left alone.
    #[inline(always)]
    fn protocol(&self) -> Option<u8> {
        let number = unsafe { read_volatile(&raw const (*self.context().sock_addr).protocol) };
        if number == PROTOCOL_TCP as u32 || number == PROTOCOL_UDP as u32 {
            Some(number as u8)
        } else {
            None
        }
    }

    /// The socket, as the storage helper takes it.
    #[inline(always)]
    fn socket(&self) -> *mut c_void {
        unsafe { (*self.context().sock_addr).__bindgen_anon_1.sk.cast() }
    }
}

/// A context of `connect4`.
pub(crate) struct V4<'c>(pub(crate) &'c SockAddrContext);

impl Destination for V4<'_> {
    #[inline(always)]
    fn context(&self) -> &SockAddrContext {
        self.0
    }

    #[inline(always)]
    fn addr(&self) -> Addr {
        Addr::from_be4(unsafe { read_volatile(&raw const (*self.0.sock_addr).user_ip4) })
    }

    #[inline(always)]
    fn reaches(&self, addr: &Addr) -> bool {
        addr.is_v4()
    }

    #[inline(always)]
    fn set_addr(&self, addr: &Addr) {
        unsafe { write_volatile(&raw mut (*self.0.sock_addr).user_ip4, addr.be4()) };
    }
}

/// A context of `connect6`. A v4-mapped destination reads as the IPv4 address's stored form, and an IPv4 endpoint is
/// written v4-mapped, so dual-stack sockets need no case of their own.
pub(crate) struct V6<'c>(pub(crate) &'c SockAddrContext);

impl Destination for V6<'_> {
    #[inline(always)]
    fn context(&self) -> &SockAddrContext {
        self.0
    }

    #[inline(always)]
    fn addr(&self) -> Addr {
        unsafe { words((&raw const (*self.0.sock_addr).user_ip6).cast()) }
    }

    #[inline(always)]
    fn reaches(&self, _: &Addr) -> bool {
        true
    }

    #[inline(always)]
    fn set_addr(&self, addr: &Addr) {
        let words = unsafe { &raw mut (*self.0.sock_addr).user_ip6 }.cast::<u32>();
        unsafe {
            write_volatile(words, addr.0[0]);
            write_volatile(words.add(1), addr.0[1]);
            write_volatile(words.add(2), addr.0[2]);
            write_volatile(words.add(3), addr.0[3]);
        }
    }
}

/// A context of `sendmsg6`. Datagrams to v4-mapped addresses are not seen there but in `sendmsg4`, and the kernel takes no
/// IPv4 address in their place (`udpv6_sendmsg`, ENOTSUPP).
pub(crate) struct V6Datagram<'c>(pub(crate) &'c SockAddrContext);

impl Destination for V6Datagram<'_> {
    #[inline(always)]
    fn context(&self) -> &SockAddrContext {
        self.0
    }

    #[inline(always)]
    fn addr(&self) -> Addr {
        V6(self.0).addr()
    }

    #[inline(always)]
    fn reaches(&self, addr: &Addr) -> bool {
        !addr.is_v4()
    }

    #[inline(always)]
    fn set_addr(&self, addr: &Addr) {
        V6(self.0).set_addr(addr);
    }
}

/// Both ends of a connection, as `sock_ops` shows them.
pub(crate) struct Ends {
    pub(crate) local: Addr,
    pub(crate) remote: Addr,
    pub(crate) local_port: Be16,
    pub(crate) remote_port: Be16,
}

/// Reads both ends, from the IPv4 fields or the IPv6 fields.
///
/// Both families are read before one is chosen, and volatile: otherwise LLVM chooses the address first and loads
/// once, and the verifier refuses a context pointer that was computed.
#[inline(always)]
pub(crate) fn ends(ctx: &SockOpsContext, v4: bool) -> Ends {
    let ops = ctx.ops;
    // SAFETY: the context is valid for the program's run.
    unsafe {
        let (local4, remote4) = (
            read_volatile(&raw const (*ops).local_ip4),
            read_volatile(&raw const (*ops).remote_ip4),
        );
        let local6 = words((&raw const (*ops).local_ip6).cast());
        let remote6 = words((&raw const (*ops).remote_ip6).cast());
        Ends {
            local: if v4 { Addr::from_be4(local4) } else { local6 },
            remote: if v4 { Addr::from_be4(remote4) } else { remote6 },
            local_port: local_port(ctx),
            remote_port: remote_port(ctx),
        }
    }
}

/// The port of this end.
#[inline(always)]
pub(crate) fn local_port(ctx: &SockOpsContext) -> Be16 {
    // In host order.
    Be16::from_port(unsafe { read_volatile(&raw const (*ctx.ops).local_port) } as u16)
}

/// The port of the other end.
#[inline(always)]
pub(crate) fn remote_port(ctx: &SockOpsContext) -> Be16 {
    // In network order, in the upper half.
    Be16((unsafe { read_volatile(&raw const (*ctx.ops).remote_port) } >> 16) as u16)
}

/// Four words of a context, each read on its own.
///
/// # Safety
///
/// `first` points to four readable words of a context.
#[inline(always)]
unsafe fn words(first: *const u32) -> Addr {
    unsafe {
        Addr([
            read_volatile(first),
            read_volatile(first.add(1)),
            read_volatile(first.add(2)),
            read_volatile(first.add(3)),
        ])
    }
}
