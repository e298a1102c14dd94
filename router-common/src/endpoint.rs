//! Endpoints: where to connect, and what the kernel knows of each.

use crate::{
    net::{Addr, Be16},
    pod::pod,
};

/// An entry of a subset's endpoint list: all that is needed to connect. Immutable once a subset names it.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct Endpoint {
    /// Address to connect to.
    pub addr: Addr,
    /// Port to connect to.
    pub port: Be16,
    /// Zero.
    pub pad: u16,
    /// Endpoint id: index of its [`EndpointState`].
    pub id: u32,
    /// Zero.
    pub reserved: u64,
}

impl Endpoint {
    /// True for the endpoint that stands for the address and port that the client chose: `0.0.0.0:0`.
    #[inline(always)]
    pub const fn is_original(&self) -> bool {
        self.port.0 == 0 && self.addr.is_v4() && self.addr.be4() == 0
    }
}

/// Live state of one endpoint (address and port), shared by every subset that lists it. One cache line. Its index
/// is the endpoint's id and survives restarts. Id 0 is never used.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct EndpointState {
    /// Connections of this node that are open now.
    pub active: u64,
    /// Connections of this node since the endpoint was first seen.
    pub connects: u64,
    /// Address, by which the id survives a restart; all zero: free.
    pub addr: Addr,
    /// Port, likewise.
    pub port: Be16,
    /// Zero.
    pub pad: [u16; 3],
    /// Zero.
    pub reserved: [u64; 3],
}

pod!(Endpoint, 32, 8);
pod!(EndpointState, 64, 8);
