//! A list in chunks that are shared: another list that differs in a few places costs a few chunks.
//!
//! It does not know what it holds.

use std::{ops::Index, sync::Arc};

/// Items of a chunk: so many are copied for one that is replaced, and so many times fewer are counted for a copy.
const CHUNK: usize = 128;

/// A list of which copies share what they have in common.
#[derive(Debug)]
pub struct Chunks<T> {
    chunks: Vec<Arc<[T]>>,
    len: usize,
}

impl<T> Clone for Chunks<T> {
    fn clone(&self) -> Self {
        Self {
            chunks: self.chunks.clone(),
            len: self.len,
        }
    }
}

impl<T> Default for Chunks<T> {
    fn default() -> Self {
        Self {
            chunks: Vec::new(),
            len: 0,
        }
    }
}

impl<T> Chunks<T> {
    /// How many there are.
    pub const fn len(&self) -> usize {
        self.len
    }

    /// True when there is none.
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// One after the other.
    pub fn iter(&self) -> impl Iterator<Item = &T> + Clone {
        self.chunks.iter().flat_map(|chunk| chunk.iter())
    }

    /// The items that may differ from those at the same places of `other`: they are not the same in memory.
    pub fn differing<'c>(&'c self, other: &'c Self) -> impl Iterator<Item = (&'c T, &'c T)> {
        let chunks = self.chunks.iter().zip(&other.chunks);
        let differing = chunks.filter(|(a, b)| !Arc::ptr_eq(a, b));
        differing.flat_map(|(a, b)| a.iter().zip(b.iter()))
    }

    /// The item at `index`.
    pub fn get(&self, index: usize) -> Option<&T> {
        self.chunks.get(index / CHUNK)?.get(index % CHUNK)
    }
}

impl<T: Clone> Chunks<T> {
    /// The item at `index`, to be changed here and not in copies. None beyond the end.
    pub fn get_mut(&mut self, index: usize) -> Option<&mut T> {
        let chunk = self.chunks.get_mut(index / CHUNK)?;
        Arc::make_mut(chunk).get_mut(index % CHUNK)
    }
}

impl<T> FromIterator<T> for Chunks<T> {
    fn from_iter<I: IntoIterator<Item = T>>(items: I) -> Self {
        let mut items = items.into_iter();
        let mut list = Self::default();
        loop {
            let chunk: Vec<T> = items.by_ref().take(CHUNK).collect();
            if chunk.is_empty() {
                return list;
            }
            list.len += chunk.len();
            list.chunks.push(chunk.into());
        }
    }
}

impl<'c, T> IntoIterator for &'c Chunks<T> {
    type Item = &'c T;
    type IntoIter = Box<dyn Iterator<Item = &'c T> + 'c>;

    fn into_iter(self) -> Self::IntoIter {
        Box::new(self.iter())
    }
}

impl<T> Index<usize> for Chunks<T> {
    type Output = T;

    fn index(&self, index: usize) -> &T {
        &self.chunks[index / CHUNK][index % CHUNK]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn copies_share_what_is_the_same() {
        let first: Chunks<usize> = (0..3 * CHUNK + 1).collect();
        let mut second = first.clone();
        *second.get_mut(CHUNK).unwrap() = 7;
        assert_eq!((first[CHUNK], second[CHUNK]), (CHUNK, 7));
        assert_eq!(
            (first.len(), second.iter().count()),
            (3 * CHUNK + 1, 3 * CHUNK + 1)
        );
        let shared = first.chunks.iter().zip(&second.chunks);
        let shared: Vec<_> = shared.map(|(a, b)| Arc::ptr_eq(a, b)).collect();
        assert_eq!(shared, [true, false, true, true]);
        assert_eq!(first.differing(&second).count(), CHUNK);
        assert!(first.differing(&second).any(|pair| pair == (&CHUNK, &7)));
        assert_eq!(second.get_mut(4 * CHUNK), None);
        assert_eq!(
            (first.get(3 * CHUNK), first.get(3 * CHUNK + 1)),
            (Some(&(3 * CHUNK)), None)
        );
    }
}
