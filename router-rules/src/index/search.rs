//! The first entry of several ordered lists that holds, by merging them. Allocates nothing.

use super::Entry;

/// Lists that are merged at once. When more are added they are merged in groups of this size, each bounded by the
/// best of those before, so any number of lists fits.
const MERGED: usize = 16;

/// Later than every rule.
const NONE: u32 = u32::MAX;

/// A search for the first rule with an alternative that holds.
pub(super) struct Search<'i, H> {
    lists: [&'i [Entry]; MERGED],
    len: usize,
    /// Position of the first rule known to match. Only earlier ones are evaluated.
    best: u32,
    holds: H,
}

impl<'i, H: Fn(Entry) -> bool> Search<'i, H> {
    /// A search that answers `known` unless an earlier rule is found.
    pub(super) fn new(known: Option<u32>, holds: H) -> Self {
        Self {
            lists: [&[]; MERGED],
            len: 0,
            best: known.unwrap_or(NONE),
            holds,
        }
    }

    /// Adds a list, which is in the order of the rules.
    pub(super) fn add(&mut self, list: &'i [Entry]) {
        if list.first().is_none_or(|entry| entry.rule >= self.best) {
            return;
        }
        if self.len == MERGED {
            self.merge();
        }
        self.lists[self.len] = list;
        self.len += 1;
    }

    /// Position of the first rule that matches.
    pub(super) fn finish(mut self) -> Option<usize> {
        self.merge();
        (self.best != NONE).then_some(self.best as usize)
    }

    /// Evaluates the entries of the lists in the order of their rules, up to the first that holds.
    fn merge(&mut self) {
        let lists = &mut self.lists[..std::mem::take(&mut self.len)];
        let position = |list: &&mut &[Entry]| list.first().map_or(NONE, |entry| entry.rule);
        while let Some(list) = lists.iter_mut().min_by_key(position) {
            let Some((&entry, rest)) = list.split_first() else {
                return;
            };
            if entry.rule >= self.best {
                return;
            }
            if (self.holds)(entry) {
                self.best = entry.rule;
                return;
            }
            *list = rest;
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*};

    use super::*;

    proptest! {
        #[test]
        fn finds_the_first_that_holds_and_looks_at_no_later_one(
            mut lists in vec(vec(0_u32..200, 0..20), 0..50),
            known in proptest::option::of(0_u32..200),
            modulus in 1_u32..40,
        ) {
            lists.iter_mut().for_each(|list| list.sort_unstable());
            let holds = |rule: u32| rule.is_multiple_of(modulus);
            let all = lists.iter().flatten().copied();
            let expected = all.filter(|&rule| holds(rule)).chain(known).min();
            let entries = |list: &Vec<u32>| -> Vec<Entry> {
                list.iter().map(|&rule| Entry { rule, alternative: 0 }).collect()
            };
            let lists: Vec<Vec<Entry>> = lists.iter().map(entries).collect();
            let latest = std::cell::Cell::new(None);
            let mut search = Search::new(known, |entry| {
                latest.set(latest.get().max(Some(entry.rule)));
                holds(entry.rule)
            });
            let merged_at_once = lists.len() <= MERGED;
            for list in &lists {
                search.add(list);
            }
            prop_assert_eq!(search.finish(), expected.map(|rule| rule as usize));
            if let (true, Some(expected), Some(latest)) = (merged_at_once, expected, latest.get()) {
                prop_assert!(latest <= expected);
            }
        }
    }
}
