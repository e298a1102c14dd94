//! Cross-origin requests, as a browser makes them.

use std::time::Duration;

use http::{HeaderValue, Method, Request, Response};
use router_rules::{
    action::{Abort, AbortWith, Fault, Fraction},
    cors::Cors,
    model::{Protocol, Rule},
    rewrite::Redirect,
    text::TextMatch,
};

use super::{
    bed::{Bed, SERVICE, rule, service},
    client::{Http2, Whole, empty, fetch, whole},
    server::{Server, Speaks, nobody, text},
};

const SHOP: &str = "https://shop.example.com";

fn shared(name: &str) -> Rule {
    Rule {
        cors: Some(Cors {
            origins: vec![TextMatch::Exact(SHOP.into())],
            methods: Some(HeaderValue::from_static("GET,POST")),
            headers: Some(HeaderValue::from_static("x-token")),
            expose: Some(HeaderValue::from_static("x-total")),
            max_age: Some(Duration::from_secs(600)),
            credentials: true,
            ..Cors::default()
        }),
        ..rule(name)
    }
}

fn asked(method: &Method, origin: &str) -> http::request::Builder {
    let preflight = (*method == Method::OPTIONS).then_some(("access-control-request-method", "POST"));
    let request = Request::builder().method(method).header("origin", origin);
    preflight
        .into_iter()
        .fold(request, |request, (name, value)| request.header(name, value))
}

async fn ask(bed: &Bed, method: Method, origin: &str) -> Whole {
    let request = asked(&method, origin).uri("/").header("host", SERVICE);
    fetch(bed.address(), request.body(empty()).unwrap()).await
}

/// An endpoint with an opinion of its own.
async fn endpoint() -> Server {
    Server::http(Speaks::Http1, |_| async {
        Response::builder()
            .header("access-control-allow-origin", "*")
            .header("x-total", "7")
            .body(text("from the endpoint"))
            .unwrap()
    })
    .await
}

#[tokio::test]
async fn a_preflight_is_answered_by_the_proxy() {
    let server = endpoint().await;
    let mut model = service(Protocol::Http, &[(server.address, "v1")]);
    model.rules.push(shared("shared"));
    let bed = Bed::start(model);
    let answer = ask(&bed, Method::OPTIONS, SHOP).await;
    assert_eq!((answer.status.as_u16(), answer.body.as_str()), (200, ""));
    for (name, value) in [
        ("access-control-allow-origin", SHOP),
        ("access-control-allow-credentials", "true"),
        ("access-control-allow-methods", "GET,POST"),
        ("access-control-allow-headers", "x-token"),
        ("access-control-max-age", "600"),
        ("x-router-reason", ""),
    ] {
        assert_eq!(answer.header(name), value, "{name}");
    }
    let mut client = Http2::connect(bed.address()).await;
    let request = asked(&Method::OPTIONS, SHOP).uri(format!("http://{SERVICE}/"));
    let answer = whole(client.send(request.body(empty()).unwrap()).await).await;
    assert_eq!(answer.header("access-control-allow-origin"), SHOP);
    assert_eq!(server.counts.requests(), 0);
    let lines = bed.lines(2).await;
    assert!(
        lines
            .iter()
            .all(|l| l.status == 200 && l.reason.is_empty() && l.attempts == 0)
    );
    assert_eq!(lines[0].rule, "route-rule shared");
}

#[tokio::test]
async fn other_requests_are_forwarded_and_only_allowed_origins_may_read() {
    let server = endpoint().await;
    let mut model = service(Protocol::Http, &[(server.address, "v1")]);
    model.rules.push(shared("shared"));
    let bed = Bed::start(model);
    let answer = ask(&bed, Method::GET, SHOP).await;
    assert_eq!(answer.body, "from the endpoint");
    assert_eq!(
        answer
            .headers
            .get_all("access-control-allow-origin")
            .iter()
            .count(),
        1
    );
    assert_eq!(answer.header("access-control-allow-origin"), SHOP);
    assert_eq!(answer.header("access-control-expose-headers"), "x-total");
    assert_eq!(answer.header("access-control-allow-credentials"), "true");
    // Of another origin neither the preflight nor the request is the proxy's business.
    for method in [Method::OPTIONS, Method::GET] {
        let answer = ask(&bed, method, "https://evil.example").await;
        assert_eq!(answer.body, "from the endpoint");
        assert_eq!(answer.header("access-control-allow-origin"), "*");
        assert_eq!(answer.header("access-control-allow-credentials"), "");
    }
    assert_eq!(server.counts.requests(), 3);
}

#[tokio::test]
async fn pages_may_read_refusals_and_redirects_too() {
    let mut model = service(Protocol::Http, &[(nobody(), "v1")]);
    model.rules.push(shared("shared"));
    let mut bed = Bed::start(model.clone());
    let answer = ask(&bed, Method::GET, SHOP).await;
    assert_eq!(
        (answer.status.as_u16(), answer.reason()),
        (503, "upstream-connect-failure")
    );
    assert_eq!(answer.header("access-control-allow-origin"), SHOP);
    model.rules[0].redirect = Some(Redirect {
        uri: Some("/new".into()),
        authority: None,
        status: 301,
    });
    bed.publish(model);
    let answer = ask(&bed, Method::GET, SHOP).await;
    assert_eq!(
        (
            answer.status.as_u16(),
            answer.header("access-control-allow-origin")
        ),
        (301, SHOP)
    );
    // A preflight may not be redirected: browsers would refuse.
    assert_eq!(ask(&bed, Method::OPTIONS, SHOP).await.status.as_u16(), 200);
}

#[tokio::test]
async fn faults_hit_preflights_first() {
    let server = endpoint().await;
    let mut model = service(Protocol::Http, &[(server.address, "v1")]);
    let fault = Fault {
        abort: Some(Abort {
            fraction: Fraction::ALL,
            with: AbortWith::HttpStatus(418),
        }),
        delay: None,
    };
    model.rules.push(Rule {
        fault,
        ..shared("broken")
    });
    let bed = Bed::start(model);
    for method in [Method::OPTIONS, Method::GET] {
        let answer = ask(&bed, method, SHOP).await;
        assert_eq!((answer.status.as_u16(), answer.reason()), (418, "fault-abort"));
        assert_eq!(answer.header("access-control-allow-origin"), "");
    }
}
