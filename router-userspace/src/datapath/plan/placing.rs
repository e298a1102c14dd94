//! Finding a place for a service's routing: what is in the maps already is kept, the rest gets new blocks.
//!
//! A subset or table is kept when it holds the very same, so its cursor runs on; a new one takes over the cursor of
//! its predecessor. It does not know frontends or callers.

use router_common::route::{RouteKind, RouteWord, TABLE_HEADER};

use super::{
    Area, CapacityError, Classes, Installed, MapOp, PlacedClasses, PlacedSubset, PlacedTable, Placement,
    Planner,
};
use crate::datapath::{
    arena::Block,
    desired::{EndpointKey, Route, Routing, Service, Subset, Table},
};

/// The word of a route whose tables have these places.
pub(super) fn word(route: Route, tables: &[PlacedTable]) -> RouteWord {
    let block = |kind, table: Option<u32>| {
        let placed = table.and_then(|table| tables.get(table as usize));
        placed.map_or(RouteWord::block(kind, 0, 0), |t| {
            RouteWord::block(kind, t.base(), t.slots.len() as u16)
        })
    };
    match route {
        Route::Weighted(table) => block(RouteKind::Weighted, Some(table)),
        Route::Proxy(table) => block(RouteKind::Proxy, table),
        Route::ProxyOrRefuse(table) => block(RouteKind::ProxyOrRefuse, table),
        Route::Refuse(reason) => RouteWord::refuse(reason),
    }
}

impl Planner<'_> {
    /// The placement of `service`, with the operations that write what is not in the maps yet.
    pub(super) fn place(
        &mut self,
        service: &Service,
        old: Option<&Installed>,
        ops: &mut Vec<MapOp>,
    ) -> Result<Placement, CapacityError> {
        let mut kept = Kept::new(old);
        let mut placement = Placement {
            subsets: Vec::with_capacity(service.subsets.len()),
            ..Placement::default()
        };
        for (position, subset) in service.subsets.iter().enumerate() {
            let content = self.content(subset);
            let placed = match kept.subset(&content) {
                Some(placed) => placed,
                None => self.write_subset(content, kept.subset_cursor(subset, position), ops)?,
            };
            placement.subsets.push(placed);
        }
        placement.tables = self.place_tables(service, &placement.subsets, kept, ops)?;
        placement.word = match &service.routing {
            Routing::Uniform(route) => word(*route, &placement.tables),
            by_source @ Routing::BySource { .. } => {
                let classes = self.class_table(by_source, &placement.tables, old, ops)?;
                let word = RouteWord::block(
                    RouteKind::BySource,
                    classes.block.base,
                    classes.words.len() as u16,
                );
                placement.classes = Some(classes);
                word
            }
        };
        Ok(placement)
    }

    fn place_tables(
        &mut self,
        service: &Service,
        subsets: &[PlacedSubset],
        mut kept: Kept<'_>,
        ops: &mut Vec<MapOp>,
    ) -> Result<Vec<PlacedTable>, CapacityError> {
        let slots_of = |table: &Table| -> Vec<u32> {
            let slots = table.slots.iter();
            slots
                .filter_map(|&slot| Some(subsets.get(slot as usize)?.index))
                .collect()
        };
        let wanted: Vec<_> = service.tables.iter().map(slots_of).collect();
        let predecessors: Vec<_> = (0..wanted.len() as u32)
            .map(|table| kept.predecessor(service, table, &self.classes))
            .collect();
        // A table's own predecessor comes first, so that tables that look alike do not swap their callers.
        let mut placed: Vec<_> = wanted
            .iter()
            .zip(&predecessors)
            .map(|(slots, predecessor)| kept.table(slots, *predecessor))
            .collect();
        for (slots, place) in wanted.iter().zip(&mut placed) {
            if place.is_none() {
                *place = kept.table(slots, None);
            }
        }
        let mut tables = Vec::with_capacity(wanted.len());
        for ((slots, place), predecessor) in wanted.into_iter().zip(placed).zip(predecessors) {
            tables.push(match place {
                Some(table) => table,
                None => self.write_table(slots, predecessor, ops)?,
            });
        }
        Ok(tables)
    }

    /// The subset as the maps would hold it, without a place.
    fn content(&self, subset: &Subset) -> PlacedSubset {
        let id = |key: &EndpointKey| {
            let new = self.new_endpoints.get(key).copied();
            // Every endpoint of a subset is one of the desired state's; 0 counts nowhere.
            new.or_else(|| self.state.endpoint_ids.in_use(key)).unwrap_or(0)
        };
        let endpoints = subset.endpoints.iter();
        PlacedSubset {
            index: 0,
            block: Block {
                base: 0,
                len: subset.endpoints.len() as u32,
            },
            endpoints: endpoints.map(|key| (id(key), *key)).collect(),
            balance: subset.balance as u32,
            limit: subset
                .limit
                .and_then(|name| self.limits.get(&name).copied())
                .unwrap_or(0),
            counted: subset.counted,
        }
    }

    fn write_subset(
        &mut self,
        content: PlacedSubset,
        cursor_from: Option<u32>,
        ops: &mut Vec<MapOp>,
    ) -> Result<PlacedSubset, CapacityError> {
        let subset = PlacedSubset {
            index: self.take(Area::Subsets, 1)?.base,
            block: self.take(Area::Endpoints, content.block.len)?,
            ..content
        };
        ops.push(MapOp::WriteSubset {
            subset: subset.clone(),
            cursor_from,
        });
        Ok(subset)
    }

    fn write_table(
        &mut self,
        slots: Vec<u32>,
        cursor_from: Option<u32>,
        ops: &mut Vec<MapOp>,
    ) -> Result<PlacedTable, CapacityError> {
        let block = self.take(Area::Slots, TABLE_HEADER + slots.len() as u32)?;
        let table = PlacedTable { block, slots };
        ops.push(MapOp::WriteTable {
            table: table.clone(),
            cursor_from,
        });
        Ok(table)
    }

    fn class_table(
        &mut self,
        routing: &Routing,
        tables: &[PlacedTable],
        old: Option<&Installed>,
        ops: &mut Vec<MapOp>,
    ) -> Result<PlacedClasses, CapacityError> {
        let installed = old.and_then(|old| old.placement.classes.as_ref());
        // Words of numbers that no cgroup has do not count, but they must not name a table that departs.
        let stays = |word: &RouteWord| word.is_empty() || tables.iter().any(|t| t.base() == word.base());
        let current = |table: &&PlacedClasses| {
            self.classes.agree(table, routing, tables) && table.words.iter().all(stays)
        };
        if let Some(kept) = installed.filter(current) {
            return Ok(kept.clone());
        }
        let words = self
            .classes
            .table(routing, |route| word(route, tables))
            .unwrap_or_default();
        let block = self.take(Area::Slots, words.len() as u32)?;
        let classes = PlacedClasses { block, words };
        ops.push(MapOp::WriteClasses(classes.clone()));
        Ok(classes)
    }

    fn take(&mut self, area: Area, len: u32) -> Result<Block, CapacityError> {
        let arena = self.arenas.of_mut(area);
        let (used, capacity) = (arena.used(), arena.capacity());
        arena.take(len).ok_or(CapacityError::Full {
            what: match area {
                Area::Slots => "slots",
                Area::Subsets => "subsets",
                Area::Endpoints => "endpoint entries",
            },
            len,
            used,
            capacity,
        })
    }
}

/// What of the installed routing is still to be had. Each subset and table is kept at most once.
struct Kept<'a> {
    old: Option<&'a Installed>,
    subsets: Vec<&'a PlacedSubset>,
    tables: Vec<&'a PlacedTable>,
}

impl<'a> Kept<'a> {
    fn new(old: Option<&'a Installed>) -> Self {
        Self {
            old,
            subsets: old.map_or(Vec::new(), |o| o.placement.subsets.iter().collect()),
            tables: old.map_or(Vec::new(), |o| o.placement.tables.iter().collect()),
        }
    }

    fn subset(&mut self, content: &PlacedSubset) -> Option<PlacedSubset> {
        let same = |s: &&PlacedSubset| {
            s.endpoints == content.endpoints
                && s.balance == content.balance
                && s.limit == content.limit
                && s.counted == content.counted
        };
        let at = self.subsets.iter().position(same)?;
        Some(self.subsets.remove(at).clone())
    }

    /// The table with this cursor and these slots, or any with these slots.
    fn table(&mut self, slots: &[u32], cursor: Option<u32>) -> Option<PlacedTable> {
        let wanted = |t: &&PlacedTable| t.slots == slots && cursor.is_none_or(|cursor| t.cursor() == cursor);
        let at = self.tables.iter().position(wanted)?;
        Some(self.tables.remove(at).clone())
    }

    /// Index of the subset that was what `subset` is; by position when an earlier agent installed it.
    fn subset_cursor(&self, subset: &Subset, position: usize) -> Option<u32> {
        let old = self.old?;
        let at = match &old.described {
            Some(described) => described.subsets.iter().position(|s| s.of == subset.of)?,
            None => position,
        };
        old.placement.subsets.get(at).map(|s| s.index)
    }

    /// Cursor of the table that a table of `service` takes the place of: the same rule's, or the same callers' when
    /// an earlier agent installed it.
    fn predecessor(&self, service: &Service, table: u32, classes: &Classes) -> Option<u32> {
        let old = self.old?;
        if let Some(described) = &old.described {
            let rule = &service.tables.get(table as usize)?.rule;
            let at = described.tables.iter().position(|t| t.rule == *rule)?;
            return Some(old.placement.tables.get(at)?.cursor());
        }
        let words = match &old.placement.classes {
            Some(classes) => &classes.words[..],
            None => std::slice::from_ref(&old.placement.word),
        };
        let number = classes.number_routed_by(&service.routing, table)?;
        let word = words.get(number as usize)?;
        let found = old.placement.tables.iter().find(|t| t.base() == word.base());
        Some(found?.cursor())
    }
}
