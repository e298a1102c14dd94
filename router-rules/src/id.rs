//! Names and places: what rules call things and where they were written.

use std::{fmt, sync::Arc};

/// A service's fully qualified name, in lower case: `reviews.default.svc.cluster.local`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct ServiceName(Arc<str>);

impl ServiceName {
    /// From a name as written; case is folded, a trailing dot dropped.
    pub fn new(name: &str) -> Self {
        Self(name.trim_end_matches('.').to_ascii_lowercase().into())
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ServiceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// Where an object was written. It goes with every rule and policy, for `explain` and for findings.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Origin {
    /// Kind and name: `route-rule reviews-default`. Unique; ties in precedence are broken by it.
    pub object: Arc<str>,
    /// File, relative to the configuration directory.
    pub file: Arc<str>,
    /// First line of the object, counted from 1.
    pub line: u32,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({}:{})", self.object, self.file, self.line)
    }
}
