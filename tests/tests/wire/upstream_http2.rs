//! Endpoints of HTTP/2: what they allow, break off and say goodbye with.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use bytes::Bytes;
use futures_util::future::join_all;
use h2::{
    Reason,
    server::{Builder, SendResponse, handshake},
};
use http::{Request, Response};
use http_body_util::BodyExt;
use router_rules::{
    id::ServiceName,
    model::{Model, Protocol},
    policy::{HttpLimits, Policy},
};
use router_userspace::proxy::Limits;
use tokio::{net::TcpStream, sync::Notify, task::JoinHandle, time::timeout};

use super::{
    bed::{Bed, SERVICE, service, until, written},
    client::{Http1, Http2, PATIENCE, Whole, empty, full, get},
    frames::{self, DATA, END_HEADERS, END_STREAM, HEADERS, PREFACE, Raw, SETTINGS, frame, setting},
    server::{Body, Server},
};

/// More streams than any test opens.
const MANY: u32 = 1_000;

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

#[tokio::test]
async fn no_more_streams_are_open_than_the_endpoint_allows() {
    let most = Arc::new(AtomicUsize::new(0));
    let seen = most.clone();
    let server = Server::raw(move |stream: TcpStream, _| {
        let seen = seen.clone();
        async move {
            let mut connection = Builder::new()
                .max_concurrent_streams(2)
                .handshake(stream)
                .await
                .unwrap();
            // Of this connection; for the rest there may be others.
            let count = Arc::new(AtomicUsize::new(0));
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
}

/// An endpoint that allows one stream at a time.
struct Narrow {
    server: Server,
    /// Paths of its requests.
    seen: Arc<Mutex<Vec<String>>>,
    /// Lets a request for `/held` be answered; others are at once.
    go_on: Arc<Notify>,
}

impl Narrow {
    async fn new() -> Self {
        let (seen, go_on): (Arc<Mutex<Vec<String>>>, Arc<Notify>) = Default::default();
        let (paths, goes_on) = (seen.clone(), go_on.clone());
        let server = Server::raw(move |stream: TcpStream, _| {
            let (paths, go_on) = (paths.clone(), goes_on.clone());
            async move {
                let mut connection = Builder::new()
                    .max_concurrent_streams(1)
                    .handshake(stream)
                    .await
                    .unwrap();
                while let Some(Ok((request, mut respond))) = connection.accept().await {
                    let path = request.uri().path().to_owned();
                    paths.lock().unwrap().push(path.clone());
                    let go_on = go_on.clone();
                    tokio::spawn(async move {
                        if path == "/held" {
                            go_on.notified().await;
                        }
                        whole(&mut respond, "served");
                    });
                }
            }
        })
        .await;
        Self { server, seen, go_on }
    }

    fn model(&self) -> Model {
        service(Protocol::Http2, &[(self.server.address, "v1")])
    }

    fn seen(&self) -> Vec<String> {
        self.seen.lock().unwrap().clone()
    }

    /// Holds its only stream.
    async fn hold(&self, client: &Http2) -> JoinHandle<Whole> {
        // The endpoint's settings are known afterwards.
        assert_eq!(client.clone().get("/").await.body, "served");
        let held = sent(client, "/held");
        until("the request that is held", || self.seen() == ["/", "/held"]).await;
        held
    }
}

fn sent(client: &Http2, path: &'static str) -> JoinHandle<Whole> {
    let mut client = client.clone();
    tokio::spawn(async move { client.get(path).await })
}

#[tokio::test]
async fn a_long_stream_keeps_nobody_waiting_though_the_endpoint_allows_no_other_beside_it() {
    let narrow = Narrow::new().await;
    let bed = Bed::with(narrow.model(), 1, Limits::default());
    let client = Http2::connect(bed.address()).await;
    let held = narrow.hold(&client).await;
    for _ in 0..3 {
        assert_eq!(client.clone().get("/other").await.body, "served");
    }
    assert_eq!(narrow.server.counts.connections(), 2);
    narrow.go_on.notify_one();
    assert_eq!(held.await.unwrap().body, "served");
}

/// Under a limit on connections, which leaves nothing but to wait for the stream that there may be.
#[tokio::test]
async fn requests_that_are_cancelled_while_they_wait_for_a_stream_are_not_sent() {
    const POLICY: &str = "destination-policy cb";
    // More than 20 would be enough for the endpoint to end the connection.
    for cancelled in [3, 40] {
        let narrow = Narrow::new().await;
        let mut model = narrow.model();
        model.policies.push(Policy {
            max_connections: Some(1),
            http: HttpLimits {
                max_pending_requests: Some(100),
                ..HttpLimits::default()
            },
            ..Policy::new(written(POLICY), ServiceName::new(SERVICE))
        });
        let bed = Bed::with(model, 1, Limits::default());
        bed.kernel.limits.lock().unwrap().insert(POLICY.into(), 1);
        let client = Http2::connect(bed.address()).await;
        let held = narrow.hold(&client).await;
        let under_way = || {
            let usage = bed.proxy.breakers().usage(POLICY).unwrap();
            usage.active + usage.pending
        };
        let gone: Vec<_> = (0..cancelled).map(|_| sent(&client, "/gone")).collect();
        until("all to wait", || under_way() == 1 + cancelled).await;
        gone.iter().for_each(JoinHandle::abort);
        until("all to be cancelled", || under_way() == 1).await;
        let innocent = sent(&client, "/innocent");
        until("another to wait", || under_way() == 2).await;
        narrow.go_on.notify_one();
        let bodies = [held.await.unwrap().body, innocent.await.unwrap().body];
        assert_eq!(bodies, ["served", "served"], "{cancelled}");
        assert_eq!(narrow.seen(), ["/", "/held", "/innocent"], "{cancelled}");
    }
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
    // Whatever the reason: only the end of the stream ends the response.
    for reason in [Reason::CANCEL, Reason::INTERNAL_ERROR, Reason::NO_ERROR] {
        let server = Server::streams(MANY, move |_, mut respond| {
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
        let mut http1 = Http1::connect(bed.address()).await;
        let mut http2 = Http2::connect(bed.address()).await;
        let answers = [
            http1.send(get("/").body(empty()).unwrap()).await,
            http2.send(request("GET", empty())).await,
        ];
        for answer in answers {
            let version = answer.version();
            let body = timeout(PATIENCE, answer.into_body().collect()).await.unwrap();
            assert!(body.is_err(), "{reason:?}, {version:?}: {body:?}");
        }
        for line in bed.lines(2).await {
            assert_eq!(line.reason, "upstream-reset", "{reason:?}, {}", line.protocol);
        }
    }
}

/// The library counts small frames that nobody has read yet, and takes too many on a connection for an attack.
#[tokio::test]
async fn a_client_that_reads_nothing_does_not_break_other_streams_of_the_connection() {
    const OK: &[u8] = &[0x88];
    let server = Server::raw(|stream: TcpStream, counts| async move {
        let mut raw = Raw::accept(stream).await;
        let mut streams = Vec::new();
        while streams.len() < 2 {
            let Some(head) = raw.until(|received| received.kind == HEADERS).await else {
                return;
            };
            raw.send(&frame(HEADERS, END_HEADERS, head.stream, OK)).await;
            counts.requests.fetch_add(1, SeqCst);
            streams.push(head.stream);
        }
        // In this order, so that the other stream ends when all of it has been received.
        raw.send(&frame(DATA, 0, streams[1], b"x").repeat(10_000)).await;
        raw.send(&frame(DATA, END_STREAM, streams[0], b"served")).await;
        raw.until(|_| false).await;
    })
    .await;
    let bed = Bed::with(
        service(Protocol::Http2, &[(server.address, "v1")]),
        1,
        Limits::default(),
    );
    let mut client = Http2::connect(bed.address()).await;
    let answer = client.send(request("GET", empty())).await;
    // A window of nothing, for the beginning.
    let settings = frame(SETTINGS, 0, 0, &setting(4, 0));
    let begins = [PREFACE, &settings, &frames::request(1, &[])].concat();
    let _unread = Raw::with(bed.address(), &begins).await;
    let body = timeout(PATIENCE, answer.into_body().collect()).await.unwrap();
    assert_eq!(body.unwrap().to_bytes(), "served");
    assert_eq!((server.counts.requests(), server.counts.connections()), (2, 1));
}

#[tokio::test]
async fn an_endpoint_that_has_answered_need_not_take_the_rest() {
    // A request that is dropped unread is reset behind its response, with NO_ERROR (RFC 9113, 8.1).
    let server = Server::streams(MANY, |_, mut respond| whole(&mut respond, "enough")).await;
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
    let server = Server::streams(MANY, move |_, mut respond| {
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
