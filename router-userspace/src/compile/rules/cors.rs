//! What a rule allows pages of other origins.

use std::time::Duration;

use http::{HeaderName, HeaderValue, Uri};
use router_rules::{
    cors::{ANY, Cors},
    text::TextMatch,
};

use super::Compiler;
use crate::{
    config::rules_v1alpha1::{self as dsl, DurationText},
    finding::codes,
};

/// Methods that Istio takes here.
const METHODS: [&str; 9] = [
    "GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "CONNECT", "OPTIONS", "TRACE",
];

impl Compiler<'_> {
    pub(super) fn cors(&mut self, cors: &dsl::CorsPolicy) -> Cors {
        let list = |texts: &Option<Vec<String>>| texts.clone().unwrap_or_default();
        let methods = list(&cors.allow_methods);
        for (index, method) in methods.iter().enumerate() {
            self.cors_method(&format!("corsPolicy.allowMethods[{index}]"), method);
        }
        let headers = self.header_names("corsPolicy.allowHeaders", list(&cors.allow_headers));
        let expose = self.header_names("corsPolicy.exposeHeaders", list(&cors.expose_headers));
        Cors {
            origins: self.origins(&list(&cors.allow_origin)),
            methods: joined(&methods),
            headers: joined(&headers),
            expose: joined(&expose),
            max_age: cors.max_age.as_ref().and_then(|age| self.max_age(age)),
            credentials: cors.allow_credentials.unwrap_or(false),
            ..Cors::default()
        }
    }

    fn origins(&mut self, origins: &[String]) -> Vec<TextMatch> {
        if origins.is_empty() {
            let message = "`allowOrigin` is missing: no origin would be allowed anything";
            let hint = "add `allowOrigin` with origins such as https://shop.example.com, or \"*\" for all";
            self.report(&codes::MISSING_FIELD, "corsPolicy", message, hint);
        }
        for (index, origin) in origins.iter().enumerate() {
            if origin != ANY && !is_origin(origin) {
                let message = format!("no browser calls an origin `{origin}`");
                let hint = "write scheme and host, in lower case, without the scheme's usual port and without a path: \
                            https://shop.example.com";
                let field = format!("corsPolicy.allowOrigin[{index}]");
                self.report(&codes::ORIGIN_NEVER_MATCHES, &field, message, hint);
            }
        }
        origins.iter().cloned().map(TextMatch::Exact).collect()
    }

    fn cors_method(&mut self, field: &str, method: &str) {
        if method == ANY || METHODS.contains(&method) {
            return;
        }
        let upper = method.to_ascii_uppercase();
        let hint = if METHODS.contains(&upper.as_str()) {
            format!("methods mind case: write {upper}")
        } else {
            format!("there are {}, and \"*\" for all", METHODS.join(", "))
        };
        let message = format!("`{method}` is no method that browsers ask for");
        self.report(&codes::INVALID_VALUE, field, message, hint);
    }

    fn header_names(&mut self, field: &str, names: Vec<String>) -> Vec<String> {
        for (index, name) in names.iter().enumerate() {
            if name != ANY && HeaderName::from_bytes(name.as_bytes()).is_err() {
                let message = format!("`{name}` is no name of a header");
                let field = format!("{field}[{index}]");
                self.report(&codes::INVALID_HEADER_NAME, &field, message, "");
            }
        }
        names
    }

    fn max_age(&mut self, age: &DurationText) -> Option<Duration> {
        let hint = "leave `maxAge` out for what browsers do by themselves";
        let age = self.duration("corsPolicy", "maxAge", (Some(age), None), hint)?;
        if age.subsec_nanos() > 0 {
            let message = format!("{age:?} is no whole number of seconds");
            let hint = "browsers count in seconds";
            self.report(&codes::INVALID_DURATION, "corsPolicy.maxAge", message, hint);
        }
        Some(age)
    }
}

/// One field's value; [`ANY`] beside others stands for them too.
fn joined(names: &[String]) -> Option<HeaderValue> {
    let value = if names.iter().any(|name| name == ANY) {
        ANY.to_owned()
    } else {
        names.join(",")
    };
    // What cannot be a value was reported.
    HeaderValue::try_from(value)
        .ok()
        .filter(|value| !value.is_empty())
}

/// True for what a browser can send: a scheme, a host, perhaps a port that is not the scheme's own; or `null`.
fn is_origin(text: &str) -> bool {
    let Some((scheme, host)) = text.split_once("://") else {
        return text == "null";
    };
    let usual_port = match scheme {
        "http" => ":80",
        "https" => ":443",
        _ => ":",
    };
    let uri = text.parse::<Uri>();
    let names_a_host = uri.is_ok_and(|uri| uri.authority().is_some_and(|a| a.as_str() == host));
    names_a_host && !text.bytes().any(|b| b.is_ascii_uppercase() || b == b'@') && !text.ends_with(usual_port)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn origins_are_what_browsers_send() {
        for origin in [
            "https://shop.example.com",
            "http://localhost:3000",
            "http://[::1]:8080",
            "moz-extension://0a1b",
            "null",
        ] {
            assert!(is_origin(origin), "{origin}");
        }
        for text in [
            "shop.example.com",
            "https://shop.example.com/",
            "https://Shop.example.com",
            "https://shop.example.com:443",
            "http://shop.example.com:80",
            "https://me@shop.example.com",
            "https://",
            "",
        ] {
            assert!(!is_origin(text), "{text}");
        }
    }

    #[test]
    fn a_star_stands_for_all() {
        let list = |names: &[&str]| joined(&names.iter().map(|&n| n.to_owned()).collect::<Vec<_>>());
        assert_eq!(list(&["GET", "POST"]).unwrap(), "GET,POST");
        assert_eq!(list(&["GET", "*"]).unwrap(), "*");
        assert_eq!(list(&[]), None);
    }
}
