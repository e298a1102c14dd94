//! Small numbers for names: an id belongs to one name as long as the name is used, and after that until the kernel
//! has let go of it.
//!
//! It does not know when the kernel has let go; the caller asks the store and [forgets](Ids::forget) the id then.

use std::collections::{BTreeMap, BTreeSet};

/// An id that is no longer asked for. Equal only to itself: a name that came back and left again has another.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Leaving {
    /// The id.
    pub id: u32,
    departure: u64,
}

/// Ids of names of type `K`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Ids<K> {
    first: u32,
    end: u32,
    holders: BTreeMap<K, u32>,
    /// Names that nobody asks for, with their departures: few.
    leaving: BTreeMap<K, u64>,
    /// Ids below `high` that nobody holds.
    vacant: BTreeSet<u32>,
    /// Ids from here on were never used.
    high: u32,
    departures: u64,
}

impl<K: Ord + Clone> Ids<K> {
    /// Ids from `first` to `end`, without `end`.
    pub const fn new(first: u32, end: u32) -> Self {
        Self {
            first,
            end,
            holders: BTreeMap::new(),
            leaving: BTreeMap::new(),
            vacant: BTreeSet::new(),
            high: first,
            departures: 0,
        }
    }

    /// How many ids there are.
    pub const fn capacity(&self) -> u32 {
        self.end - self.first
    }

    /// How many ids are held, with those that are leaving.
    pub fn held(&self) -> usize {
        self.holders.len()
    }

    /// How many names are in use.
    pub fn used(&self) -> usize {
        self.holders.len() - self.leaving.len()
    }

    /// The id of a name, leaving or not.
    pub fn get(&self, name: &K) -> Option<u32> {
        self.holders.get(name).copied()
    }

    /// The id of a name that is in use.
    pub fn in_use(&self, name: &K) -> Option<u32> {
        self.get(name).filter(|_| !self.leaving.contains_key(name))
    }

    /// Names in use with their ids, in order of the names.
    pub fn iter(&self) -> impl Iterator<Item = (&K, u32)> {
        let in_use = |(name, _): &(&K, &u32)| self.leaving.is_empty() || !self.leaving.contains_key(*name);
        self.holders.iter().filter(in_use).map(|(name, id)| (name, *id))
    }

    /// Ids that may be given to new names, lowest first.
    pub fn vacant(&self) -> impl Iterator<Item = u32> + use<'_, K> {
        self.vacant.iter().copied().chain(self.high..self.end)
    }

    /// Gives `id` to `name`, or takes the name back into use when it holds that id already.
    ///
    /// False, and nothing changes, when the id is another's or the name has another.
    pub fn hold(&mut self, name: K, id: u32) -> bool {
        if let Some(&held) = self.holders.get(&name) {
            if held == id {
                self.leaving.remove(&name);
            }
            return held == id;
        }
        if id >= self.high && id < self.end {
            self.vacant.extend(self.high..id);
            self.high = id + 1;
        } else if !self.vacant.remove(&id) {
            return false;
        }
        self.holders.insert(name, id);
        true
    }

    /// Nobody asks for `name` any more; the id stays its own until it is forgotten.
    pub fn leave(&mut self, name: &K) -> Option<Leaving> {
        let id = self.get(name)?;
        self.departures += 1;
        self.leaving.insert(name.clone(), self.departures);
        Some(Leaving {
            id,
            departure: self.departures,
        })
    }

    /// True when the name has not come back since it left.
    pub fn is_leaving(&self, name: &K, leaving: Leaving) -> bool {
        self.get(name) == Some(leaving.id) && self.leaving.get(name) == Some(&leaving.departure)
    }

    /// Frees the id of a name.
    pub fn forget(&mut self, name: &K) {
        self.leaving.remove(name);
        if let Some(id) = self.holders.remove(name) {
            self.vacant.insert(id);
        }
    }

    /// Takes as little room as it can: names that came in order left half of it empty.
    pub fn pack(&mut self) {
        self.holders = std::mem::take(&mut self.holders).into_iter().collect();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_stays_until_it_is_forgotten() {
        let mut ids = Ids::new(1, 4);
        assert!(ids.hold("a", 1) && ids.hold("b", 3));
        assert_eq!(ids.vacant().collect::<Vec<_>>(), [2]);
        assert!(!ids.hold("c", 1) && !ids.hold("a", 2) && !ids.hold("c", 4) && !ids.hold("c", 0));
        let first = ids.leave(&"a").unwrap();
        assert_eq!((ids.get(&"a"), ids.in_use(&"a")), (Some(1), None));
        assert!(ids.hold("a", 1) && !ids.is_leaving(&"a", first));
        let second = ids.leave(&"a").unwrap();
        assert!(ids.is_leaving(&"a", second) && !ids.is_leaving(&"a", first));
        ids.forget(&"a");
        assert_eq!(ids.vacant().collect::<Vec<_>>(), [1, 2]);
        assert_eq!(ids.iter().collect::<Vec<_>>(), [(&"b", 3)]);
    }
}
