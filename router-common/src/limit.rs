//! Connection limits.

use crate::pod::pod;

/// A limit and its current use. One cache line. Its index is the limit's id and survives restarts; id 0 is "none".
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Limit {
    /// Connections that may be open at once on this node, by the kernel and the proxy together.
    pub max: u64,
    /// Connections that are open now.
    ///
    /// For the length of a few instructions it also counts a connection that is about to be refused, so a reader
    /// may see `max` plus the number of processors; connections that were let through never exceed `max`.
    pub active: u64,
    /// Connections refused because the limit was reached.
    pub refused: u64,
    /// Hash of the policy's name, by which the id survives a restart. 0: free.
    pub name: u64,
    /// Zero.
    pub reserved: [u64; 4],
}

pod!(Limit, 64, 8);
