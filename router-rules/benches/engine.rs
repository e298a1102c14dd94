//! What the engine costs: compiling a model, deciding by number of rules, picking a subset.
//!
//! `cargo bench -p router-rules`. It knows nothing of what the proxy does around a decision.

use std::{hint::black_box, net::SocketAddr, sync::Arc};

use criterion::{BatchSize, BenchmarkId, Criterion, criterion_group, criterion_main};
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use router_rules::{
    Snapshot,
    action::Target,
    id::{Origin, ServiceName},
    labels::Labels,
    matcher::Request,
    model::{Endpoint, Match, Model, Port, Protocol, Rule, Service},
    source::ClassId,
    text::TextMatch,
};

const WEB: &str = "web.default.svc.cluster.local";
/// Rules of the service that is decided for.
const RULES: [u32; 4] = [1, 100, 1_000, 10_000];

fn version(name: &str) -> Arc<Labels> {
    Arc::new([("version".to_owned(), name.to_owned())].into_iter().collect())
}

fn service(name: &str, endpoints: u16) -> Service {
    let endpoint = |number: u16| Endpoint {
        address: SocketAddr::from(([10, 128, 0, 1], 1024 + number)),
        labels: version(if number.is_multiple_of(2) { "v1" } else { "v2" }),
        workload: None,
    };
    Service {
        name: ServiceName::new(name),
        addresses: vec![[10, 96, 0, 1].into()],
        ports: vec![Port {
            number: 80,
            name: Some("http".into()),
            protocol: Protocol::Http,
            endpoints: (0..endpoints).map(endpoint).collect(),
        }],
    }
}

fn target(destination: &ServiceName, name: &str, weight: u32) -> Target {
    Target {
        service: destination.clone(),
        labels: Labels::clone(&version(name)),
        weight,
    }
}

fn rule(name: &str, destination: &str, any_of: Vec<Match>) -> Rule {
    let destination = ServiceName::new(destination);
    let origin = Origin {
        file: "rules.yaml".into(),
        line: 1,
        object: name.into(),
    };
    Rule {
        precedence: i32::from(!any_of.is_empty()),
        any_of,
        targets: vec![target(&destination, "v1", 75), target(&destination, "v2", 25)],
        ..Rule::new(origin, destination)
    }
}

/// One service with so many rules: all but the last want a header to have a value.
fn one_service(rules: u32) -> Model {
    let header = HeaderName::from_static("x-user");
    let users = (1..rules).map(|number| {
        let matches = Match {
            headers: vec![(header.clone(), TextMatch::Exact(format!("user-{number}")))],
            ..Match::default()
        };
        rule(&format!("user-{number}"), WEB, vec![matches])
    });
    Model {
        services: vec![service(WEB, 20)],
        rules: users.chain([rule("split", WEB, Vec::new())]).collect(),
        ..Model::default()
    }
}

/// So many services, each with twenty endpoints and one rule.
fn cluster(services: u32) -> Model {
    let name = |number| format!("s{number}.load.svc.cluster.local");
    let services = 0..services;
    Model {
        rules: services
            .clone()
            .map(|number| rule(&format!("s{number}"), &name(number), Vec::new()))
            .collect(),
        services: services.map(|number| service(&name(number), 20)).collect(),
        ..Model::default()
    }
}

fn headers() -> HeaderMap {
    let fields = [
        ("user-agent", "router-bench/1"),
        ("accept", "*/*"),
        ("x-user", "guest"),
        ("cookie", "session=0f3c9a17d2"),
    ];
    let typed = fields.map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)));
    typed.into_iter().collect()
}

fn compile(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("compile");
    group.sample_size(10);
    for services in [100, 5_000] {
        let model = cluster(services);
        group.bench_with_input(BenchmarkId::new("services", services), &model, |bench, model| {
            bench.iter_batched(
                || model.clone(),
                |model| Snapshot::build(model, 1),
                BatchSize::PerIteration,
            );
        });
    }
    group.finish();
}

fn decide(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("match");
    let headers = headers();
    let request = Request {
        method: &Method::GET,
        path: "/64?query=1",
        scheme: "http",
        authority: WEB,
        headers: &headers,
    };
    for rules in RULES {
        let snapshot = Snapshot::build(one_service(rules), 1);
        let port = &snapshot.ports()[0];
        group.bench_with_input(BenchmarkId::new("rules", rules), &request, |bench, request| {
            bench.iter(|| snapshot.route_http(port, ClassId(0), black_box(request)).rule());
        });
    }
    group.finish();
}

fn pick(criterion: &mut Criterion) {
    let snapshot = Snapshot::build(one_service(1), 1);
    let route = snapshot.route_connection(&snapshot.ports()[0], ClassId(0));
    let mut cursor = 0;
    criterion.bench_function("pick", |bench| {
        bench.iter(|| {
            cursor += 1;
            route
                .pick(black_box(cursor))
                .map(|subset| subset.endpoints().len())
        });
    });
}

criterion_group!(benches, compile, decide, pick);
criterion_main!(benches);
