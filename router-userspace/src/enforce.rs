//! What the proxy asks of the kernel, as a trait: who a connection was meant for, and what an upstream connection
//! counts against. [`datapath`](crate::datapath) implements it; the proxy knows no maps. Beside it, what the proxy finds
//! out and the kernel follows: which endpoints are ejected ([`outlier`]); and what limits count and throttles let through.

pub mod breaker;
pub mod outlier;
pub mod throttle;

use std::{io, net::SocketAddr, os::fd::BorrowedFd};

/// What the kernel recorded of a connection that it sent to the proxy.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Origin {
    /// Address and port that the client connected to.
    pub destination: SocketAddr,
    /// Cgroup id of the calling process.
    pub cgroup: u64,
    /// Only the name that the client sends tells whether it may reach its destination, and it may reach nothing that is
    /// not declared.
    pub confined: bool,
}

/// The kernel's side of a proxied connection.
pub trait Enforcement: Send + Sync {
    /// Original destination and caller of an accepted socket; `None` when the kernel did not redirect it.
    ///
    /// # Errors
    ///
    /// The map could not be read.
    fn origin(&self, accepted: BorrowedFd<'_>) -> io::Result<Option<Origin>>;

    /// Marks a socket that is not connected yet as the agent's own: the kernel will route it nowhere, and counts it
    /// against the limit of `policy` (its origin's object name) and as a connection of `endpoint`.
    ///
    /// # Errors
    ///
    /// The map could not be written.
    fn claim(&self, socket: BorrowedFd<'_>, policy: Option<&str>, endpoint: SocketAddr) -> io::Result<()>;

    /// True when the last `connect` of a claimed socket was refused because the limit of its policy is reached.
    fn over_limit(&self, socket: BorrowedFd<'_>) -> bool;

    /// True when fewer connections than the limit of `policy` allows are open now, or nobody counts them. It may be
    /// otherwise a moment later: only `connect` takes a place.
    fn has_room(&self, policy: &str) -> bool;
}
