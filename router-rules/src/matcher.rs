//! One rule against one request or connection: matched, or the first condition that was not met.

use std::{borrow::Cow, fmt, net::IpAddr};

use http::{HeaderMap, HeaderName, HeaderValue, Method};

use crate::{
    cidr::Subnets,
    connection::{Connection, Transport},
    source::{ClassId, SourceId, SourceMatch, Sources, SubnetsId},
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
    /// Nothing on this port is carried by the transport that is asked for.
    pub(crate) other_transport: Option<Transport>,
    /// Where the dialled address must be.
    pub(crate) destinations: Subnets,
    pub(crate) source: Option<SourceId>,
    pub(crate) source_subnets: Option<SubnetsId>,
    pub(crate) path: Option<TextMatch>,
    pub(crate) method: Option<TextMatch>,
    pub(crate) scheme: Option<TextMatch>,
    pub(crate) authority: Option<TextMatch>,
    pub(crate) headers: Box<[(HeaderName, TextMatch)]>,
}

/// True when alternatives hold whatever the request and the caller.
pub(crate) fn are_none(any_of: &[Conditions]) -> bool {
    any_of.is_empty() || any_of.iter().any(Conditions::is_empty)
}

/// The first condition of a rule that did not hold.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Mismatch {
    /// The port's calls are carried by another transport.
    Transport {
        /// What is asked for.
        wanted: Transport,
    },
    /// The dialled address is in none of the subnets, or is not known.
    Destination {
        /// The subnets.
        wanted: String,
        /// The address.
        found: Option<IpAddr>,
    },
    /// The caller is not the one asked for.
    Source {
        /// The condition.
        wanted: String,
    },
    /// The caller's address is in none of the subnets, or is not known.
    SourceSubnet {
        /// The subnets.
        wanted: String,
        /// False when nobody knows the caller's address.
        known: bool,
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
            Self::Transport { wanted } => write!(f, "the port is not {}", wanted.name().to_uppercase()),
            Self::Destination {
                wanted,
                found: Some(found),
            } => write!(f, "the dialled address {found} is not in {wanted}"),
            Self::Destination { wanted, found: None } => {
                write!(f, "no address was dialled, wanted one in {wanted}")
            }
            Self::Source { wanted } => write!(f, "the caller is not {wanted}"),
            Self::SourceSubnet { wanted, known: true } => write!(f, "the caller is not in {wanted}"),
            Self::SourceSubnet { wanted, known: false } => {
                write!(f, "the caller's address is not known, wanted one in {wanted}")
            }
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
    pub(crate) fn hold(&self, sources: &Sources, connection: &Connection, request: &Request<'_>) -> bool {
        self.hold_for_caller(sources, connection) == Some(true)
            && self
                .parts(request)
                .all(|(_, wanted, found)| found.is_some_and(|value| wanted.matches(&value)))
    }

    /// Whether the conditions hold for a connection, of which no more is known; none when it would have to be known
    /// who the caller is, or where it is.
    pub(crate) fn hold_for_connection(&self, sources: &Sources, connection: &Connection) -> Option<bool> {
        if self.needs_http() {
            return Some(false);
        }
        self.hold_for_caller(sources, connection)
    }

    /// As [`Conditions::hold_for_connection`], leaving those on requests aside.
    fn hold_for_caller(&self, sources: &Sources, connection: &Connection) -> Option<bool> {
        if self.other_transport.is_some() || !self.holds_for_dialled(connection.dialled) {
            return Some(false);
        }
        let is_source = self.source.is_none_or(|s| sources.satisfies(connection.class, s));
        let is_from = self
            .source_subnets
            .map_or(Some(true), |subnets| sources.is_from(connection, subnets));
        match (is_source, is_from) {
            (true, is_from) => is_from,
            (false, Some(false)) => Some(false),
            // Whoever is unknown may turn out to be the one asked for.
            (false, _) => (connection.class != ClassId::UNKNOWN).then_some(false),
        }
    }

    /// True when the condition on the dialled address holds.
    pub(crate) fn holds_for_dialled(&self, dialled: Option<IpAddr>) -> bool {
        self.destinations.is_empty() || dialled.is_some_and(|address| self.destinations.contain(address))
    }

    /// True when the dialled address may make a difference. Its family says over which the caller comes.
    pub(crate) fn look_at_dialled(&self) -> bool {
        !self.destinations.is_empty() || self.source_subnets.is_some()
    }

    /// The first condition that does not hold, for people.
    pub(crate) fn mismatch(
        &self,
        sources: &Sources,
        connection: &Connection,
        request: Option<&Request<'_>>,
    ) -> Option<Mismatch> {
        if let Some(wanted) = self.other_transport {
            return Some(Mismatch::Transport { wanted });
        }
        if !self.holds_for_dialled(connection.dialled) {
            return Some(Mismatch::Destination {
                wanted: self.destinations.to_string(),
                found: connection.dialled,
            });
        }
        if let Some(source) = self.source.filter(|&s| !sources.satisfies(connection.class, s)) {
            return Some(Mismatch::Source {
                wanted: sources.condition(source).to_string(),
            });
        }
        if let Some(subnets) = self.source_subnets {
            let is_from = sources.is_from(connection, subnets);
            if is_from != Some(true) {
                return Some(Mismatch::SourceSubnet {
                    wanted: sources.subnets(subnets).to_string(),
                    known: is_from.is_some(),
                });
            }
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
        let subnets =
            |end: &str, subnets: &Subnets| (!subnets.is_empty()).then(|| format!("{end} {subnets}"));
        let transport = self.other_transport.map(|wanted| wanted.to_string());
        let from = self
            .source_subnets
            .and_then(|id| subnets("from", sources.subnets(id)));
        let dialled = subnets("dialled", &self.destinations);
        let connection = transport.into_iter().chain(from).chain(dialled);
        let words = fixed.chain(headers).chain(source).chain(connection);
        words.collect::<Vec<_>>().join(", ")
    }

    /// True when there is no condition at all.
    pub(crate) fn is_empty(&self) -> bool {
        self.other_transport.is_none()
            && self.destinations.is_empty()
            && self.source.is_none()
            && self.source_subnets.is_none()
            && !self.needs_http()
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
