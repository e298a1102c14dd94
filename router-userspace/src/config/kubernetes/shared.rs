//! Texts and labels that many objects have in common, held once.
//!
//! Each thread that reads has its own pools, which are emptied when it has read its part of a file: they are never
//! larger than what was read.

use std::{
    cell::RefCell,
    collections::{BTreeMap, HashSet},
    fmt,
    net::IpAddr,
    ops::Deref,
    sync::Arc,
};

use serde::{
    Deserialize, Deserializer,
    de::{Error, Visitor},
};

thread_local! {
    static TEXTS: RefCell<HashSet<Arc<str>>> = RefCell::default();
    static PAIRS: RefCell<HashSet<SharedPairs>> = RefCell::default();
    static NODES: RefCell<HashSet<Arc<[IpAddr]>>> = RefCell::default();
}

/// Empties this thread's pools.
pub(in crate::config) fn forget_shared() {
    TEXTS.take();
    PAIRS.take();
    NODES.take();
}

/// Addresses, sharing what was read already.
pub(super) fn nodes(addresses: &[IpAddr]) -> Arc<[IpAddr]> {
    NODES.with_borrow_mut(|known| pooled(known, addresses))
}

/// A text that other objects have too.
#[derive(Clone, PartialEq, Eq)]
pub struct Text(Arc<str>);

impl Text {
    /// `text`, sharing what was read already.
    pub fn new(text: &str) -> Self {
        Self(TEXTS.with_borrow_mut(|texts| pooled(texts, text)))
    }

    /// The text, shared.
    pub fn shared(&self) -> Arc<str> {
        self.0.clone()
    }
}

impl Default for Text {
    fn default() -> Self {
        Self::new("")
    }
}

impl fmt::Debug for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Deref for Text {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

impl<'de> Deserialize<'de> for Text {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Written;

        impl Visitor<'_> for Written {
            type Value = Text;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string")
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Text, E> {
                Ok(Text::new(text))
            }
        }

        deserializer.deserialize_str(Written)
    }
}

/// Labels, in the order of their keys.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Pairs(Option<SharedPairs>);

/// Pairs that others have too.
pub type SharedPairs = Arc<[(Box<str>, Box<str>)]>;

impl Pairs {
    /// Value of a key.
    pub fn get(&self, key: &str) -> Option<&str> {
        self.iter().find(|(name, _)| *name == key).map(|(_, value)| value)
    }

    /// The pairs in the order of their keys.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        let pairs = self.0.as_deref().unwrap_or_default();
        pairs.iter().map(|(key, value)| (&**key, &**value))
    }

    /// True when there is no pair.
    pub const fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    /// The pairs, shared by all objects of one file that carry the same; none when there is no pair.
    pub const fn shared(&self) -> Option<&SharedPairs> {
        self.0.as_ref()
    }
}

impl<'de> Deserialize<'de> for Pairs {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let ordered = BTreeMap::<Box<str>, Box<str>>::deserialize(deserializer)?;
        let pairs: Vec<_> = ordered.into_iter().collect();
        if pairs.is_empty() {
            return Ok(Self::default());
        }
        Ok(Self(Some(PAIRS.with_borrow_mut(|known| pooled(known, &*pairs)))))
    }
}

fn pooled<T>(pool: &mut HashSet<Arc<T>>, value: &T) -> Arc<T>
where
    T: ?Sized + Eq + std::hash::Hash,
    for<'a> Arc<T>: From<&'a T>,
{
    if let Some(known) = pool.get(value) {
        return known.clone();
    }
    let new: Arc<T> = Arc::from(value);
    pool.insert(new.clone());
    new
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_the_same_is_held_once() {
        let pairs = |json| serde_json::from_str::<Pairs>(json).unwrap();
        let (one, other) = (pairs(r#"{"b": "1", "a": "2"}"#), pairs(r#"{"a": "2", "b": "1"}"#));
        assert!(Arc::ptr_eq(one.shared().unwrap(), other.shared().unwrap()));
        assert_eq!(pairs("{}"), Pairs::default());
        assert_eq!(one.iter().collect::<Vec<_>>(), [("a", "2"), ("b", "1")]);
        assert_eq!((one.get("b"), one.get("c")), (Some("1"), None));
        let (one, other) = (Text::new("x"), Text::new("x"));
        assert!(Arc::ptr_eq(&one.0, &other.0));
        forget_shared();
        assert!(!Arc::ptr_eq(&one.0, &Text::new("x").0));
    }
}
