//! The node's own ports: requests from outside, and the services that they lead to.

use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use http::{Request, Response};
use router_rules::{
    gateway::{Credential, Gateway, GatewayRule},
    id::ServiceName,
    model::{Match, Model, Protocol, Rule},
    source::SourceMatch,
    text::TextMatch,
};
use router_userspace::{
    listening::PortState,
    proxy::{Disclosure, Limits},
};
use socket2::{Domain, Socket, Type};
use tokio::sync::Notify;

use super::{
    bed::{Bed, SERVICE, rule, service, target, until, written},
    client::{Http1, Http2, Whole, empty, exchange, whole},
    server::{Server, Speaks, text},
};

/// A port of the loopback interface that is nobody else's while this lives: bound, but not listened on, and shared with
/// those who share theirs, as the proxy does.
pub struct Reserved(Socket);

impl Reserved {
    pub fn new() -> Self {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        socket.set_reuse_port(true).unwrap();
        let any: SocketAddr = (Ipv4Addr::LOCALHOST, 0).into();
        socket.bind(&any.into()).unwrap();
        Self(socket)
    }

    pub fn address(&self) -> SocketAddr {
        self.0.local_addr().unwrap().as_socket().unwrap()
    }

    pub fn port(&self) -> u16 {
        self.address().port()
    }
}

/// An ingress rule to port 80 of a service.
pub fn entry(name: &str, to: &str, any_of: Vec<Match>, credential: Option<Arc<Credential>>) -> GatewayRule {
    GatewayRule {
        origin: written(&format!("ingress-rule {name}")),
        precedence: 0,
        any_of,
        service: ServiceName::new(to),
        service_port: 80,
        credential,
    }
}

pub fn host(host: &str) -> Match {
    Match {
        authority: Some(TextMatch::Exact(host.into())),
        ..Match::default()
    }
}

fn below(prefix: &str) -> Match {
    Match {
        path: Some(TextMatch::Prefix(prefix.into())),
        ..Match::default()
    }
}

pub fn with_gateway(mut model: Model, port: &Reserved, rules: Vec<GatewayRule>) -> Model {
    model.gateways.push(Gateway {
        port: port.port(),
        rules,
    });
    model
}

/// Waits until the port is listened on.
pub async fn opened(bed: &Bed, port: &Reserved) {
    until("the port to be open", || {
        matches!(bed.proxy.listening().state(port.port()), Some(PortState::Open(_)))
    })
    .await;
}

/// Everything that comes in goes to the service.
fn everything(model: Model, port: &Reserved) -> Model {
    with_gateway(model, port, vec![entry("all", SERVICE, Vec::new(), None)])
}

async fn ask(client: &mut Http1, host: &str, path: &str) -> Whole {
    let request = Request::get(path).header("host", host).body(empty()).unwrap();
    whole(client.send(request).await).await
}

#[tokio::test]
async fn requests_from_outside_reach_the_service_of_the_first_rule_that_matches() {
    let (v1, v2) = (Server::named("v1").await, Server::named("v2").await);
    let mut model = service(Protocol::Http, &[(v1.address, "v1"), (v2.address, "v2")]);
    // The service's own rules decide; one that asks for a caller never matches.
    model.rules.push(Rule {
        precedence: 3,
        any_of: vec![Match {
            source: Some(SourceMatch {
                service: Some(ServiceName::new(SERVICE)),
                ..SourceMatch::default()
            }),
            ..Match::default()
        }],
        targets: vec![target("v3", 100)],
        ..rule("inside")
    });
    model.rules.push(Rule {
        precedence: 2,
        any_of: vec![below("/new")],
        targets: vec![target("v2", 100)],
        ..rule("new")
    });
    model.rules.push(Rule {
        targets: vec![target("v1", 100)],
        ..rule("rest")
    });
    let port = Reserved::new();
    let rules = vec![
        entry(
            "gone",
            "gone.default.svc.cluster.local",
            vec![host("gone.test")],
            None,
        ),
        entry("shop", SERVICE, vec![host("shop.test")], None),
    ];
    let bed = Bed::start(with_gateway(model, &port, rules));
    opened(&bed, &port).await;
    let mut client = Http1::connect(port.address()).await;
    assert_eq!(ask(&mut client, "shop.test", "/").await.body, "v1");
    assert_eq!(ask(&mut client, "shop.test", "/new/1").await.body, "v2");
    // The node's own port beside the host is no part of it.
    let named = format!("shop.test:{}", port.port());
    assert_eq!(ask(&mut client, &named, "/").await.body, "v1");
    let astray = ask(&mut client, "other.test", "/").await;
    assert_eq!((astray.status.as_u16(), astray.reason()), (404, "no-route"));
    let gone = ask(&mut client, "gone.test", "/").await;
    assert_eq!((gone.status.as_u16(), gone.reason()), (503, "no-service"));
    let lines = bed.lines(5).await;
    let said = |n: usize| (&*lines[n].ingress, &*lines[n].rule, &*lines[n].reason);
    assert_eq!(said(0), ("ingress-rule shop", "route-rule rest", ""));
    assert_eq!(said(1), ("ingress-rule shop", "route-rule new", ""));
    assert_eq!(said(3), ("", "", "no-route"));
    assert_eq!(said(4), ("ingress-rule gone", "", "no-service"));
    assert!(lines.iter().all(|line| line.caller.is_empty()));
}

#[tokio::test]
async fn endpoints_learn_who_came_in_and_not_what_they_claim() {
    let server = Server::echo(Speaks::Http1).await;
    let port = Reserved::new();
    let model = everything(service(Protocol::Http, &[(server.address, "v1")]), &port);
    let explain = Disclosure {
        explain: Some(http::HeaderName::from_static("x-why")),
        ..Disclosure::default()
    };
    let bed = Bed::disclosing(model, 1, Limits::default(), explain);
    opened(&bed, &port).await;
    let request = Request::get("/")
        .header("host", "shop.test")
        .header("x-forwarded-proto", "https")
        .header("x-forwarded-for", "10.0.0.9")
        .header("x-envoy-external-address", "10.0.0.9")
        .header("x-envoy-upstream-rq-timeout-ms", "1")
        .header("x-request-id", "mine")
        .header("x-why", "1")
        .body(empty())
        .unwrap();
    let answer = whole(Http1::connect(port.address()).await.send(request).await).await;
    for line in [
        "x-forwarded-proto: http\n",
        "x-forwarded-for: 10.0.0.9,127.0.0.1\n",
        "x-envoy-external-address: 127.0.0.1\n",
        "host: shop.test\n",
    ] {
        assert!(answer.body.contains(line), "{line} is not in {}", answer.body);
    }
    for absent in ["rq-timeout", "x-request-id: mine", "x-why"] {
        assert!(!answer.body.contains(absent), "{}", answer.body);
    }
    // Rules are nobody's business outside.
    assert_eq!(answer.header("x-why"), "");
}

#[tokio::test]
async fn the_port_speaks_both_versions_and_is_as_strict_as_the_proxy() {
    let server = Server::named("v1").await;
    let port = Reserved::new();
    let bed = Bed::start(everything(
        service(Protocol::Http, &[(server.address, "v1")]),
        &port,
    ));
    opened(&bed, &port).await;
    let mut client = Http2::connect(port.address()).await;
    assert_eq!(client.get("/").await.body, "v1");
    let smuggled =
        b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n";
    let answer = exchange(port.address(), smuggled).await;
    assert!(answer.contains("x-router-reason: bad-framing"), "{answer}");
    let answer = exchange(port.address(), b"CONNECT a:1 HTTP/1.1\r\nhost: a:1\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 4"), "{answer}");
}

#[tokio::test]
async fn ports_come_and_go_with_the_configuration() {
    let server = Server::named("v1").await;
    let (first, second) = (Reserved::new(), Reserved::new());
    let model = || service(Protocol::Http, &[(server.address, "v1")]);
    let mut bed = Bed::start(everything(model(), &first));
    opened(&bed, &first).await;
    let mut kept = Http1::connect(first.address()).await;
    assert_eq!(kept.get("/").await.body, "v1");

    bed.publish(everything(everything(model(), &first), &second));
    opened(&bed, &second).await;
    assert_eq!(Http1::connect(second.address()).await.get("/").await.body, "v1");
    // What was open before noticed nothing.
    let answer = kept.get("/").await;
    assert_eq!((&*answer.body, answer.header("connection")), ("v1", ""));

    bed.publish(everything(model(), &second));
    let refused = || std::net::TcpStream::connect(first.address()).is_err();
    until("the first port to be closed", refused).await;
    assert_eq!(bed.proxy.listening().state(first.port()), None);
    // A connection that is open learns that it must go, and goes.
    let answer = kept.get("/").await;
    assert_eq!(
        (
            answer.status.as_u16(),
            answer.reason(),
            answer.header("connection")
        ),
        (404, "no-route", "close")
    );

    bed.publish(everything(model(), &first));
    opened(&bed, &first).await;
    assert_eq!(Http1::connect(first.address()).await.get("/").await.body, "v1");
}

#[tokio::test]
async fn what_is_under_way_ends_when_its_port_closes() {
    let (arrived, go) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let (told, wait) = (arrived.clone(), go.clone());
    let server = Server::http(Speaks::Http1, move |_| {
        let (told, wait) = (told.clone(), wait.clone());
        async move {
            told.notify_one();
            wait.notified().await;
            Response::new(text("late"))
        }
    })
    .await;
    let port = Reserved::new();
    let model = || service(Protocol::Http, &[(server.address, "v1")]);
    let mut bed = Bed::start(everything(model(), &port));
    opened(&bed, &port).await;
    for version in ["HTTP/1.1", "HTTP/2"] {
        let asking = if version == "HTTP/2" {
            let mut client = Http2::connect(port.address()).await;
            tokio::spawn(async move { client.get("/").await })
        } else {
            let mut client = Http1::connect(port.address()).await;
            tokio::spawn(async move { client.get("/").await })
        };
        arrived.notified().await;
        bed.publish(model());
        until("the port to be closed", || {
            std::net::TcpStream::connect(port.address()).is_err()
        })
        .await;
        go.notify_one();
        let answer = asking.await.unwrap();
        assert_eq!(
            (answer.status.as_u16(), &*answer.body),
            (200, "late"),
            "{version}"
        );
        bed.publish(everything(model(), &port));
        opened(&bed, &port).await;
    }
}

#[tokio::test]
async fn a_port_that_somebody_has_is_reported_and_taken_when_it_is_free() {
    let server = Server::named("v1").await;
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let free = Reserved::new();
    let mut model = everything(service(Protocol::Http, &[(server.address, "v1")]), &free);
    model.gateways.push(Gateway {
        port: address.port(),
        rules: vec![entry("taken", SERVICE, Vec::new(), None)],
    });
    let bed = Bed::start(model);
    let listening = bed.proxy.listening();
    until("the failure to be known", || {
        matches!(listening.state(address.port()), Some(PortState::Failed(why)) if why.contains("cannot listen"))
    })
    .await;
    opened(&bed, &free).await;
    assert_eq!(Http1::connect(free.address()).await.get("/").await.body, "v1");
    drop(taken);
    until("the port to be open", || {
        matches!(listening.state(address.port()), Some(PortState::Open(_)))
    })
    .await;
    assert_eq!(Http1::connect(address).await.get("/").await.body, "v1");
}

#[tokio::test]
async fn draining_ends_ports_too() {
    let server = Server::named("v1").await;
    let port = Reserved::new();
    let bed = Bed::start(everything(
        service(Protocol::Http, &[(server.address, "v1")]),
        &port,
    ));
    opened(&bed, &port).await;
    let mut client = Http1::connect(port.address()).await;
    client.get("/").await;
    assert_eq!(bed.proxy.stop(Duration::from_secs(10)).await.cut, 0);
    assert!(std::net::TcpStream::connect(port.address()).is_err());
}
