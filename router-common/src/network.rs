//! Networks of external services, and who may reach nothing else.

use crate::{
    net::{Addr, Be16},
    pod::pod,
    service::FrontendKey,
};

/// Bits of a [`NetworkAddr`] in front of its address.
pub const BITS_BEFORE_ADDR: u32 = 32;

/// A port and an address, in the order in which a longest-prefix match reads them: of a network the port and protocol
/// count whole, and of the address its prefix.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct NetworkAddr {
    /// Port that clients connect to.
    pub port: Be16,
    /// IP protocol number.
    pub protocol: u8,
    /// Zero.
    pub pad: u8,
    /// Address of the network.
    pub addr: Addr,
}

/// A key of the trie of networks.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct NetworkKey {
    /// Bits of `of` that count: [`BITS_BEFORE_ADDR`] and those of the address, of which an IPv4 address has 96 more than
    /// its prefix says.
    pub bits: u32,
    /// The network and port.
    pub of: NetworkAddr,
}

/// What the trie says of a network.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct NetworkEntry {
    /// Index of the service.
    pub service: u32,
    /// [`UNKNOWN_ONLY`] or 0.
    pub flags: u32,
}

/// The network stands for hosts that only their names tell: addresses that are known otherwise are not meant.
pub const UNKNOWN_ONLY: u32 = 1;

impl NetworkAddr {
    /// The address and port of a frontend.
    #[inline(always)]
    pub const fn of(frontend: &FrontendKey) -> Self {
        Self {
            port: frontend.port,
            protocol: frontend.protocol,
            pad: 0,
            addr: frontend.addr,
        }
    }
}

/// Value of the map of confined cgroups: processes below may reach unknown destinations.
pub const EXEMPT: u32 = 0;
/// Value of the map of confined cgroups: processes below may not reach unknown destinations, where the settings say so.
pub const CONFINED: u32 = 1;

/// Port of DNS, on which link-local addresses (node-local caches) may always be reached.
pub const DNS_PORT: u16 = 53;

pod!(NetworkAddr, 20, 4);
pod!(NetworkKey, 24, 4);
pod!(NetworkEntry, 8, 4);
