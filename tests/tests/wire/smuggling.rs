//! Requests that two readers could understand differently. None of them may reach an endpoint as two requests, and
//! none may leave bytes behind that are taken for the next one.

use std::sync::atomic::Ordering::SeqCst;

use http::Request;
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Frame;
use router_rules::model::Protocol;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::{
    bed::{Bed, service, until},
    client::{Http2, exchange},
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

#[tokio::test]
async fn ambiguous_requests_are_refused() {
    let (server, seen) = recorder().await;
    let bed = Bed::start(service(Protocol::Http, &[(server.address, "v1")]));
    let post = |fields: &str| format!("POST / HTTP/1.1\r\nhost: a\r\n{fields}\r\n\r\n0\r\n\r\n{SMUGGLED}");
    let cases = [
        (
            "lengths that differ",
            post("content-length: 3\r\ncontent-length: 5"),
        ),
        ("a list of lengths", post("content-length: 5, 5")),
        ("a signed length", post("content-length: +5")),
        ("a negative length", post("content-length: -5")),
        ("a length in hexadecimal", post("content-length: 0x5")),
        ("a huge length", post("content-length: 99999999999999999999")),
        ("an unknown coding", post("transfer-encoding: xchunked")),
        ("chunked not last", post("transfer-encoding: chunked, identity")),
        ("chunked not alone", post("transfer-encoding: gzip, chunked")),
        (
            "two codings",
            post("transfer-encoding: identity\r\ntransfer-encoding: chunked"),
        ),
        (
            "chunked twice",
            post("transfer-encoding: chunked\r\ntransfer-encoding: chunked"),
        ),
        ("a space before the colon", post("transfer-encoding : chunked")),
        ("a folded field", post("x: 1\r\n transfer-encoding: chunked")),
        ("a folded length", post("content-length:\r\n 5")),
        ("NUL in a value", post("x: a\0b")),
        ("CR in a value", post("x: a\rb")),
        ("NUL in a name", post("x\0: a")),
        (
            "chunked in HTTP/1.0",
            post("transfer-encoding: chunked").replace("HTTP/1.1", "HTTP/1.0"),
        ),
        ("two hosts", post("host: b")),
        ("no host", format!("GET / HTTP/1.1\r\nx: 1\r\n\r\n{SMUGGLED}")),
        (
            "hosts that differ",
            format!("GET http://b/ HTTP/1.1\r\nhost: a\r\n\r\n{SMUGGLED}"),
        ),
        (
            "a host with a path",
            format!("GET / HTTP/1.1\r\nhost: a/b\r\n\r\n{SMUGGLED}"),
        ),
        ("a host dropped by Connection", post("connection: host")),
        (
            "a length dropped by Connection",
            post("content-length: 0\r\nconnection: content-length"),
        ),
        (
            "CONNECT",
            format!("CONNECT a:80 HTTP/1.1\r\nhost: a\r\n\r\n{SMUGGLED}"),
        ),
        (
            "a space in the target",
            format!("GET /a b HTTP/1.1\r\nhost: a\r\n\r\n{SMUGGLED}"),
        ),
        (
            "another version",
            format!("GET / HTTP/1.2\r\nhost: a\r\n\r\n{SMUGGLED}"),
        ),
        ("no version", format!("GET /\r\n\r\n{SMUGGLED}")),
    ];
    for (name, request) in cases {
        let answer = exchange(bed.address(), request.as_bytes()).await;
        let responses = answer.matches("HTTP/1.").count();
        assert_eq!(responses, 1, "{name}: {answer}");
        assert!(answer[8..].starts_with(" 4"), "{name}: {answer}");
    }
    assert_eq!(server.counts.connections(), 0, "{}", seen.lock().unwrap());
}

#[tokio::test]
async fn a_length_beside_chunks_is_dropped_and_the_connection_closed() {
    for fields in [
        "content-length: 4\r\ntransfer-encoding: chunked",
        "transfer-encoding: chunked\r\ncontent-length: 4",
    ] {
        let (server, seen) = recorder().await;
        let bed = Bed::start(service(Protocol::Http, &[(server.address, "v1")]));
        let request = format!("POST / HTTP/1.1\r\nhost: a\r\n{fields}\r\n\r\n0\r\n\r\n{SMUGGLED}");
        let answer = exchange(bed.address(), request.as_bytes()).await;
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
    for chunks in [
        "x\r\n\r\n",
        "-1\r\n\r\n",
        "fffffffffffffffff\r\n",
        "3\r\nabcd\r\n0\r\n\r\n",
        "1 1\r\na\r\n0\r\n\r\n",
    ] {
        let (server, seen) = recorder().await;
        let bed = Bed::start(service(Protocol::Http, &[(server.address, "v1")]));
        let request =
            format!("POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n{chunks}{SMUGGLED}");
        let answer = exchange(bed.address(), request.as_bytes()).await;
        assert!(answer.matches("HTTP/1.1 ").count() <= 1, "{chunks:?}: {answer}");
        assert!(!seen.lock().unwrap().contains("smuggled"), "{chunks:?}");
        drop(bed);
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
