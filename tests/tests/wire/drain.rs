//! Stopping, and handing over to a successor, without losing a request; clients that never end.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
    },
    time::{Duration, Instant},
};

use http::Response;
use router_rules::{
    Snapshot,
    id::ServiceName,
    model::{Model, Protocol},
    policy::Policy,
};
use router_userspace::{
    live::Live,
    proxy::{self, Disclosure, Limits, ProxyConfig},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::Semaphore,
    time::timeout,
};

use super::{
    bed::{Bed, SERVICE, rule, service, until, written},
    client::{Http1, Http2, PATIENCE, empty, exchange, fetch, get, read_until},
    server::{Server, Speaks, text},
};

async fn slow(wait: Duration) -> Server {
    Server::http(Speaks::Http1, move |_| async move {
        // waits: it is an endpoint's work, which goes on while the proxy stops.
        tokio::time::sleep(wait).await;
        Response::new(text("done"))
    })
    .await
}

#[tokio::test]
async fn requests_in_flight_end_and_ask_for_another_connection() {
    let server = slow(Duration::from_millis(300)).await;
    let bed = Bed::start(service(Protocol::Http, &[(server.address, "v1")]));
    let address = bed.address();
    let request = tokio::spawn(async move { fetch(address, get("/").body(empty()).unwrap()).await });
    let mut http2 = Http2::connect(address).await;
    let stream = tokio::spawn(async move { http2.get("/").await });
    until("both requests upstream", || server.counts.requests() == 2).await;
    let stopped = bed.proxy.stop(Duration::from_secs(5)).await;
    assert_eq!(stopped.cut, 0);
    let answer = request.await.unwrap();
    assert_eq!(
        (answer.body.as_str(), answer.header("connection")),
        ("done", "close")
    );
    assert_eq!(stream.await.unwrap().body, "done");
    assert!(TcpStream::connect(address).await.is_err());
}

const POLICY: &str = "destination-policy one";

/// One connection to the endpoint at most, which all workers share.
fn one_connection(mut model: Model, workers: usize) -> Bed {
    model.rules.push(rule("all"));
    model.policies.push(Policy {
        max_connections: Some(1),
        ..Policy::new(written(POLICY), ServiceName::new(SERVICE))
    });
    let bed = Bed::with(model, workers, Limits::default());
    bed.kernel.limits.lock().unwrap().insert(POLICY.into(), 1);
    bed
}

/// Stops a proxy while a request is held on a connection that another worker opened, most likely.
async fn stop_around_a_request(protocol: Protocol, speaks: Speaks) {
    let gate = Arc::new(Semaphore::new(1));
    let opened = gate.clone();
    let server = Server::http(speaks, move |_| {
        let gate = opened.clone();
        async move {
            gate.acquire().await.unwrap().forget();
            Response::new(text("done"))
        }
    })
    .await;
    let bed = one_connection(service(protocol, &[(server.address, "v1")]), 8);
    let address = bed.address();
    assert_eq!(fetch(address, get("/").body(empty()).unwrap()).await.body, "done");
    let held = tokio::spawn(async move { fetch(address, get("/").body(empty()).unwrap()).await });
    until("the request upstream", || server.counts.requests() == 2).await;
    let stopping = tokio::spawn(bed.proxy.stop(PATIENCE));
    until("closed listeners", || {
        std::net::TcpStream::connect(address).is_err()
    })
    .await;
    gate.add_permits(1);
    let answer = held.await.unwrap();
    assert_eq!(
        (answer.reason(), answer.body.as_str()),
        ("", "done"),
        "{speaks:?}"
    );
    assert_eq!(stopping.await.unwrap().cut, 0);
    assert_eq!(server.counts.connections(), 1);
}

#[tokio::test]
async fn a_request_in_flight_keeps_its_connection_when_the_worker_that_opened_it_is_done() {
    // A request comes to the worker that opened the connection one time in eight; not each time.
    for _ in 0..4 {
        stop_around_a_request(Protocol::Http, Speaks::Http1).await;
        stop_around_a_request(Protocol::Http2, Speaks::Http2).await;
    }
}

#[tokio::test]
async fn what_does_not_end_is_cut_at_the_deadline() {
    let server = slow(PATIENCE * 6).await;
    let bed = Bed::start(service(Protocol::Http, &[(server.address, "v1")]));
    let address = bed.address();
    let request = tokio::spawn(exchange(address, b"GET / HTTP/1.1\r\nhost: a\r\n\r\n"));
    until("the request upstream", || server.counts.requests() == 1).await;
    let log = bed.log.clone();
    let begun = Instant::now();
    assert_eq!(bed.proxy.stop(Duration::from_millis(200)).await.cut, 1);
    assert!(begun.elapsed() < Duration::from_secs(2));
    assert_eq!(request.await.unwrap(), "");
    assert_eq!(log.last_reason(), "draining");
}

#[tokio::test]
async fn idle_clients_are_let_go() {
    let server = Server::named("v1").await;
    let limits = Limits {
        drain_idle: Duration::from_millis(100),
        ..Limits::default()
    };
    let bed = Bed::with(service(Protocol::Http, &[(server.address, "v1")]), 2, limits);
    let mut http1 = Http1::connect(bed.address()).await;
    let mut http2 = Http2::connect(bed.address()).await;
    http1.get("/").await;
    http2.get("/").await;
    let begun = Instant::now();
    assert_eq!(bed.proxy.stop(Duration::from_secs(10)).await.cut, 0);
    assert!(begun.elapsed() < Duration::from_secs(3), "{:?}", begun.elapsed());
}

#[tokio::test]
async fn a_successor_takes_over_without_a_lost_request() {
    let server = Server::named("v1").await;
    let model = || service(Protocol::Http, &[(server.address, "v1")]);
    let first = Bed::start(model());
    let address = first.address();
    let stop = Arc::new(AtomicBool::new(false));
    let served = Arc::new(AtomicUsize::new(0));
    let load: Vec<_> = (0..8)
        .map(|_| {
            let (stop, served) = (stop.clone(), served.clone());
            tokio::spawn(async move {
                while !stop.load(SeqCst) {
                    let mut client = Http1::connect(address).await;
                    loop {
                        let answer = client.get("/").await;
                        assert_eq!((answer.status.as_u16(), answer.body.as_str()), (200, "v1"));
                        served.fetch_add(1, SeqCst);
                        if answer.header("connection") == "close" || stop.load(SeqCst) {
                            break;
                        }
                    }
                }
            })
        })
        .collect();
    let more = |from: usize| {
        let served = served.clone();
        async move { until("requests", || served.load(SeqCst) > from + 200).await }
    };
    more(0).await;
    let live = Arc::new(Live::new(Snapshot::build(model(), 1)));
    let config = ProxyConfig {
        listen: vec![address],
        threads: 2,
        limits: Limits::default(),
        access: None,
        disclosure: Disclosure::default(),
        outliers: Arc::default(),
        gateways: Vec::new(),
    };
    let second = proxy::start(config, live, first.kernel.clone(), first.kernel.clone()).unwrap();
    assert_eq!(first.proxy.stop(PATIENCE).await.cut, 0);
    more(served.load(SeqCst)).await;
    assert!(second.stats().totals().requests > 0);
    stop.store(true, SeqCst);
    for task in load {
        task.await.unwrap();
    }
}

#[tokio::test]
async fn a_client_that_never_ends_its_head_is_let_go() {
    let server = Server::named("v1").await;
    let limits = Limits {
        head_timeout: Duration::from_millis(150),
        ..Limits::default()
    };
    let bed = Bed::with(service(Protocol::Http, &[(server.address, "v1")]), 1, limits);
    // The second is slow on its second request; the last sends part of the preface of HTTP/2.
    for (first, then) in [
        ("", "GET / HTTP/1.1\r\nx:"),
        ("GET / HTTP/1.1\r\nhost: a\r\n\r\n", "GET /"),
        ("", "PRI *"),
    ] {
        let mut stream = TcpStream::connect(bed.address()).await.unwrap();
        if !first.is_empty() {
            stream.write_all(first.as_bytes()).await.unwrap();
            read_until(&mut stream, "v1").await;
        }
        stream.write_all(then.as_bytes()).await.unwrap();
        let mut rest = Vec::new();
        let _ = timeout(PATIENCE, stream.read_to_end(&mut rest))
            .await
            .expect("the connection is closed");
    }
    let kind = proxy::error::Kind::HeadTimeout;
    until("the counts", || bed.proxy.stats().totals().reason(kind) == 3).await;
    // An idle one is not slow.
    let mut client = Http1::connect(bed.address()).await;
    client.get("/").await;
    // waits: longer than a head may take.
    tokio::time::sleep(Duration::from_millis(600)).await;
    assert_eq!(client.get("/").await.body, "v1");
}

#[tokio::test]
async fn large_heads_are_refused() {
    let server = Server::named("v1").await;
    let bed = Bed::start(service(Protocol::Http, &[(server.address, "v1")]));
    let many = "x: 1\r\n".repeat(101);
    let long = format!("x: {}\r\n", "y".repeat(70_000));
    for fields in [many, long] {
        let request = format!("GET / HTTP/1.1\r\nhost: a\r\n{fields}\r\n");
        let answer = exchange(bed.address(), request.as_bytes()).await;
        assert!(answer.starts_with("HTTP/1.1 431 "), "{answer}");
    }
    assert_eq!(server.counts.connections(), 0);
}
