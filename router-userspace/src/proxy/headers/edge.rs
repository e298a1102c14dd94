//! What clients outside must not say: fields that only proxies behind the edge may set.
//!
//! It knows no rules, and nothing of what is added on the way to an endpoint.

use http::{HeaderMap, HeaderName, HeaderValue};

use super::{X_FORWARDED_PROTO, X_REQUEST_ID};

/// Beginning of the names by which proxies tell each other what to do.
const INTERNAL: &str = "x-envoy-";
const X_ENVOY_EXTERNAL_ADDRESS: HeaderName = HeaderName::from_static("x-envoy-external-address");
const X_FORWARDED_CLIENT_CERT: HeaderName = HeaderName::from_static("x-forwarded-client-cert");

/// Takes the fields away that nobody outside may set, and says what is known instead: the client's address and its
/// scheme. A list of addresses that the client claims stays, as its own comes last; ids of requests are made here.
pub(crate) fn at_edge(headers: &mut HeaderMap, client: &HeaderValue, scheme: HeaderValue) {
    let names = headers.keys().filter(|name| name.as_str().starts_with(INTERNAL));
    // Allocates only when there is one.
    let internal: Vec<HeaderName> = names.cloned().collect();
    for name in internal {
        headers.remove(name);
    }
    headers.remove(X_FORWARDED_CLIENT_CERT);
    headers.remove(X_REQUEST_ID);
    headers.insert(X_FORWARDED_PROTO, scheme);
    headers.insert(X_ENVOY_EXTERNAL_ADDRESS, client.clone());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_outside_cannot_speak_for_a_proxy() {
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("x-envoy-upstream-rq-timeout-ms", "1"),
            ("x-envoy-external-address", "10.0.0.1"),
            ("x-forwarded-client-cert", "By=me"),
            ("x-forwarded-proto", "https"),
            ("x-forwarded-for", "10.0.0.1"),
            ("x-request-id", "mine"),
            ("x-envoyer", "kept"),
        ] {
            headers.insert(name, HeaderValue::from_static(value));
        }
        let client = HeaderValue::from_static("203.0.113.7");
        at_edge(&mut headers, &client, HeaderValue::from_static("http"));
        let mut left: Vec<_> = headers
            .iter()
            .map(|(n, v)| (n.as_str(), v.to_str().unwrap()))
            .collect();
        left.sort_unstable();
        let expected = [
            ("x-envoy-external-address", "203.0.113.7"),
            ("x-envoyer", "kept"),
            ("x-forwarded-for", "10.0.0.1"),
            ("x-forwarded-proto", "http"),
        ];
        assert_eq!(left, expected);
    }
}
