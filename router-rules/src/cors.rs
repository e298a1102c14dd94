//! Cross-origin requests of browsers: which origins may read responses, and what preflights are answered.
//!
//! It does not know who answers and who forwards.

use std::time::Duration;

use http::{
    HeaderMap, HeaderName, HeaderValue, Method,
    header::{
        ACCESS_CONTROL_ALLOW_CREDENTIALS, ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS,
        ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE,
        ACCESS_CONTROL_REQUEST_HEADERS, ACCESS_CONTROL_REQUEST_METHOD, ORIGIN,
    },
};

use crate::{matcher::Request, text::TextMatch};

/// Stands for every origin, method or header.
pub const ANY: &str = "*";

/// What a rule allows pages of other origins.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Cors {
    /// Origins that are allowed: one of these must match. A comparison that matches [`ANY`] allows every origin.
    pub origins: Vec<TextMatch>,
    /// Methods, joined by commas; [`ANY`]: the one that is asked for. None: preflights are not told.
    pub methods: Option<HeaderValue>,
    /// Request headers, joined by commas; [`ANY`]: those that are asked for. None: preflights are not told.
    pub headers: Option<HeaderValue>,
    /// Response headers that pages may read, joined by commas.
    pub expose: Option<HeaderValue>,
    /// How long the answer to a preflight may be kept, in whole seconds; none: as long as the browser likes.
    pub max_age: Option<Duration>,
    /// Whether requests may carry cookies and the like.
    pub credentials: bool,
    /// What becomes of preflights from origins that are not allowed.
    pub unmatched: UnmatchedPreflights,
}

/// What becomes of preflights from origins that are not allowed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum UnmatchedPreflights {
    /// The endpoint answers.
    #[default]
    Forward,
    /// They are answered without the header that would allow the origin.
    Answer,
}

impl Cors {
    /// True when pages of `origin` may read responses.
    pub fn allows(&self, origin: &str) -> bool {
        self.origins.iter().any(|o| o.matches(origin) || o.matches(ANY))
    }

    /// Header fields of the answer to `request`, status 200; `None` when it is no preflight, or one for the endpoint.
    pub fn preflight(&self, request: &Request<'_>) -> Option<HeaderMap> {
        let origin = origin(request.headers)?;
        let method = request.headers.get(ACCESS_CONTROL_REQUEST_METHOD)?;
        if request.method != Method::OPTIONS || method.is_empty() {
            return None;
        }
        let mut answer = HeaderMap::new();
        if self.allows(text(origin)?) {
            answer.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
        } else if self.unmatched == UnmatchedPreflights::Forward {
            return None;
        }
        if self.credentials {
            answer.insert(ACCESS_CONTROL_ALLOW_CREDENTIALS, HeaderValue::from_static("true"));
        }
        let mut put = |name: HeaderName, listed: &Option<HeaderValue>, asked: Option<&HeaderValue>| {
            let value = match listed {
                Some(listed) if listed == ANY => asked,
                listed => listed.as_ref(),
            };
            if let Some(value) = value {
                answer.insert(name, value.clone());
            }
        };
        let headers = request.headers.get(ACCESS_CONTROL_REQUEST_HEADERS);
        put(ACCESS_CONTROL_ALLOW_METHODS, &self.methods, Some(method));
        put(ACCESS_CONTROL_ALLOW_HEADERS, &self.headers, headers);
        if let Some(age) = self.max_age {
            answer.insert(ACCESS_CONTROL_MAX_AGE, HeaderValue::from(age.as_secs()));
        }
        Some(answer)
    }

    /// The origin in `headers` of a request, when its pages may read the response.
    pub fn allowed_origin<'h>(&self, headers: &'h HeaderMap) -> Option<&'h HeaderValue> {
        origin(headers).filter(|origin| text(origin).is_some_and(|origin| self.allows(origin)))
    }

    /// Adds to a response what lets pages of an allowed `origin` read it, in place of what the endpoint said.
    pub fn annotate(&self, origin: HeaderValue, response: &mut HeaderMap) {
        response.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin);
        if self.credentials {
            response.insert(ACCESS_CONTROL_ALLOW_CREDENTIALS, HeaderValue::from_static("true"));
        }
        if let Some(expose) = &self.expose {
            response.insert(ACCESS_CONTROL_EXPOSE_HEADERS, expose.clone());
        }
    }
}

/// The origin that a request names. Two of them name none: no browser sends that.
fn origin(headers: &HeaderMap) -> Option<&HeaderValue> {
    let mut origins = headers.get_all(ORIGIN).iter();
    let first = origins.next()?;
    (origins.next().is_none() && !first.is_empty()).then_some(first)
}

fn text(value: &HeaderValue) -> Option<&str> {
    value.to_str().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy() -> Cors {
        Cors {
            origins: vec![TextMatch::Exact("https://shop.example".into())],
            methods: Some(HeaderValue::from_static("GET,POST")),
            headers: Some(HeaderValue::from_static(ANY)),
            expose: Some(HeaderValue::from_static("x-total")),
            max_age: Some(Duration::from_secs(60)),
            credentials: true,
            unmatched: UnmatchedPreflights::Forward,
        }
    }

    fn asked(method: &Method, fields: &[(&'static str, &'static str)]) -> (Method, HeaderMap) {
        let field = |&(name, value): &(&'static str, &'static str)| {
            (HeaderName::from_static(name), HeaderValue::from_static(value))
        };
        (method.clone(), fields.iter().map(field).collect())
    }

    fn preflight(cors: &Cors, (method, headers): &(Method, HeaderMap)) -> Option<Vec<String>> {
        let answer = cors.preflight(&Request {
            method,
            path: "/",
            scheme: "http",
            authority: "a",
            headers,
        })?;
        let line = |(name, value): (&HeaderName, &HeaderValue)| {
            let name = name.as_str().trim_start_matches("access-control-");
            format!("{name}: {}", value.to_str().unwrap())
        };
        Some(answer.iter().map(line).collect())
    }

    const SHOP: (&str, &str) = ("origin", "https://shop.example");
    const WANTS: (&str, &str) = ("access-control-request-method", "POST");

    #[test]
    fn preflights_of_allowed_origins_are_answered() {
        let headers = ("access-control-request-headers", "x-a,x-b");
        let answer = preflight(&policy(), &asked(&Method::OPTIONS, &[SHOP, WANTS, headers]));
        let expected = [
            "allow-origin: https://shop.example",
            "allow-credentials: true",
            "allow-methods: GET,POST",
            "allow-headers: x-a,x-b",
            "max-age: 60",
        ];
        assert_eq!(answer.unwrap(), expected);
    }

    #[test]
    fn what_is_no_preflight_is_for_the_endpoint() {
        for request in [
            asked(&Method::GET, &[SHOP, WANTS]),
            asked(&Method::OPTIONS, &[SHOP]),
            asked(&Method::OPTIONS, &[WANTS]),
            asked(&Method::OPTIONS, &[SHOP, ("access-control-request-method", "")]),
            asked(
                &Method::OPTIONS,
                &[SHOP, ("origin", "https://evil.example"), WANTS],
            ),
            asked(&Method::OPTIONS, &[("origin", "https://evil.example"), WANTS]),
            asked(
                &Method::OPTIONS,
                &[("origin", "https://shop.example.evil"), WANTS],
            ),
        ] {
            assert_eq!(preflight(&policy(), &request), None, "{request:?}");
        }
    }

    #[test]
    fn preflights_of_other_origins_may_be_answered_too() {
        let cors = Cors {
            unmatched: UnmatchedPreflights::Answer,
            ..policy()
        };
        let evil = ("origin", "https://evil.example");
        let answer = preflight(&cors, &asked(&Method::OPTIONS, &[evil, WANTS])).unwrap();
        assert!(
            answer.iter().all(|line| !line.starts_with("allow-origin")),
            "{answer:?}"
        );
        assert!(!answer.is_empty());
    }

    #[test]
    fn a_comparison_that_matches_the_star_allows_every_origin() {
        for star in [
            TextMatch::Exact(ANY.into()),
            TextMatch::Prefix(String::new()),
            TextMatch::Present,
        ] {
            let cors = Cors {
                origins: vec![star],
                ..Cors::default()
            };
            assert!(cors.allows("https://anything.example") && cors.allows("null"));
        }
        assert!(!Cors::default().allows("https://anything.example"));
    }

    #[test]
    fn responses_are_annotated_for_allowed_origins() {
        let (_, request) = asked(&Method::GET, &[SHOP]);
        let cors = policy();
        let origin = cors.allowed_origin(&request).unwrap().clone();
        let mut response = asked(&Method::GET, &[("access-control-allow-origin", "*")]).1;
        cors.annotate(origin, &mut response);
        assert_eq!(response["access-control-allow-origin"], "https://shop.example");
        assert_eq!(response["access-control-expose-headers"], "x-total");
        assert_eq!(response["access-control-allow-credentials"], "true");
        let (_, other) = asked(&Method::GET, &[("origin", "https://evil.example")]);
        assert_eq!(cors.allowed_origin(&other), None);
    }
}
