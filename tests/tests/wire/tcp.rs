//! Connections that are not HTTP, when the kernel sends them to the proxy.

use std::sync::atomic::Ordering::SeqCst;

use router_rules::{
    cidr,
    connection::{Transport, TransportMatch},
    id::ServiceName,
    model::{Match, Protocol, Rule},
    policy::Policy,
    source::{SourceMatch, Workload},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

use super::{
    bed::{Bed, CALLER, SERVICE, labels, rule, service, target, until, written},
    client::{PATIENCE, read_until},
    server::{Server, nobody},
};

/// Reads to the end, then answers with a name and what it read.
async fn listener(name: &'static str) -> Server {
    Server::raw(move |mut stream: TcpStream, counts| async move {
        let mut read = String::new();
        if stream.read_to_string(&mut read).await.is_ok() {
            counts.requests.fetch_add(1, SeqCst);
            let _ = stream.write_all(format!("{name}:{read}").as_bytes()).await;
        }
    })
    .await
}

#[tokio::test]
async fn half_closed_connections_are_answered() {
    let server = listener("v1").await;
    let bed = Bed::start(service(Protocol::Tcp, &[(server.address, "v1")]));
    let mut stream = TcpStream::connect(bed.address()).await.unwrap();
    stream.write_all(b"question").await.unwrap();
    stream.shutdown().await.unwrap();
    let mut answer = String::new();
    timeout(PATIENCE, stream.read_to_string(&mut answer))
        .await
        .unwrap()
        .unwrap();
    assert_eq!(answer, "v1:question");
    let line = &bed.lines(1).await[0];
    assert_eq!(
        (line.protocol, line.received, line.sent, line.reason.as_str()),
        ("TCP", 8, 11, "")
    );
    assert_eq!(bed.proxy.stats().totals().tcp_connections, 1);
}

#[tokio::test]
async fn the_server_may_speak_first() {
    let server = Server::raw(|mut stream: TcpStream, _| async move {
        stream.write_all(b"220 ready\r\n").await.unwrap();
        assert_eq!(read_until(&mut stream, "\r\n").await, "QUIT\r\n");
        stream.write_all(b"221 bye\r\n").await.unwrap();
    })
    .await;
    let bed = Bed::start(service(Protocol::Tcp, &[(server.address, "v1")]));
    let mut stream = TcpStream::connect(bed.address()).await.unwrap();
    assert_eq!(read_until(&mut stream, "\r\n").await, "220 ready\r\n");
    stream.write_all(b"QUIT\r\n").await.unwrap();
    assert_eq!(read_until(&mut stream, "\r\n").await, "221 bye\r\n");
    let mut rest = Vec::new();
    assert_eq!(
        timeout(PATIENCE, stream.read_to_end(&mut rest))
            .await
            .unwrap()
            .unwrap(),
        0
    );
}

#[tokio::test]
async fn the_caller_decides_and_http_rules_do_not() {
    let (v1, v2) = (listener("v1").await, listener("v2").await);
    let mut model = service(Protocol::Tcp, &[(v1.address, "v1"), (v2.address, "v2")]);
    model.workloads.push(Workload {
        addresses: Default::default(),
        name: CALLER.into(),
        labels: labels("v7"),
        services: [].into(),
    });
    model.rules.push(Rule {
        precedence: 2,
        any_of: vec![Match {
            path: Some(router_rules::text::TextMatch::Present),
            ..Match::default()
        }],
        targets: vec![target("v1", 1)],
        ..rule("http")
    });
    model.rules.push(Rule {
        precedence: 1,
        any_of: vec![Match {
            source: Some(SourceMatch {
                service: None,
                labels: labels("v7"),
            }),
            ..Match::default()
        }],
        targets: vec![target("v2", 1)],
        ..rule("source")
    });
    let bed = Bed::start(model);
    for _ in 0..4 {
        let mut stream = TcpStream::connect(bed.address()).await.unwrap();
        stream.shutdown().await.unwrap();
        let mut answer = String::new();
        timeout(PATIENCE, stream.read_to_string(&mut answer))
            .await
            .unwrap()
            .unwrap();
        assert_eq!(answer, "v2:");
    }
    assert_eq!(bed.lines(4).await[0].rule, "route-rule source");
}

/// How a connection fails; the reset may be seen while connecting or afterwards.
async fn refusal(address: std::net::SocketAddr) -> std::io::ErrorKind {
    let attempt = async {
        let mut byte = [0];
        TcpStream::connect(address).await?.read(&mut byte).await
    };
    timeout(PATIENCE, attempt).await.unwrap().unwrap_err().kind()
}

#[tokio::test]
async fn refused_connections_are_reset() {
    let dead = nobody();
    let bed = Bed::start(service(Protocol::Tcp, &[(dead, "v1")]));
    assert_eq!(refusal(bed.address()).await, std::io::ErrorKind::ConnectionReset);
    assert_eq!(bed.lines(1).await[0].reason, "upstream-connect-failure");
}

#[tokio::test]
async fn the_limit_holds_for_connections_too() {
    let server = Server::raw(|mut stream: TcpStream, _| async move {
        let mut rest = Vec::new();
        stream.write_all(b"hello\n").await.unwrap();
        let _ = stream.read_to_end(&mut rest).await;
    })
    .await;
    let mut model = service(Protocol::Tcp, &[(server.address, "v1")]);
    model.policies.push(Policy {
        max_connections: Some(2),
        ..Policy::new(written("destination-policy cb"), ServiceName::new(SERVICE))
    });
    let bed = Bed::start(model);
    bed.kernel
        .limits
        .lock()
        .unwrap()
        .insert("destination-policy cb".into(), 2);
    let mut held = Vec::new();
    for _ in 0..2 {
        let mut stream = TcpStream::connect(bed.address()).await.unwrap();
        read_until(&mut stream, "hello\n").await;
        held.push(stream);
    }
    assert_eq!(refusal(bed.address()).await, std::io::ErrorKind::ConnectionReset);
    assert_eq!(bed.lines(1).await[0].reason, "limit-reached");
    held.clear();
    until("the slots", || bed.kernel.open("destination-policy cb") == 0).await;
    let mut fourth = TcpStream::connect(bed.address()).await.unwrap();
    read_until(&mut fourth, "hello\n").await;
}

/// A rule of `name` for callers in `sources` that dial an address in `destinations`.
fn between(name: &str, sources: &[&str], destinations: &[&str], version: &str) -> Rule {
    let subnets = |texts: &[&str]| texts.iter().map(|text| cidr::parse(text).unwrap()).collect();
    Rule {
        any_of: vec![Match {
            transport: Some(TransportMatch {
                transport: Transport::Tcp,
                sources: subnets(sources),
                destinations: subnets(destinations),
            }),
            ..Match::default()
        }],
        targets: vec![target(version, 1)],
        ..rule(name)
    }
}

#[tokio::test]
async fn subnets_of_both_ends_decide() {
    let (v1, v2) = (listener("v1").await, listener("v2").await);
    // Tried in the order of their names; clients come from the loopback address and dial 10.9.8.7.
    for (known_at, expected) in [(None, "v2:"), (Some("10.1.0.5"), "v1:")] {
        let mut model = service(Protocol::Tcp, &[(v1.address, "v1"), (v2.address, "v2")]);
        if let Some(address) = known_at {
            model.workloads.push(Workload {
                addresses: [address.parse().unwrap()].into_iter().collect(),
                name: CALLER.into(),
                labels: labels("v7"),
                services: [].into(),
            });
        }
        model
            .rules
            .push(between("a", &["127.0.0.0/8"], &["10.9.9.0/24"], "v1"));
        model.rules.push(between(
            "b",
            &["127.0.0.0/8"],
            &["192.0.2.1", "10.9.8.0/24"],
            "v2",
        ));
        model.rules.push(between("c", &["10.1.0.0/16"], &[], "v1"));
        let bed = Bed::start(model);
        let mut stream = TcpStream::connect(bed.address()).await.unwrap();
        stream.shutdown().await.unwrap();
        let mut answer = String::new();
        let reading = stream.read_to_string(&mut answer);
        timeout(PATIENCE, reading).await.unwrap().unwrap();
        // Of a workload the registry's addresses count, not the one that the proxy sees.
        assert_eq!(answer, expected, "{known_at:?}");
    }
}
