//! Builds an index: chooses what each alternative is filed under, and lays the lists out.

use std::collections::HashMap;

use http::HeaderName;

use super::{Entry, Keyed, Prefix, Prefixes, RuleIndex, Span, WALKED};
use crate::{matcher::Conditions, source::SourceId, text::TextMatch};

/// What must be true for an alternative to hold. The order is that of preference between equally rare ones.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
enum Key<'r> {
    Path(&'r str),
    Header(&'r HeaderName, &'r str),
    Prefix(&'r str),
    Authority(&'r str),
    Present(&'r HeaderName),
    Source(SourceId),
    Method(&'r str),
    /// Nothing that the index knows.
    Nothing,
}

/// An index of `alternatives` that knows no catch-all and no connections.
pub(super) fn file(alternatives: &[(Entry, &Conditions)]) -> RuleIndex {
    let mut index = RuleIndex::default();
    if alternatives.len() <= WALKED {
        index.entries = alternatives.iter().map(|&(entry, _)| entry).collect();
        index.general = Span::of(0, index.entries.len());
        return index;
    }
    let mut entries = Vec::with_capacity(alternatives.len());
    let mut keyed = Keyed::default();
    for (key, list) in lists(alternatives) {
        let span = Span::of(entries.len(), list.len());
        entries.extend(list);
        match key {
            Key::Nothing => index.general = span,
            key => keyed.put(key, span),
        }
    }
    keyed.prefixes.link();
    index.entries = entries.into();
    index.keyed = Some(Box::new(keyed));
    index
}

/// Every alternative under the rarest of its keys: the one that the fewest alternatives share.
fn lists<'r>(alternatives: &[(Entry, &'r Conditions)]) -> HashMap<Key<'r>, Vec<Entry>> {
    let mut sharers: HashMap<Key<'_>, u32> = HashMap::new();
    for key in alternatives.iter().flat_map(|(_, c)| keys(c)) {
        *sharers.entry(key).or_default() += 1;
    }
    let mut lists: HashMap<_, Vec<_>> = HashMap::new();
    for &(entry, conditions) in alternatives {
        let rarest = keys(conditions).min_by_key(|key| (sharers[key], key.preference()));
        lists
            .entry(rarest.unwrap_or(Key::Nothing))
            .or_default()
            .push(entry);
    }
    lists
}

/// What must be true for `conditions` to hold.
fn keys(conditions: &Conditions) -> impl Iterator<Item = Key<'_>> {
    let path = match &conditions.path {
        Some(TextMatch::Exact(path)) => Some(Key::Path(path)),
        // Nearly every path begins with "" and "/".
        Some(TextMatch::Prefix(prefix)) if prefix.len() > 1 => Some(Key::Prefix(prefix)),
        _ => None,
    };
    let authority = exact(conditions.authority.as_ref()).map(Key::Authority);
    let method = exact(conditions.method.as_ref()).map(Key::Method);
    let source = conditions.source.map(Key::Source);
    let headers = conditions.headers.iter().map(|(name, value)| match value {
        TextMatch::Exact(value) => Key::Header(name, value),
        _ => Key::Present(name),
    });
    [path, authority, method, source]
        .into_iter()
        .flatten()
        .chain(headers)
}

fn exact(wanted: Option<&TextMatch>) -> Option<&str> {
    match wanted {
        Some(TextMatch::Exact(text)) => Some(text),
        _ => None,
    }
}

impl Key<'_> {
    /// Smaller is preferred among equally rare keys: the likelier a request is to have another value.
    const fn preference(self) -> u8 {
        match self {
            Self::Path(_) => 0,
            Self::Header(..) => 1,
            Self::Prefix(_) => 2,
            Self::Authority(_) => 3,
            Self::Present(_) => 4,
            Self::Source(_) => 5,
            Self::Method(_) => 6,
            Self::Nothing => 7,
        }
    }
}

impl Span {
    const fn of(start: usize, len: usize) -> Self {
        Self {
            start: start as u32,
            end: (start + len) as u32,
        }
    }
}

impl Keyed {
    fn put(&mut self, key: Key<'_>, span: Span) {
        match key {
            Key::Path(path) => {
                self.paths.insert(path.into(), span);
            }
            Key::Header(name, value) => {
                let values = self.headers.entry(name.clone()).or_default();
                values.exact.insert(value.into(), span);
            }
            Key::Present(name) => self.headers.entry(name.clone()).or_default().present = span,
            Key::Prefix(prefix) => self.prefixes.0.push(Prefix {
                text: prefix.into(),
                parent: None,
                span,
            }),
            Key::Authority(authority) => {
                self.authorities.insert(authority.into(), span);
            }
            Key::Source(source) => {
                self.sources.insert(source, span);
            }
            Key::Method(method) => {
                self.methods.insert(method.into(), span);
            }
            Key::Nothing => {}
        }
    }
}

impl Prefixes {
    /// Puts the prefixes in order and finds each one's parent.
    fn link(&mut self) {
        self.0.sort_by(|a, b| a.text.cmp(&b.text));
        let mut ancestors: Vec<usize> = Vec::new();
        for i in 0..self.0.len() {
            let text = &self.0[i].text;
            while ancestors
                .pop_if(|&mut a| !text.starts_with(&*self.0[a].text))
                .is_some()
            {}
            self.0[i].parent = ancestors.last().copied();
            ancestors.push(i);
        }
    }
}
