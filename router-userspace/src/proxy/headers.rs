//! What a proxy must do to header fields: hop-by-hop fields end here, one name for the host, forwarding fields.
//!
//! It refuses what could mean two things to two readers; it never repairs it. It knows no rules.

use std::net::SocketAddr;

use http::{
    HeaderMap, HeaderName, HeaderValue, Method, Uri, Version,
    header::{CONNECTION, CONTENT_LENGTH, COOKIE, EXPECT, HOST, TE, TRANSFER_ENCODING, UPGRADE},
    request,
    uri::{Authority, PathAndQuery, Scheme},
};

use super::error::{Kind, ProxyError};

mod bounds;
mod edge;

pub(crate) use bounds::{check_list, check_trailers};
pub(crate) use edge::at_edge;

pub(crate) const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
pub(crate) const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
pub(crate) const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const X_ENVOY_ORIGINAL_PATH: HeaderName = HeaderName::from_static("x-envoy-original-path");
const X_ENVOY_ORIGINAL_HOST: HeaderName = HeaderName::from_static("x-envoy-original-host");
const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
const PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");
const HTTP2_SETTINGS: HeaderName = HeaderName::from_static("http2-settings");
const UPGRADE_TOKEN: HeaderValue = HeaderValue::from_static("upgrade");

/// Most options that a `Connection` field may list (Envoy: 9).
const MAX_CONNECTION_OPTIONS: usize = 9;

/// Fields that a `Connection` field must not name: dropping them would change what the request means.
const PROTECTED: [&str; 11] = [
    "host",
    "content-length",
    "transfer-encoding",
    "authorization",
    "content-type",
    "content-encoding",
    "x-forwarded-for",
    "x-forwarded-host",
    "x-forwarded-proto",
    "x-request-id",
    "cookie",
];

/// Makes a request head unambiguous and drops the fields that are for this hop only. Afterwards there is one `Host`,
/// and [`is_upgrade`] tells whether the connection is to become a tunnel.
///
/// # Errors
///
/// The head is malformed or could be understood in two ways.
pub(crate) fn sanitise(parts: &mut request::Parts) -> Result<(), ProxyError> {
    if parts.method == Method::CONNECT {
        return Err(ProxyError::new(Kind::ConnectNotAllowed, "CONNECT is not offered"));
    }
    check_path(&parts.method, &parts.uri)?;
    check_coding(&parts.headers)?;
    settle_host(parts)?;
    let upgrade = parts.version == Version::HTTP_11 && wants_upgrade(&parts.headers);
    drop_hop_by_hop(&mut parts.headers, upgrade)?;
    meet_expectation(&mut parts.headers)?;
    if parts.version == Version::HTTP_2 {
        join_cookies(&mut parts.headers);
    }
    Ok(())
}

fn check_path(method: &Method, uri: &Uri) -> Result<(), ProxyError> {
    let path = uri.path();
    let of_server = path == "*" && method == Method::OPTIONS;
    // `GET http://host` means `GET /`.
    let of_host = path.is_empty() && uri.authority().is_some();
    if path.starts_with('/') || of_server || of_host {
        Ok(())
    } else {
        Err(ProxyError::bad_request("the path does not begin with a slash"))
    }
}

/// `chunked` is the only transfer coding: another would be stripped while its bytes stayed.
fn check_coding(headers: &HeaderMap) -> Result<(), ProxyError> {
    let mut codings = headers.get_all(TRANSFER_ENCODING).iter();
    let first = codings
        .next()
        .is_none_or(|coding| coding.as_bytes().eq_ignore_ascii_case(b"chunked"));
    if first && codings.next().is_none() {
        Ok(())
    } else {
        Err(ProxyError::bad_request("the transfer coding is not just chunked"))
    }
}

/// One host name: `:authority`, the authority of an absolute target and `Host` must not contradict each other.
fn settle_host(parts: &mut request::Parts) -> Result<(), ProxyError> {
    let mut hosts = parts.headers.get_all(HOST).iter();
    let host = hosts.next();
    if hosts.next().is_some() {
        return Err(ProxyError::bad_request("more than one Host field"));
    }
    if host.is_some_and(|h| !is_host(h.as_bytes())) {
        return Err(ProxyError::bad_request("the Host field is malformed"));
    }
    match (host, parts.uri.authority()) {
        (Some(host), Some(authority))
            if !authority
                .as_str()
                .as_bytes()
                .eq_ignore_ascii_case(host.as_bytes()) =>
        {
            Err(ProxyError::bad_request(
                "the target's authority and the Host field differ",
            ))
        }
        (None, Some(authority)) if is_host(authority.as_str().as_bytes()) => {
            let host = HeaderValue::from_str(authority.as_str());
            let host = host.map_err(|_| ProxyError::bad_request("the target's authority is malformed"))?;
            parts.headers.insert(HOST, host);
            Ok(())
        }
        (None, Some(_)) => Err(ProxyError::bad_request("the target's authority is malformed")),
        // HTTP/1.0 did not know the field; what is forwarded gets one from the original destination.
        (None, None) if parts.version != Version::HTTP_10 => Err(ProxyError::bad_request("no Host field")),
        _ => Ok(()),
    }
}

/// A host with an optional port: no user information, path, list or white space.
fn is_host(text: &[u8]) -> bool {
    text.iter()
        .all(|b| b.is_ascii_alphanumeric() || b"-._~%!$&'()*+;=:[]".contains(b))
}

/// The proxy itself answers `Expect: 100-continue`, when the body is first asked for. It can meet no other.
fn meet_expectation(headers: &mut HeaderMap) -> Result<(), ProxyError> {
    if !headers.contains_key(EXPECT) {
        return Ok(());
    }
    if tokens(headers, &EXPECT).any(|expected| !expected.eq_ignore_ascii_case(b"100-continue")) {
        return Err(ProxyError::new(
            Kind::ExpectationFailed,
            "an expectation other than 100-continue",
        ));
    }
    headers.remove(EXPECT);
    Ok(())
}

/// True when the connection is to become a tunnel, except to HTTP/2: `h2c` would lead past the rules. A request with a
/// body does not become one: the tunnel's bytes could not be told from the next request's.
fn wants_upgrade(headers: &HeaderMap) -> bool {
    let listed = || tokens(headers, &CONNECTION).any(|t| t.eq_ignore_ascii_case(b"upgrade"));
    let to_http2 = || tokens(headers, &UPGRADE).any(|t| t.len() >= 2 && t[..2].eq_ignore_ascii_case(b"h2"));
    let has_body = || {
        headers.contains_key(TRANSFER_ENCODING)
            || headers
                .get(CONTENT_LENGTH)
                .is_some_and(|length| length.as_bytes().iter().any(|digit| *digit != b'0'))
    };
    headers.contains_key(UPGRADE) && listed() && !to_http2() && !has_body()
}

/// True when a sanitised request asks for a tunnel.
pub(crate) fn is_upgrade(headers: &HeaderMap) -> bool {
    headers.contains_key(UPGRADE)
}

/// The comma-separated elements of every field of a name.
fn tokens<'h>(headers: &'h HeaderMap, name: &HeaderName) -> impl Iterator<Item = &'h [u8]> {
    headers
        .get_all(name)
        .iter()
        .flat_map(|value| value.as_bytes().split(|b| *b == b','))
        .map(<[u8]>::trim_ascii)
        .filter(|token| !token.is_empty())
}

fn drop_hop_by_hop(headers: &mut HeaderMap, upgrade: bool) -> Result<(), ProxyError> {
    if headers.contains_key(CONNECTION) {
        drop_listed(headers)?;
    }
    headers.remove(KEEP_ALIVE);
    headers.remove(PROXY_CONNECTION);
    headers.remove(HTTP2_SETTINGS);
    headers.remove(TRANSFER_ENCODING);
    if upgrade {
        headers.insert(CONNECTION, UPGRADE_TOKEN);
    } else {
        headers.remove(UPGRADE);
    }
    if headers.contains_key(TE) {
        let trailers = tokens(headers, &TE).any(|t| t.eq_ignore_ascii_case(b"trailers"));
        headers.remove(TE);
        if trailers {
            headers.insert(TE, HeaderValue::from_static("trailers"));
        }
    }
    Ok(())
}

/// Drops `Connection` and the fields that it lists, except those that are looked at one by one.
fn drop_listed(headers: &mut HeaderMap) -> Result<(), ProxyError> {
    let mut listed: Vec<HeaderName> = Vec::new();
    for token in tokens(headers, &CONNECTION) {
        if listed.len() == MAX_CONNECTION_OPTIONS {
            return Err(ProxyError::bad_request(
                "too many options in the Connection field",
            ));
        }
        let name = HeaderName::from_bytes(token)
            .map_err(|_| ProxyError::bad_request("the Connection field is malformed"))?;
        if PROTECTED.contains(&name.as_str()) {
            return Err(ProxyError::bad_request(
                "the Connection field lists a field of the request",
            ));
        }
        listed.push(name);
    }
    for name in listed.iter().filter(|&n| *n != UPGRADE && *n != TE) {
        headers.remove(name);
    }
    headers.remove(CONNECTION);
    Ok(())
}

/// HTTP/2 clients may split cookies over several fields; to rules and to HTTP/1.1 they are one (RFC 9113, 8.2.3).
fn join_cookies(headers: &mut HeaderMap) {
    let mut crumbs = headers.get_all(COOKIE).iter();
    if crumbs.next().is_none() || crumbs.next().is_none() {
        return;
    }
    let crumbs: Vec<&[u8]> = headers
        .get_all(COOKIE)
        .iter()
        .map(HeaderValue::as_bytes)
        .collect();
    if let Ok(joined) = HeaderValue::from_bytes(&crumbs.join(&b"; "[..])) {
        headers.insert(COOKIE, joined);
    }
}

/// Adds what tells the endpoint where a request came from: the client's address, its scheme, and an id.
pub(crate) fn add_forwarding(headers: &mut HeaderMap, client: &HeaderValue) {
    let forwarded_for = match headers.get(X_FORWARDED_FOR) {
        None => client.clone(),
        Some(_) => joined(headers, client),
    };
    headers.insert(X_FORWARDED_FOR, forwarded_for);
    if !headers.contains_key(X_FORWARDED_PROTO) {
        headers.insert(X_FORWARDED_PROTO, HeaderValue::from_static("http"));
    }
    if !headers.contains_key(X_REQUEST_ID) {
        headers.insert(X_REQUEST_ID, new_request_id());
    }
}

fn joined(headers: &HeaderMap, client: &HeaderValue) -> HeaderValue {
    let mut list: Vec<&[u8]> = headers
        .get_all(X_FORWARDED_FOR)
        .iter()
        .map(HeaderValue::as_bytes)
        .collect();
    list.push(client.as_bytes());
    HeaderValue::from_bytes(&list.join(&b","[..])).unwrap_or_else(|_| client.clone())
}

/// A version 4 UUID in lower case. It identifies, it is no secret.
fn new_request_id() -> HeaderValue {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    // Version 4 in the thirteenth digit, variant 1 in the seventeenth.
    let bits = fastrand::u128(..) & !(0xf << 76 | 0xc << 60) | 0x4 << 76 | 0x8 << 60;
    let mut text = [b'-'; 36];
    let mut nibble = 0;
    for (position, byte) in text.iter_mut().enumerate() {
        if !matches!(position, 8 | 13 | 18 | 23) {
            *byte = HEX[(bits >> (124 - 4 * nibble) & 0xf) as usize];
            nibble += 1;
        }
    }
    HeaderValue::from_bytes(&text).unwrap_or_else(|_| HeaderValue::from_static("-"))
}

/// The host that a sanitised request names; empty when it names none or it is not text.
pub(crate) fn host(headers: &HeaderMap) -> &str {
    headers
        .get(HOST)
        .and_then(|host| host.to_str().ok())
        .unwrap_or_default()
}

/// Gives a request without a host (HTTP/1.0) that of its original destination.
pub(crate) fn complete_host(parts: &mut request::Parts, destination: SocketAddr) {
    if !parts.headers.contains_key(HOST)
        && let Ok(host) = HeaderValue::try_from(destination.to_string())
    {
        parts.headers.insert(HOST, host);
    }
}

/// Adds fields beside those of the same name.
pub(crate) fn append(headers: &mut HeaderMap, fields: &[(HeaderName, HeaderValue)]) {
    for (name, value) in fields {
        headers.append(name, value.clone());
    }
}

/// Gives a sanitised request another path; the endpoint learns the old one from `x-envoy-original-path`.
///
/// # Errors
///
/// The new path is too long or otherwise none.
pub(crate) fn rewrite_path(parts: &mut request::Parts, path: &str) -> Result<(), ProxyError> {
    let malformed = || ProxyError::bad_request("the rewritten path is malformed");
    let path = PathAndQuery::try_from(path).map_err(|_| malformed())?;
    let old = parts.uri.path_and_query().map_or("/", PathAndQuery::as_str);
    let old = HeaderValue::from_str(old).map_err(|_| malformed())?;
    parts.headers.insert(X_ENVOY_ORIGINAL_PATH, old);
    parts.uri = Uri::from(path);
    Ok(())
}

/// Gives a sanitised request another host; the endpoint learns the old one from `x-envoy-original-host`.
///
/// # Errors
///
/// The new host cannot be a field's value.
pub(crate) fn rewrite_host(parts: &mut request::Parts, host: &str) -> Result<(), ProxyError> {
    let host = HeaderValue::from_str(host)
        .map_err(|_| ProxyError::bad_request("the rewritten host is malformed"))?;
    if let Some(old) = parts.headers.insert(HOST, host) {
        parts.headers.insert(X_ENVOY_ORIGINAL_HOST, old);
    }
    Ok(())
}

/// Gives a sanitised request the form that an endpoint expects: HTTP/2 with `:authority`, or HTTP/1.1 with `Host`.
///
/// # Errors
///
/// The host cannot be an authority of HTTP/2.
pub(crate) fn address(parts: &mut request::Parts, http2: bool, body: BodyFraming) -> Result<(), ProxyError> {
    let path = parts.uri.path_and_query().cloned();
    let path = path.unwrap_or_else(|| PathAndQuery::from_static("/"));
    if http2 {
        parts.version = Version::HTTP_2;
        parts.headers.remove(CONNECTION);
        parts.headers.remove(UPGRADE);
        keep_out_of_table(&mut parts.headers);
        let malformed = |_| ProxyError::bad_request("the host cannot be an authority");
        let host = parts.headers.remove(HOST);
        if host.as_ref().is_some_and(|host| is_target(&parts.uri, host)) {
            return Ok(());
        }
        let host = host.as_ref().map_or(&b"localhost"[..], HeaderValue::as_bytes);
        let authority = Authority::try_from(host).map_err(malformed)?;
        let mut uri = http::uri::Parts::default();
        uri.scheme = Some(Scheme::HTTP);
        uri.authority = Some(authority);
        uri.path_and_query = Some(path);
        parts.uri = Uri::from_parts(uri).map_err(|_| ProxyError::bad_request("the target is malformed"))?;
        return Ok(());
    }
    parts.version = Version::HTTP_11;
    if parts.uri.authority().is_some() {
        parts.uri = Uri::from(path);
    }
    // Without it hyper would take the body of a GET for none at all.
    if body == BodyFraming::Unknown && !parts.headers.contains_key(CONTENT_LENGTH) {
        parts
            .headers
            .insert(TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
    }
    Ok(())
}

/// True when a request of HTTP/2 has its target already, as most do that came in the same version.
fn is_target(uri: &Uri, host: &HeaderValue) -> bool {
    let authority = uri.authority().map(|authority| authority.as_str().as_bytes());
    uri.scheme() == Some(&Scheme::HTTP)
        && uri.path_and_query().is_some()
        && authority == Some(host.as_bytes())
}

/// Marks what is different in every request as not to be put into the table of HTTP/2's header compression. There it
/// would push out what is the same in every request, and be searched one by one for the next.
fn keep_out_of_table(headers: &mut HeaderMap) {
    if let Some(id) = headers.get_mut(X_REQUEST_ID) {
        id.set_sensitive(true);
    }
}

/// What is known of a request body's length.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum BodyFraming {
    /// There is none.
    Empty,
    /// There is one; its length may be known from `Content-Length`.
    Unknown,
}

/// Drops the fields of a response that were for the hop from the endpoint.
pub(crate) fn sanitise_response(headers: &mut HeaderMap, switching: bool) {
    if headers.contains_key(CONNECTION) {
        // What an endpoint lists is dropped; that it may list too much is no reason to fail its response.
        let listed: Vec<HeaderName> = tokens(headers, &CONNECTION)
            .take(MAX_CONNECTION_OPTIONS)
            .filter_map(|token| HeaderName::from_bytes(token).ok())
            .filter(|name| *name != UPGRADE && *name != CONTENT_LENGTH)
            .collect();
        for name in listed {
            headers.remove(name);
        }
        headers.remove(CONNECTION);
    }
    headers.remove(KEEP_ALIVE);
    headers.remove(PROXY_CONNECTION);
    headers.remove(TRANSFER_ENCODING);
    headers.remove(TE);
    if switching {
        headers.insert(CONNECTION, UPGRADE_TOKEN);
    } else {
        headers.remove(UPGRADE);
    }
}

#[cfg(test)]
mod tests;
