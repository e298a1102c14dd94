//! Mirrors: they get the same, they are never seen, and nothing that they do reaches the original.

use std::{
    sync::{Arc, Mutex, atomic::Ordering::SeqCst},
    time::{Duration, Instant},
};

use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use http_body_util::BodyExt;
use router_rules::{
    action::{Fraction, Mirror, Retries},
    external::External,
    id::ServiceName,
    labels::Labels,
    model::{Model, Protocol, Rule},
    policy::Policy,
    rewrite::Rewrite,
};
use router_userspace::{
    enforce::Origin,
    proxy::{Limits, Totals},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use super::{
    bed::{Bed, SERVICE, labels, rule, service, target, until, written},
    client::{Http1, Http2, Whole, empty, full, get, read_until, whole},
    server::{Body, Server, Speaks, nobody, text},
};

/// Originals go to v1, copies to v2.
fn mirrored(protocol: Protocol, original: &Server, mirror: std::net::SocketAddr) -> Model {
    let mut model = service(protocol, &[(original.address, "v1"), (mirror, "v2")]);
    model.rules.push(Rule {
        targets: vec![target("v1", 100)],
        mirrors: vec![Mirror {
            service: ServiceName::new(SERVICE),
            labels: labels("v2"),
            fraction: Fraction::ALL,
        }],
        timeout: Some(Duration::from_secs(5)),
        ..rule("copied")
    });
    model
}

/// What a mirror got; no body: it broke off.
#[derive(Clone, Debug)]
struct Seen {
    path: String,
    host: String,
    headers: HeaderMap,
    body: Option<Bytes>,
}

type Record = Arc<Mutex<Vec<Seen>>>;

async fn recorder(speaks: Speaks) -> (Server, Record) {
    let record = Record::default();
    let seen = record.clone();
    let server = Server::http(speaks, move |request| {
        let seen = seen.clone();
        async move {
            let (head, body) = request.into_parts();
            let body = body.collect().await.ok().map(http_body_util::Collected::to_bytes);
            let host = head
                .headers
                .get("host")
                .map(|host| host.to_str().unwrap().to_owned());
            seen.lock().unwrap().push(Seen {
                path: head.uri.path_and_query().unwrap().to_string(),
                host: host.unwrap_or_else(|| head.uri.authority().unwrap().to_string()),
                headers: head.headers,
                body,
            });
            Response::builder()
                .status(500)
                .body(text("nobody reads this"))
                .unwrap()
        }
    })
    .await;
    (server, record)
}

fn settled(bed: &Bed) -> u64 {
    let totals = bed.proxy.stats().totals();
    totals.mirrors_sent + totals.mirrors_dropped + totals.mirrors_failed
}

/// Copies that were sent, dropped and failed, once there are `count` together.
async fn outcomes(bed: &Bed, count: u64) -> (u64, u64, u64) {
    until(&format!("the end of {count} copies"), || settled(bed) >= count).await;
    let Totals {
        mirrors_sent,
        mirrors_dropped,
        mirrors_failed,
        ..
    } = bed.proxy.stats().totals();
    (mirrors_sent, mirrors_dropped, mirrors_failed)
}

async fn post(client: &mut Http1, size: usize) -> Whole {
    let request = Request::post("/x?q=1").header("host", "reviews:9080");
    whole(client.send(request.body(full(size)).unwrap()).await).await
}

async fn post_http2(client: &mut Http2, size: usize) -> Whole {
    let request = Request::post("http://reviews:9080/x?q=1");
    whole(client.send(request.body(full(size)).unwrap()).await).await
}

/// Reads the body and answers with its length.
async fn counting(speaks: Speaks) -> Server {
    Server::http(speaks, |request: Request<hyper::body::Incoming>| async move {
        let body = request.into_body().collect().await.unwrap().to_bytes();
        Response::new(text(body.len().to_string()))
    })
    .await
}

#[tokio::test]
async fn a_mirror_gets_what_the_endpoint_gets() {
    for (protocol, speaks) in [(Protocol::Http, Speaks::Http1), (Protocol::Http2, Speaks::Http2)] {
        let original = counting(speaks).await;
        let (mirror, record) = recorder(speaks).await;
        let mut model = mirrored(protocol, &original, mirror.address);
        model.rules[0].append_headers = vec![("x-stage".parse().unwrap(), "canary".parse().unwrap())];
        model.rules[0].rewrite = Rewrite {
            uri: Some("/base".into()),
            authority: None,
        };
        let bed = Bed::start(model);
        let mut http1 = Http1::connect(bed.address()).await;
        let mut http2 = Http2::connect(bed.address()).await;
        let sizes = [0, 1, 1000, 200_000];
        for size in sizes {
            let answer = post(&mut http1, size).await;
            assert_eq!((answer.status.as_u16(), answer.body), (200, size.to_string()));
            let answer = post_http2(&mut http2, size).await;
            assert_eq!((answer.status.as_u16(), answer.body), (200, size.to_string()));
        }
        assert_eq!(outcomes(&bed, 8).await, (8, 0, 0));
        let mut seen = record.lock().unwrap().clone();
        seen.sort_by_key(|seen| seen.body.as_ref().map(Bytes::len));
        for (seen, size) in seen.iter().zip(sizes.into_iter().flat_map(|size| [size, size])) {
            assert_eq!(
                (seen.path.as_str(), seen.host.as_str()),
                ("/base/x?q=1", "reviews-shadow:9080")
            );
            assert_eq!(seen.headers["x-stage"], "canary");
            assert!(
                seen.headers.contains_key("x-request-id") && seen.headers.contains_key("x-forwarded-for")
            );
            assert!(
                seen.body.as_ref().is_some_and(|body| body.len() == size),
                "{size}"
            );
        }
        // Nobody who looks at the original's traffic sees any of it, and connections are used again.
        assert_eq!(bed.lines(8).await.len(), 8);
        assert!(mirror.counts.connections() < 8);
    }
}

#[tokio::test]
async fn bodies_without_a_length_and_trailers_are_copied() {
    let original = counting(Speaks::Http2).await;
    let trailers = Arc::new(Mutex::new(None));
    let kept = trailers.clone();
    let mirror = Server::http(Speaks::Http2, move |request: Request<hyper::body::Incoming>| {
        let kept = kept.clone();
        async move {
            let body = request.into_body().collect().await.unwrap();
            *kept.lock().unwrap() = Some((body.trailers().cloned(), body.to_bytes()));
            Response::new(text(""))
        }
    })
    .await;
    let bed = Bed::start(mirrored(Protocol::Grpc, &original, mirror.address));
    let mut fields = HeaderMap::new();
    fields.insert("x-sum", "7".parse().unwrap());
    let frames = ["one", "two"].map(|t| hyper::body::Frame::data(Bytes::from_static(t.as_bytes())));
    let frames = frames
        .into_iter()
        .chain([hyper::body::Frame::trailers(fields.clone())]);
    let body: Body = http_body_util::StreamBody::new(futures_util::stream::iter(frames.map(Ok))).boxed();
    let mut client = Http2::connect(bed.address()).await;
    let request = Request::post("http://reviews/").body(body).unwrap();
    assert_eq!(whole(client.send(request).await).await.body, "6");
    assert_eq!(outcomes(&bed, 1).await, (1, 0, 0));
    let seen = trailers.lock().unwrap().take();
    assert_eq!(seen, Some((Some(fields), Bytes::from_static(b"onetwo"))));
}

/// A gigabyte must not pass through memory: this is more than sockets and bounds hold.
const HUGE: usize = 16 * 1024 * 1024;

#[tokio::test]
async fn mirrors_that_refuse_stall_or_die_change_nothing() {
    let stalled = || {
        Server::raw(|mut stream: TcpStream, _| async move {
            read_until(&mut stream, "\r\n\r\n").await;
            std::future::pending().await
        })
    };
    let dying = Server::raw(|mut stream: TcpStream, _| async move {
        read_until(&mut stream, "\r\n\r\n").await;
    });
    let (stalled, dying, original) = (stalled().await, dying.await, counting(Speaks::Http1).await);
    for (mirror, what) in [
        (nobody(), "refuses"),
        (stalled.address, "does not read"),
        (dying.address, "closes"),
    ] {
        let bed = Bed::start(mirrored(Protocol::Http, &original, mirror));
        let mut client = Http1::connect(bed.address()).await;
        for size in [0, 1000, HUGE] {
            let begun = Instant::now();
            let answer = post(&mut client, size).await;
            assert_eq!(
                (answer.status.as_u16(), answer.body),
                (200, size.to_string()),
                "{what}"
            );
            // A mirror that were waited for would take its whole timeout.
            assert!(
                begun.elapsed() < Duration::from_secs(4),
                "{what}: {:?}",
                begun.elapsed()
            );
        }
        let (sent, dropped, failed) = outcomes(&bed, 3).await;
        assert_eq!((sent, dropped + failed), (0, 3), "{what}");
        if what == "does not read" {
            assert_eq!(dropped, 1, "the huge one did not fit");
        }
        assert_eq!(bed.lines(3).await.len(), 3);
    }
}

#[tokio::test]
async fn a_huge_body_arrives_at_a_mirror_that_keeps_up_or_is_counted_as_lost() {
    let original = counting(Speaks::Http1).await;
    let (mirror, record) = recorder(Speaks::Http1).await;
    let bed = Bed::start(mirrored(Protocol::Http, &original, mirror.address));
    let mut client = Http1::connect(bed.address()).await;
    assert_eq!(post(&mut client, HUGE).await.body, HUGE.to_string());
    let (sent, dropped, failed) = outcomes(&bed, 1).await;
    assert_eq!((sent + dropped, failed), (1, 0));
    until("the mirror's record", || !record.lock().unwrap().is_empty()).await;
    // Whole or broken off, never shorter and taken for whole.
    let seen = record.lock().unwrap()[0].clone();
    assert_eq!(seen.body.map(|body| body.len()), (sent == 1).then_some(HUGE));
}

#[tokio::test]
async fn retries_are_not_mirrored_again() {
    let original = Server::http(
        Speaks::Http1,
        |request: Request<hyper::body::Incoming>| async move {
            let _ = request.into_body().collect().await;
            Response::builder().status(503).body(text("no")).unwrap()
        },
    )
    .await;
    let (mirror, record) = recorder(Speaks::Http1).await;
    let mut model = mirrored(Protocol::Http, &original, mirror.address);
    model.rules[0].retries = Some(Retries {
        attempts: 3,
        per_try_timeout: None,
    });
    let bed = Bed::start(model);
    let mut client = Http1::connect(bed.address()).await;
    assert_eq!(post(&mut client, 1000).await.status.as_u16(), 503);
    assert_eq!(original.counts.requests(), 4);
    assert_eq!(outcomes(&bed, 1).await, (1, 0, 0));
    let seen = record.lock().unwrap().clone();
    assert_eq!(seen.len(), 1);
    assert!(seen[0].body.as_ref().is_some_and(|body| body.len() == 1000));
}

#[tokio::test]
async fn a_fraction_of_requests_is_copied() {
    let original = Server::named("v1").await;
    let (mirror, record) = recorder(Speaks::Http1).await;
    for (percent, expected) in [(0.0, 0..=0), (50.0, 20..=80)] {
        let mut model = mirrored(Protocol::Http, &original, mirror.address);
        model.rules[0].mirrors[0].fraction = Fraction::from_percent(percent).unwrap();
        let bed = Bed::start(model);
        let mut client = Http1::connect(bed.address()).await;
        for _ in 0..100 {
            assert_eq!(client.get("/").await.body, "v1");
        }
        until("the end of all copies", || {
            settled(&bed) == record.lock().unwrap().len() as u64
        })
        .await;
        let copies = record.lock().unwrap().len();
        assert!(expected.contains(&copies), "{percent} %: {copies}");
    }
}

#[tokio::test]
async fn copies_in_flight_are_bounded() {
    let original = Server::named("v1").await;
    let silent = Server::raw(|mut stream: TcpStream, _| async move {
        let mut rest = Vec::new();
        let _ = stream.read_to_end(&mut rest).await;
    })
    .await;
    let limits = Limits {
        mirrors: 2,
        ..Limits::default()
    };
    let bed = Bed::with(mirrored(Protocol::Http, &original, silent.address), 1, limits);
    let mut client = Http1::connect(bed.address()).await;
    for _ in 0..5 {
        assert_eq!(client.get("/").await.body, "v1");
    }
    assert_eq!(bed.proxy.stats().totals().mirrors_dropped, 3);
    // Both end with their timeout, and make room.
    assert_eq!(outcomes(&bed, 5).await, (0, 3, 2));
    until("the end of the connections", || silent.counts.open() == 0).await;
    assert_eq!(client.get("/").await.body, "v1");
    assert_eq!(bed.proxy.stats().totals().mirrors_dropped, 3);
}

#[tokio::test]
async fn a_mirror_counts_under_its_own_policy() {
    const POLICY: &str = "destination-policy mirror";
    let original = Server::named("v1").await;
    let silent = Server::raw(|mut stream: TcpStream, _| async move {
        let mut rest = Vec::new();
        let _ = stream.read_to_end(&mut rest).await;
    })
    .await;
    let mut model = mirrored(Protocol::Http, &original, silent.address);
    model.policies.push(Policy {
        labels: labels("v2"),
        max_connections: Some(1),
        ..Policy::new(written(POLICY), ServiceName::new(SERVICE))
    });
    let bed = Bed::start(model);
    bed.kernel.limits.lock().unwrap().insert(POLICY.into(), 1);
    let mut client = Http1::connect(bed.address()).await;
    for _ in 0..3 {
        assert_eq!(client.get("/").await.body, "v1");
    }
    assert_eq!(outcomes(&bed, 2).await, (0, 0, 2));
    assert_eq!(bed.kernel.peaks.lock().unwrap()[POLICY], 1);
}

#[tokio::test]
async fn a_client_that_goes_away_leaves_no_whole_copy() {
    let original = counting(Speaks::Http1).await;
    let (mirror, record) = recorder(Speaks::Http1).await;
    let bed = Bed::start(mirrored(Protocol::Http, &original, mirror.address));
    let mut stream = TcpStream::connect(bed.address()).await.unwrap();
    let head = "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n";
    stream.write_all(head.as_bytes()).await.unwrap();
    until("the copy's beginning", || {
        mirror.counts.requests.load(SeqCst) == 1
    })
    .await;
    drop(stream);
    assert_eq!(outcomes(&bed, 1).await, (0, 0, 1));
    until("the mirror's record", || !record.lock().unwrap().is_empty()).await;
    assert_eq!(record.lock().unwrap()[0].body, None);
}

#[tokio::test]
async fn upgrades_are_not_copied() {
    let original = Server::raw(|mut stream: TcpStream, _| async move {
        read_until(&mut stream, "\r\n\r\n").await;
        let switch =
            b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\nhi";
        stream.write_all(switch).await.unwrap();
        std::future::pending().await
    })
    .await;
    let (mirror, _) = recorder(Speaks::Http1).await;
    let bed = Bed::start(mirrored(Protocol::Http, &original, mirror.address));
    let mut stream = TcpStream::connect(bed.address()).await.unwrap();
    let request = "GET / HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n";
    stream.write_all(request.as_bytes()).await.unwrap();
    read_until(&mut stream, "hi").await;
    assert_eq!((settled(&bed), mirror.counts.connections()), (0, 0));
}

#[tokio::test]
async fn a_mirror_without_endpoints_is_counted() {
    let original = Server::named("v1").await;
    let mut model = mirrored(Protocol::Http, &original, original.address);
    model.rules[0].mirrors[0].service = ServiceName::new("nobody.default.svc.cluster.local");
    let bed = Bed::start(model);
    let mut client = Http1::connect(bed.address()).await;
    let answer = whole(client.send(get("/").body(empty()).unwrap()).await).await;
    assert_eq!(answer.body, "v1");
    assert_eq!(outcomes(&bed, 1).await, (0, 0, 1));
}

/// In a network the client's own choice of address stands, for copies too.
#[tokio::test]
async fn a_copy_goes_where_the_client_has_chosen_to_go() {
    let server = Server::named("chosen").await;
    let name = ServiceName::new("127.0.0.0/8");
    let network = External::Network("127.0.0.0/8".parse().unwrap());
    let mut model = service(Protocol::Http, &[]);
    model.services[0].name = name.clone();
    model.services[0].addresses.clear();
    model.services[0].ports[0].number = server.address.port();
    model.services[0].ports[0].endpoints = network.endpoint().into_iter().collect();
    model.externals.insert(name.clone(), network);
    model.rules.push(Rule {
        mirrors: vec![Mirror {
            service: name.clone(),
            labels: Labels::default(),
            fraction: Fraction::ALL,
        }],
        ..Rule::new(written("route-rule network"), name)
    });
    let bed = Bed::start(model);
    let origin = Origin {
        destination: server.address,
        cgroup: 7,
        confined: false,
    };
    let client = std::net::Ipv4Addr::LOCALHOST.into();
    bed.kernel.origins.lock().unwrap().insert(client, origin);
    let answer = Http1::connect(bed.address()).await.get("/").await;
    assert_eq!(answer.body, "chosen");
    until("the copy", || server.counts.requests() == 2).await;
}
