//! Requests that two readers could understand differently. None of them may reach an endpoint as two requests, and
//! none may leave bytes behind that are taken for the next one.

use std::sync::atomic::Ordering::SeqCst;

use http::Request;
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Frame;
use router_rules::model::Protocol;
use router_userspace::proxy::Limits;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use super::{
    bed::{Bed, service, until},
    client::{Http2, exchange, read_until},
    server::{Server, Speaks, text},
};

/// Remembers everything that it was sent.
async fn recorder() -> (Server, std::sync::Arc<std::sync::Mutex<String>>) {
    let seen = std::sync::Arc::new(std::sync::Mutex::new(String::new()));
    let record = seen.clone();
    let server = Server::raw(move |mut stream, counts| {
        let record = record.clone();
        async move {
            let mut bytes = [0; 4096];
            while let Ok(read @ 1..) = stream.read(&mut bytes).await {
                let heads = {
                    let mut seen = record.lock().unwrap();
                    seen.push_str(&String::from_utf8_lossy(&bytes[..read]));
                    seen.matches("\r\n\r\n").count()
                };
                if heads > 0 && counts.requests.swap(1, SeqCst) == 0 {
                    let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
                    let _ = stream.write_all(answer).await;
                }
            }
        }
    })
    .await;
    (server, seen)
}

const SMUGGLED: &str = "GET /smuggled HTTP/1.1\r\nhost: a\r\n\r\n";

/// A request that must be refused: what it is, its bytes, the status and the reason.
type Case = (&'static str, Vec<u8>, u16, &'static str);

/// Sends each case on a connection of its own. All must be answered once, with a reason, and closed; the access log and
/// the counters must say the same; nothing may reach the endpoint.
async fn refused(cases: &[Case]) {
    let (server, seen) = recorder().await;
    let bed = Bed::start(service(Protocol::Http, &[(server.address, "v1")]));
    for (number, (name, request, status, reason)) in cases.iter().enumerate() {
        let answer = exchange(bed.address(), request).await;
        assert_eq!(answer.matches("HTTP/1.").count(), 1, "{name}: {answer}");
        assert!(
            answer[8..].starts_with(&format!(" {status} ")),
            "{name}: {answer}"
        );
        for field in [
            format!("x-router-reason: {reason}\r\n"),
            "connection: close\r\n".to_owned(),
        ] {
            // HTTP/1.0 needs not be told that the connection ends.
            let implied = answer.starts_with("HTTP/1.0") && field.starts_with("connection");
            assert!(implied || answer.contains(&field), "{name}: {answer}");
        }
        let lines = bed.lines(number + 1).await;
        let line = lines.last().unwrap();
        assert_eq!((line.status, line.reason.as_str()), (*status, *reason), "{name}");
        assert_eq!(lines.len(), number + 1, "{name}");
    }
    assert_eq!(server.counts.connections(), 0, "{}", seen.lock().unwrap());
    let totals = bed.proxy.stats().totals();
    let counted: u64 = totals.by_reason().map(|(_, count)| count).sum();
    assert_eq!(counted, cases.len() as u64);
}

/// A request with fields, its body's last chunk, and another request behind it.
fn post(fields: &str) -> Vec<u8> {
    format!("POST / HTTP/1.1\r\nhost: a\r\n{fields}\r\n\r\n0\r\n\r\n{SMUGGLED}").into_bytes()
}

fn line(line: &str) -> Vec<u8> {
    format!("{line}\r\nhost: a\r\n\r\n{SMUGGLED}").into_bytes()
}

#[tokio::test]
async fn lengths_and_codings_that_two_readers_could_read_differently_are_refused() {
    const REASON: &str = "bad-framing";
    let cases = [
        (
            "a length beside chunks",
            post("content-length: 4\r\ntransfer-encoding: chunked"),
        ),
        (
            "chunks beside a length",
            post("transfer-encoding: chunked\r\ncontent-length: 4"),
        ),
        (
            "a length of 0 beside chunks",
            post("content-length: 0\r\ntransfer-encoding: chunked"),
        ),
        (
            "lengths that differ",
            post("content-length: 3\r\ncontent-length: 5"),
        ),
        (
            "lengths that agree",
            post("content-length: 5\r\nx: y\r\nContent-Length: 5"),
        ),
        ("a list of lengths", post("content-length: 5, 5")),
        ("a signed length", post("content-length: +5")),
        ("a negative length", post("content-length: -5")),
        ("a length in hexadecimal", post("content-length: 0x5")),
        ("a length with a fraction", post("content-length: 5.0")),
        ("a length of no digits", post("content-length: ")),
        ("a length in two parts", post("content-length: 5 0")),
        ("a huge length", post("content-length: 99999999999999999999")),
        ("an unknown coding", post("transfer-encoding: xchunked")),
        ("no coding", post("transfer-encoding: ")),
        ("a coding in quotes", post("transfer-encoding: \"chunked\"")),
        ("identity", post("transfer-encoding: identity")),
        ("chunked not last", post("transfer-encoding: chunked, identity")),
        ("chunked not alone", post("transfer-encoding: gzip, chunked")),
        ("chunked with a parameter", post("transfer-encoding: chunked;q=1")),
        (
            "two codings",
            post("transfer-encoding: identity\r\ntransfer-encoding: chunked"),
        ),
        (
            "chunked twice",
            post("transfer-encoding: chunked\r\ntransfer-encoding: chunked"),
        ),
        (
            "chunked twice in a list",
            post("transfer-encoding: chunked, chunked"),
        ),
        (
            "chunked in HTTP/1.0",
            b"POST / HTTP/1.0\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n".to_vec(),
        ),
    ];
    refused(&cases.map(|(name, request)| (name, request, 400, REASON))).await;
}

#[tokio::test]
async fn lines_that_two_readers_could_read_differently_are_refused() {
    const REASON: &str = "bad-request";
    let cases = [
        ("a space before the colon", post("transfer-encoding : chunked")),
        ("a tab before the colon", post("transfer-encoding\t: chunked")),
        ("a folded field", post("x: 1\r\n transfer-encoding: chunked")),
        (
            "a field folded with a tab",
            post("x: 1\r\n\ttransfer-encoding: chunked"),
        ),
        ("a folded length", post("x:\r\n 5")),
        ("a folded first field", line("GET / HTTP/1.1\r\n x: 1")),
        ("NUL in a value", post("x: a\0b")),
        ("CR in a value", post("x: a\rb")),
        ("DEL in a value", post("x: a\x7fb")),
        ("VT in a value", post("x: a\x0bb")),
        ("NUL in a name", post("x\0: a")),
        ("a name beyond ASCII", post("x\u{e9}: a")),
        ("a name with a space", post("x y: a")),
        ("a field without a name", post(": a")),
        ("a field without a colon", post("transfer-encoding")),
        ("LF after a field", post("x: 1\ntransfer-encoding: chunked")),
        (
            "LF after the request line",
            b"GET / HTTP/1.1\nhost: a\r\n\r\n".to_vec(),
        ),
        (
            "LF at the end of a head",
            b"GET / HTTP/1.1\r\nhost: a\r\n\n".to_vec(),
        ),
        ("LF everywhere", b"GET / HTTP/1.1\nhost: a\n\n".to_vec()),
        ("CR CR LF", b"GET / HTTP/1.1\r\r\nhost: a\r\n\r\n".to_vec()),
        (
            "LF before the request",
            b"\nGET / HTTP/1.1\r\nhost: a\r\n\r\n".to_vec(),
        ),
        (
            "empty lines before the request",
            b"\r\n\r\nGET / HTTP/1.1\r\nhost: a\r\n\r\n".to_vec(),
        ),
        (
            "NUL before the request",
            b"\0GET / HTTP/1.1\r\nhost: a\r\n\r\n".to_vec(),
        ),
        ("a space in the target", line("GET /a b HTTP/1.1")),
        ("two spaces", line("GET  / HTTP/1.1")),
        ("a tab", line("GET\t/ HTTP/1.1")),
        ("a space at the end", line("GET / HTTP/1.1 ")),
        ("a target beyond ASCII", line("GET /\u{e9} HTTP/1.1")),
        ("a fragment", line("GET /a#b HTTP/1.1")),
        ("a fragment after a query", line("GET /a?b#c HTTP/1.1")),
        ("a control byte in the target", line("GET /\x01 HTTP/1.1")),
        ("NUL in the target", line("GET /\0 HTTP/1.1")),
        ("a target without a slash", line("GET a HTTP/1.1")),
        ("an asterisk", line("GET * HTTP/1.1")),
        ("a target without a host", line("GET http:///a HTTP/1.1")),
        ("an authority", line("GET a:80 HTTP/1.1")),
        ("a method that is no token", line("G@T / HTTP/1.1")),
        ("no method", line(" / HTTP/1.1")),
        ("another version", line("GET / HTTP/1.2")),
        ("a version of HTTP/2", line("GET / HTTP/2.0")),
        ("a version in lower case", line("GET / http/1.1")),
        ("no version", line("GET /")),
    ];
    refused(&cases.map(|(name, request)| (name, request, 400, REASON))).await;
}

#[tokio::test]
async fn hosts_that_mislead_are_refused() {
    const REASON: &str = "bad-request";
    let cases = [
        ("two hosts", post("host: b"), 400, REASON),
        ("two hosts that agree", post("Host: a"), 400, REASON),
        (
            "no host",
            format!("GET / HTTP/1.1\r\nx: 1\r\n\r\n{SMUGGLED}").into_bytes(),
            400,
            REASON,
        ),
        ("hosts that differ", line("GET http://b/ HTTP/1.1"), 400, REASON),
        (
            "ports that differ",
            line("GET http://a:81/ HTTP/1.1"),
            400,
            REASON,
        ),
        (
            "a user in the authority",
            line("GET http://u@a/ HTTP/1.1"),
            400,
            REASON,
        ),
        (
            "a host with a path",
            format!("GET / HTTP/1.1\r\nhost: a/b\r\n\r\n{SMUGGLED}").into_bytes(),
            400,
            REASON,
        ),
        (
            "a list of hosts",
            format!("GET / HTTP/1.1\r\nhost: a,b c\r\n\r\n{SMUGGLED}").into_bytes(),
            400,
            REASON,
        ),
    ];
    refused(&cases).await;
}

#[tokio::test]
async fn options_and_expectations_that_mislead_are_refused() {
    const REASON: &str = "bad-request";
    let many = format!("connection: {}", ["a"; 10].join(","));
    let cases = [
        (
            "a host dropped by Connection",
            post("connection: host"),
            400,
            REASON,
        ),
        (
            "a length dropped by Connection",
            post("content-length: 0\r\nconnection: content-length"),
            400,
            REASON,
        ),
        (
            "a coding dropped by Connection",
            post("connection: transfer-encoding\r\ntransfer-encoding: chunked"),
            400,
            REASON,
        ),
        (
            "the client dropped by Connection",
            post("connection: close, X-Forwarded-For"),
            400,
            REASON,
        ),
        (
            "credentials dropped by Connection",
            post("connection: authorization"),
            400,
            REASON,
        ),
        ("ten options", post(&many), 400, REASON),
        ("an option that is no name", post("connection: a b"), 400, REASON),
        (
            "another expectation",
            post("expect: 200-ok"),
            417,
            "expectation-failed",
        ),
        (
            "an expectation too many",
            post("expect: 100-continue, 200-ok"),
            417,
            "expectation-failed",
        ),
        (
            "CONNECT",
            line("CONNECT a:80 HTTP/1.1"),
            403,
            "connect-not-allowed",
        ),
    ];
    refused(&cases).await;
}

#[tokio::test]
async fn heads_that_are_too_large_are_refused() {
    const REASON: &str = "head-too-large";
    let long = "x".repeat(61 * 1024);
    let cases = [
        ("a long field", post(&format!("x: {long}"))),
        ("a long name", post(&format!("{long}: x"))),
        ("a long target", line(&format!("GET /{long} HTTP/1.1"))),
        ("a line that does not end", long.clone().into_bytes()),
        (
            "many bytes in fields",
            post(&vec![format!("x: {}", "y".repeat(1000)); 62].join("\r\n")),
        ),
        ("many fields", post(&["x: y"; 100].join("\r\n"))),
    ];
    refused(&cases.map(|(name, request)| (name, request, 431, REASON))).await;
}

/// However a request is cut into segments, it is refused in the same way.
#[tokio::test]
async fn a_refusal_does_not_depend_on_how_bytes_arrive() {
    let (server, _) = recorder().await;
    let bed = Bed::start(service(Protocol::Http, &[(server.address, "v1")]));
    for request in [
        "POST /cut HTTP/1.1\r\nhost: a\r\ncontent-length: 4\r\ntransfer-encoding: chunked\r\n\r\n",
        "POST /cut HTTP/1.1\r\nhost: a\r\nx : y\r\n\r\n",
    ] {
        let mut stream = TcpStream::connect(bed.address()).await.unwrap();
        stream.set_nodelay(true).unwrap();
        for part in request.as_bytes().chunks(3) {
            stream.write_all(part).await.unwrap();
            tokio::task::yield_now().await;
        }
        let answer = read_until(&mut stream, "\r\n\r\n").await;
        assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
    }
    let lines = bed.lines(2).await;
    assert!(
        lines
            .iter()
            .all(|line| (line.method.as_str(), line.path.as_str()) == ("POST", "/cut")),
        "{lines:?}"
    );
}

#[tokio::test]
async fn a_refusal_waits_for_the_answers_before_it() {
    let server = Server::echo(Speaks::Http1).await;
    let bed = Bed::start(service(Protocol::Http, &[(server.address, "v1")]));
    let requests = "GET /1 HTTP/1.1\r\nhost: a\r\n\r\nPOST /2 HTTP/1.1\r\nhost: a\r\ncontent-length: 3\r\n\r\n\
                    twoGET /3 HTTP/1.1\r\nhost : a\r\n\r\nGET /4 HTTP/1.1\r\nhost: a\r\n\r\n";
    let answer = exchange(bed.address(), requests.as_bytes()).await;
    let places: Vec<_> = ["GET /1 ", "POST /2 ", "HTTP/1.1 400 "]
        .iter()
        .map(|part| answer.find(part))
        .collect();
    assert!(places.is_sorted() && places[0].is_some(), "{answer}");
    assert_eq!(
        (answer.matches("HTTP/1.1 200").count(), server.counts.requests()),
        (2, 2)
    );
}

#[tokio::test]
async fn a_tolerated_length_beside_chunks_is_dropped_and_the_connection_closed() {
    for fields in [
        "content-length: 4\r\ntransfer-encoding: chunked",
        "transfer-encoding: chunked\r\ncontent-length: 4",
    ] {
        let (server, seen) = recorder().await;
        let mut limits = Limits::default();
        limits.tolerated.length_beside_chunked = true;
        let bed = Bed::with(service(Protocol::Http, &[(server.address, "v1")]), 1, limits);
        let answer = exchange(bed.address(), &post(fields)).await;
        assert_eq!(answer.matches("HTTP/1.1 ").count(), 1, "{answer}");
        assert_eq!(server.counts.requests(), 1);
        let seen = seen.lock().unwrap();
        assert!(
            !seen.contains("smuggled") && !seen.contains("content-length"),
            "{seen}"
        );
    }
}

#[tokio::test]
async fn broken_chunks_reach_nobody_as_a_whole_body() {
    let extension = format!("1;{}\r\na\r\n0\r\n\r\n", "e".repeat(5000));
    let extensions = format!("{}0\r\n\r\n", "1;ee\r\na\r\n".repeat(2000));
    let trailers = format!("0\r\nt: {}\r\n\r\n", "u".repeat(61 * 1024));
    let cases = [
        ("no size", "\r\n\r\n", "bad-framing"),
        ("a size that is none", "x\r\n\r\n", "bad-framing"),
        ("a negative size", "-1\r\n\r\n", "bad-framing"),
        ("a signed size", "+1\r\na\r\n0\r\n\r\n", "bad-framing"),
        ("a prefix", "0x1\r\na\r\n0\r\n\r\n", "bad-framing"),
        ("an overflow", "fffffffffffffffff\r\n", "bad-framing"),
        (
            "leading zeros",
            "00000000000000001\r\na\r\n0\r\n\r\n",
            "bad-framing",
        ),
        ("a size too small", "3\r\nabcd\r\n0\r\n\r\n", "bad-framing"),
        ("a size in two parts", "1 1\r\na\r\n0\r\n\r\n", "bad-framing"),
        ("a space after the size", "1 \r\na\r\n0\r\n\r\n", "bad-framing"),
        ("LF after the size", "1\na\r\n0\r\n\r\n", "bad-framing"),
        ("LF after the data", "1\r\na\n0\r\n\r\n", "bad-framing"),
        ("LF in an extension", "1;a\nb\r\na\r\n0\r\n\r\n", "bad-framing"),
        ("CR in an extension", "1;a\rb\r\na\r\n0\r\n\r\n", "bad-framing"),
        ("a long extension", &extension, "bad-framing"),
        ("many extensions", &extensions, "bad-framing"),
        ("LF after a trailer", "0\r\nt: u\n\r\n", "bad-request"),
        ("LF at the end", "0\r\n\n", "bad-request"),
        ("a folded trailer", "0\r\nt: u\r\n v\r\n\r\n", "bad-request"),
        ("a long trailer", &trailers, "head-too-large"),
        (
            "a length at the end",
            "1\r\na\r\n0\r\ncontent-length: 5\r\n\r\n",
            "bad-framing",
        ),
        (
            "a coding at the end",
            "1\r\na\r\n0\r\nTransfer-Encoding: chunked\r\n\r\n",
            "bad-framing",
        ),
        (
            "a host at the end",
            "1\r\na\r\n0\r\nhost: b\r\n\r\n",
            "bad-framing",
        ),
        (
            "credentials at the end",
            "1\r\na\r\n0\r\nauthorization: b\r\n\r\n",
            "bad-framing",
        ),
    ];
    for (name, chunks, reason) in cases {
        // An endpoint that waits for the body, so that the refusal is the first that the client hears.
        let server = Server::echo(Speaks::Http1).await;
        let bed = Bed::start(service(Protocol::Http, &[(server.address, "v1")]));
        let request =
            format!("POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n{chunks}{SMUGGLED}");
        let answer = exchange(bed.address(), request.as_bytes()).await;
        assert_eq!(answer.matches("HTTP/1.1 ").count(), 1, "{name}: {answer}");
        let field = format!("x-router-reason: {reason}\r\n");
        assert!(
            answer.starts_with("HTTP/1.1 4") && answer.contains(&field),
            "{name}: {answer}"
        );
        let lines = bed.lines(1).await;
        assert_eq!((lines.len(), lines[0].reason.as_str()), (1, reason), "{name}");
        assert!(server.counts.requests() <= 1, "{name}");
    }
}

#[tokio::test]
async fn chunks_in_order_are_forwarded_without_their_extensions() {
    let server = Server::echo(Speaks::Http1).await;
    let bed = Bed::start(service(Protocol::Http, &[(server.address, "v1")]));
    let request = "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\nconnection: close\r\n\r\n\
                   3;name=\"v\"\r\nabc\r\n2\r\nde\r\n0\r\nx-sum: 5\r\n\r\n";
    let answer = exchange(bed.address(), request.as_bytes()).await;
    assert!(
        answer.starts_with("HTTP/1.1 200 ") && answer.contains("\n\nabcde"),
        "{answer}"
    );
}

/// Bytes behind a request for another protocol are nobody's until it is answered.
#[tokio::test]
async fn what_follows_a_declined_upgrade_is_not_taken_for_a_request() {
    let server = Server::named("no").await;
    let bed = Bed::start(service(Protocol::Http, &[(server.address, "v1")]));
    let upgrade = "GET /chat HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n";
    let answer = exchange(bed.address(), format!("{upgrade}{SMUGGLED}").as_bytes()).await;
    assert_eq!(answer.matches("HTTP/1.1 ").count(), 1, "{answer}");
    assert!(answer.contains("connection: close\r\n"), "{answer}");
    assert_eq!(server.counts.requests(), 1);
    // With nothing behind it the connection goes on, and is read as strictly as before.
    let mut stream = TcpStream::connect(bed.address()).await.unwrap();
    for (request, status) in [
        (upgrade, "200"),
        (upgrade, "200"),
        ("GET / HTTP/1.1\nhost: a\r\n\r\n", "400"),
    ] {
        stream.write_all(request.as_bytes()).await.unwrap();
        let head = read_until(&mut stream, "\r\n\r\n").await;
        assert!(head.starts_with(&format!("HTTP/1.1 {status} ")), "{head}");
        if status == "200" {
            read_until(&mut stream, "no").await;
        }
    }
}

#[tokio::test]
async fn pipelined_requests_are_answered_in_order() {
    let server = Server::echo(Speaks::Http1).await;
    let bed = Bed::start(service(Protocol::Http, &[(server.address, "v1")]));
    let requests = "POST /1 HTTP/1.1\r\nhost: a\r\ncontent-length: 3\r\n\r\none\
                    GET /2 HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n";
    let answer = exchange(bed.address(), requests.as_bytes()).await;
    let first = answer.find("POST /1 ").unwrap();
    assert!(answer.find("GET /2 ").unwrap() > first, "{answer}");
}

#[tokio::test]
async fn a_response_that_says_more_than_its_length_does_not_spoil_the_next() {
    let server = Server::raw(|mut stream, counts| async move {
        while counts.requests.fetch_add(1, SeqCst) < 100 {
            let mut head = [0; 2048];
            if !matches!(stream.read(&mut head).await, Ok(n) if n > 0) {
                break;
            }
            let answer = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nokHTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nevil";
            if stream.write_all(answer.as_bytes()).await.is_err() {
                break;
            }
        }
    })
    .await;
    let bed = Bed::start(service(Protocol::Http, &[(server.address, "v1")]));
    let mut client = super::client::Http1::connect(bed.address()).await;
    for _ in 0..10 {
        let answer = client.get("/").await;
        assert_ne!(answer.body, "evil");
    }
}

#[tokio::test]
async fn an_http2_body_must_have_the_length_it_names() {
    let (server, seen) = recorder().await;
    let bed = Bed::start(service(Protocol::Http, &[(server.address, "v1")]));
    let mut client = Http2::connect(bed.address()).await;
    let frames =
        futures_util::stream::iter([Ok(Frame::data(bytes::Bytes::from_static(SMUGGLED.as_bytes())))]);
    let request = Request::post("http://a/")
        .header("content-length", "0")
        .body(StreamBody::new(frames).boxed())
        .unwrap();
    client.0.ready().await.unwrap();
    // An endpoint that answers the head alone may be quicker than the error.
    let _ = client.0.send_request(request).await;
    drop((client, bed));
    until("the end upstream", || server.counts.open() == 0).await;
    assert!(!seen.lock().unwrap().contains("smuggled"));
}

#[tokio::test]
async fn http2_requests_with_fields_of_http1_are_refused() {
    let server = Server::named("v1").await;
    let bed = Bed::start(service(Protocol::Http, &[(server.address, "v1")]));
    let mut client = Http2::connect(bed.address()).await;
    let request = Request::get("http://a/")
        .header("host", "b")
        .body(text(""))
        .unwrap();
    let answer = super::client::whole(client.send(request).await).await;
    assert_eq!((answer.status.as_u16(), answer.reason()), (400, "bad-request"));
    assert_eq!(server.counts.connections(), 0);
}
