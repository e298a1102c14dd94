//! Numbers of source classes in the maps.
//!
//! A snapshot numbers its classes anew; a cgroup in the maps keeps its number as long as its class means the same as
//! that of most cgroups with the number. So a rule set that tells callers apart differently rewrites class tables,
//! and touches only the cgroups that are told apart differently.
//! It does not know what a class satisfies.

use std::collections::{BTreeMap, BTreeSet};

use router_common::route::RouteWord;
use router_rules::source::ClassId;

use super::{CapacityError, Desired, State};
use crate::datapath::desired::{Route, Routing};
use crate::datapath::state::{PlacedClasses, PlacedTable};

/// Class numbers that a class table can hold, the unknown class included.
const MAX_CLASSES: u32 = u16::MAX as u32;

/// What each class number means in the desired state.
#[derive(Debug, Default)]
pub(super) struct Classes {
    /// Class of the snapshot by number. Two numbers may mean the same until their cgroups are merged.
    meaning: BTreeMap<u32, ClassId>,
    /// The number that cgroups of a class get.
    number: BTreeMap<ClassId, u32>,
    /// Cgroups whose number means something else than their class.
    pub(super) movers: Vec<u64>,
}

impl Classes {
    pub(super) fn assign(state: &State, desired: &Desired) -> Result<Self, CapacityError> {
        let mut classes = Self {
            meaning: meanings(state, desired),
            ..Self::default()
        };
        for (&number, &class) in &classes.meaning {
            classes.number.entry(class).or_insert(number);
        }
        let mut taken = state.resting_classes();
        taken.extend(state.sources.values());
        let mut vacant = (1..MAX_CLASSES).filter(|number| !taken.contains(number));
        for class in desired.sources.values().collect::<BTreeSet<_>>() {
            if classes.number.contains_key(class) {
                continue;
            }
            let number = vacant.next().ok_or(CapacityError::TooMany {
                what: "source classes",
                needed: taken.len() + 1,
                capacity: MAX_CLASSES - 1,
            })?;
            classes.number.insert(*class, number);
            classes.meaning.insert(number, *class);
        }
        let moves = desired.sources.iter().filter(|&(cgroup, class)| {
            let number = state.sources.get(cgroup);
            number.is_some_and(|number| classes.meaning.get(number) != Some(class))
        });
        classes.movers = moves.map(|(&cgroup, _)| cgroup).collect();
        Ok(classes)
    }

    /// The number that cgroups of a class get; 0 for a class without cgroups.
    pub(super) fn number_of(&self, class: ClassId) -> u32 {
        self.number.get(&class).copied().unwrap_or_default()
    }

    /// The class table of a routing; none when callers make no difference.
    pub(super) fn table(
        &self,
        routing: &Routing,
        word: impl Fn(Route) -> RouteWord,
    ) -> Option<Vec<RouteWord>> {
        let Routing::BySource { unknown, .. } = routing else {
            return None;
        };
        let len = self.meaning.last_key_value().map_or(1, |(&last, _)| last + 1);
        let mut words = vec![word(*unknown); len as usize];
        for (&number, &class) in &self.meaning {
            words[number as usize] = word(routing.of_class(class));
        }
        Some(words)
    }

    /// The lowest class number that `routing` sends by a table; 0 stands for every caller of a uniform routing too.
    pub(super) fn number_routed_by(&self, routing: &Routing, table: u32) -> Option<u32> {
        let (first, by_class) = match routing {
            Routing::Uniform(route) => (*route, None),
            Routing::BySource { unknown, .. } => (*unknown, Some(&self.meaning)),
        };
        if first.table() == Some(table) {
            return Some(0);
        }
        let mut numbers = by_class?.iter();
        let found = numbers.find(|&(_, &class)| routing.of_class(class).table() == Some(table));
        found.map(|(&number, _)| number)
    }

    /// True when an installed class table does for every known caller what `routing` says.
    ///
    /// Words of numbers that no cgroup has do not count, nor does the table's length: beyond it callers are unknown.
    pub(super) fn agree(&self, table: &PlacedClasses, routing: &Routing, tables: &[PlacedTable]) -> bool {
        let wanted = self.table(routing, |route| super::placing::word(route, tables));
        wanted.is_some_and(|wanted| {
            let numbers = self.meaning.keys().map(|&number| number as usize);
            let installed = |n: usize| table.words.get(n).or(table.words.first());
            std::iter::once(0)
                .chain(numbers)
                .all(|n| installed(n) == wanted.get(n))
        })
    }
}

/// For every number that a desired cgroup has now: the class of most such cgroups, the lower of equals.
fn meanings(state: &State, desired: &Desired) -> BTreeMap<u32, ClassId> {
    let mut votes: BTreeMap<u32, BTreeMap<ClassId, usize>> = BTreeMap::new();
    for (cgroup, &number) in &state.sources {
        if let Some(&class) = desired.sources.get(cgroup) {
            *votes.entry(number).or_default().entry(class).or_default() += 1;
        }
    }
    let winner = |votes: BTreeMap<ClassId, usize>| {
        let best = votes
            .into_iter()
            .min_by_key(|&(class, n)| (std::cmp::Reverse(n), class));
        best.map(|(class, _)| class)
    };
    votes
        .into_iter()
        .filter_map(|(number, votes)| Some((number, winner(votes)?)))
        .collect()
}
