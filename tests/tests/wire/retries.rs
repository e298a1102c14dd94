//! Timeouts and retries, counted at the servers.

use std::{
    sync::atomic::Ordering::SeqCst,
    time::{Duration, Instant},
};

use http::{Request, Response};
use http_body_util::BodyExt;
use router_rules::{
    action::{Delay, DelayTime, Fault, Fraction, Retries},
    model::{Model, Protocol, Rule},
};
use router_userspace::proxy::Limits;
use tokio::{io::AsyncWriteExt, net::TcpStream};

use super::{
    bed::{Bed, SERVICE, rule, service, until},
    client::{Http2, empty, fetch, full, get, read_until},
    frames::{DATA, END_STREAM, PING, Raw, frame, open},
    server::{Server, Speaks, nobody, nobody_accepts, text},
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
    let (bad, good, dead) = (failing(500).await, Server::named("good").await, nobody());
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
    let (dead, good) = (nobody(), Server::echo(Speaks::Http1).await);
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
async fn the_time_of_a_try_runs_from_the_end_of_the_request() {
    let server = Server::echo(Speaks::Http1).await;
    let bed = Bed::start(retrying(
        service(Protocol::Http, &[(server.address, "v1")]),
        1,
        Some(200),
        10_000,
    ));
    let mut stream = TcpStream::connect(bed.address()).await.unwrap();
    let head = "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\n\r\n";
    stream.write_all(head.as_bytes()).await.unwrap();
    for byte in [b"s", b"l", b"o", b"w", b"!"] {
        // waits: the upload takes longer than a try may.
        tokio::time::sleep(Duration::from_millis(100)).await;
        stream.write_all(byte).await.unwrap();
    }
    let answer = read_until(&mut stream, "slow!").await;
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    assert_eq!(server.counts.requests(), 1);
}

/// A body that no attempt has asked for holds up no timeout.
#[tokio::test]
async fn an_upload_that_reaches_nobody_never_goes_past_the_timeout() {
    let address = nobody_accepts();
    let bed = Bed::start(retrying(
        service(Protocol::Http, &[(address, "v1")]),
        3,
        None,
        300,
    ));
    let upload = get("/").method("POST").body(full(1_000_000)).unwrap();
    let begun = Instant::now();
    let answer = fetch(bed.address(), upload).await;
    assert_eq!(
        (answer.status.as_u16(), answer.reason()),
        (504, "request-timeout")
    );
    assert!(begun.elapsed() < Duration::from_secs(4), "{:?}", begun.elapsed());
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

/// An HTTP/2 endpoint that does something else with its first requests.
async fn refusing(first: usize, refuse: fn(&mut Refusal<'_>)) -> Server {
    Server::raw(move |stream: TcpStream, counts| async move {
        let mut connection = h2::server::handshake(stream).await.unwrap();
        while let Some(Ok((_, mut respond))) = connection.accept().await {
            if counts.requests.fetch_add(1, SeqCst) < first {
                refuse(&mut Refusal {
                    connection: &mut connection,
                    respond: &mut respond,
                });
            } else {
                respond.send_response(Response::new(()), true).unwrap();
            }
        }
    })
    .await
}

struct Refusal<'r> {
    connection: &'r mut h2::server::Connection<TcpStream, bytes::Bytes>,
    respond: &'r mut h2::server::SendResponse<bytes::Bytes>,
}

#[tokio::test]
async fn refused_streams_are_retried() {
    let refuse: fn(&mut Refusal<'_>) = |r| r.respond.send_reset(h2::Reason::REFUSED_STREAM);
    let server = refusing(2, refuse).await;
    let model = service(Protocol::Http2, &[(server.address, "v1")]);
    let bed = Bed::start(retrying(model.clone(), 2, None, 10_000));
    let request = Request::post("/").header("host", "a").body(full(1000)).unwrap();
    assert_eq!(fetch(bed.address(), request).await.status.as_u16(), 200);
    assert_eq!((server.counts.requests(), server.counts.connections()), (3, 1));
    // Nobody asked for retries: the client is told.
    server.counts.requests.store(0, SeqCst);
    let bed = Bed::start(model);
    let answer = fetch(bed.address(), get("/").body(empty()).unwrap()).await;
    assert_eq!((answer.status.as_u16(), answer.reason()), (503, "upstream-reset"));
    assert!(
        answer.body.ends_with("reset reason: remote refused stream reset"),
        "{}",
        answer.body
    );
}

#[tokio::test]
async fn a_stream_that_a_goodbye_overtakes_is_retried_on_another_connection() {
    let server = refusing(1, |r| r.connection.abrupt_shutdown(h2::Reason::NO_ERROR)).await;
    let model = service(Protocol::Http2, &[(server.address, "v1")]);
    let bed = Bed::start(retrying(model, 1, None, 10_000));
    let answer = fetch(bed.address(), get("/").body(empty()).unwrap()).await;
    assert_eq!(answer.status.as_u16(), 200);
    assert_eq!((server.counts.requests(), server.counts.connections()), (2, 2));
}

#[tokio::test]
async fn after_a_graceful_goodbye_new_requests_need_no_retry() {
    let server = Server::raw(|stream: TcpStream, counts| async move {
        let mut connection = h2::server::handshake(stream).await.unwrap();
        while let Some(Ok((_, mut respond))) = connection.accept().await {
            counts.requests.fetch_add(1, SeqCst);
            respond.send_response(Response::new(()), true).unwrap();
            connection.graceful_shutdown();
        }
    })
    .await;
    let bed = Bed::start(service(Protocol::Http2, &[(server.address, "v1")]));
    let mut client = super::client::Http1::connect(bed.address()).await;
    for requests in 1..=5 {
        assert_eq!(client.get("/").await.status.as_u16(), 200);
        until("the connection's end", || server.counts.open() == 0).await;
        assert_eq!(
            (server.counts.requests(), server.counts.connections()),
            (requests, requests)
        );
    }
}

#[tokio::test]
async fn a_body_that_is_gone_is_not_sent_twice() {
    let server = Server::raw(|mut stream: TcpStream, counts| async move {
        counts.requests.fetch_add(1, SeqCst);
        // Everything arrives, and there is no answer.
        let mut read = 0;
        let mut bytes = vec![0; 64 * 1024];
        while read < 300_000 {
            match tokio::io::AsyncReadExt::read(&mut stream, &mut bytes).await {
                Ok(n) if n > 0 => read += n,
                _ => return,
            }
        }
    })
    .await;
    let bed = Bed::start(retrying(
        service(Protocol::Http, &[(server.address, "v1")]),
        3,
        None,
        10_000,
    ));
    let request = Request::post("/")
        .header("host", "a")
        .body(full(300_000))
        .unwrap();
    let answer = fetch(bed.address(), request).await;
    assert_eq!((answer.status.as_u16(), answer.reason()), (503, "upstream-reset"));
    assert_eq!(bed.lines(1).await[0].attempts, 1);
    assert_eq!(server.counts.requests(), 1);
}

/// A rule that holds every request up for an hour.
fn delayed(mut model: Model) -> Model {
    model.rules.push(Rule {
        fault: Fault {
            delay: Some(Delay {
                fraction: Fraction::ALL,
                time: DelayTime::Fixed(Duration::from_secs(3600)),
            }),
            abort: None,
        },
        ..rule("delayed")
    });
    model
}

#[tokio::test]
async fn a_client_that_goes_away_ends_a_wait_between_attempts() {
    let server = failing(503).await;
    let limits = Limits {
        backoff: Duration::from_secs(3600),
        ..Limits::default()
    };
    let model = service(Protocol::Http, &[(server.address, "v1")]);
    let bed = Bed::with(retrying(model, 3, None, 3_600_000), 2, limits);
    for (count, request) in [
        "GET / HTTP/1.1\r\nhost: a\r\n\r\n",
        "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\n\r\nhello",
    ]
    .into_iter()
    .enumerate()
    {
        let mut stream = TcpStream::connect(bed.address()).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        until("the first attempt", || server.counts.requests() == count + 1).await;
        drop(stream);
        let line = &bed.lines(count + 1).await[count];
        assert_eq!((line.reason.as_str(), line.attempts), ("client-disconnected", 1));
    }
    assert_eq!(server.counts.requests(), 2);
}

async fn delay_began(bed: &Bed) {
    until("the connection", || {
        bed.proxy.stats().totals().downstream_active() == 1
    })
    .await;
    // waits: for the request to have been read and its delay to have begun, which shows nowhere.
    tokio::time::sleep(Duration::from_millis(200)).await;
}

#[tokio::test]
async fn a_client_that_goes_away_ends_its_delay() {
    let bed = Bed::start(delayed(service(Protocol::Http, &[(nobody(), "v1")])));
    let mut stream = TcpStream::connect(bed.address()).await.unwrap();
    stream
        .write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n")
        .await
        .unwrap();
    delay_began(&bed).await;
    drop(stream);
    assert_eq!(bed.lines(1).await[0].reason, "client-disconnected");
    let mut raw = Raw::connect(bed.address()).await;
    let post = [open(1, &[]), frame(DATA, END_STREAM, 1, b"0123456789")].concat();
    raw.send(&[post, frame(PING, 0, 0, &[0; 8])].concat()).await;
    // Its answer shows that the request has been read.
    raw.until(|received| received.kind == PING).await.unwrap();
    drop(raw);
    let line = &bed.lines(2).await[1];
    assert_eq!((line.reason.as_str(), line.attempts), ("client-disconnected", 0));
}

#[tokio::test]
async fn a_client_that_goes_away_ends_its_delay_before_its_body_is_read() {
    let bed = Bed::start(delayed(service(Protocol::Http, &[(nobody(), "v1")])));
    let mut stream = TcpStream::connect(bed.address()).await.unwrap();
    let request = "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\n\r\nhello";
    stream.write_all(request.as_bytes()).await.unwrap();
    delay_began(&bed).await;
    drop(stream);
    assert_eq!(bed.lines(1).await[0].reason, "client-disconnected");
}
