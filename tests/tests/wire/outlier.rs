//! Ejection of endpoints that fail, with servers that really do.

use std::{
    collections::BTreeSet,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    time::Duration,
};

use h2::Reason;
use http::Response;
use http_body_util::BodyExt;
use router_rules::{
    action::Retries,
    id::ServiceName,
    model::{Match, Model, Protocol, Rule},
    policy::{HttpLimits, OutlierDetection, Policy},
    text::TextMatch,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use super::{
    bed::{Bed, SERVICE, rule, service, until, written},
    client::{Http1, Http2, empty, fetch, get, read_until},
    frames::{DATA, RST_STREAM, Raw, frame, open},
    server::{Server, Speaks, nobody, text},
};

/// Longer than a test needs to see that nobody is asked, shorter than it is willing to wait for the return.
const EJECTION: Duration = Duration::from_secs(3);

fn detection(consecutive_errors: u32, max_ejection_percent: u32) -> Option<OutlierDetection> {
    Some(OutlierDetection {
        consecutive_errors,
        interval: Duration::from_millis(50),
        base_ejection: EJECTION,
        max_ejection_percent,
    })
}

fn ejecting(mut model: Model, outlier_detection: Option<OutlierDetection>) -> Model {
    model.policies.push(Policy {
        outlier_detection,
        max_connections: Some(1000),
        ..Policy::new(written("destination-policy outlier"), ServiceName::new(SERVICE))
    });
    model
}

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

/// Fails while it is told to.
async fn flaky(fails: &Arc<AtomicBool>) -> Server {
    let fails = fails.clone();
    Server::http(Speaks::Http1, move |_| {
        let status = if fails.load(SeqCst) { 503 } else { 200 };
        async move { Response::builder().status(status).body(text("flaky")).unwrap() }
    })
    .await
}

/// Reads requests and never answers.
async fn silent() -> Server {
    Server::raw(|mut stream: TcpStream, counts| async move {
        read_until(&mut stream, "\r\n\r\n").await;
        counts.requests.fetch_add(1, SeqCst);
        let _ = stream.read_to_end(&mut Vec::new()).await;
    })
    .await
}

fn ejected(bed: &Bed) -> BTreeSet<SocketAddr> {
    bed.outliers.ejected().0.into_values().flatten().collect()
}

#[tokio::test]
async fn an_endpoint_that_fails_gets_no_requests_until_its_time_is_over() {
    let fails = Arc::new(AtomicBool::new(true));
    let (bad, good) = (flaky(&fails).await, Server::named("good").await);
    let instances = [(bad.address, "v1"), (good.address, "v1")];
    let bed = Bed::start(ejecting(service(Protocol::Http, &instances), detection(3, 50)));
    let mut client = Http1::connect(bed.address()).await;
    for n in 1..=6 {
        let status = client.get("/").await.status.as_u16();
        assert_eq!(status, if n % 2 == 1 { 503 } else { 200 }, "request {n}");
    }
    assert_eq!(ejected(&bed), [bad.address].into());
    for _ in 0..50 {
        assert_eq!(client.get("/").await.body, "good");
    }
    assert_eq!(bad.counts.requests(), 3);
    fails.store(false, SeqCst);
    until("the endpoint's return", || ejected(&bed).is_empty()).await;
    let mut from = BTreeSet::new();
    for _ in 0..4 {
        from.insert(client.get("/").await.body);
    }
    assert_eq!(from, ["flaky".to_owned(), "good".to_owned()].into());
    assert_eq!(bad.counts.requests(), 5);
}

#[tokio::test]
async fn endpoints_that_refuse_plain_connections_are_ejected() {
    let good = Server::raw(|mut stream: TcpStream, _| async move {
        let _ = stream.write_all(b"good").await;
    })
    .await;
    let dead = nobody();
    let instances = [(dead, "v1"), (good.address, "v1")];
    let bed = Bed::start(ejecting(service(Protocol::Tcp, &instances), detection(3, 50)));
    let connect = async || {
        let mut text = String::new();
        let mut stream = TcpStream::connect(bed.address()).await.ok()?;
        stream.read_to_string(&mut text).await.ok()?;
        Some(text)
    };
    for n in 1..=6 {
        assert_eq!(connect().await.is_some(), n % 2 == 0, "connection {n}");
    }
    until("the ejection", || ejected(&bed) == [dead].into()).await;
    for _ in 0..20 {
        assert_eq!(connect().await.as_deref(), Some("good"));
    }
    // It comes back when its time is over, and fails again.
    until("the endpoint's return", || ejected(&bed).is_empty()).await;
    let refused = [connect().await, connect().await];
    assert_eq!(refused.iter().flatten().count(), 1);
}

#[tokio::test]
async fn with_retries_no_client_sees_the_endpoint_fail() {
    let fails = Arc::new(AtomicBool::new(true));
    let (bad, good) = (flaky(&fails).await, Server::named("good").await);
    let instances = [(bad.address, "v1"), (good.address, "v1")];
    let model = retrying(service(Protocol::Http, &instances), 1, None, 10_000);
    let mut bed = Bed::start(ejecting(model.clone(), detection(3, 50)));
    for n in 0..20 {
        let answer = fetch(bed.address(), get("/").body(empty()).unwrap()).await;
        assert_eq!((answer.status.as_u16(), answer.body.as_str()), (200, "good"));
        if n == 10 {
            // Another configuration does not bring it back.
            bed.publish(ejecting(model.clone(), detection(3, 60)));
        }
    }
    assert_eq!(bad.counts.requests(), 3);
}

#[tokio::test]
async fn refused_connections_resets_and_timeouts_count() {
    let (dead, mute, good) = (nobody(), silent().await, Server::named("good").await);
    let rude = Server::raw(|mut stream: TcpStream, _| async move {
        read_until(&mut stream, "\r\n\r\n").await;
    })
    .await;
    let instances = [dead, mute.address, rude.address, good.address].map(|address| (address, "v1"));
    let model = retrying(service(Protocol::Http, &instances), 3, Some(300), 30_000);
    let bed = Bed::start(ejecting(model, detection(2, 75)));
    let mut client = Http1::connect(bed.address()).await;
    for _ in 0..12 {
        assert_eq!(client.get("/").await.body, "good");
    }
    assert_eq!(ejected(&bed), [dead, mute.address, rude.address].into());
    assert_eq!(mute.counts.requests(), 2);
}

#[tokio::test]
async fn an_endpoint_that_uses_up_a_requests_time_has_failed() {
    let (mute, good) = (silent().await, Server::named("good").await);
    let instances = [(mute.address, "v1"), (good.address, "v1")];
    let model = retrying(service(Protocol::Http, &instances), 0, None, 300);
    let bed = Bed::start(ejecting(model, detection(1, 50)));
    let first = fetch(bed.address(), get("/").body(empty()).unwrap()).await;
    assert_eq!(first.reason(), "request-timeout");
    assert_eq!(ejected(&bed), [mute.address].into());
    for _ in 0..4 {
        let answer = fetch(bed.address(), get("/").body(empty()).unwrap()).await;
        assert_eq!(answer.body, "good");
    }
}

#[tokio::test]
async fn a_client_that_goes_away_says_nothing_about_the_endpoint() {
    let mute = silent().await;
    let good = Server::named("good").await;
    let instances = [(mute.address, "v1"), (good.address, "v1")];
    let bed = Bed::start(ejecting(service(Protocol::Http, &instances), detection(1, 50)));
    let mut stream = TcpStream::connect(bed.address()).await.unwrap();
    let request = format!("GET / HTTP/1.1\r\nhost: {SERVICE}\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    until("the request", || mute.counts.requests() == 1).await;
    drop(stream);
    until("the upstream connection's end", || mute.counts.open() == 0).await;
    assert_eq!(bed.lines(1).await[0].reason, "client-disconnected");
    assert_eq!(ejected(&bed), BTreeSet::new());
}

#[tokio::test]
async fn an_upload_that_its_client_breaks_off_says_nothing_about_the_endpoint() {
    let endpoints = [(Speaks::Http1, Protocol::Http), (Speaks::Http2, Protocol::Http2)];
    for (speaks, protocol) in endpoints {
        let server = Server::http(speaks, |request| async move {
            let _ = request.into_body().collect().await;
            Response::new(text("read"))
        })
        .await;
        let model = service(protocol, &[(server.address, "v1")]);
        let bed = Bed::start(ejecting(model, detection(1, 100)));
        let mut stream = TcpStream::connect(bed.address()).await.unwrap();
        let half = "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 10\r\n\r\nhalf,";
        stream.write_all(half.as_bytes()).await.unwrap();
        until("the upload over HTTP/1.1", || server.counts.requests() == 1).await;
        drop(stream);
        bed.lines(1).await;
        let mut raw = Raw::connect(bed.address()).await;
        raw.send(&[open(1, &[]), frame(DATA, 0, 1, b"half,")].concat())
            .await;
        until("the upload over HTTP/2", || server.counts.requests() == 2).await;
        raw.send(&frame(RST_STREAM, 0, 1, &u32::from(Reason::CANCEL).to_be_bytes()))
            .await;
        for line in bed.lines(2).await {
            assert_eq!(line.reason, "client-disconnected", "{speaks:?}");
        }
        assert_eq!(ejected(&bed), BTreeSet::new(), "{speaks:?}");
    }
}

#[tokio::test]
async fn when_everybody_is_ejected_everybody_is_asked() {
    let fails = Arc::new(AtomicBool::new(true));
    let (one, two) = (flaky(&fails).await, flaky(&fails).await);
    let instances = [(one.address, "v1"), (two.address, "v1")];
    let bed = Bed::start(ejecting(service(Protocol::Http, &instances), detection(1, 100)));
    let mut client = Http1::connect(bed.address()).await;
    for _ in 0..10 {
        let answer = client.get("/").await;
        assert_eq!((answer.status.as_u16(), answer.body.as_str()), (503, "flaky"));
    }
    assert_eq!(ejected(&bed).len(), 2);
    assert_eq!((one.counts.requests(), two.counts.requests()), (5, 5));
}

#[tokio::test]
async fn a_policy_that_does_not_say_so_ejects_nobody() {
    let fails = Arc::new(AtomicBool::new(true));
    let (bad, good) = (flaky(&fails).await, Server::named("good").await);
    let instances = [(bad.address, "v1"), (good.address, "v1")];
    let bed = Bed::start(ejecting(service(Protocol::Http, &instances), None));
    let mut client = Http1::connect(bed.address()).await;
    for _ in 0..20 {
        client.get("/").await;
    }
    assert_eq!((bad.counts.requests(), good.counts.requests()), (10, 10));
}

#[tokio::test]
async fn a_grpc_status_in_the_head_is_a_failure() {
    let answers = |status: &'static str| {
        Server::http(Speaks::Http2, move |_| async move {
            let head = Response::builder().header("content-type", "application/grpc");
            head.header("grpc-status", status).body(text("")).unwrap()
        })
    };
    let (bad, good) = (answers("14").await, answers("0").await);
    let instances = [(bad.address, "v1"), (good.address, "v1")];
    let bed = Bed::start(ejecting(service(Protocol::Grpc, &instances), detection(2, 50)));
    let mut client = Http2::connect(bed.address()).await;
    for _ in 0..10 {
        client.get("/").await;
    }
    assert_eq!((bad.counts.requests(), good.counts.requests()), (2, 8));
}

#[tokio::test]
async fn time_in_the_queue_is_not_the_endpoints() {
    const POLICY: &str = "destination-policy outlier";
    // Its first answer never ends, and keeps the only connection that there may be.
    let busy = Server::raw(|mut stream: TcpStream, counts| async move {
        read_until(&mut stream, "\r\n\r\n").await;
        counts.requests.fetch_add(1, SeqCst);
        let head = b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\n12345";
        stream.write_all(head).await.unwrap();
        let _ = stream.read_to_end(&mut Vec::new()).await;
    })
    .await;
    let mut model = service(Protocol::Http, &[(busy.address, "v1")]);
    let path = Match {
        path: Some(TextMatch::Exact("/wait".into())),
        ..Match::default()
    };
    model.rules.push(Rule {
        any_of: vec![path],
        timeout: Some(Duration::from_millis(300)),
        ..rule("wait")
    });
    model.policies.push(Policy {
        outlier_detection: detection(1, 100),
        max_connections: Some(1),
        http: HttpLimits {
            max_pending_requests: Some(10),
            ..HttpLimits::default()
        },
        ..Policy::new(written(POLICY), ServiceName::new(SERVICE))
    });
    let bed = Bed::start(model);
    bed.kernel.limits.lock().unwrap().insert(POLICY.into(), 1);
    let mut first = Http1::connect(bed.address()).await;
    let held = first.send(get("/hold").body(empty()).unwrap()).await;
    assert_eq!(held.status().as_u16(), 200);
    let second = fetch(bed.address(), get("/wait").body(empty()).unwrap()).await;
    assert_eq!(second.reason(), "request-timeout");
    assert_eq!((busy.counts.requests(), ejected(&bed)), (1, BTreeSet::new()));
}
