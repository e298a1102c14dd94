//! Upstream connections: reuse, limits, giving back.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use futures_util::future::join_all;
use http::Response;
use router_rules::{
    id::ServiceName,
    model::{Model, Protocol},
    policy::{LoadBalancing, Policy},
};
use tokio::{io::AsyncWriteExt, net::TcpStream, sync::Semaphore};

use super::{
    bed::{Bed, SERVICE, rule, service, until, written},
    client::{Http1, Http2, empty, fetch, get, read_until},
    server::{Server, Speaks, nobody_accepts, text},
};

const POLICY: &str = "destination-policy cb";

fn limited(mut model: Model, limit: u32) -> Model {
    model.rules.push(rule("all"));
    model.policies.push(Policy {
        max_connections: Some(limit),
        load_balancing: LoadBalancing::RoundRobin,
        ..Policy::new(written(POLICY), ServiceName::new(SERVICE))
    });
    model
}

fn start(model: Model, limit: u32) -> Bed {
    let bed = Bed::start(limited(model, limit));
    bed.kernel
        .limits
        .lock()
        .unwrap()
        .insert(POLICY.into(), limit as usize);
    bed
}

#[tokio::test]
async fn connections_are_used_again() {
    let server = Server::named("v1").await;
    let bed = Bed::with(
        service(Protocol::Http, &[(server.address, "v1")]),
        1,
        Default::default(),
    );
    for _ in 0..5 {
        let mut client = Http1::connect(bed.address()).await;
        for _ in 0..20 {
            assert_eq!(client.get("/").await.body, "v1");
        }
    }
    assert_eq!((server.counts.requests(), server.counts.connections()), (100, 1));
    assert_eq!(bed.proxy.stats().totals().upstream_active(), 1);
}

#[tokio::test]
async fn bodies_do_not_keep_connections_from_being_used_again() {
    let server = Server::echo(Speaks::Http1).await;
    let bed = Bed::with(
        service(Protocol::Http, &[(server.address, "v1")]),
        1,
        Default::default(),
    );
    let mut client = Http1::connect(bed.address()).await;
    for size in [1, 10_000, 300_000] {
        let request = http::Request::post("/")
            .header("host", "a")
            .body(super::client::full(size))
            .unwrap();
        let answer = super::client::whole(client.send(request).await).await;
        assert!(answer.body.len() > size);
    }
    assert_eq!(server.counts.connections(), 1);
}

#[tokio::test]
async fn a_connection_that_the_endpoint_closed_is_replaced_unnoticed() {
    let server = Server::raw(|mut stream: TcpStream, _| async move {
        read_until(&mut stream, "\r\n\r\n").await;
        stream
            .write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")
            .await
            .unwrap();
    })
    .await;
    let bed = Bed::with(
        service(Protocol::Http, &[(server.address, "v1")]),
        1,
        Default::default(),
    );
    let mut client = Http1::connect(bed.address()).await;
    for n in 1..=20 {
        let answer = client.get("/").await;
        assert_eq!(
            (answer.status.as_u16(), answer.body.as_str()),
            (200, "ok"),
            "request {n}"
        );
        until("the endpoint's close", || server.counts.open() == 0).await;
    }
}

#[tokio::test]
async fn idle_connections_are_closed() {
    let server = Server::named("v1").await;
    let limits = router_userspace::proxy::Limits {
        upstream_idle: Duration::from_millis(100),
        ..Default::default()
    };
    let bed = Bed::with(service(Protocol::Http, &[(server.address, "v1")]), 1, limits);
    fetch(bed.address(), get("/").body(empty()).unwrap()).await;
    until("the idle connection's end", || server.counts.open() == 0).await;
    until("the count", || bed.proxy.stats().totals().upstream_active() == 0).await;
}

#[tokio::test]
async fn connections_to_endpoints_that_are_gone_are_closed() {
    let (v1, v2) = (Server::named("v1").await, Server::named("v2").await);
    let mut bed = Bed::start(service(Protocol::Http, &[(v1.address, "v1")]));
    fetch(bed.address(), get("/").body(empty()).unwrap()).await;
    assert_eq!(v1.counts.open(), 1);
    bed.publish(service(Protocol::Http, &[(v2.address, "v1")]));
    until("the old endpoint's connection to end", || v1.counts.open() == 0).await;
    assert_eq!(
        fetch(bed.address(), get("/").body(empty()).unwrap()).await.body,
        "v2"
    );
}

#[tokio::test]
async fn idle_connections_to_an_endpoint_that_is_gone_do_not_wait_for_the_one_in_use() {
    let gate = Arc::new(Semaphore::new(0));
    let opened = gate.clone();
    let old = Server::http(Speaks::Http1, move |_| {
        let gate = gate.clone();
        async move {
            gate.acquire().await.unwrap().forget();
            Response::new(text("old"))
        }
    })
    .await;
    let new = Server::named("new").await;
    let model = service(Protocol::Http, &[(old.address, "v1")]);
    let mut bed = Bed::with(model, 1, Default::default());
    let request = || tokio::spawn(fetch(bed.address(), get("/").body(empty()).unwrap()));
    let requests = [(); 4].map(|()| request());
    until("four requests upstream", || old.counts.requests() == 4).await;
    opened.add_permits(3);
    bed.lines(3).await;
    bed.publish(service(Protocol::Http, &[(new.address, "v1")]));
    until("the idle connections' end", || old.counts.open() == 1).await;
    opened.add_permits(1);
    for answer in join_all(requests).await {
        assert_eq!(answer.unwrap().body, "old");
    }
    until("the end of the one in use", || old.counts.open() == 0).await;
}

#[tokio::test]
async fn requests_that_waited_for_a_connection_take_its_failure() {
    const REQUESTS: u32 = 12;
    const CONNECT: Duration = Duration::from_millis(500);
    let address = nobody_accepts();
    let limits = router_userspace::proxy::Limits {
        connect_timeout: CONNECT,
        ..Default::default()
    };
    let bed = Bed::with(service(Protocol::Http2, &[(address, "v1")]), 1, limits);
    let begun = Instant::now();
    let requests = (0..REQUESTS).map(|_| fetch(bed.address(), get("/").body(empty()).unwrap()));
    for answer in join_all(requests).await {
        assert_eq!(
            (answer.status.as_u16(), answer.reason()),
            (503, "upstream-connect-timeout")
        );
    }
    // One after the other they would take as many times as long.
    assert!(begun.elapsed() < CONNECT * REQUESTS / 2, "{:?}", begun.elapsed());
}

#[tokio::test]
async fn a_limit_of_one_serves_clients_of_all_workers() {
    let server = Server::named("v1").await;
    let bed = start(service(Protocol::Http, &[(server.address, "v1")]), 1);
    for _ in 0..30 {
        // A new client each time: about half of them are with the other worker.
        assert_eq!(
            fetch(bed.address(), get("/").body(empty()).unwrap()).await.body,
            "v1"
        );
    }
    assert_eq!(server.counts.connections(), 1);
}

#[tokio::test]
async fn beyond_the_limit_requests_are_refused_at_once() {
    let gate = Arc::new(Semaphore::new(0));
    let opened = gate.clone();
    let server = Server::http(Speaks::Http1, move |_| {
        let gate = gate.clone();
        async move {
            drop(gate.acquire().await);
            Response::new(text("served"))
        }
    })
    .await;
    let bed = start(service(Protocol::Http, &[(server.address, "v1")]), 2);
    let requests = (0..6).map(|_| fetch(bed.address(), get("/").body(empty()).unwrap()));
    let open_later = async {
        until("four refusals", || bed.log.count() == 4).await;
        opened.add_permits(2);
    };
    let (answers, ()) = futures_util::future::join(join_all(requests), open_later).await;
    let served = answers.iter().filter(|a| a.body == "served").count();
    assert_eq!(served, 2);
    for refused in answers.iter().filter(|a| a.body != "served") {
        assert_eq!(
            (refused.status.as_u16(), refused.reason()),
            (503, "limit-reached")
        );
        assert_eq!(refused.header("x-envoy-overloaded"), "true");
        assert!(
            refused.body.ends_with("reset reason: overflow"),
            "{}",
            refused.body
        );
    }
    assert_eq!(bed.kernel.peaks.lock().unwrap()[POLICY], 2);
}

#[tokio::test]
async fn an_idle_connection_makes_room_for_another_endpoint() {
    let servers = [
        Server::named("a").await,
        Server::named("b").await,
        Server::named("c").await,
    ];
    let instances: Vec<_> = servers.iter().map(|s| (s.address, "v1")).collect();
    let bed = start(service(Protocol::Http, &instances), 2);
    let mut seen = String::new();
    for _ in 0..12 {
        seen += &fetch(bed.address(), get("/").body(empty()).unwrap()).await.body;
    }
    assert_eq!(seen, "abc".repeat(4));
    assert_eq!(bed.kernel.peaks.lock().unwrap()[POLICY], 2);
    assert_eq!(bed.proxy.stats().totals().evictions, 10);
}

#[tokio::test]
async fn a_limit_of_one_http2_connection_carries_many_streams() {
    let server = Server::http(Speaks::Http2, |_| async {
        // waits: long enough for the streams to overlap.
        tokio::time::sleep(Duration::from_millis(50)).await;
        Response::new(text("h2"))
    })
    .await;
    let bed = start(service(Protocol::Http2, &[(server.address, "v1")]), 1);
    let mut clients = Vec::new();
    for _ in 0..4 {
        clients.push(Http2::connect(bed.address()).await);
    }
    let requests = (0..40).map(|i: usize| {
        let mut client = clients[i % 4].clone();
        async move { client.get("/").await.body }
    });
    assert_eq!(join_all(requests).await, vec!["h2"; 40]);
    assert_eq!(server.counts.connections(), 1);
}

#[tokio::test]
async fn a_slot_is_given_back_when_the_client_goes_away() {
    let server = Server::http(Speaks::Http1, |_| std::future::pending()).await;
    let bed = start(service(Protocol::Http, &[(server.address, "v1")]), 1);
    let mut stream = TcpStream::connect(bed.address()).await.unwrap();
    stream
        .write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n")
        .await
        .unwrap();
    until("the request upstream", || server.counts.requests() == 1).await;
    assert_eq!(bed.kernel.open(POLICY), 1);
    drop(stream);
    until("the slot", || bed.kernel.open(POLICY) == 0).await;
}
