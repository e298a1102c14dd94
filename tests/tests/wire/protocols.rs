//! Protocols and their corners: trailers, upgrades, HEAD, 100-continue.

use std::sync::atomic::Ordering::SeqCst;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response};
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Frame;
use hyper_util::rt::TokioIo;
use router_rules::model::Protocol;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use super::{
    bed::{Bed, SERVICE, service, until},
    client::{Http1, Http2, empty, fetch, get, read_until, whole},
    server::{Body, Server, Speaks, text},
};

fn with_trailers(data: &'static str) -> Body {
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", HeaderValue::from_static("0"));
    let frames = [
        Frame::data(Bytes::from_static(data.as_bytes())),
        Frame::trailers(trailers),
    ];
    StreamBody::new(futures_util::stream::iter(frames.map(Ok))).boxed()
}

#[tokio::test]
async fn grpc_trailers_pass_both_ways() {
    let server = Server::http(
        Speaks::Http2,
        |request: Request<hyper::body::Incoming>| async move {
            let body = request.into_body().collect().await.unwrap();
            let sum = body
                .trailers()
                .and_then(|t| t.get("grpc-status"))
                .cloned()
                .unwrap();
            assert_eq!(body.to_bytes(), "ping");
            let mut response = Response::new(with_trailers("pong"));
            response.headers_mut().insert("x-request-trailer", sum);
            response
        },
    )
    .await;
    let bed = Bed::start(service(Protocol::Grpc, &[(server.address, "v1")]));
    let mut client = Http2::connect(bed.address()).await;
    for _ in 0..3 {
        let request = Request::post(format!("http://{SERVICE}/s/M"))
            .header("content-type", "application/grpc")
            .header("te", "trailers")
            .body(with_trailers("ping"))
            .unwrap();
        let answer = whole(client.send(request).await).await;
        assert_eq!(
            (answer.body.as_str(), answer.header("x-request-trailer")),
            ("pong", "0")
        );
        assert_eq!(answer.trailers.unwrap()["grpc-status"], "0");
    }
    assert_eq!((server.counts.connections(), server.counts.requests()), (1, 3));
    let lines = bed.lines(3).await;
    assert_eq!(
        (lines[0].protocol, lines[0].received, lines[0].sent),
        ("HTTP/2", 4, 4)
    );
}

#[tokio::test]
async fn many_streams_share_one_connection() {
    let server = Server::echo(Speaks::Http2).await;
    let bed = Bed::with(
        service(Protocol::Http2, &[(server.address, "v1")]),
        1,
        Default::default(),
    );
    let client = Http2::connect(bed.address()).await;
    let requests = (0..50).map(|i| {
        let mut client = client.clone();
        async move { client.get(&format!("/{i}")).await.status.as_u16() }
    });
    let statuses = futures_util::future::join_all(requests).await;
    assert_eq!(statuses, [200; 50]);
    assert_eq!(server.counts.connections(), 1);
}

#[tokio::test]
async fn an_upgrade_becomes_a_tunnel() {
    let server = Server::http(Speaks::Http1, |mut request| async move {
        let upgrade = hyper::upgrade::on(&mut request);
        assert_eq!(request.headers()["upgrade"], "websocket");
        assert_eq!(request.headers()["sec-websocket-key"], "k");
        tokio::spawn(async move {
            let mut io = TokioIo::new(upgrade.await.unwrap());
            let mut bytes = [0; 4];
            while io.read_exact(&mut bytes).await.is_ok() {
                bytes.reverse();
                io.write_all(&bytes).await.unwrap();
            }
        });
        Response::builder()
            .status(101)
            .header("connection", "upgrade")
            .header("upgrade", "websocket")
            .header("sec-websocket-accept", "a")
            .body(text(""))
            .unwrap()
    })
    .await;
    let bed = Bed::start(service(Protocol::Http, &[(server.address, "v1")]));
    let mut stream = TcpStream::connect(bed.address()).await.unwrap();
    let request = "GET /chat HTTP/1.1\r\nHost: a\r\nConnection: keep-alive, Upgrade\r\nUpgrade: websocket\r\n\
                   Sec-WebSocket-Key: k\r\n\r\n";
    stream.write_all(request.as_bytes()).await.unwrap();
    let head = read_until(&mut stream, "\r\n\r\n").await.to_ascii_lowercase();
    assert!(head.starts_with("http/1.1 101 switching protocols\r\n"), "{head}");
    for field in [
        "connection: upgrade\r\n",
        "upgrade: websocket\r\n",
        "sec-websocket-accept: a\r\n",
    ] {
        assert!(head.contains(field), "{head}");
    }
    for (sent, expected) in [("abcd", "dcba"), ("1234", "4321")] {
        stream.write_all(sent.as_bytes()).await.unwrap();
        assert_eq!(read_until(&mut stream, expected).await, expected);
    }
    drop(stream);
    let line = &bed.lines(1).await[0];
    assert_eq!(
        (line.status, line.reason.as_str(), line.received, line.sent),
        (101, "", 8, 8)
    );
}

#[tokio::test]
async fn an_upgrade_that_is_declined_stays_http() {
    let server = Server::named("no").await;
    let bed = Bed::start(service(Protocol::Http, &[(server.address, "v1")]));
    let mut client = Http1::connect(bed.address()).await;
    for _ in 0..2 {
        let request = get("/")
            .header("connection", "upgrade")
            .header("upgrade", "websocket");
        let answer = whole(client.send(request.body(empty()).unwrap()).await).await;
        assert_eq!((answer.status.as_u16(), answer.body.as_str()), (200, "no"));
    }
}

#[tokio::test]
async fn head_has_a_length_and_no_body() {
    let server = Server::http(Speaks::Http1, |_| async { Response::new(text("12345")) }).await;
    let bed = Bed::start(service(Protocol::Http, &[(server.address, "v1")]));
    let mut client = Http1::connect(bed.address()).await;
    for _ in 0..3 {
        let request = Request::head("/").header("host", "a").body(empty()).unwrap();
        let answer = whole(client.send(request).await).await;
        assert_eq!((answer.header("content-length"), answer.body.as_str()), ("5", ""));
    }
    assert_eq!(client.get("/").await.body, "12345");
    assert_eq!(server.counts.connections(), 1);
}

#[tokio::test]
async fn expect_continue_is_answered_when_the_body_is_wanted() {
    let server = Server::echo(Speaks::Http1).await;
    let bed = Bed::start(service(Protocol::Http, &[(server.address, "v1")]));
    let mut stream = TcpStream::connect(bed.address()).await.unwrap();
    let head = "POST / HTTP/1.1\r\nhost: a\r\nexpect: 100-continue\r\ncontent-length: 4\r\nconnection: close\r\n\r\n";
    stream.write_all(head.as_bytes()).await.unwrap();
    assert_eq!(
        read_until(&mut stream, "\r\n\r\n").await,
        "HTTP/1.1 100 Continue\r\n\r\n"
    );
    stream.write_all(b"body").await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(
        answer.ends_with("\n\nbody") && !answer.contains("expect"),
        "{answer}"
    );
}

#[tokio::test]
async fn bodies_of_get_requests_are_forwarded() {
    let server = Server::echo(Speaks::Http1).await;
    let bed = Bed::start(service(Protocol::Http, &[(server.address, "v1")]));
    let request = get("/")
        .header("transfer-encoding", "chunked")
        .body(text("body of a GET"))
        .unwrap();
    let echo = fetch(bed.address(), request).await.body;
    assert!(echo.ends_with("\n\nbody of a GET"), "{echo}");
}

#[tokio::test]
async fn a_response_without_a_length_ends_with_the_connection() {
    let server = Server::raw(|mut stream, counts| async move {
        counts.requests.fetch_add(1, SeqCst);
        read_until(&mut stream, "\r\n\r\n").await;
        stream
            .write_all(b"HTTP/1.1 200 OK\r\n\r\nuntil the end")
            .await
            .unwrap();
    })
    .await;
    let bed = Bed::start(service(Protocol::Http, &[(server.address, "v1")]));
    let mut client = Http1::connect(bed.address()).await;
    for n in 1..=2 {
        assert_eq!(client.get("/").await.body, "until the end");
        assert_eq!(server.counts.connections(), n);
    }
    until("no upstream connection", || {
        bed.proxy.stats().totals().upstream_active() == 0
    })
    .await;
}
