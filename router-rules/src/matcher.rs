//! One rule against one request or connection: matched, or the first condition that was not met.

use std::{borrow::Cow, fmt};

use http::{HeaderMap, HeaderName, HeaderValue, Method};

use crate::{
    source::{ClassId, SourceId, SourceMatch, Sources},
    text::TextMatch,
};

/// What the engine sees of a request.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// Method.
    pub method: &'a Method,
    /// Path with its query, beginning with `/` (or `*`).
    pub path: &'a str,
    /// `http` or `https`.
    pub scheme: &'a str,
    /// Host and port as the request names them.
    pub authority: &'a str,
    /// Header fields.
    pub headers: &'a HeaderMap,
}

impl<'a> Request<'a> {
    /// The path without its query.
    pub fn path_only(&self) -> &'a str {
        self.path.split_once('?').map_or(self.path, |(path, _)| path)
    }

    /// Value of a header; repeated fields are joined by commas, as Envoy does. `None` when absent. Bytes that are not
    /// UTF-8 are replaced by U+FFFD, so that the header is still there.
    pub fn header(&self, name: &HeaderName) -> Option<Cow<'a, str>> {
        let mut values = self.headers.get_all(name).iter();
        let text = |value: &'a HeaderValue| String::from_utf8_lossy(value.as_bytes());
        let mut joined = text(values.next()?);
        for value in values {
            let owned = joined.to_mut();
            owned.push(',');
            owned.push_str(&text(value));
        }
        Some(joined)
    }
}

/// The conditions of a rule, ready to be evaluated. All must hold.
#[derive(Debug, Default)]
pub(crate) struct Conditions {
    pub(crate) source: Option<SourceId>,
    pub(crate) path: Option<TextMatch>,
    pub(crate) method: Option<TextMatch>,
    pub(crate) scheme: Option<TextMatch>,
    pub(crate) authority: Option<TextMatch>,
    pub(crate) headers: Box<[(HeaderName, TextMatch)]>,
}

/// The first condition of a rule that did not hold.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Mismatch {
    /// The caller is not the one asked for.
    Source {
        /// The condition.
        wanted: String,
    },
    /// A part of the request has another value, or is absent.
    Part {
        /// `path`, `method`, `scheme`, `authority` or `header NAME`.
        part: String,
        /// The comparison.
        wanted: String,
        /// The request's value; none when absent.
        found: Option<String>,
    },
    /// The rule needs an HTTP request and this is a TCP connection.
    NeedsHttp,
}

impl fmt::Display for Mismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Source { wanted } => write!(f, "the caller is not {wanted}"),
            Self::Part {
                part,
                wanted,
                found: Some(found),
            } => write!(f, "{part} is \"{found}\", not {wanted}"),
            Self::Part {
                part,
                wanted,
                found: None,
            } => write!(f, "{part} is absent, wanted {wanted}"),
            Self::NeedsHttp => f.write_str("its conditions need an HTTP request"),
        }
    }
}

/// Names a part of a request.
#[derive(Clone, Copy, Debug)]
enum Part<'c> {
    Fixed(&'static str),
    Header(&'c HeaderName),
}

impl fmt::Display for Part<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fixed(part) => f.write_str(part),
            Self::Header(name) => write!(f, "header {name}"),
        }
    }
}

impl Conditions {
    /// True when every condition holds. The hot path: no allocation.
    pub(crate) fn hold(&self, sources: &Sources, class: ClassId, request: &Request<'_>) -> bool {
        self.source.is_none_or(|s| sources.satisfies(class, s))
            && self
                .parts(request)
                .all(|(_, wanted, found)| found.is_some_and(|value| wanted.matches(&value)))
    }

    /// True when the conditions hold for a connection, of which only the caller is known.
    pub(crate) fn hold_for_tcp(&self, sources: &Sources, class: ClassId) -> bool {
        !self.needs_http() && self.source.is_none_or(|s| sources.satisfies(class, s))
    }

    /// The first condition that does not hold, for people.
    pub(crate) fn mismatch(
        &self,
        sources: &Sources,
        class: ClassId,
        request: Option<&Request<'_>>,
    ) -> Option<Mismatch> {
        if let Some(source) = self.source.filter(|&s| !sources.satisfies(class, s)) {
            return Some(Mismatch::Source {
                wanted: sources.condition(source).to_string(),
            });
        }
        let Some(request) = request else {
            return self.needs_http().then_some(Mismatch::NeedsHttp);
        };
        let failed = self
            .parts(request)
            .find(|(_, wanted, found)| !found.as_ref().is_some_and(|v| wanted.matches(v)));
        failed.map(|(part, wanted, found)| Mismatch::Part {
            part: part.to_string(),
            wanted: wanted.to_string(),
            found: found.map(Cow::into_owned),
        })
    }

    /// Every condition, for people: `uri prefix "/x", header cookie regex "…", source reviews{version=v2}`.
    pub(crate) fn in_words(&self, sources: &Sources) -> String {
        let fixed = [
            ("uri", &self.path),
            ("method", &self.method),
            ("scheme", &self.scheme),
            ("authority", &self.authority),
        ];
        let fixed = fixed
            .into_iter()
            .filter_map(|(part, wanted)| Some(format!("{part} {}", wanted.as_ref()?)));
        let headers = self.headers.iter();
        let headers = headers.map(|(name, wanted)| format!("header {name} {wanted}"));
        let source = self.source.map(|id| {
            let SourceMatch { service, labels } = sources.condition(id);
            let service = service.as_ref().map_or("", |service| service.as_str());
            if labels.is_empty() {
                format!("source {service}")
            } else {
                format!("source {service}{{{labels}}}")
            }
        });
        fixed.chain(headers).chain(source).collect::<Vec<_>>().join(", ")
    }

    /// True when there is no condition at all.
    pub(crate) fn is_empty(&self) -> bool {
        self.source.is_none() && !self.needs_http()
    }

    pub(crate) fn needs_http(&self) -> bool {
        let fixed = [&self.path, &self.method, &self.scheme, &self.authority];
        fixed.iter().any(|part| part.is_some()) || !self.headers.is_empty()
    }

    /// Every condition on a part of the request, cheapest first, with the part's value.
    fn parts<'c>(
        &'c self,
        request: &'c Request<'_>,
    ) -> impl Iterator<Item = (Part<'c>, &'c TextMatch, Option<Cow<'c, str>>)> {
        let fixed = [
            (Part::Fixed("method"), &self.method, Some(request.method.as_str())),
            (Part::Fixed("path"), &self.path, Some(request.path_only())),
            (Part::Fixed("scheme"), &self.scheme, Some(request.scheme)),
            (Part::Fixed("authority"), &self.authority, Some(request.authority)),
        ];
        fixed
            .into_iter()
            .filter_map(|(part, wanted, value)| wanted.as_ref().map(|w| (part, w, value.map(Cow::Borrowed))))
            .chain(
                self.headers
                    .iter()
                    .map(|(name, wanted)| (Part::Header(name), wanted, request.header(name))),
            )
    }
}
