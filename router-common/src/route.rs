//! Route words, slot tables and subsets, with the arithmetic that the kernel, `explain` and the tests share.

use crate::{pod::pod, reason::Reason};

/// What a [`RouteWord`] tells the kernel to do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum RouteKind {
    /// Leave the connection as it is.
    Untouched = 0,
    /// Pick a slot of the table, then an endpoint of the slot's subset.
    Weighted = 1,
    /// Send to the proxy. The table is the default route, for when the proxy is down.
    Proxy = 2,
    /// As [`RouteKind::Proxy`], but refuse when the proxy is down (`onProxyDown: reject`).
    ProxyOrRefuse = 3,
    /// Refuse; the detail byte is the [`Reason`].
    Refuse = 4,
    /// The block is a class table: cell `n` holds the word for source class `n`, cell 0 the word for callers of
    /// unknown class. A class word is never `BySource` itself.
    BySource = 5,
}

/// Routing of a service in eight aligned bytes: kind, detail, length and place of its block in the slot arena.
#[repr(transparent)]
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct RouteWord(pub u64);

impl RouteWord {
    /// The word that leaves connections untouched.
    pub const UNTOUCHED: Self = Self(0);

    /// A word for a block of `len` cells whose first slot is cell `base`.
    pub const fn block(kind: RouteKind, base: u32, len: u16) -> Self {
        Self(base as u64 | (len as u64) << 32 | (kind as u64) << 48)
    }

    /// A word that refuses.
    pub const fn refuse(reason: Reason) -> Self {
        Self((RouteKind::Refuse as u64) << 48 | (reason as u64) << 56)
    }

    /// Number of a [`RouteKind`]; compare with `RouteKind::X as u8`.
    #[inline(always)]
    pub const fn kind(self) -> u8 {
        (self.0 >> 48) as u8
    }

    /// For [`RouteKind::Refuse`]: number of the [`Reason`].
    #[inline(always)]
    pub const fn detail(self) -> u8 {
        (self.0 >> 56) as u8
    }

    /// First slot (or class word) of the block, as an index of the slot arena.
    #[inline(always)]
    pub const fn base(self) -> u32 {
        self.0 as u32
    }

    /// Slots (or class words) in the block.
    #[inline(always)]
    pub const fn len(self) -> u16 {
        (self.0 >> 32) as u16
    }

    /// True when the word sends connections to the proxy while it is up. A word that decides by the caller does not say
    /// so; the words of its block do.
    #[inline(always)]
    pub const fn sends_to_proxy(self) -> bool {
        self.kind() == RouteKind::Proxy as u8 || self.kind() == RouteKind::ProxyOrRefuse as u8
    }

    /// True when the word names no block.
    #[inline(always)]
    pub const fn is_empty(self) -> bool {
        self.len() == 0
    }
}

/// Cells in front of every slot table. Cell `base - TABLE_HEADER` is the table's cursor; the rest of the cache
/// line is unused, so that walking the cursor does not evict the slots.
pub const TABLE_HEADER: u32 = 8;

/// Longest slot table.
pub const MAX_TABLE_SLOTS: usize = 1024;

/// How a subset picks its endpoint.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[repr(u32)]
pub enum Balance {
    /// Endpoints in turn, by a cursor that all processors share.
    RoundRobin = 0,
    /// Any endpoint with equal probability.
    Random = 1,
    /// Of two endpoints drawn at random, the one with fewer open connections on this node.
    LeastConn = 2,
}

/// Endpoints that carry the same labels, with their policy. One cache line. Immutable once a slot names it, but
/// for the cursor.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Subset {
    /// Index of the first endpoint in the endpoint arena.
    pub endpoints: u32,
    /// Number of endpoints; 0 refuses with [`Reason::NoEndpoints`].
    pub endpoint_count: u32,
    /// Number of a [`Balance`].
    pub balance: u32,
    /// Limit id; 0: no limit.
    pub limit: u32,
    /// Round-robin cursor, advanced by the kernel.
    pub cursor: u64,
    /// Not 0: open connections of the endpoints are counted, for which every socket must remember its own until it is
    /// closed. That is the larger half of what a connection costs, so it is done only where somebody asks: a limit,
    /// or [`Balance::LeastConn`] in this service.
    pub counted: u64,
    /// Zero.
    pub reserved: [u64; 4],
}

pod!(Subset, 64, 8);

/// The slot that the `n`-th connection of a table takes.
#[inline(always)]
pub const fn slot_of(cursor: u64, len: u16) -> u32 {
    (cursor % len as u64) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_keep_their_parts() {
        let word = RouteWord::block(RouteKind::Proxy, 123_456, 1000);
        assert_eq!(
            (word.kind(), word.base(), word.len()),
            (RouteKind::Proxy as u8, 123_456, 1000)
        );
        let refused = RouteWord::refuse(Reason::NoEndpoints);
        assert_eq!(
            (refused.kind(), refused.detail()),
            (RouteKind::Refuse as u8, Reason::NoEndpoints as u8)
        );
        assert!(refused.is_empty());
    }

    #[test]
    fn cursor_walks_every_slot_in_turn() {
        assert_eq!([0, 1, 2, 3, 4].map(|n| slot_of(n, 4)), [0, 1, 2, 3, 0]);
    }
}
