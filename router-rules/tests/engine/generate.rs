//! Random models, callers and requests, from small alphabets so that they often concern each other.

use std::{net::IpAddr, sync::Arc};

use http::{HeaderMap, HeaderName, HeaderValue, Method};
use proptest::{collection::vec, option, prelude::*, sample::select};
use router_rules::{
    action::Target,
    cidr::{self, Subnets},
    connection::{Transport, TransportMatch},
    id::{Origin, ServiceName},
    labels::Labels,
    matcher::Request,
    model::{Match, Model, Protocol, Rule},
    source::{SourceMatch, Workload},
    text::{TextMatch, WholeRegex},
};

use crate::{naive::REGEXES, world};

/// A request that owns its parts.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    method: Method,
    path: String,
    scheme: &'static str,
    authority: &'static str,
    headers: HeaderMap,
}

impl Asked {
    pub(crate) fn request(&self) -> Request<'_> {
        Request {
            method: &self.method,
            path: &self.path,
            scheme: self.scheme,
            authority: self.authority,
            headers: &self.headers,
        }
    }
}

const AUTHORITIES: [&str; 4] = ["reviews", "reviews:80", "10.0.0.1", "é.example"];
const SCHEMES: [&str; 2] = ["http", "https"];
const HEADERS: [&str; 5] = ["foo", "cookie", "x-user", "path", "user-agent"];
const VALUES: [&str; 8] = ["", "a", "ab", "bar", "1", "a,b", "user=jason", "x;user=jason;y"];
pub(crate) const SERVICES: [&str; 3] = ["reviews.default", "ratings.default", "store.default"];

fn path() -> impl Strategy<Value = String> {
    let segments = vec(select(&["", "a", "b", "ab", "é", "1"][..]), 0..5);
    segments.prop_map(|segments| format!("/{}", segments.join("/")))
}

fn header_name() -> impl Strategy<Value = HeaderName> {
    let names: Vec<HeaderName> = HEADERS.iter().filter_map(|name| name.parse().ok()).collect();
    select(names)
}

fn method() -> impl Strategy<Value = Method> {
    select(vec![Method::GET, Method::POST, Method::DELETE])
}

fn text(value: impl Strategy<Value = String> + Clone) -> impl Strategy<Value = TextMatch> {
    let prefix = (value.clone(), 0_usize..8).prop_map(|(v, n)| v.chars().take(n).collect());
    let regex =
        select(&REGEXES[..]).prop_map(|(source, _)| TextMatch::Regex(WholeRegex::new(source).unwrap()));
    prop_oneof![
        5 => value.prop_map(TextMatch::Exact),
        3 => prefix.prop_map(TextMatch::Prefix),
        1 => regex,
        1 => Just(TextMatch::Present),
    ]
}

fn one_of(values: &'static [&'static str]) -> impl Strategy<Value = String> + Clone {
    select(values).prop_map(str::to_owned)
}

fn labels() -> impl Strategy<Value = Labels> {
    let pair = (select(&["version", "zone"][..]), select(&["1", "2", ""][..]));
    vec(pair, 0..3).prop_map(|pairs| pairs.into_iter().collect())
}

fn source() -> impl Strategy<Value = SourceMatch> {
    let service = option::of(select(&SERVICES[..]).prop_map(ServiceName::new));
    (service, labels()).prop_map(|(service, labels)| SourceMatch { service, labels })
}

const SUBNETS: [&str; 6] = [
    "10.0.0.0/8",
    "10.1.0.0/16",
    "10.1.0.5",
    "0.0.0.0/0",
    "fd00::/8",
    "fd00::5",
];
pub(crate) const ADDRESSES: [&str; 5] = ["10.1.0.5", "10.2.0.7", "192.0.2.1", "fd00::5", "2001:db8::1"];

fn subnets() -> impl Strategy<Value = Subnets> {
    let subnet = select(&SUBNETS[..]).prop_map(|text| cidr::parse(text).unwrap());
    vec(subnet, 0..3).prop_map(|subnets| subnets.into_iter().collect())
}

fn transport() -> impl Strategy<Value = TransportMatch> {
    let transport = prop_oneof![3 => Just(Transport::Tcp), 1 => Just(Transport::Udp)];
    (transport, subnets(), subnets()).prop_map(|(transport, sources, destinations)| TransportMatch {
        transport,
        sources,
        destinations,
    })
}

pub(crate) fn address() -> impl Strategy<Value = IpAddr> {
    select(&ADDRESSES[..]).prop_map(|text| text.parse().unwrap())
}

/// The client's address and the dialled one, of one family where both are known.
pub(crate) fn ends() -> impl Strategy<Value = (Option<IpAddr>, Option<IpAddr>)> {
    (option::of(address()), option::of(address())).prop_map(|(client, dialled)| {
        let same = |client: &IpAddr| dialled.is_none_or(|d| d.is_ipv4() == client.is_ipv4());
        (client.filter(same), dialled)
    })
}

/// Conditions; each kind is present in a part of them only. Few are empty: an empty one hides every later rule.
fn alternative() -> impl Strategy<Value = Match> {
    let header = (header_name(), text(one_of(&VALUES)));
    let methods = method().prop_map(|m| m.to_string());
    let filled = (
        option::weighted(0.3, source()),
        option::weighted(0.3, transport()),
        option::weighted(0.4, text(path().boxed())),
        option::weighted(0.2, text(methods.boxed())),
        option::weighted(0.1, text(one_of(&SCHEMES))),
        option::weighted(0.2, text(one_of(&AUTHORITIES))),
        vec(header, 0..3),
    )
        .prop_map(
            |(source, transport, path, method, scheme, authority, headers)| Match {
                source,
                transport,
                path,
                method,
                scheme,
                authority,
                headers,
            },
        );
    let only_path = || {
        text(path().boxed()).prop_map(|path| Match {
            path: Some(path),
            ..Match::default()
        })
    };
    let filled = (filled, only_path()).prop_map(|(m, otherwise)| if m.is_empty() { otherwise } else { m });
    prop_oneof![60 => filled, 40 => only_path(), 1 => Just(Match::default())]
}

fn rule() -> impl Strategy<Value = (i32, u8, Vec<Match>, Vec<(Labels, u32)>)> {
    // A rule without conditions hides those after it; few of them leave more to look at.
    let any_of = prop_oneof![1 => Just(Vec::new()), 60 => vec(alternative(), 1..4)];
    (-1_i32..2, any::<u8>(), any_of, vec((labels(), 0_u32..4), 0..3))
}

fn rules() -> impl Strategy<Value = Vec<Rule>> {
    let written = (select(&SERVICES[..2]), rule());
    vec(written, 0..60).prop_map(|written| {
        let numbered = (1..).zip(written);
        numbered
            .map(|(line, (destination, (precedence, name, any_of, routes)))| {
                let destination = ServiceName::new(destination);
                let target = |(labels, weight)| Target {
                    service: destination.clone(),
                    labels,
                    weight,
                };
                Rule {
                    precedence,
                    any_of,
                    targets: routes.into_iter().map(target).collect(),
                    ..Rule::new(origin(name, line), destination.clone())
                }
            })
            .collect()
    })
}

/// Names in an order that has nothing to do with that of the file.
fn origin(name: u8, line: u32) -> Origin {
    Origin {
        object: format!("route-rule r{name}-{line}").into(),
        file: "rules.yaml".into(),
        line,
    }
}

fn workloads() -> impl Strategy<Value = Vec<Workload>> {
    let services = vec(select(&SERVICES[..]).prop_map(ServiceName::new), 0..3);
    vec((labels(), services, vec(address(), 0..3)), 0..6).prop_map(|written| {
        let numbered = written.into_iter().enumerate();
        numbered
            .map(|(i, (labels, services, addresses))| Workload {
                name: Arc::from(format!("default/pod-{i}")),
                labels,
                addresses: addresses.into_iter().collect(),
                services: services.into_iter().collect(),
            })
            .collect()
    })
}

/// Two services with an HTTP, a TCP and a UDP port each, with rules and callers.
pub(crate) fn model() -> impl Strategy<Value = Model> {
    (rules(), workloads()).prop_map(|(rules, workloads)| Model {
        services: SERVICES[..2]
            .iter()
            .map(|name| {
                world::service(
                    name,
                    &[(80, Protocol::Http), (90, Protocol::Tcp), (90, Protocol::Udp)],
                )
            })
            .collect(),
        workloads,
        rules,
        policies: Vec::new(),
        ..Model::default()
    })
}

pub(crate) fn request() -> impl Strategy<Value = Asked> {
    let field = (header_name(), select(&VALUES[..]));
    let query = option::of(select(&["?", "?a=/b", "?x?y"][..]));
    (
        method(),
        (path(), query),
        select(&SCHEMES[..]),
        select(&AUTHORITIES[..]),
        vec(field, 0..6),
    )
        .prop_map(|(method, (path, query), scheme, authority, fields)| Asked {
            method,
            path: path + query.unwrap_or_default(),
            scheme,
            authority,
            headers: fields
                .into_iter()
                .map(|(name, value)| (name, HeaderValue::from_static(value)))
                .collect(),
        })
}
