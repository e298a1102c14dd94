//! Which rules of a port may match a request, without looking at those that cannot.
//!
//! Every alternative of every rule is filed under one thing that must be true for it to hold: a path, a header's
//! value, a prefix, a caller … A request's own path, headers and caller name the lists that concern it; these are
//! walked together in the order of the rules, and each alternative met is evaluated in full. Filing only narrows
//! the search: the index knows nothing else of what conditions mean, and decides nothing.

mod filing;
mod search;
#[cfg(test)]
mod tests;

use std::collections::HashMap;

use http::HeaderName;

use crate::{
    matcher::{Conditions, Request, are_none},
    source::{ClassId, SourceId, Sources},
};
use search::Search;

/// Up to this many alternatives are walked one by one: that costs less than looking up what to leave out.
const WALKED: usize = 8;

/// An alternative of a rule: the rule's position among those of its port, and the alternative's among its own.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct Entry {
    pub(crate) rule: u32,
    pub(crate) alternative: u32,
}

/// The rules of a port, filed.
#[derive(Debug, Default)]
pub(crate) struct RuleIndex {
    /// The first rule without any condition. Later rules are never reached and not filed.
    catch_all: Option<u32>,
    /// Alternatives that ask for no more than a caller and a dialled address, in the order of the rules.
    without_http: Box<[Entry]>,
    /// Every list, one after another; each is in the order of the rules.
    entries: Box<[Entry]>,
    /// Alternatives that nothing narrows.
    general: Span,
    /// The other lists; none when there are few rules.
    keyed: Option<Box<Keyed>>,
}

/// A list: its part of [`RuleIndex::entries`].
#[derive(Clone, Copy, Debug, Default)]
struct Span {
    start: u32,
    end: u32,
}

/// Lists by what must be true.
#[derive(Debug, Default)]
struct Keyed {
    paths: HashMap<Box<str>, Span>,
    prefixes: Prefixes,
    headers: HashMap<HeaderName, Values>,
    authorities: HashMap<Box<str>, Span>,
    sources: HashMap<SourceId, Span>,
    methods: HashMap<Box<str>, Span>,
}

/// Lists by the value of a header.
#[derive(Debug, Default)]
struct Values {
    exact: HashMap<Box<str>, Span>,
    /// The header must be there; its value is compared in another way.
    present: Span,
}

/// Path prefixes in the order of their texts. In that order, the prefixes of any path are the last one that is not
/// greater than the path, and its ancestors, as far as they are prefixes of the path.
#[derive(Debug, Default)]
struct Prefixes(Vec<Prefix>);

#[derive(Debug)]
struct Prefix {
    text: Box<str>,
    /// The longest other prefix that this one begins with.
    parent: Option<usize>,
    span: Span,
}

impl Prefixes {
    /// The lists of every prefix of `path`, longest first.
    fn of(&self, path: &str) -> impl Iterator<Item = Span> {
        let last = self.0.partition_point(|p| *p.text <= *path).checked_sub(1);
        std::iter::successors(last, |&i| self.0[i].parent)
            .map(|i| &self.0[i])
            .filter(|p| path.starts_with(&*p.text))
            .map(|p| p.span)
    }
}

impl RuleIndex {
    /// Files the alternatives of rules, which are in the order of evaluation.
    pub(crate) fn new<'r>(rules: impl IntoIterator<Item = &'r [Conditions]>) -> Self {
        let rules: Vec<&[Conditions]> = rules.into_iter().collect();
        let catch_all = rules.iter().position(|any_of| are_none(any_of));
        let reachable = &rules[..catch_all.unwrap_or(rules.len())];
        let alternatives: Vec<(Entry, &Conditions)> = (0..)
            .zip(reachable)
            .flat_map(|(rule, any_of)| {
                let numbered = (0..).zip(*any_of).filter(|(_, c)| c.other_transport.is_none());
                numbered.map(move |(alternative, c)| (Entry { rule, alternative }, c))
            })
            .collect();
        let without_http = alternatives.iter().filter(|(_, c)| !c.needs_http());
        Self {
            catch_all: catch_all.map(|position| position as u32),
            without_http: without_http.map(|&(entry, _)| entry).collect(),
            ..filing::file(&alternatives)
        }
    }

    /// Position of the first rule without any condition.
    pub(crate) fn catch_all(&self) -> Option<usize> {
        self.catch_all.map(|position| position as usize)
    }

    /// Alternatives that a connection can satisfy, in the order of the rules; those of rules behind the catch-all are
    /// left out.
    pub(crate) fn without_http(&self) -> &[Entry] {
        &self.without_http
    }

    /// Position of the first rule with an alternative that `holds`, among those that a connection can satisfy.
    pub(crate) fn first_for_connection(&self, holds: impl Fn(Entry) -> bool) -> Option<usize> {
        let mut search = Search::new(self.catch_all, holds);
        search.add(&self.without_http);
        search.finish()
    }

    /// Position of the first rule with an alternative that `holds`, among those that `request` can satisfy.
    pub(crate) fn first(
        &self,
        sources: &Sources,
        caller: ClassId,
        request: &Request<'_>,
        holds: impl Fn(Entry) -> bool,
    ) -> Option<usize> {
        let mut search = Search::new(self.catch_all, holds);
        search.add(self.list(self.general));
        if let Some(keyed) = &self.keyed {
            keyed.lists(sources, caller, request, |span| search.add(self.list(span)));
        }
        search.finish()
    }

    fn list(&self, span: Span) -> &[Entry] {
        &self.entries[span.start as usize..span.end as usize]
    }
}

impl Keyed {
    /// Calls `found` with every list that concerns the request.
    fn lists(&self, sources: &Sources, caller: ClassId, request: &Request<'_>, mut found: impl FnMut(Span)) {
        let path = request.path_only();
        let single = [
            self.paths.get(path),
            self.authorities.get(request.authority),
            self.methods.get(request.method.as_str()),
        ];
        single.into_iter().flatten().copied().for_each(&mut found);
        self.prefixes.of(path).for_each(&mut found);
        self.lists_of_headers(request, &mut found);
        self.lists_of_caller(sources, caller, &mut found);
    }

    fn lists_of_headers(&self, request: &Request<'_>, found: &mut impl FnMut(Span)) {
        let mut look_up = |name: &HeaderName, values: &Values| {
            let Some(value) = request.header(name) else {
                return;
            };
            found(values.present);
            if let Some(&span) = values.exact.get(&*value) {
                found(span);
            }
        };
        // Whichever names are fewer are looked up among the others: neither many rules nor many headers are walked.
        if self.headers.len() <= request.headers.keys_len() {
            for (name, values) in &self.headers {
                look_up(name, values);
            }
        } else {
            for name in request.headers.keys() {
                if let Some(values) = self.headers.get(name) {
                    look_up(name, values);
                }
            }
        }
    }

    fn lists_of_caller(&self, sources: &Sources, caller: ClassId, found: &mut impl FnMut(Span)) {
        let satisfied = sources.satisfied_by(caller);
        if self.sources.len() <= satisfied.len() {
            let holding = self
                .sources
                .iter()
                .filter(|(s, _)| sources.satisfies(caller, **s));
            holding.for_each(|(_, &span)| found(span));
        } else {
            let asked_for = satisfied.iter().filter_map(|s| self.sources.get(s));
            asked_for.for_each(|&span| found(span));
        }
    }
}
