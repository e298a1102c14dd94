//! Redirects, and rewrites of paths and hosts.

use http::{HeaderName, HeaderValue};
use router_rules::{
    model::{Match, Model, Protocol, Rule},
    rewrite::{DEFAULT_REDIRECT_STATUS, Redirect, Rewrite},
    text::TextMatch,
};

use super::{
    bed::{Bed, SERVICE, rule, service},
    client::{Http2, empty, fetch, get},
    server::{Server, Speaks},
};

fn path(wanted: TextMatch) -> Vec<Match> {
    vec![Match {
        path: Some(wanted),
        ..Match::default()
    }]
}

fn model(server: &Server, protocol: Protocol) -> Model {
    let mut model = service(protocol, &[(server.address, "v1")]);
    model.rules.push(Rule {
        precedence: 2,
        any_of: path(TextMatch::Prefix("/old".into())),
        rewrite: Rewrite {
            uri: Some("/new".into()),
            authority: Some("other.example.com:81".into()),
        },
        ..rule("rewrite")
    });
    model.rules.push(Rule {
        precedence: 1,
        any_of: path(TextMatch::Exact("/moved".into())),
        redirect: Some(Redirect {
            uri: Some("/here".into()),
            authority: None,
            status: DEFAULT_REDIRECT_STATUS,
        }),
        ..rule("redirect")
    });
    model
}

#[tokio::test]
async fn endpoints_see_the_new_path_and_host() {
    let server = Server::echo(Speaks::Http1).await;
    let bed = Bed::start(model(&server, Protocol::Http));
    let seen = fetch(bed.address(), get("/old/a?q=1").body(empty()).unwrap()).await;
    assert!(
        seen.body.starts_with("GET /new/a?q=1 HTTP/1.1\n"),
        "{}",
        seen.body
    );
    for field in [
        "host: other.example.com:81",
        "x-envoy-original-path: /old/a?q=1",
        &format!("x-envoy-original-host: {SERVICE}"),
    ] {
        assert!(seen.body.contains(field), "{field} in {}", seen.body);
    }
    // What the client asked for is what the log says.
    assert_eq!(bed.lines(1).await[0].path, "/old/a?q=1");
    let seen = fetch(bed.address(), get("/other").body(empty()).unwrap()).await;
    assert!(seen.body.starts_with("GET /other HTTP/1.1\n") && !seen.body.contains("x-envoy"));
}

#[tokio::test]
async fn fields_are_added_beside_those_of_the_same_name() {
    let server = Server::echo(Speaks::Http1).await;
    let mut model = service(Protocol::Http, &[(server.address, "v1")]);
    let field = |name, value| (HeaderName::from_static(name), HeaderValue::from_static(value));
    model.rules.push(Rule {
        append_headers: vec![field("x-stage", "canary"), field("x-list", "b")],
        ..rule("append")
    });
    let bed = Bed::start(model);
    let request = get("/").header("x-list", "a").body(empty()).unwrap();
    let seen = fetch(bed.address(), request).await;
    assert!(
        seen.body.contains("x-list: a\nx-list: b\n") && seen.body.contains("x-stage: canary\n"),
        "{}",
        seen.body
    );
}

#[tokio::test]
async fn rewrites_reach_http2_endpoints() {
    let server = Server::echo(Speaks::Http2).await;
    let bed = Bed::start(model(&server, Protocol::Http2));
    let seen = Http2::connect(bed.address()).await.get("/old").await;
    let target = "GET http://other.example.com:81/new HTTP/2.0\n";
    assert!(seen.body.starts_with(target), "{}", seen.body);
}

#[tokio::test]
async fn a_redirect_answers_with_the_new_location() {
    let server = Server::named("v1").await;
    let bed = Bed::start(model(&server, Protocol::Http));
    let answer = fetch(bed.address(), get("/moved?q=1").body(empty()).unwrap()).await;
    assert_eq!(
        (answer.status.as_u16(), answer.body.as_str(), answer.reason()),
        (301, "", "")
    );
    assert_eq!(answer.header("location"), format!("http://{SERVICE}/here?q=1"));
    let answer = Http2::connect(bed.address()).await.get("/moved").await;
    assert_eq!(answer.header("location"), format!("http://{SERVICE}/here"));
    assert_eq!(server.counts.connections(), 0);
    let lines = bed.lines(2).await;
    assert_eq!((lines[0].status, lines[0].reason.as_str()), (301, ""));
    assert_eq!(lines[0].rule, "route-rule redirect");
}
