//! A naive reading of the language: every rule in order, every condition as it is written.
//!
//! It is the reference that the engine's decisions are compared with, so it uses none of the engine's code: only the
//! model that both are given.

use std::net::IpAddr;

use http::HeaderName;
use router_rules::{
    cidr::Subnets,
    connection::Transport,
    labels::Labels,
    matcher::Request,
    model::{Match, Model, Rule},
    source::{SourceMatch, Workload},
    text::TextMatch,
};

/// Whether a value is matched.
type Meaning = fn(&str) -> bool;

/// Regular expressions that tests use, with what they mean in plain code.
pub(crate) const REGEXES: [(&str, Meaning); 5] = [
    (".*", |_| true),
    ("[0-9]+", |v| {
        !v.is_empty() && v.bytes().all(|b| b.is_ascii_digit())
    }),
    ("a|ab", |v| v == "a" || v == "ab"),
    ("/a(/.*)?", |v| v == "/a" || v.starts_with("/a/")),
    ("^(.*?;)?(user=jason)(;.*)?$", |v| {
        let (begin, end) = (v.starts_with("user=jason"), v.ends_with("user=jason"));
        v == "user=jason"
            || begin && v.starts_with("user=jason;")
            || end && v.ends_with(";user=jason")
            || v.contains(";user=jason;")
    }),
];

/// The rules of `destination` in the order of evaluation: falling precedence, ties by object name, then as listed.
pub(crate) fn ordered<'m>(model: &'m Model, destination: &str) -> Vec<&'m Rule> {
    let mut rules: Vec<&Rule> = Vec::new();
    for rule in &model.rules {
        if rule.destination.as_str() != destination {
            continue;
        }
        let later = |other: &&Rule| {
            other.precedence < rule.precedence
                || other.precedence == rule.precedence && other.origin.object > rule.origin.object
        };
        let place = rules.iter().position(later).unwrap_or(rules.len());
        rules.insert(place, rule);
    }
    rules
}

/// A request or connection, with all that is known of it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Call<'c> {
    pub(crate) transport: Transport,
    pub(crate) caller: Option<&'c Workload>,
    pub(crate) client: Option<IpAddr>,
    pub(crate) dialled: Option<IpAddr>,
    pub(crate) request: Option<&'c Request<'c>>,
}

impl<'c> Call<'c> {
    /// A TCP call of which only the caller, and perhaps the request, is known.
    pub(crate) fn of(caller: Option<&'c Workload>, request: Option<&'c Request<'c>>) -> Self {
        Self {
            transport: Transport::Tcp,
            caller,
            client: None,
            dialled: None,
            request,
        }
    }
}

/// The first rule of `destination` that applies to a call.
pub(crate) fn first<'m>(model: &'m Model, destination: &str, call: &Call<'_>) -> Option<&'m Rule> {
    ordered(model, destination)
        .into_iter()
        .find(|rule| applies(rule, call))
}

fn applies(rule: &Rule, call: &Call<'_>) -> bool {
    if rule.any_of.is_empty() {
        return true;
    }
    for alternative in &rule.any_of {
        if holds(alternative, call) {
            return true;
        }
    }
    false
}

/// Whether every condition of `alternative` is met.
pub(crate) fn holds(alternative: &Match, call: &Call<'_>) -> bool {
    if let Some(source) = &alternative.source
        && !is_caller(source, call.caller)
    {
        return false;
    }
    if let Some(wanted) = &alternative.transport {
        let carried = wanted.transport == call.transport;
        if !carried || !is_dialled(&wanted.destinations, call) || !is_from(&wanted.sources, call) {
            return false;
        }
    }
    for (part, wanted) in parts(alternative) {
        let found = call.request.and_then(|r| value(r, &part));
        if !found.is_some_and(|found| compare(wanted, &found)) {
            return false;
        }
    }
    true
}

/// Whether the dialled address is in one of `subnets`, if there are any.
pub(crate) fn is_dialled(subnets: &Subnets, call: &Call<'_>) -> bool {
    subnets.iter().count() == 0 || call.dialled.is_some_and(|address| contains(subnets, address))
}

/// Whether the caller is in one of `subnets`, if there are any: by the registry's addresses of the family that is
/// spoken, else by the address that its peer sees.
pub(crate) fn is_from(subnets: &Subnets, call: &Call<'_>) -> bool {
    if subnets.iter().count() == 0 {
        return true;
    }
    let spoken = call.dialled.or(call.client);
    let same = |a: &&IpAddr| spoken.is_none_or(|spoken| spoken.is_ipv4() == a.is_ipv4());
    let known = call.caller.map_or(&[][..], |caller| &caller.addresses);
    let known: Vec<&IpAddr> = known.iter().filter(same).collect();
    if known.is_empty() {
        return call
            .client
            .as_ref()
            .filter(same)
            .is_some_and(|&client| contains(subnets, client));
    }
    known.into_iter().any(|&address| contains(subnets, address))
}

fn contains(subnets: &Subnets, address: IpAddr) -> bool {
    subnets
        .iter()
        .any(|net| net.network() <= address && address <= net.broadcast())
}

/// Whether `caller` is the one that `source` asks for.
pub(crate) fn is_caller(source: &SourceMatch, caller: Option<&Workload>) -> bool {
    if source.service.is_none() && source.labels.is_empty() {
        return true;
    }
    let Some(caller) = caller else {
        return false;
    };
    let is_instance = |service| caller.services.iter().any(|s| s == service);
    source.service.as_ref().is_none_or(is_instance) && carries(&caller.labels, &source.labels)
}

/// Whether `labels` has every pair of `wanted`.
pub(crate) fn carries(labels: &Labels, wanted: &Labels) -> bool {
    wanted.iter().all(|pair| labels.iter().any(|p| p == pair))
}

/// Every condition on the request, with the name of the part that it is about.
pub(crate) fn parts(alternative: &Match) -> Vec<(String, &TextMatch)> {
    let mut parts = Vec::new();
    let fixed = [
        ("method", &alternative.method),
        ("path", &alternative.path),
        ("scheme", &alternative.scheme),
        ("authority", &alternative.authority),
    ];
    for (part, wanted) in fixed {
        if let Some(wanted) = wanted {
            parts.push((part.to_owned(), wanted));
        }
    }
    for (name, wanted) in &alternative.headers {
        parts.push((format!("header {name}"), wanted));
    }
    parts
}

/// The value of a part of the request.
pub(crate) fn value(request: &Request<'_>, part: &str) -> Option<String> {
    match part {
        "method" => Some(request.method.to_string()),
        "path" => Some(request.path.chars().take_while(|&c| c != '?').collect()),
        "scheme" => Some(request.scheme.to_owned()),
        "authority" => Some(request.authority.to_owned()),
        header => {
            let name: HeaderName = header.strip_prefix("header ")?.parse().ok()?;
            let fields: Vec<&str> = request
                .headers
                .iter()
                .filter(|(n, _)| **n == name)
                .filter_map(|(_, v)| std::str::from_utf8(v.as_bytes()).ok())
                .collect();
            (!fields.is_empty()).then(|| fields.join(","))
        }
    }
}

/// Whether `found` is as `wanted`.
pub(crate) fn compare(wanted: &TextMatch, found: &str) -> bool {
    match wanted {
        TextMatch::Exact(text) => found.as_bytes() == text.as_bytes(),
        TextMatch::Prefix(text) => found.as_bytes().iter().take(text.len()).eq(text.as_bytes()),
        TextMatch::Present => true,
        TextMatch::Regex(_) => {
            let written = wanted.to_string();
            let known = REGEXES
                .iter()
                .find(|(source, _)| written == format!("regex \"{source}\""));
            let (_, meaning) = known.expect("tests use only regexes of the list");
            meaning(found)
        }
    }
}
