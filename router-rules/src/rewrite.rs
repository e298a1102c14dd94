//! Other paths and hosts: what a rule makes of the address that a request names.
//!
//! It knows addresses as text; whether a text is a valid path or host is checked where it is read.

use crate::{matcher::Request, text::TextMatch};

/// Status of redirects whose rule names none. The 0.1 documentation is silent; its Envoy answered 301.
pub const DEFAULT_REDIRECT_STATUS: u16 = 301;

/// An answer that sends the client elsewhere, instead of forwarding its request.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Redirect {
    /// Path, perhaps with a query, in place of the request's; none: the request's.
    pub uri: Option<String>,
    /// Host, perhaps with a port, in place of the request's; none: the request's.
    pub authority: Option<String>,
    /// Status of the answer, 300..=399.
    pub status: u16,
}

impl Redirect {
    /// The `Location` of the answer. The scheme stays, and so does the query unless the new path has its own.
    /// Without any host it is the path alone.
    pub fn location(&self, request: &Request<'_>) -> String {
        let query = request.path.split_once('?').map(|(_, query)| query);
        let path = match &self.uri {
            None => request.path.to_owned(),
            Some(uri) if uri.contains('?') => uri.clone(),
            Some(uri) => with_query(uri.clone(), query),
        };
        let slash = if path.starts_with('/') { "" } else { "/" };
        let host = self.authority.as_deref().unwrap_or(request.authority);
        if host.is_empty() {
            format!("{slash}{path}")
        } else {
            format!("{}://{host}{slash}{path}", request.scheme)
        }
    }
}

/// Another path or host towards the endpoint.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Rewrite {
    /// Path, without a query, in place of what the rule's path condition matched; none: the request's.
    pub uri: Option<String>,
    /// Host, perhaps with a port, in place of the request's; none: the request's.
    pub authority: Option<String>,
}

impl Rewrite {
    /// True when nothing is changed.
    pub const fn is_empty(&self) -> bool {
        self.uri.is_none() && self.authority.is_none()
    }

    /// The path for the endpoint: of a path that matched by prefix the prefix is replaced, of one that matched
    /// otherwise the whole, and without a condition on paths the new one goes in front. Slashes at the seam are
    /// neither doubled nor lost; the query stays. `None` when the path stays.
    pub fn path(&self, path: &str, matched: Option<&TextMatch>) -> Option<String> {
        let uri = self.uri.as_deref()?;
        let (path, query) = match path.split_once('?') {
            Some((path, query)) => (path, Some(query)),
            None => (path, None),
        };
        // `*` of OPTIONS is no path.
        if !path.starts_with('/') {
            return None;
        }
        let replaced = match matched {
            None => joined(uri, path),
            Some(TextMatch::Prefix(prefix)) => match path.strip_prefix(prefix.as_str()) {
                Some(rest) if prefix.ends_with('/') => joined(uri, &format!("/{rest}")),
                Some(rest) if rest.starts_with('/') => joined(uri, rest),
                Some(rest) => format!("{uri}{rest}"),
                None => uri.to_owned(),
            },
            Some(TextMatch::Exact(_) | TextMatch::Regex(_) | TextMatch::Present) => uri.to_owned(),
        };
        Some(with_query(replaced, query))
    }
}

/// `uri` before `rest`, which begins with a slash.
fn joined(uri: &str, rest: &str) -> String {
    match rest {
        "/" => uri.to_owned(),
        _ => format!("{}{rest}", uri.trim_end_matches('/')),
    }
}

fn with_query(path: String, query: Option<&str>) -> String {
    match query {
        Some(query) => format!("{path}?{query}"),
        None => path,
    }
}

#[cfg(test)]
mod tests {
    use http::{HeaderMap, Method};

    use super::*;

    #[test]
    fn paths_are_rewritten_at_the_prefix() {
        let prefix = |text: &str| Some(TextMatch::Prefix(text.into()));
        let exact = |text: &str| Some(TextMatch::Exact(text.into()));
        for (uri, matched, path, expected) in [
            ("/new", prefix("/old"), "/old/a?q=1", "/new/a?q=1"),
            ("/new", prefix("/old"), "/older", "/newer"),
            ("/", prefix("/old"), "/old/a", "/a"),
            ("/", prefix("/old"), "/old", "/"),
            ("/new", prefix("/old/"), "/old/a", "/new/a"),
            ("/new/", prefix("/old/"), "/old/", "/new/"),
            ("/new", exact("/old"), "/old?q", "/new?q"),
            ("/new", None, "/a/b", "/new/a/b"),
            ("/new/", None, "/", "/new/"),
            ("/", None, "/a", "/a"),
        ] {
            let rewrite = Rewrite {
                uri: Some(uri.into()),
                authority: None,
            };
            let actual = rewrite.path(path, matched.as_ref());
            assert_eq!(actual.as_deref(), Some(expected), "{matched:?} → {uri} of {path}");
            assert_eq!(rewrite.path("*", matched.as_ref()), None);
        }
        assert_eq!(Rewrite::default().path("/a", None), None);
    }

    #[test]
    fn locations_keep_what_is_not_replaced() {
        let headers = HeaderMap::new();
        let request = |authority| Request {
            method: &Method::GET,
            path: "/a?q=1",
            scheme: "http",
            authority,
            headers: &headers,
        };
        for (uri, authority, host, expected) in [
            (Some("/b"), None, "h:80", "http://h:80/b?q=1"),
            (Some("/b?r=2"), None, "h", "http://h/b?r=2"),
            (None, Some("new:8080"), "h", "http://new:8080/a?q=1"),
            (Some("/b"), Some("new"), "h", "http://new/b?q=1"),
            (Some("/b"), None, "", "/b?q=1"),
        ] {
            let redirect = Redirect {
                uri: uri.map(Into::into),
                authority: authority.map(Into::into),
                status: DEFAULT_REDIRECT_STATUS,
            };
            assert_eq!(redirect.location(&request(host)), expected);
        }
    }
}
