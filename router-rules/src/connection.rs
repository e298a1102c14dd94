//! What is known of a connection before any byte of it: who opened it, from where, and which address was dialled.
//!
//! It knows no sockets, and nothing of what a connection carries.

use std::{fmt, net::IpAddr};

use crate::{
    cidr::{Family, Subnets},
    source::ClassId,
};

/// What carries a call.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Transport {
    /// TCP, and whatever is spoken over it.
    Tcp,
    /// UDP.
    Udp,
}

impl Transport {
    /// `tcp` or `udp`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
        }
    }
}

impl fmt::Display for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// A condition on the transport and its addresses.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct TransportMatch {
    /// What must carry the call.
    pub transport: Transport,
    /// Where the caller's address must be.
    pub sources: Subnets,
    /// Where the address must be that the caller dialled: the service's, not the endpoint's.
    pub destinations: Subnets,
}

/// What the engine sees of a connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Connection {
    /// The caller's class. The addresses of a caller's workload are known by it.
    pub class: ClassId,
    /// The caller's address as its peer sees it. It counts only for callers of whom the registry knows no address of
    /// that family.
    pub client: Option<IpAddr>,
    /// The address that the caller dialled; none is in no subnet.
    pub dialled: Option<IpAddr>,
}

impl Connection {
    /// The family of both ends; none when neither is known.
    pub(crate) fn family(&self) -> Option<Family> {
        self.dialled.or(self.client).map(Family::of)
    }
}

impl From<ClassId> for Connection {
    /// A connection of which only the caller is known.
    fn from(class: ClassId) -> Self {
        Self {
            class,
            client: None,
            dialled: None,
        }
    }
}
