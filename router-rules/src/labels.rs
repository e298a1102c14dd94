//! Labels of instances and callers. The 0.1 rules call them tags.

use std::{collections::BTreeMap, fmt};

/// A set of key/value pairs, ordered by key.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Labels(BTreeMap<String, String>);

impl Labels {
    /// No pairs.
    pub const fn new() -> Self {
        Self(BTreeMap::new())
    }

    /// True when `instance` carries every pair of `self`. No pairs select everything.
    pub fn select(&self, instance: &Self) -> bool {
        self.0
            .iter()
            .all(|(key, value)| instance.0.get(key).is_some_and(|v| v == value))
    }

    /// True when there is no pair.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Number of pairs.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Value of a key.
    pub fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key).map(String::as_str)
    }

    /// The pairs in order of their keys.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(k, v)| (k.as_str(), v.as_str()))
    }
}

impl<K: Into<String>, V: Into<String>> FromIterator<(K, V)> for Labels {
    fn from_iter<I: IntoIterator<Item = (K, V)>>(pairs: I) -> Self {
        Self(pairs.into_iter().map(|(k, v)| (k.into(), v.into())).collect())
    }
}

impl fmt::Display for Labels {
    /// `version=v1,zone=a`; `(all)` when empty.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return f.write_str("(all)");
        }
        for (i, (key, value)) in self.0.iter().enumerate() {
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
