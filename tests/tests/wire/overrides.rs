//! What a request says about itself takes the place of its rule's.

use std::time::{Duration, Instant};

use http::HeaderName;
use router_rules::{
    action::{Fraction, Retries},
    model::{Protocol, Rule},
    overrides::Overrides,
};

use super::{
    bed::{Bed, rule, service},
    client::{Whole, empty, fetch, get},
    server::{Server, Speaks, text},
};

fn overrides() -> Overrides {
    let name = HeaderName::from_static;
    Overrides {
        timeout: Some(name("x-timeout")),
        attempts: Some(name("x-retries")),
        delay: Some((name("x-delay"), Fraction::ALL)),
        abort: Some((name("x-abort"), Fraction::ALL)),
    }
}

fn bed(server: &Server) -> Bed {
    let mut model = service(Protocol::Http, &[(server.address, "v1")]);
    model.rules.push(Rule {
        overrides: overrides(),
        retries: Some(Retries {
            attempts: 1,
            per_try_timeout: None,
        }),
        ..rule("overrides")
    });
    Bed::start(model)
}

async fn ask(bed: &Bed, name: &str, value: &str) -> Whole {
    let request = get("/").header(name, value).body(empty()).unwrap();
    fetch(bed.address(), request).await
}

#[tokio::test]
async fn a_request_sets_its_own_timeout() {
    let server = Server::http(Speaks::Http1, |_| std::future::pending()).await;
    let bed = bed(&server);
    for value in ["50ms", "0.05"] {
        let begun = Instant::now();
        let answer = ask(&bed, "x-timeout", value).await;
        assert_eq!(
            (answer.status.as_u16(), answer.reason()),
            (504, "request-timeout")
        );
        assert!(begun.elapsed() >= Duration::from_millis(50));
    }
}

#[tokio::test]
async fn a_request_sets_its_own_retries() {
    let server = Server::http(Speaks::Http1, |_| async {
        let mut response = http::Response::new(text("no"));
        *response.status_mut() = http::StatusCode::INTERNAL_SERVER_ERROR;
        response
    })
    .await;
    let bed = bed(&server);
    for (value, attempts) in [("0", 1), ("3", 4), ("many", 2)] {
        let before = server.counts.requests();
        assert_eq!(ask(&bed, "x-retries", value).await.status.as_u16(), 500);
        assert_eq!(server.counts.requests() - before, attempts, "{value}");
    }
}

#[tokio::test]
async fn a_request_brings_its_own_faults() {
    let server = Server::named("v1").await;
    let bed = bed(&server);
    let begun = Instant::now();
    assert_eq!(ask(&bed, "x-delay", "80ms").await.body, "v1");
    assert!(begun.elapsed() >= Duration::from_millis(80));
    assert_eq!(ask(&bed, "x-abort", "404").await.status.as_u16(), 404);
    let grpc = ask(&bed, "x-abort", "UNAVAILABLE").await;
    assert_eq!(grpc.header("grpc-status"), "14");
    assert_eq!(ask(&bed, "x-abort", "nonsense").await.body, "v1");
    assert_eq!(server.counts.requests(), 2);
}
