//! Datagrams of sockets that send without connecting: which endpoint serves such a socket, and for which service.

use crate::{
    net::{Addr, Be16},
    pod::pod,
};

/// The key is what the socket dialled; the value is the endpoint that serves it.
pub const TO_ENDPOINT: u32 = 0;
/// The key is an endpoint that serves the socket; the value is what the socket dialled.
pub const FROM_ENDPOINT: u32 = 1;

/// The key is somebody unknown who has sent the socket a datagram, which it may answer. The value says nothing.
pub const HEARD_FROM: u32 = 2;

/// A socket and who it exchanges datagrams with.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct FlowKey {
    /// The socket's cookie, which is never used again.
    pub cookie: u64,
    /// Address of the other end.
    pub addr: Addr,
    /// Port of the other end.
    pub port: Be16,
    /// Zero.
    pub pad: u16,
    /// [`TO_ENDPOINT`], [`FROM_ENDPOINT`] or [`HEARD_FROM`].
    pub direction: u32,
}

/// What stands for the other end.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Flow {
    /// The route word by which the endpoint was chosen: while it is in force, so is the choice.
    pub word: u64,
    /// Address.
    pub addr: Addr,
    /// Port.
    pub port: Be16,
    /// Zero.
    pub pad: [u16; 3],
}

pod!(FlowKey, 32, 8);
pod!(Flow, 32, 8);
