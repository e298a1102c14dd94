//! Clients that take their time: heads and bodies that come too slowly, or not at all.

use std::time::Duration;

use http::{Request, Response};
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Frame;
use router_rules::model::Protocol;
use router_userspace::proxy::{Limits, error::Kind};
use tokio::{io::AsyncWriteExt, net::TcpStream, time::interval};

use super::{
    bed::{Bed, service, until},
    client::{Http2, read_until, whole},
    frames::{DATA, END_STREAM, GET, HEADERS, PING, Raw, block, frame, request},
    server::{Server, Speaks, text},
};

fn hurried() -> Limits {
    Limits {
        head_timeout: Duration::from_millis(200),
        body_timeout: Duration::from_millis(300),
        body_rate: 1000,
        ..Limits::default()
    }
}

fn bed(server: &Server, protocol: Protocol) -> Bed {
    Bed::with(service(protocol, &[(server.address, "v1")]), 1, hurried())
}

#[tokio::test]
async fn a_head_that_does_not_end_is_answered_with_a_reason() {
    let server = Server::named("v1").await;
    let bed = bed(&server, Protocol::Http);
    let mut stream = TcpStream::connect(bed.address()).await.unwrap();
    stream
        .write_all(b"GET /slow HTTP/1.1\r\nhost: a\r\nx: ")
        .await
        .unwrap();
    let head = read_until(&mut stream, "\r\n\r\n").await;
    assert!(
        head.starts_with("HTTP/1.1 408 ") && head.contains("x-router-reason: head-timeout"),
        "{head}"
    );
    let line = &bed.lines(1).await[0];
    assert_eq!(
        (line.path.as_str(), line.status, line.reason.as_str()),
        ("/slow", 408, "head-timeout")
    );
    assert_eq!(bed.proxy.stats().totals().reason(Kind::HeadTimeout), 1);
}

#[tokio::test]
async fn a_connection_that_says_nothing_is_closed_and_counted() {
    let server = Server::named("v1").await;
    let bed = bed(&server, Protocol::Http);
    let _silent = TcpStream::connect(bed.address()).await.unwrap();
    assert_eq!(bed.lines(1).await[0].reason, "head-timeout");
}

#[tokio::test]
async fn a_body_that_stops_is_answered_with_a_reason() {
    let server = Server::echo(Speaks::Http1).await;
    let bed = bed(&server, Protocol::Http);
    for body in [
        "content-length: 10\r\n\r\nhalf",
        "transfer-encoding: chunked\r\n\r\n1\r\na\r\n",
    ] {
        let mut stream = TcpStream::connect(bed.address()).await.unwrap();
        let request = format!("POST / HTTP/1.1\r\nhost: a\r\n{body}");
        stream.write_all(request.as_bytes()).await.unwrap();
        let head = read_until(&mut stream, "\r\n\r\n").await;
        assert!(
            head.starts_with("HTTP/1.1 408 ") && head.contains("x-router-reason: body-timeout"),
            "{head}"
        );
        assert!(head.contains("connection: close"), "{head}");
    }
    assert!(
        bed.lines(2)
            .await
            .iter()
            .all(|line| line.reason == "body-timeout")
    );
    until("nothing upstream", || server.counts.open() == 0).await;
}

#[tokio::test]
async fn a_body_that_trickles_is_answered_with_a_reason() {
    let server = Server::echo(Speaks::Http1).await;
    let bed = bed(&server, Protocol::Http);
    let stream = TcpStream::connect(bed.address()).await.unwrap();
    let (mut reader, mut writer) = stream.into_split();
    let head = "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 1000000\r\n\r\n";
    writer.write_all(head.as_bytes()).await.unwrap();
    let trickle = tokio::spawn(async move {
        // waits: it is the slowness that is tested.
        let mut clock = interval(Duration::from_millis(20));
        while writer.write_all(b"x").await.is_ok() {
            clock.tick().await;
        }
    });
    let mut answer = String::new();
    let _ = tokio::io::AsyncReadExt::read_to_string(&mut reader, &mut answer).await;
    trickle.abort();
    assert!(answer.contains("x-router-reason: body-timeout"), "{answer}");
}

#[tokio::test]
async fn a_body_that_comes_fast_enough_may_take_long() {
    let server = Server::echo(Speaks::Http1).await;
    let bed = bed(&server, Protocol::Http);
    let mut stream = TcpStream::connect(bed.address()).await.unwrap();
    let head = "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 8000\r\nconnection: close\r\n\r\n";
    stream.write_all(head.as_bytes()).await.unwrap();
    for _ in 0..8 {
        stream.write_all(&[b'x'; 1000]).await.unwrap();
        // waits: together longer than the body timeout.
        tokio::time::sleep(Duration::from_millis(60)).await;
    }
    assert!(
        read_until(&mut stream, "\r\n\r\n")
            .await
            .starts_with("HTTP/1.1 200 ")
    );
}

#[tokio::test]
async fn a_header_block_that_does_not_end_ends_the_connection() {
    let server = Server::named("v1").await;
    let bed = bed(&server, Protocol::Http);
    let mut raw = Raw::connect(bed.address()).await;
    raw.send(&frame(HEADERS, END_STREAM, 1, &block(&GET))).await;
    raw.until(|_| false).await;
    assert_eq!(bed.lines(1).await[0].reason, "head-timeout");
}

#[tokio::test]
async fn an_http2_connection_may_be_idle_and_say_so() {
    let server = Server::named("v1").await;
    let bed = bed(&server, Protocol::Http);
    let mut raw = Raw::connect(bed.address()).await;
    raw.send(&request(1, &[])).await;
    raw.until(|received| received.kind == DATA).await.unwrap();
    raw.send(&frame(PING, 0, 0, &[0; 8])).await;
    // waits: longer than a head may take.
    tokio::time::sleep(Duration::from_millis(700)).await;
    raw.send(&request(3, &[])).await;
    assert!(raw.until(|received| received.kind == DATA).await.is_some());
    assert!(bed.lines(2).await.iter().all(|line| line.reason.is_empty()));
}

#[tokio::test]
async fn a_refused_client_that_does_not_close_is_closed() {
    let server = Server::named("v1").await;
    let bed = bed(&server, Protocol::Http);
    let mut stream = TcpStream::connect(bed.address()).await.unwrap();
    stream.write_all(b"GET / HTTP/9\r\n\r\n").await.unwrap();
    read_until(&mut stream, "\r\n\r\n").await;
    until("the end", || bed.proxy.stats().totals().downstream_active() == 0).await;
}

#[tokio::test]
async fn a_slow_stream_does_not_take_its_connection_with_it() {
    let server = Server::echo(Speaks::Http1).await;
    let bed = bed(&server, Protocol::Http);
    let mut client = Http2::connect(bed.address()).await;
    let never = futures_util::stream::pending::<Result<Frame<bytes::Bytes>, std::io::Error>>();
    let request = Request::post("http://a/")
        .body(StreamBody::new(never).boxed())
        .unwrap();
    let answer = whole(client.send(request).await).await;
    assert_eq!((answer.status.as_u16(), answer.reason()), (408, "body-timeout"));
    assert_eq!(client.get("/").await.status, 200);
}

#[tokio::test]
async fn a_grpc_stream_may_be_silent() {
    let server = Server::http(Speaks::Http2, |_| async { Response::new(text("ok")) }).await;
    let bed = bed(&server, Protocol::Grpc);
    let mut client = Http2::connect(bed.address()).await;
    let (sender, receiver) = tokio::sync::oneshot::channel::<()>();
    let quiet = futures_util::stream::once(async {
        let _ = receiver.await;
        Ok(Frame::data(bytes::Bytes::from_static(b"late")))
    });
    let request = Request::post("http://a/")
        .header("content-type", "application/grpc")
        .body(StreamBody::new(Box::pin(quiet)).boxed())
        .unwrap();
    let answer = client.send(request).await;
    // waits: longer than the body timeout.
    tokio::time::sleep(Duration::from_millis(600)).await;
    let _ = sender.send(());
    assert_eq!(whole(answer).await.status, 200);
    assert_eq!(bed.lines(1).await[0].reason, "");
}
