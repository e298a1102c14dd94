//! Which endpoint gets a request.

use std::{collections::BTreeMap, sync::atomic::Ordering::Relaxed};

use router_rules::{
    id::ServiceName,
    labels::Labels,
    model::{Match, Protocol, Rule},
    policy::{LoadBalancing, Policy},
    source::{SourceMatch, Workload},
    text::TextMatch,
};
use tokio::net::TcpStream;

use super::{
    bed::{Bed, CALLER, SERVICE, labels, rule, service, target, written},
    client::{Http1, empty, exchange, fetch, get},
    server::{Server, nobody},
};

#[tokio::test]
async fn shares_are_exact_over_all_workers_and_connections() {
    let (v1, v2, v3) = (
        Server::named("v1").await,
        Server::named("v2").await,
        Server::named("v3").await,
    );
    let instances = [(v1.address, "v1"), (v2.address, "v2"), (v3.address, "v3")];
    let mut model = service(Protocol::Http, &instances);
    model.rules.push(Rule {
        targets: vec![target("v1", 25), target("v2", 75), target("v3", 0)],
        ..rule("split")
    });
    let bed = Bed::start(model);
    let clients = (0..20).map(|_| async {
        let mut client = Http1::connect(bed.address()).await;
        let mut seen = Vec::new();
        for _ in 0..20 {
            seen.push(client.get("/").await.body);
        }
        seen
    });
    let mut counts = BTreeMap::new();
    for name in futures_util::future::join_all(clients).await.concat() {
        *counts.entry(name).or_insert(0) += 1;
    }
    assert_eq!(counts, BTreeMap::from([("v1".into(), 100), ("v2".into(), 300)]));
    let totals = bed.proxy.stats().totals();
    assert_eq!(totals.by_class(), &[0, 0, 400, 0, 0, 0]);
}

#[tokio::test]
async fn a_header_sends_to_another_version() {
    let (v1, v2) = (Server::named("v1").await, Server::named("v2").await);
    let mut model = service(Protocol::Http, &[(v1.address, "v1"), (v2.address, "v2")]);
    let foo = http::HeaderName::from_static("foo");
    model.rules.push(Rule {
        precedence: 2,
        any_of: vec![Match {
            headers: vec![(foo, TextMatch::Exact("bar".into()))],
            ..Match::default()
        }],
        targets: vec![target("v2", 100)],
        ..rule("foo")
    });
    model.rules.push(Rule {
        targets: vec![target("v1", 100)],
        ..rule("default")
    });
    let bed = Bed::start(model);
    let with_foo = get("/").header("Foo", "bar").body(empty()).unwrap();
    assert_eq!(fetch(bed.address(), with_foo).await.body, "v2");
    assert_eq!(
        fetch(bed.address(), get("/p?q=1").body(empty()).unwrap())
            .await
            .body,
        "v1"
    );
    let lines = bed.lines(2).await;
    assert_eq!(
        (lines[0].rule.as_str(), lines[0].endpoint),
        ("route-rule foo", Some(v2.address))
    );
    assert_eq!(lines[1].rule, "route-rule default");
    assert_eq!(lines[1].subset, format!("{SERVICE} version=v1"));
    assert_eq!(
        (lines[1].method.as_str(), lines[1].path.as_str()),
        ("GET", "/p?q=1")
    );
    assert_eq!((lines[1].status, lines[1].sent, lines[1].attempts), (200, 2, 1));
    assert_eq!(lines[1].caller, CALLER);
    assert_eq!(lines[1].request_id.len(), 36);
    assert_eq!(lines[1].reason, "");
}

#[tokio::test]
async fn the_caller_decides() {
    let (v1, v2) = (Server::named("v1").await, Server::named("v2").await);
    let mut model = service(Protocol::Http, &[(v1.address, "v1"), (v2.address, "v2")]);
    model.workloads.push(Workload {
        addresses: Default::default(),
        name: CALLER.into(),
        labels: labels("v7"),
        services: [ServiceName::new("productpage.default.svc.cluster.local")].into(),
    });
    let from = |version| Match {
        source: Some(SourceMatch {
            service: Some(ServiceName::new("productpage.default.svc.cluster.local")),
            labels: labels(version),
        }),
        ..Match::default()
    };
    model.rules.push(Rule {
        precedence: 3,
        any_of: vec![from("v8")],
        targets: vec![target("v1", 1)],
        ..rule("from-v8")
    });
    model.rules.push(Rule {
        precedence: 2,
        any_of: vec![from("v7")],
        targets: vec![target("v2", 1)],
        ..rule("from-v7")
    });
    let bed = Bed::start(model);
    assert_eq!(
        fetch(bed.address(), get("/").body(empty()).unwrap()).await.body,
        "v2"
    );
}

#[tokio::test]
async fn a_change_applies_to_the_next_request_of_an_open_connection() {
    let (v1, v2) = (Server::named("v1").await, Server::named("v2").await);
    let to = |version| {
        let mut model = service(Protocol::Http, &[(v1.address, "v1"), (v2.address, "v2")]);
        model.rules.push(Rule {
            targets: vec![target(version, 100)],
            ..rule("only")
        });
        model
    };
    let mut bed = Bed::start(to("v1"));
    let mut client = Http1::connect(bed.address()).await;
    assert_eq!(client.get("/").await.body, "v1");
    bed.publish(to("v2"));
    assert_eq!(client.get("/").await.body, "v2");
    bed.publish(service(Protocol::Http, &[]));
    assert_eq!(client.get("/").await.reason(), "no-endpoints");
    bed.publish(router_rules::model::Model::default());
    let gone = client.get("/").await;
    assert_eq!((gone.status.as_u16(), gone.reason()), (503, "no-service"));
}

#[tokio::test]
async fn turns_go_on_across_a_change() {
    let (v1, v2) = (Server::named("v1").await, Server::named("v2").await);
    let model = || {
        let mut model = service(Protocol::Http, &[(v1.address, "v1"), (v2.address, "v2")]);
        model.rules.push(Rule {
            targets: vec![target("v1", 1), target("v2", 1)],
            ..rule("halves")
        });
        model
    };
    let mut bed = Bed::start(model());
    let mut client = Http1::connect(bed.address()).await;
    let mut seen = Vec::new();
    for _ in 0..10 {
        seen.push(client.get("/").await.body);
        bed.publish(model());
    }
    assert_eq!(seen.concat(), "v1v2".repeat(5));
}

#[tokio::test]
async fn refusals_have_names() {
    let v1 = Server::named("v1").await;
    let cases = [
        (
            "weights",
            503,
            "no-weight",
            "every weight is zero",
            vec![target("v1", 0)],
            "v1",
        ),
        (
            "tags",
            503,
            "no-endpoints",
            "no healthy upstream",
            vec![target("v9", 1)],
            "v1",
        ),
        (
            "connect",
            503,
            "upstream-connect-failure",
            "upstream connect error or disconnect/reset before headers. reset reason: remote connection failure",
            vec![target("dead", 1)],
            "dead",
        ),
    ];
    for (name, status, reason, body, targets, version) in cases {
        let dead = nobody();
        let address = if version == "dead" { dead } else { v1.address };
        let mut model = service(Protocol::Http, &[(address, version)]);
        model.rules.push(Rule {
            targets,
            ..rule(name)
        });
        let bed = Bed::start(model);
        let answer = fetch(bed.address(), get("/").body(empty()).unwrap()).await;
        assert_eq!(
            (answer.status.as_u16(), answer.reason(), answer.body.as_str()),
            (status, reason, body),
            "{name}"
        );
        assert_eq!(answer.header("content-type"), "text/plain");
        assert_eq!(bed.lines(1).await[0].reason, reason);
    }
}

#[tokio::test]
async fn grpc_clients_are_refused_in_their_own_way() {
    let mut model = service(Protocol::Http, &[]);
    model.rules.push(rule("all"));
    let bed = Bed::start(model);
    let request = get("/pkg.Svc/Call").header("content-type", "application/grpc+proto");
    let answer = fetch(bed.address(), request.body(empty()).unwrap()).await;
    assert_eq!(answer.status.as_u16(), 200);
    assert_eq!(answer.header("content-type"), "application/grpc");
    assert_eq!(
        (answer.header("grpc-status"), answer.header("grpc-message")),
        ("14", "no healthy upstream")
    );
    assert_eq!((answer.body.as_str(), answer.reason()), ("", "no-endpoints"));
}

#[tokio::test]
async fn connections_that_the_kernel_did_not_send_are_closed() {
    let v1 = Server::named("v1").await;
    let bed = Bed::start(service(Protocol::Http, &[(v1.address, "v1")]));
    bed.kernel.blind.store(true, Relaxed);
    let answer = exchange(
        bed.address(),
        b"GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n",
    )
    .await;
    assert_eq!(answer, "");
    let kind = router_userspace::proxy::error::Kind::NoOriginalDestination;
    super::bed::until("the count", || bed.proxy.stats().totals().reason(kind) == 1).await;
    assert_eq!(v1.counts.connections(), 0);
}

#[tokio::test]
async fn round_robin_takes_turns_and_random_takes_all() {
    let servers = [
        Server::named("a").await,
        Server::named("b").await,
        Server::named("c").await,
    ];
    let instances: Vec<_> = servers.iter().map(|s| (s.address, "v1")).collect();
    let model = |load_balancing| {
        let mut model = service(Protocol::Http, &instances);
        model.rules.push(rule("all"));
        model.policies.push(Policy {
            labels: Labels::default(),
            load_balancing,
            ..Policy::new(written("destination-policy lb"), ServiceName::new(SERVICE))
        });
        model
    };
    let mut bed = Bed::start(model(LoadBalancing::RoundRobin));
    let mut client = Http1::connect(bed.address()).await;
    let requests = |servers: &[Server]| servers.iter().map(|s| s.counts.requests()).collect::<Vec<_>>();
    for _ in 0..30 {
        client.get("/").await;
    }
    assert_eq!(requests(&servers), [10, 10, 10]);
    bed.publish(model(LoadBalancing::Random));
    for _ in 0..90 {
        client.get("/").await;
    }
    // The chance of a correct proxy failing this is below one in a million.
    assert!(
        requests(&servers).iter().all(|&n| n > 10 + 5),
        "{:?}",
        requests(&servers)
    );
}

#[tokio::test]
async fn least_conn_avoids_a_stuck_endpoint() {
    let stuck = Server::raw(|stream: TcpStream, _| async move {
        let _held = stream;
        std::future::pending().await
    })
    .await;
    let quick = Server::named("quick").await;
    let mut model = service(Protocol::Http, &[(stuck.address, "v1"), (quick.address, "v1")]);
    model.rules.push(rule("all"));
    model.policies.push(Policy {
        load_balancing: LoadBalancing::LeastConn,
        ..Policy::new(written("destination-policy lb"), ServiceName::new(SERVICE))
    });
    let bed = Bed::start(model);
    let address = bed.address();
    let stuck_request = |_| tokio::spawn(async move { Http1::connect(address).await.get("/").await });
    let first: Vec<_> = (0..8).map(stuck_request).collect();
    super::bed::until("eight requests to be stuck or answered", || {
        stuck.counts.connections() > 0 && stuck.counts.connections() + bed.log.count() == first.len()
    })
    .await;
    let before = stuck.counts.connections();
    let mut client = Http1::connect(address).await;
    for _ in 0..20 {
        assert_eq!(client.get("/").await.body, "quick");
    }
    assert_eq!(stuck.counts.connections(), before);
    first.iter().for_each(tokio::task::JoinHandle::abort);
}
