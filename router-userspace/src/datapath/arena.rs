//! Where blocks of a memory-mapped array lie: first fit, lowest address first, so that few pages are ever touched.
//!
//! It does not know what the blocks hold, nor when a block that was in use may be reused: the caller keeps retired
//! blocks until their grace period is over and frees them then.

use std::collections::BTreeMap;

/// A block of an arena, in elements.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Block {
    /// First element.
    pub base: u32,
    /// Number of elements as asked for; the arena rounds it up to its alignment.
    pub len: u32,
}

/// Free and used elements of one array.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Arena {
    capacity: u32,
    align: u32,
    /// Gaps by their first element. Neighbours are merged, and every gap is aligned at both ends.
    gaps: BTreeMap<u32, u32>,
    used: u32,
}

impl Arena {
    /// An empty arena of `capacity` elements whose blocks begin and end at multiples of `align`.
    ///
    /// A capacity that is no multiple of `align` (at least 1) loses its remainder.
    pub fn new(capacity: u32, align: u32) -> Self {
        let align = align.max(1);
        let capacity = capacity / align * align;
        let gaps = (capacity > 0).then_some((0, capacity)).into_iter().collect();
        Self {
            capacity,
            align,
            gaps,
            used: 0,
        }
    }

    /// Elements in all.
    pub const fn capacity(&self) -> u32 {
        self.capacity
    }

    /// Elements in use, with what rounding added.
    pub const fn used(&self) -> u32 {
        self.used
    }

    /// Takes a block of `len` elements; `None` when no gap is long enough. A block of no elements takes no room.
    pub fn take(&mut self, len: u32) -> Option<Block> {
        let wanted = self.rounded(len)?;
        if wanted == 0 {
            return Some(Block { base: 0, len });
        }
        let (&base, _) = self.gaps.iter().find(|&(_, &gap)| gap >= wanted)?;
        let block = Block { base, len };
        self.claim(block).then_some(block)
    }

    /// Takes this very block; false, and nothing is taken, when a part of it is in use or beyond the arena.
    pub fn claim(&mut self, block: Block) -> bool {
        let Some(len) = self.rounded(block.len) else {
            return false;
        };
        if len == 0 {
            return true;
        }
        if !block.base.is_multiple_of(self.align) {
            return false;
        }
        let Some((&start, &gap)) = self.gaps.range(..=block.base).next_back() else {
            return false;
        };
        let before = block.base - start;
        if gap < before || gap - before < len {
            return false;
        }
        self.gaps.remove(&start);
        if before > 0 {
            self.gaps.insert(start, before);
        }
        let after = gap - before - len;
        if after > 0 {
            self.gaps.insert(block.base + len, after);
        }
        self.used += len;
        true
    }

    /// Gives a block back that was taken.
    pub fn free(&mut self, block: Block) {
        let Some(len) = self.rounded(block.len).filter(|&len| len > 0) else {
            return;
        };
        debug_assert!(
            !self.is_free_anywhere(block.base, len),
            "{block:?} is free already"
        );
        let (mut start, mut gap) = (block.base, len);
        if let Some((&before, &size)) = self.gaps.range(..start).next_back()
            && before + size == start
        {
            self.gaps.remove(&before);
            (start, gap) = (before, size + gap);
        }
        if let Some(size) = self.gaps.remove(&(start + gap)) {
            gap += size;
        }
        self.gaps.insert(start, gap);
        self.used -= len;
    }

    fn rounded(&self, len: u32) -> Option<u32> {
        len.checked_next_multiple_of(self.align)
    }

    fn is_free_anywhere(&self, base: u32, len: u32) -> bool {
        let gap = self.gaps.range(..base + len).next_back();
        gap.is_some_and(|(&start, &size)| start + size > base)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_are_aligned_and_low() {
        let mut arena = Arena::new(67, 8);
        assert_eq!(arena.capacity(), 64);
        assert_eq!(arena.take(9), Some(Block { base: 0, len: 9 }));
        assert_eq!(arena.take(1), Some(Block { base: 16, len: 1 }));
        assert_eq!(arena.used(), 24);
        arena.free(Block { base: 0, len: 9 });
        assert_eq!(arena.take(8), Some(Block { base: 0, len: 8 }));
        assert_eq!(arena.take(64), None);
        assert_eq!(arena.take(u32::MAX), None);
        assert_eq!(arena.take(0), Some(Block { base: 0, len: 0 }));
    }

    #[test]
    fn a_block_is_claimed_once() {
        let mut arena = Arena::new(64, 8);
        let block = Block { base: 24, len: 10 };
        assert!(arena.claim(block));
        assert!(!arena.claim(Block { base: 32, len: 1 }));
        assert!(!arena.claim(Block { base: 0, len: 32 }));
        assert!(!arena.claim(Block { base: 3, len: 1 }));
        assert!(!arena.claim(Block { base: 56, len: 16 }));
        arena.free(block);
        assert_eq!(arena, Arena::new(64, 8));
    }

    proptest::proptest! {
        #[test]
        fn blocks_never_overlap_and_nothing_leaks(steps in proptest::collection::vec((0_u32..40, proptest::bool::ANY), 1..200)) {
            let mut arena = Arena::new(1024, 8);
            let mut taken: Vec<Block> = Vec::new();
            for (n, take) in steps {
                if take {
                    taken.extend(arena.take(n).filter(|b| b.len > 0));
                } else if !taken.is_empty() {
                    arena.free(taken.swap_remove(n as usize % taken.len()));
                }
                let mut cells = std::collections::BTreeSet::new();
                for block in &taken {
                    proptest::prop_assert!((block.base..block.base + block.len).all(|c| cells.insert(c)));
                }
                let used: u32 = taken.iter().map(|b| b.len.next_multiple_of(8)).sum();
                proptest::prop_assert_eq!(used, arena.used());
            }
            for block in taken {
                arena.free(block);
            }
            proptest::prop_assert_eq!(arena, Arena::new(1024, 8));
        }
    }
}
