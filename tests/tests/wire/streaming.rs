//! Bodies stream: nothing waits for their end, nobody is outrun, nobody works for a client that has gone.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, StreamBody};
use router_rules::model::Protocol;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

use super::{
    bed::{Bed, SERVICE, service, until},
    client::{Http1, Http2, PATIENCE, channel, empty, get, read_until},
    server::{Server, Speaks},
};

async fn next(body: &mut hyper::body::Incoming) -> Bytes {
    let frame = timeout(PATIENCE, body.frame()).await.unwrap().unwrap().unwrap();
    frame.into_data().unwrap()
}

/// Sends every chunk of the request's body back at once.
async fn chat(speaks: Speaks) -> Server {
    Server::http(speaks, |request| async {
        let frames = futures_util::stream::unfold(request.into_body(), |mut body| async move {
            let frame = body.frame().await?;
            Some((frame.map_err(std::io::Error::other), body))
        });
        Response::new(StreamBody::new(frames).boxed())
    })
    .await
}

#[tokio::test]
async fn both_directions_stream_at_once_over_http2() {
    let server = chat(Speaks::Http2).await;
    let bed = Bed::start(service(Protocol::Grpc, &[(server.address, "v1")]));
    let mut client = Http2::connect(bed.address()).await;
    let (sender, body) = channel();
    let request = Request::post(format!("http://{SERVICE}/")).body(body).unwrap();
    let mut answer = client.send(request).await.into_body();
    for text in ["one", "two", "three"] {
        sender.send(Ok(text.into())).unwrap();
        assert_eq!(next(&mut answer).await, text);
    }
    drop(sender);
    let rest = timeout(PATIENCE, answer.collect()).await.unwrap().unwrap();
    assert!(rest.to_bytes().is_empty());
}

#[tokio::test]
async fn both_directions_stream_at_once_over_http1() {
    let server = chat(Speaks::Http1).await;
    let bed = Bed::start(service(Protocol::Http, &[(server.address, "v1")]));
    let mut client = Http1::connect(bed.address()).await;
    let (sender, body) = channel();
    sender.send(Ok("one".into())).unwrap();
    let request = Request::post("/").header("host", "a").body(body).unwrap();
    let mut answer = client.send(request).await.into_body();
    assert_eq!(next(&mut answer).await, "one");
    sender.send(Ok("two".into())).unwrap();
    assert_eq!(next(&mut answer).await, "two");
    drop(sender);
    let rest = timeout(PATIENCE, answer.collect()).await.unwrap().unwrap();
    assert!(rest.to_bytes().is_empty());
}

#[tokio::test]
async fn a_client_that_does_not_read_stops_the_endpoint() {
    const CHUNK: usize = 64 * 1024;
    let written = Arc::new(AtomicUsize::new(0));
    let count = written.clone();
    let server = Server::raw(move |mut stream: TcpStream, _| {
        let count = count.clone();
        async move {
            read_until(&mut stream, "\r\n\r\n").await;
            stream
                .write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 1073741824\r\n\r\n")
                .await
                .unwrap();
            let chunk = vec![0; CHUNK];
            while stream.write_all(&chunk).await.is_ok() {
                count.fetch_add(CHUNK, SeqCst);
            }
        }
    })
    .await;
    let bed = Bed::start(service(Protocol::Http, &[(server.address, "v1")]));
    let mut stream = TcpStream::connect(bed.address()).await.unwrap();
    stream
        .write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n")
        .await
        .unwrap();
    read_until(&mut stream, "\r\n\r\n").await;
    // Still for a while means stopped: only what sockets and bounded buffers hold has been taken.
    let mut last = usize::MAX;
    while last != written.load(SeqCst) {
        last = written.load(SeqCst);
        // waits: long enough for a chunk to be written, if any still is.
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
    assert!(last < 64 << 20, "{last} bytes were taken from the endpoint");
    let mut bytes = vec![0; 256 * 1024];
    let mut read = 0;
    while read < 100 << 20 {
        read += timeout(PATIENCE, stream.read(&mut bytes)).await.unwrap().unwrap();
    }
    assert!(written.load(SeqCst) > last);
}

#[tokio::test]
async fn a_client_that_goes_away_stops_the_work_upstream() {
    let server = Server::raw(|mut stream: TcpStream, counts| async move {
        read_until(&mut stream, "\r\n\r\n").await;
        counts.requests.fetch_add(1, SeqCst);
        let mut rest = Vec::new();
        let _ = stream.read_to_end(&mut rest).await;
    })
    .await;
    let bed = Bed::start(service(Protocol::Http, &[(server.address, "v1")]));
    let mut stream = TcpStream::connect(bed.address()).await.unwrap();
    stream
        .write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n")
        .await
        .unwrap();
    until("the request upstream", || server.counts.requests() == 1).await;
    drop(stream);
    until("the end of the work", || server.counts.open() == 0).await;
    let line = &bed.lines(1).await[0];
    assert_eq!((line.status, line.reason.as_str()), (0, "client-disconnected"));
}

#[tokio::test]
async fn a_reset_stream_stops_the_work_upstream() {
    let server = Server::raw(|mut stream: TcpStream, counts| async move {
        read_until(&mut stream, "\r\n\r\n").await;
        counts.requests.fetch_add(1, SeqCst);
        let mut rest = Vec::new();
        let _ = stream.read_to_end(&mut rest).await;
    })
    .await;
    let bed = Bed::start(service(Protocol::Http, &[(server.address, "v1")]));
    let mut client = Http2::connect(bed.address()).await;
    client.0.ready().await.unwrap();
    let request = Request::get(format!("http://{SERVICE}/")).body(empty()).unwrap();
    let sending = tokio::spawn(client.0.send_request(request));
    until("the request upstream", || server.counts.requests() == 1).await;
    sending.abort();
    until("the end of the work", || server.counts.open() == 0).await;
    assert_eq!(bed.lines(1).await[0].reason, "client-disconnected");
}

#[tokio::test]
async fn an_upload_that_breaks_off_reaches_nobody_as_whole() {
    let server = Server::http(Speaks::Http1, |request| async {
        let whole = request.into_body().collect().await.is_ok();
        assert!(!whole, "the endpoint took a broken body for a whole one");
        Response::new(super::server::text("broken"))
    })
    .await;
    let bed = Bed::start(service(Protocol::Http, &[(server.address, "v1")]));
    let mut stream = TcpStream::connect(bed.address()).await.unwrap();
    let head = "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n";
    stream.write_all(head.as_bytes()).await.unwrap();
    until("the request upstream", || server.counts.requests() == 1).await;
    drop(stream);
    until("the end of the work", || server.counts.open() == 0).await;
    assert_eq!(bed.lines(1).await[0].reason, "client-disconnected");
}

#[tokio::test]
async fn a_response_that_breaks_off_does_not_look_whole() {
    let server = Server::raw(|mut stream: TcpStream, _| async move {
        read_until(&mut stream, "\r\n\r\n").await;
        let broken = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n";
        stream.write_all(broken.as_bytes()).await.unwrap();
    })
    .await;
    let bed = Bed::start(service(Protocol::Http, &[(server.address, "v1")]));
    let answer = Http1::connect(bed.address())
        .await
        .send(get("/").body(empty()).unwrap())
        .await;
    assert!(answer.into_body().collect().await.is_err());
    let mut client = Http2::connect(bed.address()).await;
    let request = Request::get(format!("http://{SERVICE}/")).body(empty()).unwrap();
    assert!(client.send(request).await.into_body().collect().await.is_err());
    let lines = bed.lines(2).await;
    assert!(
        lines
            .iter()
            .all(|l| l.reason == "upstream-reset" && l.status == 200),
        "{lines:?}"
    );
}
