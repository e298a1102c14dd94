//! Tests of `framing`: what is refused, that cuts do not matter, that hyper divides the same bytes in the same way.

use proptest::prelude::*;

use super::*;

const BOUNDS: Bounds = Bounds {
    head_bytes: 1000,
    fields: 8,
    tolerated: Tolerated {
        non_ascii_target: false,
        length_beside_chunked: false,
    },
};

/// Feeds bytes in parts, as a stream does. Gives the bytes passed, heads, and the refusal.
fn feed<'b>(parts: impl IntoIterator<Item = &'b [u8]>) -> (Vec<u8>, u64, Option<ProxyError>) {
    let mut framing = Framing::new(BOUNDS);
    let (mut passed, mut held) = (Vec::new(), Vec::new());
    for part in parts {
        held.extend_from_slice(part);
        let progress = framing.scan(&held);
        passed.extend(held.drain(..progress.passed));
        if progress.refused.is_some() {
            return (passed, framing.heads(), progress.refused);
        }
    }
    (passed, framing.heads(), None)
}

fn refusal(bytes: &[u8]) -> Option<(Kind, &'static str)> {
    feed([bytes]).2.map(|error| (error.kind, error.detail))
}

/// A request with a list of fields, each with its end of line.
fn request(fields: &str) -> Vec<u8> {
    format!("POST / HTTP/1.1\r\n{fields}\r\n").into_bytes()
}

fn chunked(body: &str) -> Vec<u8> {
    [request("transfer-encoding: chunked\r\n"), body.into()].concat()
}

#[test]
fn messages_in_order_pass_whole() {
    for bytes in [
        &b"GET / HTTP/1.1\r\n\r\n"[..],
        b"\r\nGET /a?b=c&d HTTP/1.1\r\n\r\n",
        b"GET /p HTTP/1.0\r\nhost: a\r\nx:\r\ny: \t \xff\r\n\r\nGET / HTTP/1.1\r\n\r\n",
        b"POST / HTTP/1.1\r\nContent-Length: 3\r\n\r\nabcGET / HTTP/1.1\r\n\r\n",
        b"POST / HTTP/1.1\r\ncontent-length:  0 \r\n\r\nGET / HTTP/1.1\r\n\r\n",
        b"POST / HTTP/1.1\r\nTransfer-Encoding: CHUNKED\r\n\r\n3\r\nabc\r\n0\r\n\r\nGET / HTTP/1.1\r\n\r\n",
        b"POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n0A;n=\"v\"\r\n0123456789\r\n00\r\nx: y\r\n\r\n",
        b"OPTIONS * HTTP/1.1\r\n\r\nGET http://a:80/p?q HTTP/1.1\r\n\r\nCONNECT a:80 HTTP/1.1\r\n\r\n",
    ] {
        let (passed, _, refused) = feed([bytes]);
        assert!(refused.is_none(), "{refused:?}: {:?}", String::from_utf8_lossy(bytes));
        assert_eq!(String::from_utf8_lossy(&passed), String::from_utf8_lossy(bytes));
    }
}

#[test]
fn heads_that_two_readers_could_divide_differently_are_refused() {
    let cases: &[(&str, Kind)] = &[
        ("content-length: 3\r\ncontent-length: 3\r\n", Kind::BadFraming),
        ("content-length: 3, 3\r\n", Kind::BadFraming),
        ("content-length: +3\r\n", Kind::BadFraming),
        ("content-length: -3\r\n", Kind::BadFraming),
        ("content-length: 0x3\r\n", Kind::BadFraming),
        ("content-length: 3 3\r\n", Kind::BadFraming),
        ("content-length:\r\n", Kind::BadFraming),
        ("content-length: 18446744073709551616\r\n", Kind::BadFraming),
        (
            "content-length: 3\r\ntransfer-encoding: chunked\r\n",
            Kind::BadFraming,
        ),
        (
            "transfer-encoding: chunked\r\ncontent-length: 0\r\n",
            Kind::BadFraming,
        ),
        ("transfer-encoding: identity\r\n", Kind::BadFraming),
        ("transfer-encoding: gzip, chunked\r\n", Kind::BadFraming),
        ("transfer-encoding: chunked, chunked\r\n", Kind::BadFraming),
        (
            "transfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n",
            Kind::BadFraming,
        ),
        ("transfer-encoding: \"chunked\"\r\n", Kind::BadFraming),
        ("transfer-encoding:\r\n", Kind::BadFraming),
        ("content-length : 3\r\n", Kind::BadRequest),
        ("content-length\t: 3\r\n", Kind::BadRequest),
        ("x: 1\r\n content-length: 3\r\n", Kind::BadRequest),
        ("x: 1\r\n\tfolded\r\n", Kind::BadRequest),
        (" x: 1\r\n", Kind::BadRequest),
        ("x: 1\ncontent-length: 3\r\n", Kind::BadRequest),
        ("x: 1\r\r\n", Kind::BadRequest),
        ("x: 1\rcontent-length: 3\r\n", Kind::BadRequest),
        ("x: \0\r\n", Kind::BadRequest),
        ("x: \x7f\r\n", Kind::BadRequest),
        ("x\0: 1\r\n", Kind::BadRequest),
        ("x y: 1\r\n", Kind::BadRequest),
        (": 1\r\n", Kind::BadRequest),
        ("no colon\r\n", Kind::BadRequest),
        ("x\u{e9}: 1\r\n", Kind::BadRequest),
        ("\n", Kind::BadRequest),
    ];
    for (fields, kind) in cases {
        let refused = refusal(&request(fields));
        assert_eq!(refused.map(|(kind, _)| kind), Some(*kind), "{fields:?}");
    }
    let old = b"POST / HTTP/1.0\r\ntransfer-encoding: chunked\r\n\r\n";
    assert_eq!(
        refusal(old),
        Some((Kind::BadFraming, "Transfer-Encoding in an old version"))
    );
}

#[test]
fn request_lines_are_read_to_the_letter() {
    for line in [
        "GET  / HTTP/1.1",
        "GET /  HTTP/1.1",
        "GET / HTTP/1.1 ",
        " GET / HTTP/1.1",
        "GET\t/ HTTP/1.1",
        "GET /a b HTTP/1.1",
        "GET / http/1.1",
        "GET / HTTP/1.2",
        "GET / HTTP/2.0",
        "GET / HTTP/0.9",
        "GET / HTTP/1.10",
        "GET /",
        "GET",
        "GET HTTP/1.1",
        "G(T / HTTP/1.1",
        "GET /\u{e9} HTTP/1.1",
        "GET /\0 HTTP/1.1",
        "GET /\x7f HTTP/1.1",
        "GET /#f HTTP/1.1",
        "GET /?#f HTTP/1.1",
        "GET /<a> HTTP/1.1",
        "GET a HTTP/1.1",
        "GET ?a HTTP/1.1",
        "GET * HTTP/1.1",
        "GET a:80 HTTP/1.1",
        "GET http:// HTTP/1.1",
        "GET http:/a HTTP/1.1",
        "GET //\r HTTP/1.1",
        "CONNECT / HTTP/1.1 x",
    ] {
        let bytes = format!("{line}\r\nhost: a\r\n\r\n");
        let refused = refusal(bytes.as_bytes());
        assert_eq!(refused.map(|(kind, _)| kind), Some(Kind::BadRequest), "{line:?}");
    }
    for start in ["\n", "\r\n\r\n", "\0", "\r"] {
        let bytes = format!("{start}GET / HTTP/1.1\r\n\r\n");
        assert!(refusal(bytes.as_bytes()).is_some(), "{start:?}");
    }
}

#[test]
fn chunks_are_read_to_the_letter() {
    for body in [
        "x\r\n",
        "\r\n",
        "-1\r\n",
        "+1\r\n",
        "0x1\r\n",
        "1 \r\na\r\n",
        " 1\r\na\r\n",
        "1 1\r\na\r\n",
        "1\na\r\n",
        "1\r\nab\r\n",
        "1\r\na\n0\r\n",
        "1\r\na\r0\r\n",
        "00000000000000001\r\na\r\n",
        "1;a\nb\r\na\r\n",
        "1;a\rb\r\na\r\n",
        "1;\0\r\na\r\n",
        "1 ;a\r\na\r\n",
        "0\r\ncontent-length : 1\r\n\r\n",
        "0\r\n folded\r\n\r\n",
        "0\r\nx: y\n\r\n",
        "0\r\n\n",
    ] {
        let kind = refusal(&chunked(body)).map(|(kind, _)| kind);
        assert!(
            matches!(kind, Some(Kind::BadFraming | Kind::BadRequest)),
            "{body:?}: {kind:?}"
        );
    }
}

#[test]
fn what_grows_is_bounded() {
    let long = "a".repeat(BOUNDS.head_bytes + 1);
    assert_eq!(refusal(long.as_bytes()).map(|r| r.0), Some(Kind::HeadTooLarge));
    let head = request(&format!("x: {long}\r\n"));
    assert_eq!(refusal(&head).map(|r| r.0), Some(Kind::HeadTooLarge));
    let fields = "x: 1\r\n".repeat(BOUNDS.fields);
    assert_eq!(refusal(&request(&fields)), None);
    assert_eq!(
        refusal(&request(&format!("{fields}x: 1\r\n"))),
        Some((Kind::HeadTooLarge, "too many fields"))
    );
    let one = format!("1;{}\r\na\r\n", "e".repeat(EXTENSION_BYTES - 1));
    assert_eq!(refusal(&chunked(&one)), None);
    let one = format!("1;{}\r\na\r\n", "e".repeat(EXTENSION_BYTES));
    assert_eq!(
        refusal(&chunked(&one)),
        Some((Kind::BadFraming, TOO_MANY_EXTENSIONS))
    );
    let many = "1;e\r\na\r\n".repeat(EXTENSION_BYTES / 2 + 1);
    assert_eq!(
        refusal(&chunked(&many)),
        Some((Kind::BadFraming, TOO_MANY_EXTENSIONS))
    );
    let trailers = format!("0\r\nx: {}\r\n\r\n", "t".repeat(BOUNDS.head_bytes));
    assert_eq!(
        refusal(&chunked(&trailers)).map(|r| r.0),
        Some(Kind::HeadTooLarge)
    );
    let trailers = format!("0\r\n{}\r\n", "x: 1\r\n".repeat(BOUNDS.fields + 1));
    assert_eq!(
        refusal(&chunked(&trailers)).map(|r| r.0),
        Some(Kind::HeadTooLarge)
    );
}

#[test]
fn what_is_tolerated_passes() {
    let scan = |bytes: &[u8], tolerated| {
        let bounds = Bounds { tolerated, ..BOUNDS };
        Framing::new(bounds).scan(bytes).refused.is_none()
    };
    let targets = Tolerated {
        non_ascii_target: true,
        ..Tolerated::default()
    };
    let lengths = Tolerated {
        length_beside_chunked: true,
        ..Tolerated::default()
    };
    let target = "GET /\u{e9}?\u{e9} HTTP/1.1\r\n\r\n".as_bytes();
    assert!(scan(target, targets) && !scan(target, lengths));
    for still in [
        &b"GET /\xff HTTP/1.1\r\n\r\n"[..],
        b"GET /\xc3\xa9#f HTTP/1.1\r\n\r\n",
        b"GET /\xc3\xa9\x7f HTTP/1.1\r\n\r\n",
    ] {
        assert!(!scan(still, targets));
    }
    let both = request("content-length: 3\r\ntransfer-encoding: chunked\r\n");
    assert!(scan(&both, lengths) && !scan(&both, targets));
    let wrong = request("content-length: +3\r\ntransfer-encoding: chunked\r\n");
    assert!(!scan(&wrong, lengths));
}

#[test]
fn a_refused_head_is_not_passed_but_what_came_before_is() {
    let bytes = b"GET /1 HTTP/1.1\r\n\r\nGET /2 HTTP/1.1\r\nx : 1\r\n\r\n";
    let (passed, heads, refused) = feed([&bytes[..]]);
    assert_eq!((passed.as_slice(), heads), (&bytes[..19], 1));
    assert!(refused.is_some());
    let mut framing = Framing::new(BOUNDS);
    let progress = framing.scan(bytes);
    assert!(framing.is_in_head());
    let line = framing.first_line(&bytes[progress.passed..]);
    assert_eq!(line, Some(&b"GET /2 HTTP/1.1"[..]));
}

#[test]
fn after_a_request_for_another_protocol_nothing_is_taken_for_http() {
    let head = b"GET / HTTP/1.1\r\nupgrade: x\r\n\r\n";
    let mut framing = Framing::new(BOUNDS);
    assert_eq!(framing.scan(head).passed, head.len());
    assert!(framing.is_parked() && !framing.is_early());
    assert_eq!(framing.scan(b"\0\n").passed, 2);
    assert!(framing.is_early());
    framing.becomes_tunnel();
    assert_eq!(framing.scan(b"\0\n").passed, 2);
    // With a body it stays HTTP.
    let mut framing = Framing::new(BOUNDS);
    framing.scan(b"POST / HTTP/1.1\r\nupgrade: x\r\ncontent-length: 1\r\n\r\na");
    assert!(!framing.is_parked() && framing.is_in_head());
    let mut framing = Framing::new(BOUNDS);
    framing.scan(b"GET / HTTP/1.0\r\nupgrade: x\r\n\r\n");
    assert!(!framing.is_parked());
}

/// Pieces of which requests, and what looks like them, are made.
const PIECES: &[&str] = &[
    "GET / HTTP/1.1\r\n",
    "POST /p?q=1 HTTP/1.1\r\n",
    "GET /o HTTP/1.0\r\n",
    "PUT http://a/b HTTP/1.1\r\n",
    "host: a\r\n",
    "x-y: z w\r\n",
    "content-length: 3\r\n",
    "content-length: 0\r\n",
    "transfer-encoding: chunked\r\n",
    "Transfer-Encoding: gzip, chunked\r\n",
    "connection: keep-alive\r\n",
    "expect: 100-continue\r\n",
    "\r\n",
    "\r\n\r\n",
    "\n",
    "\r",
    "3\r\nabc\r\n",
    "3;e=f\r\nabc\r\n",
    "0\r\n\r\n",
    "0\r\nt: u\r\n\r\n",
    "abc",
    " ",
    "\0",
    ":",
    "a: b\r\n\r\n",
];

fn soup() -> impl Strategy<Value = Vec<u8>> {
    // Mostly well formed, so that the scan gets somewhere.
    let message = prop_oneof![
        Just("GET / HTTP/1.1\r\nhost: a\r\n\r\n".to_owned()),
        Just("POST /1 HTTP/1.1\r\nhost: a\r\ncontent-length: 3\r\n\r\nabc".to_owned()),
        Just("POST /2 HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n3;x\r\nabc\r\n0\r\n\r\n".to_owned()),
        Just("POST /3 HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\na\r\n0123456789\r\n0\r\nt: u\r\n\r\n".to_owned()),
        prop::collection::vec(prop::sample::select(PIECES), 1..8).prop_map(|pieces| pieces.concat()),
    ];
    prop::collection::vec(message, 0..5).prop_map(|messages| messages.concat().into_bytes())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, ..ProptestConfig::default() })]

    #[test]
    fn how_bytes_are_cut_does_not_matter(
        bytes in soup(),
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..12),
    ) {
        let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(bytes.len() + 1)).collect();
        cuts.extend([0, bytes.len()]);
        cuts.sort_unstable();
        let parts = cuts.windows(2).map(|cut| &bytes[cut[0]..cut[1]]);
        prop_assert_eq!(feed(parts), feed([&bytes[..]]));
        prop_assert_eq!(feed(bytes.chunks(1)), feed([&bytes[..]]));
    }

    #[test]
    fn anything_is_read_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let (passed, ..) = feed(bytes.chunks(7));
        prop_assert!(bytes.starts_with(&passed));
    }

    /// Whatever passes is divided by hyper in the same way: as many requests, and no complaint.
    #[test]
    fn hyper_agrees(bytes in soup()) {
        let (passed, heads, _) = feed([&bytes[..]]);
        let (requests, complaint) = hyper_reads(&passed);
        prop_assert!(complaint.is_none(), "{complaint:?}: {:?}", String::from_utf8_lossy(&passed));
        let text = String::from_utf8_lossy(&passed);
        // After an answer in the old version the connection ends.
        let ends = text.contains("HTTP/1.0") && requests > 0;
        prop_assert!(requests == heads || ends && requests < heads, "{requests} of {heads}: {text:?}");
    }
}

/// Requests that hyper finds in bytes, and what it did not like about them.
fn hyper_reads(bytes: &[u8]) -> (u64, Option<String>) {
    use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

    use http_body_util::BodyExt as _;
    use hyper_util::rt::TokioIo;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async {
        let (mut client, server) = tokio::io::duplex(1 << 16);
        let requests = AtomicU64::new(0);
        let service = hyper::service::service_fn(|request: http::Request<hyper::body::Incoming>| {
            requests.fetch_add(1, Relaxed);
            async {
                let ended = request.into_body().collect().await;
                // A body that the bytes cut short is no complaint.
                if let Err(error) = ended
                    && !format!("{error:?}").contains("UnexpectedEof")
                {
                    return Err(error);
                }
                Ok(http::Response::new(http_body_util::Empty::<bytes::Bytes>::new()))
            }
        });
        let mut http1 = hyper::server::conn::http1::Builder::new();
        let connection = http1
            .half_close(true)
            .serve_connection(TokioIo::new(server), service);
        let talk = async {
            client.write_all(bytes).await.unwrap();
            client.shutdown().await.unwrap();
            let mut answers = Vec::new();
            let _ = client.read_to_end(&mut answers).await;
        };
        let (ended, ()) = tokio::join!(connection, talk);
        let complaint = ended.err().filter(|error| {
            let text = format!("{error:?}");
            !error.is_incomplete_message() && !text.contains("UnexpectedEof")
        });
        (
            requests.load(Relaxed),
            complaint.map(|error| format!("{error:?}")),
        )
    })
}
