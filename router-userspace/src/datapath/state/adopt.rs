//! The mirror rebuilt from the maps that an earlier agent left: ids by the names in the entries, places by following
//! every reference from the services' route words.
//!
//! It repairs nothing. A service that cannot be followed keeps its index and is written anew by the next plan.

use std::collections::BTreeMap;

use router_common::{
    net::{Addr, Be16},
    route::{RouteKind, RouteWord, TABLE_HEADER},
};

use super::{Area, Capacity, Installed, PlacedClasses, PlacedSubset, PlacedTable, Placement, State};
use crate::datapath::{
    arena::Block,
    desired::EndpointKey,
    store::{MapStore, StoreError},
};

/// The maps could not be read.
#[derive(Debug, thiserror::Error)]
#[error("the maps of the previous agent could not be adopted: {0}")]
pub struct AdoptError(#[from] StoreError);

/// What was found in the maps.
#[derive(Debug)]
pub struct Adopted {
    /// The mirror.
    pub state: State,
    /// Indexes of services whose routing could not be followed; the next plan writes it anew.
    pub unreadable: Vec<u32>,
}

impl State {
    /// Rebuilds the mirror from the maps. Waits one grace period, so that whatever nothing names is free.
    ///
    /// # Errors
    ///
    /// A map could not be walked, or the grace period could not be had.
    pub fn adopt(store: &mut impl MapStore, capacity: Capacity) -> Result<Adopted, AdoptError> {
        let grace = store.request_grace()?;
        store.await_grace(grace)?;
        let mut adopted = Adopted {
            state: Self::new(capacity),
            unreadable: Vec::new(),
        };
        let state = &mut adopted.state;
        state.frontends = store.frontends()?.into_iter().collect();
        let known = store.sources()?.into_iter().filter(|&(_, class)| class != 0);
        state.sources = known.collect();
        state.networks = store.networks()?.into_iter().collect();
        state.addresses = store.addresses()?.into_iter().collect();
        state.confinement = store.confinement()?.into_iter().collect();
        state.adopt_ids(store);
        for index in 0..capacity.services {
            let service = store.service(index);
            if service.name == 0 {
                if service.word() != RouteWord::UNTOUCHED {
                    // Forgotten by an agent that did not live to see the end of the grace period.
                    store.publish(index, RouteWord::UNTOUCHED)?;
                }
                continue;
            }
            let readable = state.adopt_service(store, index, service.name, service.word());
            if !readable {
                adopted.unreadable.push(index);
            }
        }
        Ok(adopted)
    }

    fn adopt_ids(&mut self, store: &impl MapStore) {
        for id in 1..self.capacity.limits {
            let limit = store.limit(id);
            if limit.name != 0 && self.limit_ids.hold(limit.name, id) {
                self.limit_max.insert(limit.name, limit.max);
            }
        }
        for id in 1..self.capacity.endpoint_states {
            let found = store.endpoint_state(id);
            if found.addr != Addr::default() || found.port != Be16::default() {
                let key = EndpointKey {
                    addr: found.addr,
                    port: found.port,
                };
                self.endpoint_ids.hold(key, id);
            }
        }
    }

    /// False when the service is to be written anew.
    fn adopt_service(&mut self, store: &impl MapStore, index: u32, name: u64, word: RouteWord) -> bool {
        if !self.service_ids.hold(name, index) {
            return false;
        }
        let followed = Walk { state: self, store }
            .placement(word)
            .filter(|placement| self.claim_all(placement));
        let readable = followed.is_some();
        let installed = Installed {
            index,
            placement: followed.unwrap_or_else(|| Placement {
                word,
                ..Placement::default()
            }),
            described: None,
        };
        self.services.insert(name, installed);
        readable
    }

    /// Claims every block, or none when one of them is in use.
    fn claim_all(&mut self, placement: &Placement) -> bool {
        let mut claimed = Vec::new();
        for (area, block) in placement.blocks() {
            if !self.arenas.of_mut(area).claim(block) {
                for (area, block) in claimed {
                    self.arenas.of_mut(area).free(block);
                }
                return false;
            }
            claimed.push((area, block));
        }
        true
    }
}

/// Follows references; none where one leads beyond a map or to a free entry.
struct Walk<'a, S> {
    state: &'a State,
    store: &'a S,
}

impl<S: MapStore> Walk<'_, S> {
    fn placement(&self, word: RouteWord) -> Option<Placement> {
        let mut placement = Placement {
            word,
            ..Placement::default()
        };
        let mut words = vec![word];
        if word.kind() == RouteKind::BySource as u8 {
            let block = self.block(Area::Slots, word.base(), word.len().into())?;
            words = self.cells(block).map(RouteWord).collect();
            placement.classes = Some(PlacedClasses {
                block,
                words: words.clone(),
            });
        }
        let mut seen = BTreeMap::new();
        for word in words {
            let known = [
                RouteKind::Weighted,
                RouteKind::Proxy,
                RouteKind::ProxyOrRefuse,
                RouteKind::Refuse,
            ];
            if !known.iter().any(|&kind| kind as u8 == word.kind()) {
                return None;
            }
            if !word.is_empty() && seen.insert(word.base(), word.len()).is_none() {
                placement.tables.push(self.table(word)?);
            }
        }
        placement.subsets = self.subsets(&placement.tables)?;
        Some(placement)
    }

    fn table(&self, word: RouteWord) -> Option<PlacedTable> {
        let start = word.base().checked_sub(TABLE_HEADER)?;
        let block = self.block(Area::Slots, start, TABLE_HEADER + u32::from(word.len()))?;
        let slots = self.cells(block).skip(TABLE_HEADER as usize);
        let slots: Result<Vec<u32>, _> = slots.map(u32::try_from).collect();
        Some(PlacedTable {
            block,
            slots: slots.ok()?,
        })
    }

    fn subsets(&self, tables: &[PlacedTable]) -> Option<Vec<PlacedSubset>> {
        let mut seen = std::collections::BTreeSet::new();
        let named = tables.iter().flat_map(|table| &table.slots);
        named
            .filter(|&&index| seen.insert(index))
            .map(|&index| self.subset(index))
            .collect()
    }

    fn subset(&self, index: u32) -> Option<PlacedSubset> {
        self.block(Area::Subsets, index, 1)?;
        let found = self.store.subset(index);
        let block = match found.endpoint_count {
            0 => Block { base: 0, len: 0 },
            count => self.block(Area::Endpoints, found.endpoints, count)?,
        };
        if found.limit != 0 && !self.is_limit(found.limit) {
            return None;
        }
        let endpoints = (block.base..block.base + block.len).map(|at| self.endpoint(at));
        Some(PlacedSubset {
            index,
            block,
            endpoints: endpoints.collect::<Option<_>>()?,
            balance: found.balance,
            limit: found.limit,
            counted: found.counted != 0,
        })
    }

    fn is_limit(&self, id: u32) -> bool {
        let name = self.store.limit(id).name;
        self.state.limit_ids.get(&name) == Some(id)
    }

    fn endpoint(&self, at: u32) -> Option<(u32, EndpointKey)> {
        let found = self.store.endpoint(at);
        let key = EndpointKey {
            addr: found.addr,
            port: found.port,
        };
        let known = self.state.endpoint_ids.get(&key) == Some(found.id);
        known.then_some((found.id, key))
    }

    fn block(&self, area: Area, base: u32, len: u32) -> Option<Block> {
        let end = base.checked_add(len)?;
        (end <= self.state.arenas.of(area).capacity()).then_some(Block { base, len })
    }

    fn cells(&self, block: Block) -> impl Iterator<Item = u64> {
        (block.base..block.base + block.len).map(|cell| self.store.slot(cell))
    }
}
