//! A list in parts that are shared: the objects of many files in a row, without a copy of any.
//!
//! It does not know what it holds.

use std::{ops::Index, sync::Arc};

/// A list whose parts may belong to other lists too.
#[derive(Debug)]
pub struct Many<T> {
    parts: Vec<Arc<Vec<T>>>,
}

impl<T> Default for Many<T> {
    fn default() -> Self {
        Self { parts: Vec::new() }
    }
}

impl<T> Clone for Many<T> {
    fn clone(&self) -> Self {
        Self {
            parts: self.parts.clone(),
        }
    }
}

impl<T> Many<T> {
    /// Adds one at the end.
    pub fn push(&mut self, item: T) {
        match self.parts.last_mut().and_then(Arc::get_mut) {
            Some(part) => part.push(item),
            None => self.parts.push(Arc::new(vec![item])),
        }
    }

    /// Adds what is in `later`, sharing it.
    pub fn append(&mut self, later: &Self) {
        self.parts.extend(later.parts.iter().cloned());
    }

    /// One after the other.
    pub fn iter(&self) -> impl Iterator<Item = &T> + Clone {
        self.parts.iter().flat_map(|part| part.iter())
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.parts.iter().map(|part| part.len()).sum()
    }

    /// True when there is none.
    pub fn is_empty(&self) -> bool {
        self.parts.iter().all(|part| part.is_empty())
    }

    /// The parts: equal pointers are equal objects.
    pub fn parts(&self) -> &[Arc<Vec<T>>] {
        &self.parts
    }

    /// Lets go of room that is kept for more.
    pub(super) fn shrink(&mut self) {
        for part in &mut self.parts {
            if let Some(part) = Arc::get_mut(part) {
                part.shrink_to_fit();
            }
        }
    }
}

impl<T> Index<usize> for Many<T> {
    type Output = T;

    fn index(&self, mut index: usize) -> &T {
        for part in &self.parts {
            match part.get(index) {
                Some(item) => return item,
                None => index -= part.len(),
            }
        }
        panic!("there are no more than {} items", self.len())
    }
}

impl<T> Extend<T> for Many<T> {
    fn extend<I: IntoIterator<Item = T>>(&mut self, items: I) {
        for item in items {
            self.push(item);
        }
    }
}

impl<'m, T> IntoIterator for &'m Many<T> {
    type Item = &'m T;
    type IntoIter = Box<dyn Iterator<Item = &'m T> + 'm>;

    fn into_iter(self) -> Self::IntoIter {
        Box::new(self.iter())
    }
}
