//! The routing of one service as it lies in the maps: which blocks hold what.
//!
//! It does not know how places are found ([`plan`](crate::datapath::plan)).

use router_common::{
    endpoint::Endpoint,
    route::{RouteKind, RouteWord, Subset, TABLE_HEADER},
};

use super::{Area, Block, EndpointKey};

/// A subset in the maps.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct PlacedSubset {
    /// Its index.
    pub index: u32,
    /// Place of its endpoints.
    pub block: Block,
    /// Endpoint ids in order, with address and port.
    pub endpoints: Vec<(u32, EndpointKey)>,
    /// Number of a [`Balance`](router_common::route::Balance).
    pub balance: u32,
    /// Limit id; 0: none.
    pub limit: u32,
    /// Whether open connections are counted.
    pub counted: bool,
}

impl PlacedSubset {
    /// The subset as the kernel reads it.
    pub fn entry(&self, cursor: u64) -> Subset {
        Subset {
            endpoints: self.block.base,
            endpoint_count: self.block.len,
            balance: self.balance,
            limit: self.limit,
            cursor,
            counted: self.counted.into(),
            ..Subset::default()
        }
    }

    /// The entries as the kernel reads them.
    pub fn entries(&self) -> Vec<Endpoint> {
        let entry = |&(id, key): &(u32, EndpointKey)| Endpoint {
            addr: key.addr,
            port: key.port,
            id,
            ..Endpoint::default()
        };
        self.endpoints.iter().map(entry).collect()
    }
}

/// A slot table in the maps.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct PlacedTable {
    /// Its cells, the header included.
    pub block: Block,
    /// Subset indexes.
    pub slots: Vec<u32>,
}

impl PlacedTable {
    /// Cell of the first slot.
    pub const fn base(&self) -> u32 {
        self.block.base + TABLE_HEADER
    }

    /// Cell of the cursor.
    pub const fn cursor(&self) -> u32 {
        self.block.base
    }
}

/// A class table in the maps.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PlacedClasses {
    /// Its cells.
    pub block: Block,
    /// The word of each class.
    pub words: Vec<RouteWord>,
}

/// The routing of a service in the maps.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Placement {
    /// The word that decides.
    pub word: RouteWord,
    /// Subsets.
    pub subsets: Vec<PlacedSubset>,
    /// Slot tables.
    pub tables: Vec<PlacedTable>,
    /// The class table, when the routing depends on the caller.
    pub classes: Option<PlacedClasses>,
}

impl Placement {
    /// True when connections of some caller are sent to the proxy, or may be: what a class table says that could not be
    /// read is not known.
    pub fn sends_to_proxy(&self) -> bool {
        if self.word.kind() == RouteKind::BySource as u8 {
            let sends = |classes: &PlacedClasses| classes.words.iter().any(|word| word.sends_to_proxy());
            return self.classes.as_ref().is_none_or(sends);
        }
        self.word.sends_to_proxy()
    }

    /// Every block that the routing occupies.
    pub fn blocks(&self) -> impl Iterator<Item = (Area, Block)> {
        let subsets = self.subsets.iter().flat_map(|subset| {
            let own = Block {
                base: subset.index,
                len: 1,
            };
            [(Area::Subsets, own), (Area::Endpoints, subset.block)]
        });
        let tables = self.tables.iter().map(|table| (Area::Slots, table.block));
        let classes = self.classes.iter().map(|classes| (Area::Slots, classes.block));
        subsets
            .chain(tables)
            .chain(classes)
            .filter(|(_, block)| block.len > 0)
    }
}
