//! Attempts that follow one whose request is still on its way: what is sent again is whole, and what came before ends.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use bytes::Bytes;
use futures_util::future::join_all;
use http::{Request, Response};
use http_body_util::BodyExt;
use router_rules::{
    action::Retries,
    model::{Model, Protocol, Rule},
};
use router_userspace::proxy::Limits;
use tokio::{net::TcpStream, sync::oneshot, time::timeout};

use super::{
    bed::{Bed, SERVICE, rule, service, until},
    client::{Http2, PATIENCE, channel},
    server::{Server, Speaks, text},
};

/// What an endpoint got of one request's body.
#[derive(Clone, Default, Debug)]
struct Taken {
    first: Option<u8>,
    bytes: usize,
    /// None: it is still on its way; or whether it is whole.
    ended: Option<bool>,
}

/// An endpoint that answers its first request as soon as its body has begun, with 503, and reads the rest all the same.
/// Others it answers when it has read them.
struct Hasty {
    server: Server,
    taken: Arc<Mutex<Vec<Taken>>>,
}

impl Hasty {
    async fn new(speaks: Speaks) -> Self {
        let taken: Arc<Mutex<Vec<Taken>>> = Arc::default();
        let notes = taken.clone();
        let server = Server::http(speaks, move |request| {
            let number = {
                let mut notes = notes.lock().unwrap();
                notes.push(Taken::default());
                notes.len() - 1
            };
            let notes = notes.clone();
            let (begins, begun) = oneshot::channel();
            let reading = async move {
                let mut begins = Some(begins);
                let mut body = request.into_body();
                let ended = loop {
                    match body.frame().await {
                        Some(Ok(frame)) => {
                            let bytes = frame.into_data().unwrap();
                            let note = &mut notes.lock().unwrap()[number];
                            note.first = note.first.or_else(|| bytes.first().copied());
                            note.bytes += bytes.len();
                            begins.take().map(|begins| begins.send(()));
                        }
                        Some(Err(_)) => break false,
                        None => break true,
                    }
                };
                notes.lock().unwrap()[number].ended = Some(ended);
            };
            async move {
                let read = tokio::spawn(reading);
                let status = if number == 0 {
                    let _ = begun.await;
                    503
                } else {
                    read.await.unwrap();
                    200
                };
                Response::builder().status(status).body(text("")).unwrap()
            }
        })
        .await;
        Self { server, taken }
    }

    /// One for each request that has come.
    fn taken(&self) -> Vec<Taken> {
        self.taken.lock().unwrap().clone()
    }
}

/// The service with this endpoint, and one retry.
fn retried(server: &Server, protocol: Protocol) -> Model {
    let mut model = service(protocol, &[(server.address, "v1")]);
    model.rules.push(Rule {
        timeout: Some(Duration::from_secs(60)),
        retries: Some(Retries {
            attempts: 1,
            per_try_timeout: None,
        }),
        ..rule("retry")
    });
    model
}

const PROTOCOLS: [(Speaks, Protocol); 2] =
    [(Speaks::Http1, Protocol::Http), (Speaks::Http2, Protocol::Http2)];

/// The first byte of every body here, and of no later piece.
const BEGINNING: u8 = b'A';

/// The first piece of a body, which alone is short enough to be sent again.
fn beginning() -> Bytes {
    vec![BEGINNING; 1000].into()
}

/// The first attempt is answered while its request is on its way, and the client goes on sending: in the wait before the
/// retry the beginning of its body may be lost.
async fn body_that_grows_during_the_wait(speaks: Speaks, protocol: Protocol) {
    const GROWTH: usize = 200_000;
    let limits = Limits {
        backoff: Duration::from_millis(300),
        ..Limits::default()
    };
    let bound = limits.replay_bytes;
    assert!(GROWTH > bound);
    let hasty = Hasty::new(speaks).await;
    let bed = Bed::with(retried(&hasty.server, protocol), 1, limits);
    let mut client = Http2::connect(bed.address()).await;
    let (sender, body) = channel();
    sender.send(Ok(beginning())).unwrap();
    let request = Request::post(format!("http://{SERVICE}/")).body(body).unwrap();
    let sending = tokio::spawn(async move { client.send(request).await.status().as_u16() });
    until("the first attempt's beginning", || {
        hasty.taken().first().is_some_and(|taken| taken.bytes == 1000)
    })
    .await;
    // Who has its answer may not want the rest.
    let _ = sender.send(Ok(vec![b'B'; GROWTH].into()));
    until("more than is kept, or the end of the wait", || {
        let taken = hasty.taken();
        taken[0].bytes > bound || taken[0].ended.is_some() || taken.len() > 1 || sending.is_finished()
    })
    .await;
    let _ = sender.send(Ok(vec![b'C'; 1000].into()));
    drop(sender);
    let status = timeout(PATIENCE, sending).await.unwrap().unwrap();
    let taken = hasty.taken();
    // Either attempt's answer will do; but no endpoint takes a part of the body for all of it.
    assert!([503, 200].contains(&status), "{speaks:?}: {status}, {taken:?}");
    for whole in taken.iter().filter(|taken| taken.ended == Some(true)) {
        assert_eq!(
            (whole.first, whole.bytes),
            (Some(BEGINNING), GROWTH + 2000),
            "{speaks:?}: {status}, {taken:?}"
        );
    }
}

#[tokio::test]
async fn a_body_is_never_sent_again_without_its_beginning() {
    // The wait is drawn: several, so that not all are too short for the body to grow.
    let rounds = PROTOCOLS.into_iter().cycle().take(6);
    join_all(rounds.map(|(speaks, protocol)| body_that_grows_during_the_wait(speaks, protocol))).await;
}

#[tokio::test]
async fn an_attempt_that_another_follows_ends_though_its_client_pauses() {
    for (speaks, protocol) in PROTOCOLS {
        let hasty = Hasty::new(speaks).await;
        let bed = Bed::start(retried(&hasty.server, protocol));
        let mut client = Http2::connect(bed.address()).await;
        let (sender, body) = channel();
        sender.send(Ok(beginning())).unwrap();
        let request = Request::post(format!("http://{SERVICE}/")).body(body).unwrap();
        let sending = tokio::spawn(async move { client.send(request).await.status().as_u16() });
        until("the second attempt's beginning", || {
            hasty.taken().get(1).is_some_and(|taken| taken.bytes == 1000)
        })
        .await;
        until("the first attempt's end", || hasty.taken()[0].ended.is_some()).await;
        // The pause is over.
        sender.send(Ok(vec![b'B'; 1000].into())).unwrap();
        drop(sender);
        assert_eq!(timeout(PATIENCE, sending).await.unwrap().unwrap(), 200);
        let taken = hasty.taken();
        assert_eq!(taken[0].ended, Some(false), "{speaks:?}: {taken:?}");
        assert_eq!(
            (taken[1].first, taken[1].bytes, taken[1].ended),
            (Some(BEGINNING), 2000, Some(true)),
            "{speaks:?}"
        );
    }
}

/// The first attempt waits for the window of an endpoint that has answered it; the second gets through.
#[tokio::test]
async fn an_attempt_that_another_follows_ends_though_its_endpoint_takes_no_more() {
    // Of half a response, which goes with the attempt, and of a whole one.
    for is_whole in [false, true] {
        let resets = Arc::new(AtomicUsize::new(0));
        let seen = resets.clone();
        let server = Server::raw(move |stream: TcpStream, counts| {
            let seen = seen.clone();
            async move {
                let mut builder = h2::server::Builder::new();
                builder.initial_window_size(10);
                let mut connection = builder.handshake::<_, Bytes>(stream).await.unwrap();
                while let Some(Ok((request, mut respond))) = connection.accept().await {
                    let number = counts.requests.fetch_add(1, SeqCst);
                    let seen = seen.clone();
                    let mut body = request.into_body();
                    tokio::spawn(async move {
                        if number == 0 {
                            let head = Response::builder().status(503).body(()).unwrap();
                            let mut stream = respond.send_response(head, is_whole).unwrap();
                            let reason = std::future::poll_fn(|cx| stream.poll_reset(cx)).await;
                            assert_eq!(reason.unwrap(), h2::Reason::CANCEL);
                            seen.fetch_add(1, SeqCst);
                            return;
                        }
                        while let Some(Ok(bytes)) = body.data().await {
                            body.flow_control().release_capacity(bytes.len()).unwrap();
                        }
                        respond.send_response(Response::new(()), true).unwrap();
                    });
                }
            }
        })
        .await;
        let bed = Bed::start(retried(&server, Protocol::Http2));
        let mut client = Http2::connect(bed.address()).await;
        let (sender, body) = channel();
        for _ in 0..3 {
            sender.send(Ok(beginning())).unwrap();
        }
        drop(sender);
        let request = Request::post(format!("http://{SERVICE}/")).body(body).unwrap();
        assert_eq!(client.send(request).await.status(), 200, "{is_whole}");
        until("the first attempt's end", || resets.load(SeqCst) == 1).await;
    }
}
