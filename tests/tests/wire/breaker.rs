//! Limits on requests: as many as allowed and not one more, who waits and in which order, connections that are used
//! so often and no more, and retries that do not storm.

use std::{
    num::NonZeroU32,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use futures_util::future::join_all;
use http::Response;
use router_rules::{
    action::Retries,
    id::ServiceName,
    labels::Labels,
    model::{Match, Model, Protocol, Rule},
    policy::{HttpLimits, Policy},
    source::{SourceMatch, Workload},
    text::TextMatch,
};
use router_userspace::{enforce::breaker::RequestUse, proxy::Limits};
use tokio::{sync::Semaphore, task::JoinHandle};

use super::{
    bed::{Bed, CALLER, SERVICE, rule, service, until, written},
    client::{Http1, Http2, Whole, empty, fetch, full, get},
    server::{Server, Speaks, text},
};

const POLICY: &str = "destination-policy breaker";

/// The service with a policy of its own; connections are limited by the double of the kernel.
fn limited(mut model: Model, connections: Option<u32>, http: HttpLimits) -> Model {
    model.policies.push(Policy {
        max_connections: connections,
        http,
        ..Policy::new(written(POLICY), ServiceName::new(SERVICE))
    });
    model
}

fn start(model: Model, connections: Option<u32>, http: HttpLimits) -> Bed {
    let bed = Bed::start(limited(model, connections, http));
    let limit = connections.map(|max| (POLICY.to_owned(), max as usize));
    bed.kernel.limits.lock().unwrap().extend(limit);
    bed
}

fn in_use(bed: &Bed) -> RequestUse {
    bed.proxy.breakers().usage(POLICY).unwrap_or_default()
}

/// A server whose requests wait to be let go; it notes their paths and how many there were at once.
struct Gated {
    server: Server,
    gate: Arc<Semaphore>,
    seen: Arc<Mutex<Vec<String>>>,
    peak: Arc<AtomicUsize>,
}

impl Gated {
    async fn new(speaks: Speaks) -> Self {
        let gate = Arc::new(Semaphore::new(0));
        let (seen, peak): (Arc<Mutex<Vec<String>>>, Arc<AtomicUsize>) = Default::default();
        let inside = Arc::new(AtomicUsize::new(0));
        let (g, s, p) = (gate.clone(), seen.clone(), peak.clone());
        let server = Server::http(speaks, move |request| {
            s.lock().unwrap().push(request.uri().path().to_owned());
            p.fetch_max(inside.fetch_add(1, SeqCst) + 1, SeqCst);
            let (gate, inside) = (g.clone(), inside.clone());
            async move {
                gate.acquire().await.unwrap().forget();
                inside.fetch_sub(1, SeqCst);
                Response::new(text("served"))
            }
        })
        .await;
        Self {
            server,
            gate,
            seen,
            peak,
        }
    }

    fn model(&self, protocol: Protocol) -> Model {
        service(protocol, &[(self.server.address, "v1")])
    }

    fn seen(&self) -> Vec<String> {
        self.seen.lock().unwrap().clone()
    }
}

fn sent(bed: &Bed, path: &str) -> JoinHandle<Whole> {
    let (address, request) = (bed.address(), get(path).body(empty()).unwrap());
    tokio::spawn(fetch(address, request))
}

fn outcome(answer: &Whole) -> (u16, &str) {
    (answer.status.as_u16(), answer.reason())
}

const SERVED: (u16, &str) = (200, "");

#[tokio::test]
async fn as_many_requests_as_allowed_and_not_one_more() {
    let gated = Gated::new(Speaks::Http1).await;
    let limits = HttpLimits {
        max_requests: Some(3),
        ..HttpLimits::default()
    };
    let bed = start(gated.model(Protocol::Http), None, limits);
    let requests: Vec<_> = (0..10).map(|_| sent(&bed, "/")).collect();
    until("seven refusals", || bed.log.count() == 7).await;
    until("three requests", || gated.server.counts.requests() == 3).await;
    assert_eq!((in_use(&bed).active, in_use(&bed).refused), (3, 7));
    gated.gate.add_permits(3);
    let answers = join_all(requests).await;
    let overloaded = |answer: &Whole| answer.header("x-envoy-overloaded") == "true";
    assert!(
        answers
            .iter()
            .flatten()
            .all(|a| overloaded(a) == (a.status == 503))
    );
    let answers: Vec<_> = answers.iter().map(|a| outcome(a.as_ref().unwrap())).collect();
    let refused = (503, "request-limit-reached");
    assert_eq!(answers.iter().filter(|&&a| a == SERVED).count(), 3);
    assert_eq!(answers.iter().filter(|&&a| a == refused).count(), 7);
    assert_eq!(gated.peak.load(SeqCst), 3);
    // Places are free again.
    until("the places", || in_use(&bed).active == 0).await;
    gated.gate.add_permits(1);
    assert_eq!(outcome(&sent(&bed, "/").await.unwrap()), SERVED);
}

#[tokio::test]
async fn streams_of_one_connection_are_requests_too() {
    let gated = Gated::new(Speaks::Http2).await;
    let limits = HttpLimits {
        max_requests: Some(4),
        ..HttpLimits::default()
    };
    let bed = start(gated.model(Protocol::Http2), None, limits);
    let client = Http2::connect(bed.address()).await;
    let requests = (0..10).map(|_| {
        let mut client = client.clone();
        tokio::spawn(async move { client.get("/").await })
    });
    let requests: Vec<_> = requests.collect();
    until("six refusals", || bed.log.count() == 6).await;
    until("four requests", || gated.server.counts.requests() == 4).await;
    gated.gate.add_permits(4);
    let answers = join_all(requests).await;
    let served = answers.iter().filter(|a| a.as_ref().unwrap().status == 200);
    assert_eq!((served.count(), gated.peak.load(SeqCst)), (4, 4));
}

#[tokio::test]
async fn a_reload_neither_forgets_nor_doubles_anybody() {
    let gated = Gated::new(Speaks::Http1).await;
    let limits = |max| HttpLimits {
        max_requests: Some(max),
        ..HttpLimits::default()
    };
    let mut bed = start(gated.model(Protocol::Http), None, limits(2));
    let first: Vec<_> = (0..2).map(|_| sent(&bed, "/")).collect();
    until("two requests", || gated.server.counts.requests() == 2).await;
    for max in [2, 1] {
        bed.publish(limited(gated.model(Protocol::Http), None, limits(max)));
        let refused = sent(&bed, "/").await.unwrap();
        assert_eq!(outcome(&refused), (503, "request-limit-reached"), "limit {max}");
    }
    bed.publish(limited(gated.model(Protocol::Http), None, limits(3)));
    let third = sent(&bed, "/");
    until("the third", || gated.server.counts.requests() == 3).await;
    assert_eq!(outcome(&sent(&bed, "/").await.unwrap()).0, 503);
    gated.gate.add_permits(3);
    for request in first.into_iter().chain([third]) {
        assert_eq!(outcome(&request.await.unwrap()), SERVED);
    }
    until("the places", || in_use(&bed).active == 0).await;
}

#[tokio::test]
async fn a_policy_with_a_source_limits_its_callers_only() {
    let gated = Gated::new(Speaks::Http1).await;
    let policy = |from: &str| Policy {
        source: SourceMatch {
            service: Some(ServiceName::new(from)),
            labels: Labels::default(),
        },
        http: HttpLimits {
            max_requests: Some(1),
            ..HttpLimits::default()
        },
        ..Policy::new(written(POLICY), ServiceName::new(SERVICE))
    };
    let model = |from| Model {
        workloads: vec![Workload {
            addresses: Default::default(),
            name: CALLER.into(),
            labels: Labels::default(),
            services: [ServiceName::new("productpage")].into(),
        }],
        policies: vec![policy(from)],
        ..gated.model(Protocol::Http)
    };
    let mut bed = Bed::start(model("productpage"));
    let held = sent(&bed, "/");
    until("the first", || gated.server.counts.requests() == 1).await;
    assert_eq!(
        outcome(&sent(&bed, "/").await.unwrap()),
        (503, "request-limit-reached")
    );
    // To a policy for others it is nobody.
    bed.publish(model("somebody-else"));
    gated.gate.add_permits(2);
    assert_eq!(outcome(&sent(&bed, "/").await.unwrap()), SERVED);
    assert_eq!(outcome(&held.await.unwrap()), SERVED);
}

/// One connection, and requests that wait for it.
fn pending(max: u32) -> HttpLimits {
    HttpLimits {
        max_pending_requests: Some(max),
        ..HttpLimits::default()
    }
}

/// Sends requests one after the other; the first is served, the others wait.
async fn queue(bed: &Bed, gated: &Gated, paths: &[&str]) -> Vec<JoinHandle<Whole>> {
    let mut requests = Vec::new();
    for (place, path) in paths.iter().enumerate() {
        requests.push(sent(bed, path));
        until("its place", || {
            gated.server.counts.requests() == 1 && in_use(bed).pending as usize == place
        })
        .await;
    }
    requests
}

#[tokio::test]
async fn requests_wait_for_a_connection_in_the_order_in_which_they_came() {
    let gated = Gated::new(Speaks::Http1).await;
    let bed = start(gated.model(Protocol::Http), Some(1), pending(3));
    let requests = queue(&bed, &gated, &["/0", "/1", "/2", "/3"]).await;
    let overflow = sent(&bed, "/4").await.unwrap();
    assert_eq!(outcome(&overflow), (503, "pending-limit-reached"));
    assert_eq!(overflow.header("x-envoy-overloaded"), "true");
    assert!(
        overflow.body.ends_with("reset reason: overflow"),
        "{}",
        overflow.body
    );
    for served in 1..=4 {
        gated.gate.add_permits(1);
        if served < 4 {
            until("the next", || gated.server.counts.requests() == served + 1).await;
        }
    }
    for request in requests {
        assert_eq!(outcome(&request.await.unwrap()), SERVED);
    }
    assert_eq!(gated.seen(), ["/0", "/1", "/2", "/3"]);
    assert_eq!(gated.server.counts.connections(), 1);
    assert_eq!(bed.kernel.peaks.lock().unwrap()[POLICY], 1);
    let usage = in_use(&bed);
    assert_eq!((usage.pending, usage.refused_pending), (0, 1));
}

#[tokio::test]
async fn who_goes_away_leaves_the_queue() {
    let gated = Gated::new(Speaks::Http1).await;
    let bed = start(gated.model(Protocol::Http), Some(1), pending(2));
    let mut requests = queue(&bed, &gated, &["/0", "/1", "/2"]).await;
    let gone = requests.remove(1);
    gone.abort();
    assert!(gone.await.is_err());
    until("the queue to be shorter", || in_use(&bed).pending == 1).await;
    gated.gate.add_permits(2);
    for request in requests {
        assert_eq!(outcome(&request.await.unwrap()), SERVED);
    }
    assert_eq!(gated.seen(), ["/0", "/2"]);
}

#[tokio::test]
async fn time_in_the_queue_is_the_requests_but_not_the_attempts() {
    let gated = Gated::new(Speaks::Http1).await;
    let mut model = gated.model(Protocol::Http);
    let timed = |path: &str, timeout, per_try: Option<u64>| Rule {
        any_of: vec![Match {
            path: Some(TextMatch::Exact(path.into())),
            ..Match::default()
        }],
        timeout: Some(Duration::from_millis(timeout)),
        retries: per_try.map(|limit| Retries {
            attempts: 1,
            per_try_timeout: Some(Duration::from_millis(limit)),
        }),
        ..rule(path)
    };
    model.rules = vec![timed("/patient", 30_000, Some(300)), timed("/hasty", 300, None)];
    let bed = start(model, Some(1), pending(2));
    let requests = queue(&bed, &gated, &["/0", "/patient"]).await;
    let hasty = sent(&bed, "/hasty").await.unwrap();
    assert_eq!(outcome(&hasty), (504, "request-timeout"));
    // Nobody has asked for its body yet: it is not the client who keeps the request waiting.
    let upload = get("/hasty").method("POST").body(full(1_000_000)).unwrap();
    let hasty = fetch(bed.address(), upload).await;
    assert_eq!(outcome(&hasty), (504, "request-timeout"));
    // It has waited longer than its attempts may take: the hasty one came later.
    assert_eq!(in_use(&bed).pending, 1);
    gated.gate.add_permits(2);
    for request in requests {
        assert_eq!(outcome(&request.await.unwrap()), SERVED);
    }
    assert_eq!(gated.seen(), ["/0", "/patient"]);
    until("nobody", || in_use(&bed) == RequestUse::default()).await;
}

#[tokio::test]
async fn a_place_that_becomes_free_elsewhere_is_noticed() {
    let gated = Gated::new(Speaks::Http1).await;
    let bed = start(gated.model(Protocol::Http), Some(1), pending(1));
    let requests = queue(&bed, &gated, &["/0", "/1"]).await;
    // As when plain TCP connections under the same limit end: nobody says so.
    bed.kernel.limits.lock().unwrap().insert(POLICY.into(), 2);
    until("the other", || gated.server.counts.requests() == 2).await;
    gated.gate.add_permits(2);
    for request in requests {
        assert_eq!(outcome(&request.await.unwrap()), SERVED);
    }
}

#[tokio::test]
async fn many_that_wait_are_all_served_by_few_connections() {
    for (protocol, speaks) in [(Protocol::Http, Speaks::Http1), (Protocol::Http2, Speaks::Http2)] {
        let servers = [
            Server::http(speaks, quick).await,
            Server::http(speaks, quick).await,
        ];
        let instances = servers.each_ref().map(|s| (s.address, "v1"));
        let bed = start(service(protocol, &instances), Some(2), pending(1_000));
        let requests: Vec<_> = (0..150).map(|_| sent(&bed, "/")).collect();
        for request in join_all(requests).await {
            assert_eq!(outcome(&request.unwrap()), SERVED, "{protocol:?}");
        }
        assert!(bed.kernel.peaks.lock().unwrap()[POLICY] <= 2);
        until("an empty queue", || in_use(&bed).pending == 0).await;
    }
}

async fn quick(_: http::Request<hyper::body::Incoming>) -> Response<super::server::Body> {
    Response::new(text("quick"))
}

#[tokio::test]
async fn connections_are_used_so_often_and_no_more() {
    for (protocol, speaks) in [(Protocol::Http, Speaks::Http1), (Protocol::Http2, Speaks::Http2)] {
        for (uses, connections) in [(1, 7), (3, 3), (7, 1)] {
            let server = Server::http(speaks, quick).await;
            let limits = HttpLimits {
                max_requests_per_connection: NonZeroU32::new(uses),
                ..HttpLimits::default()
            };
            let model = limited(service(protocol, &[(server.address, "v1")]), None, limits);
            let bed = Bed::with(model, 1, Limits::default());
            let mut client = Http1::connect(bed.address()).await;
            for _ in 0..7 {
                assert_eq!(outcome(&client.get("/").await), SERVED);
            }
            assert_eq!(
                (server.counts.requests(), server.counts.connections()),
                (7, connections),
                "{protocol:?}, {uses} requests each"
            );
            let left = usize::from(7 % uses != 0);
            until("spent connections to close", || server.counts.open() == left).await;
        }
    }
}

/// Endpoints that only fail, asked by many at once. Back-offs are long, so that retries stay under way.
async fn storm(http: HttpLimits, clients: usize) -> (Bed, Server) {
    let server = Server::http(Speaks::Http1, |_| async {
        Response::builder().status(503).body(text("down")).unwrap()
    })
    .await;
    let mut model = service(Protocol::Http, &[(server.address, "v1")]);
    model.rules.push(Rule {
        retries: Some(Retries {
            attempts: 3,
            per_try_timeout: None,
        }),
        ..rule("retry")
    });
    let limits = Limits {
        backoff: Duration::from_millis(300),
        ..Limits::default()
    };
    let bed = Bed::with(limited(model, None, http), 2, limits);
    let requests: Vec<_> = (0..clients).map(|_| sent(&bed, "/")).collect();
    for answer in join_all(requests).await {
        let answer = answer.unwrap();
        assert_eq!(
            (answer.status.as_u16(), answer.body.as_str(), answer.reason()),
            (503, "down", ""),
            "the last attempt's own response"
        );
    }
    until("the lines", || bed.log.count() == clients).await;
    (bed, server)
}

#[tokio::test]
async fn retries_do_not_storm() {
    let (bed, server) = storm(HttpLimits::default(), 40).await;
    // A fifth of 40 may be in retries at once, three times each; without a budget it would be 160 attempts.
    let attempts = server.counts.requests();
    assert!((41..=40 + 8 * 3).contains(&attempts), "{attempts}");
    let refused = bed.lines(40).await;
    let refused = refused
        .iter()
        .filter(|line| line.reason == "retry-budget-spent")
        .count();
    let totals = bed.proxy.stats().totals();
    assert_eq!(totals.retries as usize, attempts - 40);
    assert_eq!(totals.retries_refused as usize, refused);
    assert!(refused >= 40 - 8 - 3, "{refused}");
}

#[tokio::test]
async fn a_limit_on_retries_holds() {
    let limits = HttpLimits {
        max_retries: Some(1),
        ..HttpLimits::default()
    };
    let (bed, server) = storm(limits, 12).await;
    let attempts = server.counts.requests();
    assert!((13..=12 + 3).contains(&attempts), "{attempts}");
    let lines = bed.lines(12).await;
    let refused = lines.iter().filter(|l| l.reason == "retry-limit-reached").count();
    assert_eq!(in_use(&bed).refused_retries as usize, refused);
    assert!(refused >= 11, "{refused}");
    until("no retry", || in_use(&bed).retries == 0).await;
}
