//! Frontends and services.

use crate::{
    net::{Addr, Be16},
    pod::pod,
    route::RouteWord,
};

/// Protocol number of TCP in a [`FrontendKey`].
pub const PROTOCOL_TCP: u8 = 6;
/// Protocol number of UDP in a [`FrontendKey`].
pub const PROTOCOL_UDP: u8 = 17;

/// The address, port and protocol at which a service is reached.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct FrontendKey {
    /// Address that clients connect to.
    pub addr: Addr,
    /// Port that clients connect to.
    pub port: Be16,
    /// IP protocol number; [`PROTOCOL_TCP`] or [`PROTOCOL_UDP`].
    pub protocol: u8,
    /// Zero.
    pub pad: u8,
}

impl FrontendKey {
    /// A frontend of the protocol with this number.
    #[inline(always)]
    pub const fn new(protocol: u8, addr: Addr, port: Be16) -> Self {
        Self {
            addr,
            port,
            protocol,
            pad: 0,
        }
    }

    /// A TCP frontend.
    #[inline(always)]
    pub const fn tcp(addr: Addr, port: Be16) -> Self {
        Self::new(PROTOCOL_TCP, addr, port)
    }
}

/// One service port with its routing. One cache line.
///
/// `route` is the only word that decides; userspace publishes a change by storing it. The counters are written
/// by the kernel and read by userspace.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Service {
    /// A [`RouteWord`]; 0 leaves connections untouched.
    pub route: u64,
    /// Hash of the service's name, by which ids survive a restart. 0: free.
    pub name: u64,
    /// Connections the kernel sent to an endpoint.
    pub routed: u64,
    /// Connections the kernel sent to the proxy.
    pub proxied: u64,
    /// Connections the kernel refused.
    pub refused: u64,
    /// Zero.
    pub reserved: [u64; 3],
}

impl Service {
    /// The routing in force.
    pub const fn word(&self) -> RouteWord {
        RouteWord(self.route)
    }
}

pod!(FrontendKey, 20, 4);
pod!(Service, 64, 8);
