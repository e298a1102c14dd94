//! Endpoints of HTTP/2: what they allow, break off and say goodbye with.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use bytes::Bytes;
use futures_util::future::join_all;
use h2::{
    Reason, RecvStream,
    server::{Builder, SendResponse, handshake},
};
use http::{Request, Response};
use http_body_util::BodyExt;
use router_rules::model::Protocol;
use tokio::{net::TcpStream, sync::Notify, time::timeout};

use super::{
    bed::{Bed, SERVICE, service, until},
    client::{Http2, empty, full},
    server::{Body, Server},
};

const PATIENCE: Duration = Duration::from_secs(10);

fn whole(respond: &mut SendResponse<Bytes>, text: &'static str) {
    let mut stream = respond.send_response(Response::new(()), false).unwrap();
    stream.send_data(text.into(), true).unwrap();
}

fn request(method: &str, body: Body) -> Request<Body> {
    Request::builder()
        .method(method)
        .uri(format!("http://{SERVICE}/"))
        .body(body)
        .unwrap()
}

/// An endpoint that answers the streams of each connection with `answer`, one after the other.
async fn endpoint<A>(answer: A) -> Server
where
    A: Fn(Request<RecvStream>, SendResponse<Bytes>) + Clone + Send + Sync + 'static,
{
    Server::raw(move |stream: TcpStream, counts| {
        let answer = answer.clone();
        async move {
            let mut connection = handshake(stream).await.unwrap();
            while let Some(Ok((request, respond))) = connection.accept().await {
                counts.requests.fetch_add(1, SeqCst);
                answer(request, respond);
            }
        }
    })
    .await
}

#[tokio::test]
async fn no_more_streams_are_open_than_the_endpoint_allows() {
    let open = Arc::new(AtomicUsize::new(0));
    let most = Arc::new(AtomicUsize::new(0));
    let (count, seen) = (open.clone(), most.clone());
    let server = Server::raw(move |stream: TcpStream, _| {
        let (count, seen) = (count.clone(), seen.clone());
        async move {
            let mut connection = Builder::new()
                .max_concurrent_streams(2)
                .handshake(stream)
                .await
                .unwrap();
            while let Some(Ok((_, mut respond))) = connection.accept().await {
                seen.fetch_max(count.fetch_add(1, SeqCst) + 1, SeqCst);
                let count = count.clone();
                tokio::spawn(async move {
                    tokio::task::yield_now().await;
                    count.fetch_sub(1, SeqCst);
                    whole(&mut respond, "served");
                });
            }
        }
    })
    .await;
    let bed = Bed::start(service(Protocol::Http2, &[(server.address, "v1")]));
    let client = Http2::connect(bed.address()).await;
    // The endpoint's settings are known afterwards.
    assert_eq!(Http2(client.0.clone()).get("/").await.body, "served");
    let answers = join_all((0..20).map(|_| {
        let mut client = Http2(client.0.clone());
        async move { client.get("/").await.body }
    }));
    let answers = timeout(PATIENCE, answers).await.unwrap();
    assert!(answers.iter().all(|body| body == "served"), "{answers:?}");
    assert!(most.load(SeqCst) <= 2, "{} streams at once", most.load(SeqCst));
    assert_eq!(server.counts.connections(), 1);
}

#[tokio::test]
async fn a_connection_that_is_being_closed_gets_no_new_streams_and_ends_with_its_last() {
    let go_on = Arc::new(Notify::new());
    let goes_on = go_on.clone();
    let server = Server::raw(move |stream: TcpStream, counts| {
        let go_on = goes_on.clone();
        async move {
            let mut connection = handshake(stream).await.unwrap();
            while let Some(Ok((_, mut respond))) = connection.accept().await {
                if counts.requests.fetch_add(1, SeqCst) > 0 {
                    whole(&mut respond, "new");
                    continue;
                }
                let mut stream = respond.send_response(Response::new(()), false).unwrap();
                connection.graceful_shutdown();
                let go_on = go_on.clone();
                tokio::spawn(async move {
                    go_on.notified().await;
                    stream.send_data("old".into(), true).unwrap();
                });
            }
        }
    })
    .await;
    let bed = Bed::start(service(Protocol::Http2, &[(server.address, "v1")]));
    let mut client = Http2::connect(bed.address()).await;
    let first = client.send(request("GET", empty())).await;
    // The goodbye may be later than the response's head: until it is read, streams may still be opened, and are served.
    for _ in 0..20 {
        assert_eq!(client.get("/").await.body, "new");
    }
    until("another connection", || server.counts.connections() == 2).await;
    assert_eq!(client.get("/").await.body, "new");
    go_on.notify_one();
    let body = timeout(PATIENCE, first.into_body().collect())
        .await
        .unwrap()
        .unwrap();
    assert_eq!(body.to_bytes(), "old");
    until("the end of the old connection", || server.counts.open() == 1).await;
}

#[tokio::test]
async fn a_stream_that_is_reset_within_its_response_does_not_look_whole() {
    for reason in [Reason::CANCEL, Reason::INTERNAL_ERROR] {
        let server = endpoint(move |_, mut respond| {
            let mut stream = respond.send_response(Response::new(()), false).unwrap();
            stream.send_data("half".into(), false).unwrap();
            tokio::spawn(async move {
                // waits: for the frames that are queued, which a reset would take back.
                tokio::time::sleep(Duration::from_millis(50)).await;
                stream.send_reset(reason);
            });
        })
        .await;
        let bed = Bed::start(service(Protocol::Http2, &[(server.address, "v1")]));
        let mut client = Http2::connect(bed.address()).await;
        let answer = client.send(request("GET", empty())).await;
        let body = timeout(PATIENCE, answer.into_body().collect()).await.unwrap();
        assert!(body.is_err(), "{reason:?}");
        assert_eq!(bed.lines(1).await[0].reason, "upstream-reset");
    }
}

#[tokio::test]
async fn an_endpoint_that_has_answered_need_not_take_the_rest() {
    // A request that is dropped unread is reset behind its response, with NO_ERROR (RFC 9113, 8.1).
    let server = endpoint(|_, mut respond| whole(&mut respond, "enough")).await;
    let bed = Bed::start(service(Protocol::Http2, &[(server.address, "v1")]));
    let mut client = Http2::connect(bed.address()).await;
    // More than the endpoint's window takes.
    let answer = client.send(request("POST", full(1 << 20))).await;
    let body = timeout(PATIENCE, answer.into_body().collect())
        .await
        .unwrap()
        .unwrap();
    assert_eq!(body.to_bytes(), "enough");
}

#[tokio::test]
async fn a_request_that_is_given_up_resets_its_stream() {
    let resets = Arc::new(AtomicUsize::new(0));
    let seen = resets.clone();
    let server = endpoint(move |_, mut respond| {
        let seen = seen.clone();
        tokio::spawn(async move {
            let reason = std::future::poll_fn(|cx| respond.poll_reset(cx)).await;
            assert_eq!(reason.unwrap(), Reason::CANCEL);
            seen.fetch_add(1, SeqCst);
        });
    })
    .await;
    let bed = Bed::start(service(Protocol::Http2, &[(server.address, "v1")]));
    // Without a body, and with one that is still on its way.
    for (number, body) in [empty(), full(1 << 20)].into_iter().enumerate() {
        let mut client = Http2::connect(bed.address()).await;
        client.0.ready().await.unwrap();
        let sending = tokio::spawn(client.0.send_request(request("POST", body)));
        until("the request upstream", || server.counts.requests() == number + 1).await;
        sending.abort();
        until("the stream's reset", || resets.load(SeqCst) == number + 1).await;
    }
}
