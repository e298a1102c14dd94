//! HTTP/2 clients that mean harm: requests that would be something else as HTTP/1.1, and floods.

use router_rules::model::Protocol;
use router_userspace::proxy::{Limits, error::Kind, limits::Rate};

use super::{
    bed::{Bed, service, until},
    frames::*,
    server::{Server, Speaks},
};

const PROTOCOL: u32 = 1;
const CALM: u32 = 11;

/// What became of a request on stream 1: its status, or the code with which it was reset.
async fn fate(bed: &Bed, sends: &[u8]) -> (Option<u16>, Option<u32>) {
    let mut raw = Raw::connect(bed.address()).await;
    raw.send(sends).await;
    let end = raw
        .until(|received| received.kind == HEADERS || received.code().is_some())
        .await;
    end.map_or((None, None), |end| (end.status(), end.code()))
}

/// A request that became several, or carried fields of its own making, once it is written as HTTP/1.1.
#[tokio::test]
async fn nothing_can_be_injected_into_the_request_that_is_forwarded() {
    let server = Server::echo(Speaks::Http1).await;
    let bed = Bed::start(service(Protocol::Http, &[(server.address, "v1")]));
    let with = |name, value| {
        let fields: Vec<_> = GET
            .into_iter()
            .map(|f| if f.0 == name { (name, value) } else { f })
            .collect();
        frame(HEADERS, END_STREAM | END_HEADERS, 1, &block(&fields))
    };
    let also = |name, value| request(1, &[(name, value)]);
    let cases = [
        ("CR LF in a value", also("x", "a\r\ntransfer-encoding: chunked")),
        ("LF in a value", also("x", "a\nb: c")),
        ("CR in a value", also("x", "a\rb")),
        ("NUL in a value", also("x", "a\0b")),
        ("a space in a name", also("x y", "a")),
        ("a colon in a name", also("x: y", "a")),
        ("CR LF in a name", also("x: y\r\nz", "a")),
        ("an empty name", also("", "a")),
        ("a name beyond ASCII", also("x\u{e9}", "a")),
        (
            "a space in the path",
            with(":path", "/ HTTP/1.1\r\nx: y\r\n\r\nGET /smuggled"),
        ),
        ("a space alone in the path", with(":path", "/a b")),
        ("a path beyond ASCII", with(":path", "/\u{e9}")),
        ("a path without a slash", with(":path", "a")),
        ("a host in the path", with(":path", "http://b/")),
        ("an asterisk", with(":path", "*")),
        (
            "a space in the method",
            with(":method", "GET / HTTP/1.1\r\nx: y\r\n\r\nGET"),
        ),
        ("a method that is no token", with(":method", "G:T")),
        ("an empty method", with(":method", "")),
        ("CR LF in the authority", with(":authority", "a\r\nx: y")),
        ("a space in the authority", with(":authority", "a b")),
        ("a user in the authority", with(":authority", "u@a")),
        ("a path in the authority", with(":authority", "a/b")),
        ("an authority and another host", also("host", "b")),
        ("two hosts", request(1, &[("host", "a"), ("host", "a")])),
        ("a scheme that is none", with(":scheme", "ht tp")),
        ("a coding", also("transfer-encoding", "chunked")),
        ("a length that is none", also("content-length", "+0")),
        (
            "two lengths",
            request(1, &[("content-length", "0"), ("content-length", "1")]),
        ),
        ("a list of lengths", also("content-length", "0, 1")),
        ("a length and no body", also("content-length", "4")),
        ("an expectation", also("expect", "200-ok")),
        ("CONNECT", with(":method", "CONNECT")),
        (
            "CONNECT as it should be",
            frame(
                HEADERS,
                END_HEADERS,
                1,
                &block(&[(":method", "CONNECT"), (":authority", "a:80")]),
            ),
        ),
    ];
    for (number, (name, sends)) in cases.iter().enumerate() {
        let (status, code) = fate(&bed, sends).await;
        assert!(status != Some(200), "{name}: {status:?} {code:?}");
        assert_eq!(server.counts.requests(), 0, "{name}");
        let lines = bed.lines(number + 1).await;
        assert_eq!(lines.len(), number + 1, "{name}: {:?}", lines.last());
        assert!(!lines[number].reason.is_empty(), "{name}: {:?}", lines[number]);
    }
}

#[tokio::test]
async fn framing_fields_in_trailers_are_refused() {
    let server = Server::echo(Speaks::Http1).await;
    let bed = Bed::start(service(Protocol::Http, &[(server.address, "v1")]));
    for name in ["content-length", "host", "authorization", "content-type"] {
        let trailers = frame(HEADERS, END_STREAM | END_HEADERS, 1, &block(&[(name, "1")]));
        let sends = [open(1, &[]), frame(DATA, 0, 1, b"x"), trailers].concat();
        assert_eq!(fate(&bed, &sends).await, (Some(400), None), "{name}");
    }
    assert!(bed.lines(4).await.iter().all(|line| line.reason == "bad-framing"));
}

#[tokio::test]
async fn header_lists_that_are_too_large_are_answered_with_a_reason() {
    let server = Server::named("v1").await;
    let limits = Limits {
        head_bytes: 8 * 1024,
        ..Limits::default()
    };
    let bed = Bed::with(service(Protocol::Http, &[(server.address, "v1")]), 1, limits);
    let long = "x".repeat(9 * 1024);
    let many: Vec<_> = (0..101).map(|_| ("x", "y")).collect();
    for sends in [request(1, &[("x", &long)]), request(1, &many)] {
        // 431 is not in the static table.
        assert_eq!(fate(&bed, &sends).await, (None, None));
    }
    for line in bed.lines(2).await {
        assert_eq!((line.status, line.reason.as_str()), (431, "head-too-large"));
    }
    assert_eq!(server.counts.requests(), 0);
}

/// Waits until the connection has ended, and says with which code.
async fn end(raw: &mut Raw) -> Option<u32> {
    let mut code = None;
    while let Some(received) = raw.next().await {
        if received.kind == GOAWAY {
            code = received.code();
        }
    }
    code
}

fn strict() -> Limits {
    Limits {
        resets: Rate {
            per_second: 1,
            burst: 20,
        },
        control_frames: Rate {
            per_second: 1,
            burst: 50,
        },
        ..Limits::default()
    }
}

#[tokio::test]
async fn rapid_resets_end_the_connection() {
    let server = Server::http(Speaks::Http1, |_| std::future::pending()).await;
    let bed = Bed::with(service(Protocol::Http, &[(server.address, "v1")]), 1, strict());
    let mut raw = Raw::connect(bed.address()).await;
    for n in 0..30 {
        let stream = 2 * n + 1;
        raw.send(&[request(stream, &[]), frame(RST_STREAM, 0, stream, &[0, 0, 0, 8])].concat())
            .await;
    }
    assert_eq!(end(&mut raw).await, Some(CALM));
    until("the count", || {
        bed.proxy.stats().totals().reason(Kind::RapidReset) > 0
    })
    .await;
    until("the line", || {
        bed.log.last_reason() == "rapid-reset" || bed.log.count() > 0
    })
    .await;
    until("no request upstream", || server.counts.open() == 0).await;
}

/// RFC 9113, 3.4. The library would serve the request.
#[tokio::test]
async fn connections_that_do_not_begin_with_settings_are_refused() {
    let server = Server::named("v1").await;
    let bed = Bed::start(service(Protocol::Http, &[(server.address, "v1")]));
    let acknowledgement = frame(SETTINGS, ACK, 0, &[]);
    let firsts = [
        request(1, &[]),
        acknowledgement,
        frame(PING, 0, 0, &[0; 8]),
        frame(0x50, 0, 0, &[]),
    ];
    for (number, first) in firsts.into_iter().enumerate() {
        let rest = [frame(SETTINGS, 0, 0, &[]), request(3, &[])].concat();
        let mut raw = Raw::with(bed.address(), &[PREFACE, &first, &rest].concat()).await;
        assert_eq!(end(&mut raw).await, Some(PROTOCOL), "{number}");
        let lines = bed.lines(number + 1).await;
        let last = &lines[number];
        assert_eq!(
            (lines.len(), last.reason.as_str()),
            (number + 1, "client-protocol-error")
        );
    }
    assert_eq!(server.counts.requests(), 0);
    // In pieces it is still the first.
    let mut raw = Raw::with(bed.address(), PREFACE).await;
    raw.send(&frame(SETTINGS, 0, 0, &[])[..5]).await;
    raw.send(&[&frame(SETTINGS, 0, 0, &[])[5..], &request(1, &[])].concat())
        .await;
    let answer = raw.until(|received| received.status() == Some(200)).await;
    assert!(answer.is_some());
}

#[tokio::test]
async fn floods_of_empty_frames_end_the_connection() {
    let server = Server::echo(Speaks::Http1).await;
    let bed = Bed::with(service(Protocol::Http, &[(server.address, "v1")]), 1, strict());
    let floods = [
        ("PING", frame(PING, 0, 0, &[0; 8])),
        ("SETTINGS", frame(SETTINGS, 0, 0, &[])),
        ("PRIORITY", frame(PRIORITY, 0, 1, &[0, 0, 0, 3, 1])),
        ("unknown frames", frame(0x50, 0, 0, &[])),
        ("DATA without data", frame(DATA, 0, 1, &[])),
    ];
    for (number, (name, flood)) in floods.into_iter().enumerate() {
        let mut raw = Raw::connect(bed.address()).await;
        raw.send(&open(1, &[])).await;
        raw.send(&flood.repeat(60)).await;
        assert_eq!(end(&mut raw).await, Some(CALM), "{name}");
        until(name, || {
            bed.proxy.stats().totals().reason(Kind::FrameFlood) > number as u64
        })
        .await;
    }
}

#[tokio::test]
async fn header_blocks_without_end_end_the_connection() {
    let server = Server::named("v1").await;
    let bed = Bed::start(service(Protocol::Http, &[(server.address, "v1")]));
    let mut raw = Raw::connect(bed.address()).await;
    raw.send(&frame(HEADERS, END_STREAM, 1, &block(&GET))).await;
    for _ in 0..2000 {
        raw.send(&frame(CONTINUATION, 0, 1, &block(&[("x", "y")]))).await;
    }
    assert_eq!(end(&mut raw).await, Some(CALM));
    until("the count", || {
        bed.proxy.stats().totals().reason(Kind::ClientProtocolError) == 1
    })
    .await;
    assert_eq!(server.counts.requests(), 0);
}

/// What a client may do in earnest: many pings beside many requests.
#[tokio::test]
async fn acknowledgements_of_what_is_sent_are_no_flood() {
    let server = Server::named("v1").await;
    let bed = Bed::with(service(Protocol::Http, &[(server.address, "v1")]), 1, strict());
    let mut raw = Raw::connect(bed.address()).await;
    for n in 0..100 {
        raw.send(&request(2 * n + 1, &[])).await;
        raw.until(|received| received.kind == DATA).await.unwrap();
        raw.send(&frame(PING, 0, 0, &[0; 8])).await;
    }
    assert_eq!(bed.lines(100).await.len(), 100);
}
