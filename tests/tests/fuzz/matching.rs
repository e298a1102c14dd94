//! The indexed engine against a reading of the rules one by one, and regular expressions against an engine of
//! ECMAScript.
//!
//! An input is text: lines of `KEY VALUE`. `E` and `P` begin rules that match a path exactly and by prefix, `H` one that
//! matches the header `x-a`, `R` one with a regular expression for it; `?` asks for a path, `=` sets the header for the
//! questions that follow.

use http::{HeaderMap, HeaderName, HeaderValue, Method};
use router_rules::{
    Snapshot,
    id::{Origin, ServiceName},
    matcher::Request,
    model::{Match, Model, Port, Protocol, Rule, Service},
    source::ClassId,
    text::{Difference, TextMatch, WholeRegex},
};

pub const WORDS: &[&str] = &[
    "\nE /", "\nP /", "\nH ", "\nR ", "\n? /", "\n= ", "/a", "/a/b", "?", "*", "a", "(a|b)", "[^a]", "\\d",
    "\\w+", "\\b", ".", "$", "^", "(?:", ")", "{1,2}", "[a-c]", "[]", "[^]", "\\u0061", "\\x61", "\\/", "+?",
    "é", "\u{2028}", "\\cJ",
];

/// Rules of one input.
const MAX_RULES: usize = 24;
/// Characters of a pattern, and of a value that it is tried on: the other engine goes back and forth.
const MAX_PATTERN: usize = 24;
const MAX_VALUE: usize = 12;

const SERVICE: &str = "reviews.default.svc.cluster.local";
const HEADER: HeaderName = HeaderName::from_static("x-a");

pub fn check(input: &[u8]) -> u64 {
    let text = String::from_utf8_lossy(input);
    let mut rules = Vec::new();
    let mut questions = Vec::new();
    let mut header = String::new();
    for line in text.lines() {
        let Some((key, value)) = line.split_once(' ') else {
            continue;
        };
        match key {
            "?" => questions.push((value.to_owned(), header.clone())),
            "=" => value.clone_into(&mut header),
            _ => rules.extend(condition(key, value)),
        }
    }
    rules.truncate(MAX_RULES);
    let model = model(&rules);
    let snapshot = Snapshot::build(model, 1);
    let port = &snapshot.ports()[0];
    let mut mark = 1;
    for (path, header) in questions {
        let mut headers = HeaderMap::new();
        if let Ok(value) = HeaderValue::from_bytes(header.as_bytes()) {
            headers.insert(HEADER, value);
        }
        let request = Request {
            method: &Method::GET,
            path: &path,
            scheme: "http",
            authority: "a",
            headers: &headers,
        };
        let decided = snapshot.route_http(port, ClassId::UNKNOWN, &request).rule();
        let wanted = rules
            .iter()
            .position(|rule| holds(rule, &path, headers.get(HEADER)));
        let name = wanted.map(|number| format!("rule {number:02}"));
        assert_eq!(
            decided.map(|rule| rule.origin().object.to_string()),
            name,
            "{path:?} with {header:?}"
        );
        mark |= 2 << wanted.map_or(62, |number| number % 62);
    }
    mark
}

fn condition(key: &str, value: &str) -> Option<Match> {
    let of_header = |wanted| Match {
        headers: vec![(HEADER, wanted)],
        ..Match::default()
    };
    let of_path = |wanted| Match {
        path: Some(wanted),
        ..Match::default()
    };
    Some(match key {
        "E" => of_path(TextMatch::Exact(value.to_owned())),
        "P" => of_path(TextMatch::Prefix(value.to_owned())),
        "H" => of_header(TextMatch::Exact(value.to_owned())),
        "R" => of_header(TextMatch::Regex(regex(value)?)),
        _ => return None,
    })
}

/// A regular expression that both engines were asked about.
fn regex(pattern: &str) -> Option<WholeRegex> {
    let (regex, differences) = WholeRegex::ecmascript(pattern).ok()?;
    if pattern.chars().count() > MAX_PATTERN || !differences.is_empty() {
        assert!(
            differences
                .iter()
                .all(|difference| !difference.to_string().is_empty())
        );
        return Some(regex);
    }
    let other = regress::Regex::new(&format!("^(?:{pattern})$")).ok()?;
    let matches = TextMatch::Regex(regex.clone());
    for value in [
        "", "a", "ab", "aab", "b", "a b", "é", "\n", "1a_", "\u{2028}", pattern,
    ] {
        let value: String = value.chars().take(MAX_VALUE).collect();
        let wanted = other.find(&value).is_some();
        assert_eq!(
            matches.matches(&value),
            wanted,
            "{pattern:?} on {value:?} ({:?})",
            None::<Difference>
        );
    }
    Some(regex)
}

fn model(rules: &[Match]) -> Model {
    let destination = ServiceName::new(SERVICE);
    let rule = |(number, condition): (usize, &Match)| {
        let origin = Origin {
            object: format!("rule {number:02}").into(),
            file: "input".into(),
            line: 1,
        };
        Rule {
            any_of: vec![condition.clone()],
            ..Rule::new(origin, destination.clone())
        }
    };
    Model {
        services: vec![Service {
            name: destination.clone(),
            addresses: Vec::new(),
            ports: vec![Port {
                number: 80,
                name: None,
                protocol: Protocol::Http,
                endpoints: Vec::new(),
            }],
        }],
        rules: rules.iter().enumerate().map(rule).collect(),
        ..Model::default()
    }
}

/// One condition, read as it is written.
fn holds(condition: &Match, path: &str, header: Option<&HeaderValue>) -> bool {
    let path = path.split('?').next().unwrap_or_default();
    let compare = |wanted: &TextMatch, found: &str| match wanted {
        TextMatch::Exact(text) => found == text,
        TextMatch::Prefix(text) => found.as_bytes().iter().take(text.len()).eq(text.as_bytes()),
        other => other.matches(found),
    };
    let header = header.map(|value| String::from_utf8_lossy(value.as_bytes()));
    condition.path.as_ref().is_none_or(|wanted| compare(wanted, path))
        && condition
            .headers
            .iter()
            .all(|(_, wanted)| header.as_ref().is_some_and(|found| compare(wanted, found)))
}
