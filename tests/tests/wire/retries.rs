//! Timeouts and retries, counted at the servers.

use std::{
    sync::atomic::Ordering::SeqCst,
    time::{Duration, Instant},
};

use http::{Request, Response};
use http_body_util::BodyExt;
use router_rules::{
    action::Retries,
    model::{Model, Protocol, Rule},
};
use tokio::{io::AsyncWriteExt, net::TcpStream};

use super::{
    bed::{Bed, SERVICE, rule, service, until},
    client::{Http2, empty, fetch, full, get, read_until},
    server::{Server, Speaks, nobody, text},
};

fn retrying(mut model: Model, attempts: u32, per_try_ms: Option<u64>, timeout_ms: u64) -> Model {
    model.rules.push(Rule {
        timeout: Some(Duration::from_millis(timeout_ms)),
        retries: Some(Retries {
            attempts,
            per_try_timeout: per_try_ms.map(Duration::from_millis),
        }),
        ..rule("retry")
    });
    model
}

/// Reads requests and never answers.
async fn silent() -> Server {
    Server::raw(|mut stream: TcpStream, counts| async move {
        read_until(&mut stream, "\r\n\r\n").await;
        counts.requests.fetch_add(1, SeqCst);
        let mut rest = Vec::new();
        let _ = tokio::io::AsyncReadExt::read_to_end(&mut stream, &mut rest).await;
    })
    .await
}

async fn failing(status: u16) -> Server {
    Server::http(Speaks::Http1, move |request| async move {
        // The whole body is read, so that the connection can be used again.
        let _ = request.into_body().collect().await;
        Response::builder()
            .status(status)
            .header("x-from", "endpoint")
            .body(text("failed"))
            .unwrap()
    })
    .await
}

#[tokio::test]
async fn a_slow_endpoint_is_a_timeout() {
    let server = silent().await;
    let model = retrying(service(Protocol::Http, &[(server.address, "v1")]), 0, None, 200);
    let bed = Bed::start(model);
    let begun = Instant::now();
    let answer = fetch(bed.address(), get("/").body(empty()).unwrap()).await;
    assert_eq!(
        (answer.status.as_u16(), answer.body.as_str()),
        (504, "upstream request timeout")
    );
    assert_eq!(answer.reason(), "request-timeout");
    assert!(
        (200..2000).contains(&begun.elapsed().as_millis()),
        "{:?}",
        begun.elapsed()
    );
    // The work upstream was given up.
    until("the upstream connection's end", || server.counts.open() == 0).await;
}

#[tokio::test]
async fn a_response_that_does_not_end_in_time_is_cut() {
    let server = Server::raw(|mut stream: TcpStream, _| async move {
        read_until(&mut stream, "\r\n\r\n").await;
        stream
            .write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\n12345")
            .await
            .unwrap();
        std::future::pending().await
    })
    .await;
    let bed = Bed::start(retrying(
        service(Protocol::Http, &[(server.address, "v1")]),
        0,
        None,
        200,
    ));
    let mut client = super::client::Http1::connect(bed.address()).await;
    let response = client.send(get("/").body(empty()).unwrap()).await;
    assert_eq!(response.status().as_u16(), 200);
    assert!(response.into_body().collect().await.is_err());
    let line = &bed.lines(1).await[0];
    assert_eq!(
        (line.status, line.reason.as_str(), line.sent),
        (200, "request-timeout", 5)
    );
}

#[tokio::test]
async fn a_server_error_is_retried_and_the_last_one_passed_on() {
    let server = failing(503).await;
    let bed = Bed::start(retrying(
        service(Protocol::Http, &[(server.address, "v1")]),
        3,
        None,
        10_000,
    ));
    let answer = fetch(bed.address(), get("/").body(empty()).unwrap()).await;
    assert_eq!((answer.status.as_u16(), answer.body.as_str()), (503, "failed"));
    assert_eq!((answer.header("x-from"), answer.reason()), ("endpoint", ""));
    assert_eq!(server.counts.requests(), 4);
    assert_eq!(bed.proxy.stats().totals().retries, 3);
    assert_eq!(bed.lines(1).await[0].attempts, 4);
}

#[tokio::test]
async fn a_client_error_is_not_retried() {
    let server = failing(404).await;
    let bed = Bed::start(retrying(
        service(Protocol::Http, &[(server.address, "v1")]),
        3,
        None,
        10_000,
    ));
    assert_eq!(
        fetch(bed.address(), get("/").body(empty()).unwrap())
            .await
            .status
            .as_u16(),
        404
    );
    assert_eq!(server.counts.requests(), 1);
}

#[tokio::test]
async fn another_endpoint_is_tried_first() {
    let (bad, good, dead) = (failing(500).await, Server::named("good").await, nobody().await);
    let instances = [(bad.address, "v1"), (dead, "v1"), (good.address, "v1")];
    let bed = Bed::start(retrying(service(Protocol::Http, &instances), 2, None, 10_000));
    for _ in 0..10 {
        let answer = fetch(bed.address(), get("/").body(empty()).unwrap()).await;
        assert_eq!((answer.status.as_u16(), answer.body.as_str()), (200, "good"));
    }
}

#[tokio::test]
async fn a_small_body_is_sent_again_whole() {
    let server = Server::http(Speaks::Http1, |request| async move {
        let body = request.into_body().collect().await.unwrap().to_bytes();
        Response::builder()
            .status(503)
            .body(text(body.len().to_string()))
            .unwrap()
    })
    .await;
    let bed = Bed::start(retrying(
        service(Protocol::Http, &[(server.address, "v1")]),
        2,
        None,
        10_000,
    ));
    for size in [1, 64 * 1024] {
        let before = server.counts.requests();
        let request = Request::post("/").header("host", "a").body(full(size)).unwrap();
        assert_eq!(fetch(bed.address(), request).await.body, size.to_string());
        assert_eq!(server.counts.requests(), before + 3);
    }
    // One byte more than is kept, and the request cannot be sent again.
    let request = Request::post("/")
        .header("host", "a")
        .body(full(64 * 1024 + 1))
        .unwrap();
    assert_eq!(
        fetch(bed.address(), request).await.body,
        (64 * 1024 + 1).to_string()
    );
    assert_eq!(server.counts.requests(), 7);
}

#[tokio::test]
async fn a_large_body_moves_on_when_connecting_failed() {
    let (dead, good) = (nobody().await, Server::echo(Speaks::Http1).await);
    let bed = Bed::start(retrying(
        service(Protocol::Http, &[(dead, "v1"), (good.address, "v1")]),
        1,
        None,
        10_000,
    ));
    for _ in 0..2 {
        let request = Request::post("/")
            .header("host", "a")
            .body(full(300_000))
            .unwrap();
        let answer = fetch(bed.address(), request).await;
        assert_eq!(answer.status.as_u16(), 200);
        assert!(answer.body.ends_with(&"x".repeat(1000)) && answer.body.len() > 300_000);
    }
}

#[tokio::test]
async fn a_try_that_takes_too_long_is_given_up_and_retried() {
    let server = silent().await;
    let bed = Bed::start(retrying(
        service(Protocol::Http, &[(server.address, "v1")]),
        2,
        Some(100),
        10_000,
    ));
    let answer = fetch(bed.address(), get("/").body(empty()).unwrap()).await;
    assert_eq!(
        (answer.status.as_u16(), answer.reason()),
        (504, "per-try-timeout")
    );
    assert_eq!(server.counts.requests(), 3);
}

#[tokio::test]
async fn retries_never_go_past_the_timeout() {
    let server = silent().await;
    let bed = Bed::start(retrying(
        service(Protocol::Http, &[(server.address, "v1")]),
        100,
        Some(100),
        350,
    ));
    let begun = Instant::now();
    let answer = fetch(bed.address(), get("/").body(empty()).unwrap()).await;
    assert_eq!(
        (answer.status.as_u16(), answer.reason()),
        (504, "request-timeout")
    );
    assert!(
        (350..2000).contains(&begun.elapsed().as_millis()),
        "{:?}",
        begun.elapsed()
    );
    assert!(server.counts.requests() <= 4);
}

#[tokio::test]
async fn a_reset_before_the_response_is_retried() {
    let server = Server::raw(|mut stream: TcpStream, counts| async move {
        read_until(&mut stream, "\r\n\r\n").await;
        if counts.requests.fetch_add(1, SeqCst) > 0 {
            stream
                .write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")
                .await
                .unwrap();
        }
    })
    .await;
    let model = service(Protocol::Http, &[(server.address, "v1")]);
    let bed = Bed::start(retrying(model.clone(), 1, None, 10_000));
    assert_eq!(
        fetch(bed.address(), get("/").body(empty()).unwrap()).await.body,
        "ok"
    );
    server.counts.requests.store(0, SeqCst);
    let bed = Bed::start(model);
    let answer = fetch(bed.address(), get("/").body(empty()).unwrap()).await;
    assert_eq!((answer.status.as_u16(), answer.reason()), (503, "upstream-reset"));
    assert!(
        answer.body.ends_with("reset reason: connection termination"),
        "{}",
        answer.body
    );
}

#[tokio::test]
async fn nonsense_from_an_endpoint_is_a_bad_gateway() {
    let server = Server::raw(|mut stream: TcpStream, _| async move {
        read_until(&mut stream, "\r\n\r\n").await;
        stream.write_all(b"SSH-2.0-nonsense\r\n\r\n").await.unwrap();
    })
    .await;
    let bed = Bed::start(service(Protocol::Http, &[(server.address, "v1")]));
    let answer = fetch(bed.address(), get("/").body(empty()).unwrap()).await;
    assert_eq!(
        (answer.status.as_u16(), answer.reason()),
        (502, "upstream-protocol-error")
    );
}

#[tokio::test]
async fn grpc_clients_get_a_timeout_in_their_own_way() {
    let server = Server::http(Speaks::Http2, |_| std::future::pending()).await;
    let bed = Bed::start(retrying(
        service(Protocol::Grpc, &[(server.address, "v1")]),
        0,
        None,
        200,
    ));
    let mut client = Http2::connect(bed.address()).await;
    let request = Request::post(format!("http://{SERVICE}/s/M"))
        .header("content-type", "application/grpc")
        .body(empty())
        .unwrap();
    let answer = super::client::whole(client.send(request).await).await;
    assert_eq!(answer.status.as_u16(), 200);
    assert_eq!(
        (answer.header("grpc-status"), answer.header("grpc-message")),
        ("14", "upstream request timeout")
    );
}
