//! Tests of `headers`.

use http::Request;

use super::*;

fn head(version: Version, uri: &str, fields: &[(&str, &str)]) -> request::Parts {
    let mut builder = Request::get(uri).version(version);
    for (name, value) in fields {
        builder = builder.header(*name, *value);
    }
    builder.body(()).unwrap().into_parts().0
}

fn sanitised(fields: &[(&str, &str)]) -> Result<HeaderMap, ProxyError> {
    let mut fields = fields.to_vec();
    fields.push(("host", "a"));
    let mut parts = head(Version::HTTP_11, "/", &fields);
    sanitise(&mut parts).map(|()| parts.headers)
}

fn names(headers: &HeaderMap) -> Vec<&str> {
    let mut names: Vec<_> = headers.keys().map(HeaderName::as_str).collect();
    names.sort_unstable();
    names
}

#[test]
fn fields_of_this_hop_end_here() {
    let headers = sanitised(&[
        ("connection", "close, X-Mine"),
        ("connection", "keep-alive"),
        ("x-mine", "1"),
        ("keep-alive", "timeout=5"),
        ("proxy-connection", "close"),
        ("te", "gzip, trailers"),
        ("transfer-encoding", "chunked"),
        ("upgrade", "websocket"),
        ("expect", "100-continue"),
        ("trailer", "x-sum"),
        ("x-kept", "1"),
    ])
    .unwrap();
    assert_eq!(names(&headers), ["host", "te", "trailer", "x-kept"]);
    assert_eq!(headers[TE], "trailers");
}

#[test]
fn an_upgrade_is_kept_unless_it_leads_past_the_rules() {
    let headers = sanitised(&[("connection", "keep-alive, Upgrade"), ("upgrade", "websocket")]).unwrap();
    assert!(is_upgrade(&headers) && headers[CONNECTION] == "upgrade");
    for to in ["h2c", "H2C", "websocket, h2c"] {
        let headers = sanitised(&[
            ("connection", "upgrade, http2-settings"),
            ("upgrade", to),
            ("http2-settings", "x"),
        ]);
        assert_eq!(names(&headers.unwrap()), ["host"], "{to}");
    }
    let mut old = head(
        Version::HTTP_10,
        "/",
        &[("host", "a"), ("connection", "upgrade"), ("upgrade", "websocket")],
    );
    sanitise(&mut old).unwrap();
    assert!(!is_upgrade(&old.headers));
}

#[test]
fn connection_must_not_name_fields_of_the_request() {
    for name in [
        "host",
        "Content-Length",
        "X-Forwarded-For",
        "cookie",
        "x-request-id",
    ] {
        assert!(sanitised(&[("connection", name)]).is_err(), "{name}");
    }
    assert!(sanitised(&[("connection", "a,b,c,d,e,f,g,h,i,j")]).is_err());
    assert!(sanitised(&[("connection", "a b")]).is_err());
}

#[test]
fn there_is_one_host() {
    let host_of = |version, uri: &str, fields: &[(&str, &str)]| {
        let mut parts = head(version, uri, fields);
        sanitise(&mut parts).map(|()| host(&parts.headers).to_owned())
    };
    let (h1, h2) = (Version::HTTP_11, Version::HTTP_2);
    assert_eq!(host_of(h1, "/", &[("host", "A:80")]).unwrap(), "A:80");
    assert_eq!(host_of(h1, "http://a/p", &[("host", "A")]).unwrap(), "A");
    assert_eq!(host_of(h2, "http://a/p", &[]).unwrap(), "a");
    assert_eq!(host_of(Version::HTTP_10, "/", &[]).unwrap(), "");
    assert_eq!(host_of(h1, "/", &[("host", "[::1]:80")]).unwrap(), "[::1]:80");
    for (version, uri, fields) in [
        (h1, "/", &[][..]),
        (h1, "/", &[("host", "a"), ("host", "a")]),
        (h1, "/", &[("host", "a, b")]),
        (h1, "/", &[("host", "a/b")]),
        (h1, "/", &[("host", "u@a")]),
        (h1, "http://a/", &[("host", "b")]),
        (h2, "http://a/", &[("host", "b")]),
        (h2, "http://u@a/", &[]),
    ] {
        assert!(host_of(version, uri, fields).is_err(), "{uri} {fields:?}");
    }
}

#[test]
fn cookies_of_http2_become_one() {
    let mut parts = head(
        Version::HTTP_2,
        "http://a/",
        &[("cookie", "a=1"), ("cookie", "b=2")],
    );
    sanitise(&mut parts).unwrap();
    assert_eq!(
        parts.headers.get_all(COOKIE).iter().collect::<Vec<_>>(),
        ["a=1; b=2"]
    );
}

#[test]
fn forwarding_fields_are_added_to() {
    let client = HeaderValue::from_static("10.0.0.1");
    let mut headers = HeaderMap::new();
    add_forwarding(&mut headers, &client);
    assert_eq!(headers[X_FORWARDED_FOR], "10.0.0.1");
    assert_eq!(headers[X_FORWARDED_PROTO], "http");
    let id = headers[X_REQUEST_ID].clone();
    add_forwarding(&mut headers, &client);
    assert_eq!(headers[X_FORWARDED_FOR], "10.0.0.1,10.0.0.1");
    assert_eq!(headers[X_REQUEST_ID], id);
}

#[test]
fn request_ids_are_version_4_uuids() {
    for _ in 0..100 {
        let id = new_request_id();
        let id = id.to_str().unwrap();
        let groups: Vec<_> = id.split('-').map(str::len).collect();
        assert_eq!(groups, [8, 4, 4, 4, 12]);
        assert_eq!(id.as_bytes()[14], b'4', "{id}");
        assert!(b"89ab".contains(&id.as_bytes()[19]), "{id}");
    }
    assert_ne!(new_request_id(), new_request_id());
}

#[test]
fn requests_take_the_form_that_the_endpoint_expects() {
    let mut parts = head(Version::HTTP_11, "/p?q=1", &[("host", "a:81")]);
    address(&mut parts, true, BodyFraming::Unknown).unwrap();
    assert_eq!(parts.uri, "http://a:81/p?q=1");
    assert!(parts.headers.is_empty() && parts.version == Version::HTTP_2);

    let mut parts = head(Version::HTTP_2, "http://a/p", &[("host", "a")]);
    address(&mut parts, false, BodyFraming::Unknown).unwrap();
    assert_eq!(
        (parts.uri.to_string().as_str(), parts.version),
        ("/p", Version::HTTP_11)
    );
    assert_eq!(parts.headers[TRANSFER_ENCODING], "chunked");

    let mut parts = head(Version::HTTP_11, "http://a", &[("host", "a")]);
    address(&mut parts, false, BodyFraming::Empty).unwrap();
    assert_eq!(parts.uri, "/");
    assert!(!parts.headers.contains_key(TRANSFER_ENCODING));
}

#[test]
fn responses_lose_the_fields_of_their_hop() {
    let mut headers = HeaderMap::new();
    for (name, value) in [
        ("connection", "close, x-mine, content-length"),
        ("x-mine", "1"),
        ("keep-alive", "timeout=5"),
        ("content-length", "3"),
        ("upgrade", "h2"),
    ] {
        headers.insert(HeaderName::from_static(name), HeaderValue::from_static(value));
    }
    sanitise_response(&mut headers, false);
    assert_eq!(names(&headers), ["content-length"]);
}
