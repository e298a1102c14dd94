//! What clients are told beside their responses: reasons, and explanations of their own requests.

use http::Request;
use router_rules::{
    action::Retries,
    model::{Match, Model, Protocol, Rule},
    text::TextMatch,
};
use router_userspace::proxy::{Disclosure, Limits};

use super::{
    bed::{Bed, rule, service, target},
    client::{Http2, empty, fetch, get, whole},
    server::{Server, Speaks, nobody},
};

const ASKS: &str = "x-router-explain";

fn explaining(model: Model) -> Bed {
    let disclosure = Disclosure {
        explain: Some(ASKS.parse().unwrap()),
        ..Disclosure::default()
    };
    Bed::disclosing(model, 2, Limits::default(), disclosure)
}

/// Requests for `/new` go to v2, others to v1 with a retry.
fn model(instances: &[(std::net::SocketAddr, &str)]) -> Model {
    let mut model = service(Protocol::Http, instances);
    model.rules.push(Rule {
        precedence: 1,
        any_of: vec![Match {
            path: Some(TextMatch::Prefix("/new".into())),
            ..Match::default()
        }],
        targets: vec![target("v2", 100)],
        ..rule("new")
    });
    model.rules.push(Rule {
        targets: vec![target("v1", 100)],
        retries: Some(Retries {
            attempts: 1,
            per_try_timeout: None,
        }),
        ..rule("rest")
    });
    model
}

#[tokio::test]
async fn a_request_that_asks_is_explained() {
    let server = Server::echo(Speaks::Http1).await;
    let bed = explaining(model(&[(server.address, "v1")]));
    let asking = get("/old").header(ASKS, "1").body(empty()).unwrap();
    let answer = fetch(bed.address(), asking).await;
    // The endpoint did not see the question.
    assert!(!answer.body.contains(ASKS), "{}", answer.body);
    let expected = format!(
        "generation=1, service=\"reviews.default.svc.cluster.local:80\", rule=\"route-rule rest\", \
         at=\"rules.yaml:1\", match=\"everything\", \
         not-1=\"route-rule new: path is \\\"/old\\\", not prefix \\\"/new\\\"\", \
         subset=\"reviews.default.svc.cluster.local:80 version=v1\", timeout=\"15s\", endpoint=\"{}\", attempts=1",
        server.address
    );
    assert_eq!(answer.header(ASKS), expected);
    assert_eq!(
        fetch(bed.address(), get("/old").body(empty()).unwrap())
            .await
            .header(ASKS),
        ""
    );
}

#[tokio::test]
async fn refusals_are_explained_too() {
    let bed = explaining(model(&[(nobody(), "v1")]));
    let answer = fetch(
        bed.address(),
        get("/new/a").header(ASKS, "").body(empty()).unwrap(),
    )
    .await;
    assert_eq!(answer.reason(), "no-endpoints");
    let explanation = answer.header(ASKS);
    assert!(
        explanation.contains("match=\"uri prefix \\\"/new\\\"\""),
        "{explanation}"
    );
    assert!(
        explanation.ends_with("attempts=0, reason=\"no-endpoints\""),
        "{explanation}"
    );
    let mut client = Http2::connect(bed.address()).await;
    let request = Request::get("http://a/").header(ASKS, "1").body(empty()).unwrap();
    let answer = whole(client.send(request).await).await;
    let explanation = answer.header(ASKS);
    assert!(
        explanation.ends_with("attempts=2, reason=\"upstream-connect-failure\""),
        "{explanation}"
    );
}

#[tokio::test]
async fn nobody_is_explained_anything_unless_the_agent_allows_it() {
    let server = Server::echo(Speaks::Http1).await;
    let bed = Bed::start(model(&[(server.address, "v1")]));
    let answer = fetch(bed.address(), get("/").header(ASKS, "1").body(empty()).unwrap()).await;
    assert_eq!(answer.header(ASKS), "");
    assert!(answer.body.contains("x-router-explain: 1"), "{}", answer.body);
}

#[tokio::test]
async fn the_reason_can_be_kept_to_the_log() {
    let disclosure = Disclosure {
        reason: false,
        ..Disclosure::default()
    };
    let bed = Bed::disclosing(model(&[]), 1, Limits::default(), disclosure);
    let answer = fetch(bed.address(), get("/").body(empty()).unwrap()).await;
    assert_eq!((answer.status.as_u16(), answer.reason()), (503, ""));
    assert_eq!(bed.lines(1).await[0].reason, "no-endpoints");
}
