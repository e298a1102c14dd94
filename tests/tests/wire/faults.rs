//! Injected delays and aborts.

use std::time::{Duration, Instant};

use router_rules::{
    action::{Abort, Delay, Fault, Fraction},
    model::{Model, Protocol, Rule},
};

use super::{
    bed::{Bed, rule, service},
    client::{Http1, empty, fetch, get},
    server::Server,
};

fn model(server: &Server, fault: Fault) -> Model {
    let mut model = service(Protocol::Http, &[(server.address, "v1")]);
    model.rules.push(Rule {
        fault,
        timeout: Some(Duration::from_millis(500)),
        ..rule("fault")
    });
    model
}

fn percent(percent: f64) -> Fraction {
    Fraction::from_percent(percent).unwrap()
}

#[tokio::test]
async fn an_abort_answers_instead_of_an_endpoint() {
    let server = Server::named("v1").await;
    let fault = Fault {
        delay: None,
        abort: Some(Abort {
            fraction: Fraction::ALL,
            status: 418,
        }),
    };
    let bed = Bed::start(model(&server, fault));
    let answer = fetch(bed.address(), get("/").body(empty()).unwrap()).await;
    assert_eq!(
        (answer.status.as_u16(), answer.body.as_str()),
        (418, "fault filter abort")
    );
    assert_eq!(answer.reason(), "fault-abort");
    let grpc = get("/s/M")
        .header("content-type", "application/grpc")
        .body(empty())
        .unwrap();
    let answer = fetch(bed.address(), grpc).await;
    assert_eq!((answer.status.as_u16(), answer.header("grpc-status")), (200, "2"));
    assert_eq!(server.counts.connections(), 0);
    assert_eq!(bed.lines(2).await[0].reason, "fault-abort");
}

#[tokio::test]
async fn a_delay_comes_first_and_is_not_part_of_the_timeout() {
    let server = Server::named("v1").await;
    let delay = Duration::from_millis(700);
    let fault = Fault {
        delay: Some(Delay {
            fraction: Fraction::ALL,
            duration: delay,
        }),
        abort: None,
    };
    let mut bed = Bed::start(model(&server, fault));
    let begun = Instant::now();
    let answer = fetch(bed.address(), get("/").body(empty()).unwrap()).await;
    assert_eq!((answer.status.as_u16(), answer.body.as_str()), (200, "v1"));
    assert!(begun.elapsed() >= delay);
    let abort = Some(Abort {
        fraction: Fraction::ALL,
        status: 503,
    });
    bed.publish(model(&server, Fault { abort, ..fault }));
    let begun = Instant::now();
    let answer = fetch(bed.address(), get("/").body(empty()).unwrap()).await;
    assert_eq!((answer.status.as_u16(), answer.reason()), (503, "fault-abort"));
    assert!(begun.elapsed() >= delay);
}

#[tokio::test]
async fn ten_percent_are_aborted() {
    let server = Server::named("v1").await;
    let fault = Fault {
        delay: None,
        abort: Some(Abort {
            fraction: percent(10.0),
            status: 500,
        }),
    };
    let bed = Bed::start(model(&server, fault));
    let clients = (0..10).map(|_| async {
        let mut client = Http1::connect(bed.address()).await;
        let mut aborted = 0;
        for _ in 0..200 {
            aborted += i32::from(client.get("/").await.status.as_u16() == 500);
        }
        aborted
    });
    let aborted: i32 = futures_util::future::join_all(clients).await.into_iter().sum();
    // 200 are expected, the standard deviation is 13.4; five of them on either side.
    assert!((133..=267).contains(&aborted), "{aborted}");
}
