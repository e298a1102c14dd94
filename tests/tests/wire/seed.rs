//! Every example of the 0.1 document, verbatim, as real traffic: what it compiles to is in the golden tests, what it
//! does is here. The examples are the inputs of those golden cases.

use std::{
    fmt::Write as _,
    fs,
    net::SocketAddr,
    path::Path,
    time::{Duration, Instant},
};

use futures_util::future::join_all;
use router_rules::{id::ServiceName, labels::Labels, model::Model, policy::LoadBalancing};
use router_userspace::{compile::compile, config::Documents};

use super::{
    bed::{ADDRESS, Bed, labels},
    client::{Http1, Whole, empty, fetch, get, whole},
    server::{Server, Speaks, text},
};

const JASON: (&str, &str) = ("Cookie", "user=jason");

/// The service that the examples are about has this address; the caller is an instance of reviews v2.
fn registry(called: &str, instances: &[(SocketAddr, &str)]) -> String {
    let mut yaml = format!(
        "apiVersion: v1\nkind: Service\nmetadata: {{name: {called}, namespace: default}}\n\
         spec:\n  clusterIP: {ADDRESS}\n  ports: [{{name: http, port: 80}}]\n"
    );
    if called != "reviews" {
        yaml.push_str(
            "---\napiVersion: v1\nkind: Service\nmetadata: {name: reviews, namespace: default}\n\
             spec:\n  clusterIP: 10.9.8.1\n  selector: {app: reviews}\n  ports: [{name: http, port: 80}]\n\
             ---\napiVersion: v1\nkind: Pod\n\
             metadata: {name: productpage, namespace: default, labels: {app: reviews, version: v2}}\n",
        );
    }
    for (n, (address, version)) in instances.iter().enumerate() {
        let _ = write!(
            yaml,
            "---\napiVersion: v1\nkind: Pod\n\
             metadata: {{name: p{n}, namespace: default, labels: {{app: {called}, version: {version}}}}}\n\
             ---\napiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\n\
             metadata: {{name: s{n}, namespace: default, labels: {{kubernetes.io/service-name: {called}}}}}\n\
             addressType: IPv4\nports: [{{name: http, port: {port}}}]\n\
             endpoints:\n- addresses: [\"{ip}\"]\n  targetRef: {{kind: Pod, name: p{n}, namespace: default}}\n",
            port = address.port(),
            ip = address.ip(),
        );
    }
    yaml
}

/// Examples, by the beginnings of their golden cases' names, with instances.
fn model(examples: &[&str], called: &str, instances: &[(SocketAddr, &str)]) -> Model {
    let cases = Path::new(env!("CARGO_MANIFEST_DIR")).join("golden/compile");
    let mut documents = Documents::default();
    documents.add_text("registry.yaml", &registry(called, instances));
    for example in examples {
        let mut found = fs::read_dir(&cases).unwrap().flatten().map(|entry| entry.path());
        let case = found
            .find(|path| {
                path.file_name()
                    .is_some_and(|name| name.to_string_lossy().starts_with(example))
            })
            .unwrap();
        let input = fs::read_to_string(case.join("input.yaml")).unwrap();
        documents.add_text(&format!("{example}.yaml"), &input);
    }
    compile(&documents).unwrap().model
}

struct Versions {
    v1: Server,
    v2: Server,
}

impl Versions {
    async fn start() -> Self {
        Self {
            v1: Server::named("v1").await,
            v2: Server::named("v2").await,
        }
    }

    fn bed(&self, examples: &[&str], called: &str) -> Bed {
        let instances = [(self.v1.address, "v1"), (self.v2.address, "v2")];
        Bed::start(model(examples, called, &instances))
    }
}

async fn request(bed: &Bed, headers: &[(&str, &str)]) -> Whole {
    let builder = headers
        .iter()
        .fold(get("/"), |b, (name, value)| b.header(*name, *value));
    fetch(bed.address(), builder.body(empty()).unwrap()).await
}

/// Responses of v1 and of v2 to `n` requests.
async fn shares(bed: &Bed, n: usize, headers: &[(&str, &str)]) -> [usize; 2] {
    let mut shares = [0; 2];
    let mut client = Http1::connect(bed.address()).await;
    for _ in 0..n {
        let builder = headers
            .iter()
            .fold(get("/"), |b, (name, value)| b.header(*name, *value));
        let answer = whole(client.send(builder.body(empty()).unwrap()).await).await;
        shares[["v1", "v2"].iter().position(|name| *name == answer.body).unwrap()] += 1;
    }
    shares
}

#[tokio::test]
async fn everything_goes_to_the_version_of_the_only_route() {
    let servers = Versions::start().await;
    for example in ["seed-01", "seed-02", "seed-21"] {
        let bed = servers.bed(&[example], "reviews");
        assert_eq!(shares(&bed, 20, &[]).await, [20, 0], "{example}");
    }
}

#[tokio::test]
async fn rules_without_a_route_go_to_every_instance_in_turn() {
    let servers = Versions::start().await;
    for example in ["seed-03", "seed-04", "seed-16", "seed-17"] {
        let bed = servers.bed(&[example], "reviews");
        assert_eq!(shares(&bed, 20, &[]).await, [10, 10], "{example}");
    }
}

#[tokio::test]
async fn a_quarter_goes_to_v2() {
    let servers = Versions::start().await;
    let bed = servers.bed(&["seed-09"], "reviews");
    assert_eq!(shares(&bed, 400, &[]).await, [300, 100]);
}

#[tokio::test]
async fn the_higher_precedence_is_tried_first() {
    let servers = Versions::start().await;
    let bed = servers.bed(&["seed-15"], "reviews");
    assert_eq!(shares(&bed, 20, &[("Foo", "bar")]).await, [0, 20]);
    assert_eq!(shares(&bed, 20, &[("Foo", "baz")]).await, [20, 0]);
    assert_eq!(shares(&bed, 20, &[]).await, [20, 0]);
}

/// Whether the one rule of an example matched a request.
async fn matched(example: &str, called: &str, headers: &[(&str, &str)]) -> bool {
    let servers = Versions::start().await;
    let bed = servers.bed(&[example], called);
    assert_eq!(request(&bed, headers).await.status, 200);
    !bed.lines(1).await[0].rule.is_empty()
}

#[tokio::test]
async fn callers_and_cookies_are_matched() {
    assert!(matched("seed-05", "ratings", &[]).await);
    assert!(matched("seed-06", "ratings", &[]).await);
    assert!(matched("seed-07", "reviews", &[JASON]).await);
    assert!(matched("seed-07", "reviews", &[("Cookie", "a=b;user=jason;c=d")]).await);
    assert!(!matched("seed-07", "reviews", &[("Cookie", "user=jasonx")]).await);
    assert!(!matched("seed-07", "reviews", &[]).await);
    assert!(matched("seed-08", "ratings", &[JASON]).await);
    assert!(!matched("seed-08", "ratings", &[]).await);
}

#[tokio::test]
async fn three_retries_make_four_requests() {
    let failing = Server::http(Speaks::Http1, |_| async {
        http::Response::builder().status(500).body(text("")).unwrap()
    })
    .await;
    let bed = Bed::start(model(&["seed-11"], "ratings", &[(failing.address, "v1")]));
    assert_eq!(request(&bed, &[]).await.status, 500);
    assert_eq!(failing.counts.requests(), 4);
}

/// Within five standard deviations of 10 % of `n`.
fn assert_a_tenth(count: usize, n: usize) {
    let (mean, deviation) = (n as f64 * 0.1, (n as f64 * 0.1 * 0.9).sqrt());
    let difference = (count as f64 - mean).abs();
    assert!(difference < 5.0 * deviation, "{count} of {n}");
}

#[tokio::test]
async fn a_tenth_is_aborted_with_400() {
    let servers = Versions::start().await;
    let bed = servers.bed(&["seed-13"], "ratings");
    let mut client = Http1::connect(bed.address()).await;
    let mut aborted = 0;
    for _ in 0..2000 {
        match client.get("/").await {
            answer if answer.status == 400 => aborted += 1,
            answer => assert_eq!((answer.status.as_u16(), answer.body.as_str()), (200, "v1")),
        }
    }
    assert_a_tenth(aborted, 2000);
}

/// A request's status and how long it took.
async fn timed(bed: &Bed) -> (u16, Duration) {
    let started = Instant::now();
    let mut client = Http1::connect(bed.address()).await;
    let answer = client
        .0
        .send_request(get("/").body(empty()).unwrap())
        .await
        .unwrap();
    (answer.status().as_u16(), started.elapsed())
}

fn assert_about(took: Duration, seconds: u64) {
    let wanted = Duration::from_secs(seconds);
    assert!(
        took >= wanted && took < wanted + Duration::from_secs(4),
        "{took:?}, not {wanted:?}"
    );
}

/// One test, so that the seconds pass together.
#[tokio::test]
async fn delays_and_timeouts_last_as_long_as_they_say() {
    let servers = Versions::start().await;
    let silent = Server::http(Speaks::Http1, |_| std::future::pending()).await;
    let to_silent = |example, called| Bed::start(model(&[example], called, &[(silent.address, "v1")]));
    let (ten, fifteen) = (to_silent("seed-10", "ratings"), to_silent("seed-01", "reviews"));
    let (some, all) = (
        servers.bed(&["seed-12"], "reviews"),
        servers.bed(&["seed-14"], "ratings"),
    );
    let (ten, fifteen, some, all) = tokio::join!(
        timed(&ten),
        timed(&fifteen),
        join_all((0..300).map(|_| timed(&some))),
        join_all((0..300).map(|_| timed(&all))),
    );
    assert_eq!((ten.0, fifteen.0), (504, 504));
    assert_about(ten.1, 10);
    assert_about(fifteen.1, 15);
    let delayed: Vec<_> = some.iter().filter(|(_, took)| took.as_secs() >= 5).collect();
    assert_a_tenth(delayed.len(), 300);
    delayed.iter().for_each(|(_, took)| assert_about(*took, 5));
    all.iter().for_each(|(_, took)| assert_about(*took, 5));
    assert_a_tenth(all.iter().filter(|(status, _)| *status == 400).count(), 300);
}

#[tokio::test]
async fn random_is_random() {
    let servers = Versions::start().await;
    let bed = servers.bed(&["seed-18"], "reviews");
    let snapshot = bed.live.load();
    let port = snapshot.port_at(ADDRESS, 80).unwrap();
    let every = snapshot.subset(port.unrouted());
    assert_eq!(every.load_balancing(), LoadBalancing::Random);
    let [v1, v2] = shares(&bed, 400, &[]).await;
    // Five standard deviations around the half.
    assert!(v1.abs_diff(v2) < 100, "{v1} to {v2}");
}

/// Policies of an example's instances of a version, as limits in force.
fn limit_of(bed: &Bed, version: Labels) -> Option<u32> {
    let snapshot = bed.live.load();
    let name = ServiceName::new("reviews.default.svc.cluster.local");
    let subset = snapshot
        .subsets()
        .iter()
        .find(|s| *s.service() == name && *s.labels() == version);
    subset.and_then(|s| snapshot.policy(s.policy()?).max_connections)
}

#[tokio::test]
async fn a_policy_with_tags_applies_where_a_rule_routes_to_them() {
    let servers = Versions::start().await;
    for example in ["seed-19", "seed-20"] {
        let without = servers.bed(&[example], "reviews");
        assert_eq!(limit_of(&without, Labels::default()), None, "{example}");
        assert_eq!(shares(&without, 4, &[]).await, [2, 2]);
        let with = servers.bed(&[example, "seed-21"], "reviews");
        assert_eq!(limit_of(&with, labels("v1")), Some(100), "{example}");
        assert_eq!(shares(&with, 4, &[]).await, [4, 0]);
        let policy = format!("destination-policy {example}-1");
        assert_eq!(
            with.kernel.peaks.lock().unwrap().get(&policy),
            Some(&1),
            "counted against {policy}"
        );
    }
}
