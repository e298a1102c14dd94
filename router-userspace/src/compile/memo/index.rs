//! Where objects are, by the hash of a name: sixteen bytes for each object.
//!
//! It does not know the objects; whoever asks compares the names.

use crate::config::{Document, Many};

/// Where an object is among files. In the order of reading.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) struct Place {
    file: u32,
    item: u32,
}

impl Place {
    /// Number of the file.
    pub(super) const fn file(self) -> usize {
        self.file as usize
    }

    /// Number among the objects of its kind in the file.
    pub(super) const fn item(self) -> usize {
        self.item as usize
    }
}

/// Places by hash.
#[derive(Debug, Default)]
pub(super) struct Index(Box<[(u64, Place)]>);

impl Index {
    /// Indexes what each file holds by the hash that each object has, if it has one.
    pub(super) fn new<'d, T: 'd>(
        files: impl Iterator<Item = &'d Many<Document<T>>>,
        hash: impl Fn(&Document<T>) -> Option<u64>,
    ) -> Self {
        let mut places = Vec::new();
        for (file, documents) in (0..).zip(files) {
            let items = (0..).zip(documents);
            places.extend(items.filter_map(|(item, d)| Some((hash(d)?, Place { file, item }))));
        }
        places.sort_unstable();
        Self(places.into())
    }

    /// The places of a hash, in the order of reading.
    pub(super) fn all(&self, hash: u64) -> impl Iterator<Item = Place> + '_ {
        let from = self.0.partition_point(|(of, _)| *of < hash);
        let same = self.0[from..].iter().take_while(move |(of, _)| *of == hash);
        same.map(|(_, place)| *place)
    }
}
