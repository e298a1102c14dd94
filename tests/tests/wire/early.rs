//! Answers that come before the end of their requests.

use std::{sync::atomic::Ordering::SeqCst, time::Duration};

use router_rules::{
    model::{Protocol, Rule},
    rewrite::Redirect,
};
use router_userspace::proxy::Limits;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

use super::{
    bed::{Bed, rule, service},
    client::{PATIENCE, read_until},
    server::Server,
};

/// Answers a request when its head has come, and then reads the body to its end, for every request of a connection.
async fn hasty(body: usize) -> Server {
    Server::raw(move |mut stream: TcpStream, counts| async move {
        read_until(&mut stream, "\r\n\r\n").await;
        counts.requests.fetch_add(1, SeqCst);
        let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
        stream.write_all(answer).await.unwrap();
        let mut rest = vec![0; body];
        let _ = stream.read_exact(&mut rest).await;
        let _ = stream.read(&mut [0]).await;
    })
    .await
}

#[tokio::test]
async fn the_rest_of_a_body_is_not_taken_for_a_slow_head() {
    let server = hasty(10).await;
    let limits = Limits {
        head_timeout: Duration::from_millis(100),
        ..Limits::default()
    };
    let bed = Bed::with(service(Protocol::Http, &[(server.address, "v1")]), 1, limits);
    let mut stream = TcpStream::connect(bed.address()).await.unwrap();
    for round in 1..=2 {
        let head = "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 10\r\n\r\nhalf,";
        stream.write_all(head.as_bytes()).await.unwrap();
        let answer = read_until(&mut stream, "ok").await;
        assert!(answer.starts_with("HTTP/1.1 200 "), "{round}: {answer}");
        stream.write_all(b"half.").await.unwrap();
        // waits: for several looks at the idle connection.
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    assert!(bed.lines(2).await.iter().all(|line| line.reason.is_empty()));
}

/// A client that reads nothing before it has sent everything gets its answer all the same, not a broken pipe.
#[tokio::test]
async fn a_client_that_goes_on_sending_gets_the_answer() {
    let server = Server::named("v1").await;
    let mut model = service(Protocol::Http, &[(server.address, "v1")]);
    model.rules.push(Rule {
        redirect: Some(Redirect {
            uri: Some("/elsewhere".into()),
            authority: None,
            status: 301,
        }),
        ..rule("redirect")
    });
    let bed = Bed::with(model, 1, Limits::default());
    let mut stream = TcpStream::connect(bed.address()).await.unwrap();
    let body = vec![b'x'; 4_000_000];
    let head = format!(
        "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    bed.lines(1).await;
    for part in body.chunks(100_000) {
        timeout(PATIENCE, stream.write_all(part)).await.unwrap().unwrap();
    }
    let mut answer = String::new();
    timeout(PATIENCE, stream.read_to_string(&mut answer))
        .await
        .unwrap()
        .unwrap();
    assert!(answer.starts_with("HTTP/1.1 301 "), "{answer}");
    assert!(answer.contains("connection: close\r\n"), "{answer}");
}
