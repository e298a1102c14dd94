//! Exchanges over HTTP/2 that end before they are whole: the endpoint hears of it, and others feel nothing.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
};

use h2::Reason;
use http::{Request, Response};
use http_body_util::BodyExt;
use router_rules::{id::ServiceName, model::Protocol, policy::Policy};
use router_userspace::proxy::Limits;
use tokio::{net::TcpStream, sync::Notify, time::timeout};

use super::{
    bed::{Bed, SERVICE, rule, service, until, written},
    client::{Http2, PATIENCE, channel, empty, full, whole},
    frames::{DATA, END_HEADERS, END_STREAM, HEADERS, RST_STREAM, Raw, Received, frame},
    server::{Body, Server},
};

fn request(method: &str, body: Body) -> Request<Body> {
    let uri = format!("http://{SERVICE}/");
    Request::builder().method(method).uri(uri).body(body).unwrap()
}

#[tokio::test]
async fn a_connection_whose_request_ended_while_it_was_opened_is_closed() {
    const POLICY: &str = "destination-policy cb";
    let speaks = Arc::new(AtomicBool::new(false));
    let is_awake = speaks.clone();
    let server = Server::raw(move |stream: TcpStream, _| {
        let is_awake = is_awake.load(SeqCst);
        async move {
            if !is_awake {
                // Bytes are taken, and nothing is ever said.
                let _ = tokio::io::copy(&mut { stream }, &mut tokio::io::sink()).await;
                return;
            }
            let mut connection = h2::server::handshake(stream).await.unwrap();
            while let Some(Ok((_, mut respond))) = connection.accept().await {
                let mut stream = respond.send_response(Response::new(()), false).unwrap();
                stream.send_data("served".into(), true).unwrap();
            }
        }
    })
    .await;
    let mut model = service(Protocol::Http2, &[(server.address, "v1")]);
    model.rules.push(rule("all"));
    model.policies.push(Policy {
        max_connections: Some(1),
        ..Policy::new(written(POLICY), ServiceName::new(SERVICE))
    });
    let bed = Bed::with(model, 1, Limits::default());
    bed.kernel.limits.lock().unwrap().insert(POLICY.into(), 1);
    let mut client = Http2::connect(bed.address()).await;
    client.0.ready().await.unwrap();
    let sending = tokio::spawn(client.0.send_request(request("GET", empty())));
    until("its connection", || server.counts.connections() == 1).await;
    sending.abort();
    until("the end of its connection", || server.counts.open() == 0).await;
    // Its place is free as well.
    speaks.store(true, SeqCst);
    assert_eq!(client.get("/").await.body, "served");
}

#[tokio::test]
async fn an_upload_that_waits_for_the_window_is_reset_when_its_client_goes() {
    let resets = Arc::new(AtomicUsize::new(0));
    let seen = resets.clone();
    let server = Server::streams(100, move |request, mut respond| {
        let seen = seen.clone();
        tokio::spawn(async move {
            let mut stream = respond.send_response(Response::new(()), false).unwrap();
            stream.send_data("begun".into(), false).unwrap();
            let reason = std::future::poll_fn(|cx| stream.poll_reset(cx)).await;
            assert_eq!(reason.unwrap(), Reason::CANCEL);
            seen.fetch_add(1, SeqCst);
            drop(request);
        });
    })
    .await;
    let bed = Bed::start(service(Protocol::Http2, &[(server.address, "v1")]));
    // Within the endpoint's window, and beyond.
    for (number, size) in [10, 1 << 20].into_iter().enumerate() {
        let mut client = Http2::connect(bed.address()).await;
        let answer = client.send(request("POST", full(size))).await;
        assert_eq!(answer.status(), 200);
        drop((answer, client));
        until("the stream's reset", || resets.load(SeqCst) == number + 1).await;
    }
}

#[tokio::test]
async fn an_upload_ends_with_its_response() {
    let resets = Arc::new(AtomicUsize::new(0));
    let seen = resets.clone();
    let server = Server::streams(1, move |request, mut respond| {
        let seen = seen.clone();
        tokio::spawn(async move {
            let mut stream = respond.send_response(Response::new(()), false).unwrap();
            stream.send_data("served".into(), true).unwrap();
            let mut body = request.into_body();
            // It reads on, for as long as there is something.
            let error = loop {
                match body.data().await {
                    Some(Ok(bytes)) => body.flow_control().release_capacity(bytes.len()).unwrap(),
                    Some(Err(error)) => break error,
                    None => return,
                }
            };
            assert_eq!(error.reason(), Some(Reason::CANCEL));
            seen.fetch_add(1, SeqCst);
        });
    })
    .await;
    let bed = Bed::with(
        service(Protocol::Http2, &[(server.address, "v1")]),
        1,
        Limits::default(),
    );
    let mut client = Http2::connect(bed.address()).await;
    let (sender, body) = channel();
    sender.send(Ok("piece".into())).unwrap();
    let answer = client.send(request("POST", body)).await;
    assert_eq!(whole(answer).await.body, "served");
    until("the stream's reset", || resets.load(SeqCst) == 1).await;
    // The only stream that the endpoint allows is free again.
    assert_eq!(client.get("/").await.body, "served");
    assert_eq!(server.counts.connections(), 1);
}

/// The library counts small frames that came after a stream was cancelled for as long as the connection lives.
#[tokio::test]
async fn what_comes_on_cancelled_streams_does_not_break_others() {
    const CANCELLED: usize = 400;
    const OK: &[u8] = &[0x88];
    let (resets, end): (Arc<AtomicUsize>, Arc<Notify>) = Default::default();
    let (seen, ends) = (resets.clone(), end.clone());
    let server = Server::raw(move |stream: TcpStream, counts| {
        let (seen, end) = (seen.clone(), ends.clone());
        async move {
            let mut raw = Raw::accept(stream).await;
            let mut first = None;
            let is_of_stream = |received: &Received| matches!(received.kind, HEADERS | RST_STREAM);
            loop {
                let received = tokio::select! {
                    () = end.notified(), if first.is_some() => break,
                    received = raw.until(is_of_stream) => received,
                };
                let Some(Received { kind, stream, .. }) = received else {
                    return;
                };
                if kind == RST_STREAM {
                    // As if it had been sent before.
                    raw.send(&frame(DATA, 0, stream, b"x").repeat(200)).await;
                    seen.fetch_add(1, SeqCst);
                    continue;
                }
                raw.send(&frame(HEADERS, END_HEADERS, stream, OK)).await;
                if counts.requests.fetch_add(1, SeqCst) == 0 {
                    first = Some(stream);
                }
            }
            raw.send(&frame(DATA, END_STREAM, first.unwrap(), b"whole")).await;
            raw.until(|_| false).await;
        }
    })
    .await;
    let model = service(Protocol::Http2, &[(server.address, "v1")]);
    let bed = Bed::with(model, 1, Limits::default());
    let mut client = Http2::connect(bed.address()).await;
    let long = client.send(request("GET", empty())).await;
    for number in 1..=CANCELLED {
        let answer = client.send(request("GET", empty())).await;
        assert_eq!(answer.status(), 200, "{number}");
        drop(answer);
        // Once, whatever else comes on it.
        until("the stream's reset", || resets.load(SeqCst) == number).await;
    }
    end.notify_one();
    let body = timeout(PATIENCE, long.into_body().collect()).await.unwrap();
    assert_eq!(body.unwrap().to_bytes(), "whole");
    assert_eq!(server.counts.connections(), 2);
}
