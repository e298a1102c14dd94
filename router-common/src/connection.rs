//! What the kernel remembers of a socket, and what it hands to the proxy.

use crate::{
    net::{Addr, Be16},
    pod::pod,
};

/// Nothing is reserved.
pub const STATE_IDLE: u32 = 0;
/// The kernel routed the connection and holds its reservations.
pub const STATE_ROUTED: u32 = 1;
/// The kernel sent the connection to the proxy.
pub const STATE_PROXIED: u32 = 2;
/// The agent's own upstream socket, not connected yet: route it nowhere, reserve in `limit` and `endpoint`.
pub const STATE_OWN: u32 = 3;
/// The agent's own upstream socket, with its reservations.
pub const STATE_OWN_ROUTED: u32 = 4;
/// A socket that the proxy accepted; `origin` says what the client meant.
pub const STATE_ACCEPTED: u32 = 5;
/// The agent's own upstream socket; its last `connect` was refused because the limit is reached.
pub const STATE_OWN_REFUSED: u32 = 6;

/// Flag of an [`Origin`]: only the destination's name tells whether it may be reached, and this caller may reach nothing
/// that is not declared.
pub const CONFINED_CALLER: u16 = 1;

/// Destination and caller of a connection that the kernel sent to the proxy.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Origin {
    /// Address that the client connected to.
    pub addr: Addr,
    /// Port that the client connected to.
    pub port: Be16,
    /// [`CONFINED_CALLER`] or 0.
    pub flags: u16,
    /// Index of the service.
    pub service: u32,
    /// Cgroup id of the calling process.
    pub cgroup: u64,
}

/// A connection to the proxy as both ends see it.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct Tuple {
    /// Client's address.
    pub client: Addr,
    /// Proxy's address.
    pub proxy: Addr,
    /// Client's port.
    pub client_port: Be16,
    /// Proxy's port.
    pub proxy_port: Be16,
}

/// Value of the socket storage.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Connection {
    /// One of the `STATE_` constants.
    pub state: u32,
    /// Limit id the connection counts in; 0: none.
    pub limit: u32,
    /// Endpoint id the connection counts in; 0: none.
    pub endpoint: u32,
    /// 1 when `tuple` is an entry of the hand-over map that is to be removed with the socket.
    pub handed_over: u32,
    /// For [`STATE_PROXIED`] and [`STATE_ACCEPTED`].
    pub origin: Origin,
    /// For [`STATE_PROXIED`]: the connection's key in the hand-over map.
    pub tuple: Tuple,
    /// Zero.
    pub reserved: u32,
}

pod!(Origin, 32, 8);
pod!(Tuple, 36, 4);
pod!(Connection, 88, 8);
