//! Labels of instances and callers. The 0.1 rules call them tags.

use std::{fmt, sync::Arc};

/// Pairs in the order of their keys, each key once, shared by all that carry the same.
pub type Pairs = Arc<[(Box<str>, Box<str>)]>;

/// A set of key/value pairs, ordered by key. Copies share the pairs.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Labels(Option<Pairs>);

impl Labels {
    /// No pairs.
    pub const fn new() -> Self {
        Self(None)
    }

    /// True when `instance` carries every pair of `self`. No pairs select everything.
    pub fn select(&self, instance: &Self) -> bool {
        self.pairs()
            .iter()
            .all(|(key, value)| instance.get(key).is_some_and(|v| v == &**value))
    }

    /// True when there is no pair.
    pub fn is_empty(&self) -> bool {
        self.pairs().is_empty()
    }

    /// Number of pairs.
    pub fn len(&self) -> usize {
        self.pairs().len()
    }

    /// Value of a key.
    pub fn get(&self, key: &str) -> Option<&str> {
        // Few pairs: a search by halves would take longer.
        let found = self.pairs().iter().find(|(name, _)| **name == *key);
        found.map(|(_, value)| &**value)
    }

    /// The pairs in order of their keys.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.pairs().iter().map(|(k, v)| (&**k, &**v))
    }

    fn pairs(&self) -> &[(Box<str>, Box<str>)] {
        self.0.as_deref().unwrap_or_default()
    }
}

impl From<Pairs> for Labels {
    /// Shares `pairs`, when they are in order.
    fn from(pairs: Pairs) -> Self {
        if pairs.is_empty() {
            Self::new()
        } else if pairs.is_sorted_by(|a, b| a.0 < b.0) {
            Self(Some(pairs))
        } else {
            pairs.iter().map(|(k, v)| (&**k, &**v)).collect()
        }
    }
}

impl<K: Into<String>, V: Into<String>> FromIterator<(K, V)> for Labels {
    /// Of several values for a key, the last one counts.
    fn from_iter<I: IntoIterator<Item = (K, V)>>(pairs: I) -> Self {
        let pairs = pairs.into_iter().map(|(k, v)| (k.into(), v.into()));
        let ordered: std::collections::BTreeMap<String, String> = pairs.collect();
        let pairs = ordered.into_iter().map(|(k, v)| (k.into(), v.into()));
        let pairs: Pairs = pairs.collect();
        Self(Some(pairs).filter(|pairs| !pairs.is_empty()))
    }
}

impl fmt::Debug for Labels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter()).finish()
    }
}

impl fmt::Display for Labels {
    /// `version=v1,zone=a`; `(all)` when empty.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_empty() {
            return f.write_str("(all)");
        }
        for (i, (key, value)) in self.iter().enumerate() {
            let comma = if i > 0 { "," } else { "" };
            write!(f, "{comma}{key}={value}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn selects_by_inclusion() {
        let v1: Labels = [("version", "v1")].into_iter().collect();
        let pod: Labels = [("version", "v1"), ("app", "reviews")].into_iter().collect();
        assert!(v1.select(&pod) && Labels::default().select(&pod));
        assert!(!pod.select(&v1));
        assert_eq!(pod.to_string(), "app=reviews,version=v1");
    }
}
