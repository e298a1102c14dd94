//! Injected delays and aborts.

use std::time::{Duration, Instant};

use router_rules::{
    action::{Abort, AbortWith, Delay, DelayTime, Fault, Fraction},
    model::{Model, Protocol, Rule},
    status::{GrpcStatus, Http2Error},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

use super::{
    bed::{Bed, SERVICE, rule, service},
    client::{Http1, Http2, PATIENCE, empty, fetch, get},
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
            with: AbortWith::HttpStatus(418),
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
            time: DelayTime::Fixed(delay),
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
        with: AbortWith::HttpStatus(503),
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
            with: AbortWith::HttpStatus(500),
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

fn always(with: AbortWith) -> Fault {
    Fault {
        delay: None,
        abort: Some(Abort {
            fraction: Fraction::ALL,
            with,
        }),
    }
}

#[tokio::test]
async fn a_grpc_abort_is_a_response_without_messages() {
    let server = Server::named("v1").await;
    let status = GrpcStatus::parse("NOT_FOUND").unwrap();
    let bed = Bed::start(model(&server, always(AbortWith::GrpcStatus(status))));
    let answer = Http2::connect(bed.address()).await.get("/s/M").await;
    assert_eq!((answer.status.as_u16(), answer.header("grpc-status")), (200, "5"));
    assert_eq!(answer.header("content-type"), "application/grpc");
    assert_eq!(answer.header("grpc-message"), "fault filter abort");
    assert_eq!((answer.body.as_str(), &answer.trailers), ("", &None));
    assert_eq!(answer.reason(), "fault-abort");
    assert_eq!(server.counts.connections(), 0);
}

#[tokio::test]
async fn an_http2_error_resets_the_stream_and_spares_the_connection() {
    let server = Server::named("v1").await;
    let code = Http2Error::parse("ENHANCE_YOUR_CALM").unwrap();
    let mut bed = Bed::start(model(&server, always(AbortWith::Http2Error(code))));
    let mut client = Http2::connect(bed.address()).await;
    let uri = format!("http://{SERVICE}/");
    let request = http::Request::get(uri).body(empty()).unwrap();
    let error = client.0.send_request(request).await.unwrap_err();
    let cause = std::error::Error::source(&error).and_then(|e| e.downcast_ref::<h2::Error>());
    assert_eq!(
        cause.and_then(h2::Error::reason),
        Some(h2::Reason::ENHANCE_YOUR_CALM)
    );
    let line = &bed.lines(1).await[0];
    assert_eq!((line.reason.as_str(), line.status), ("fault-abort", 0));
    bed.publish(model(&server, Fault::default()));
    assert_eq!(client.get("/").await.body, "v1");
}

#[tokio::test]
async fn an_http2_error_resets_the_connection_of_an_http1_client() {
    let server = Server::named("v1").await;
    let code = Http2Error::parse("2").unwrap();
    let bed = Bed::start(model(&server, always(AbortWith::Http2Error(code))));
    let mut stream = TcpStream::connect(bed.address()).await.unwrap();
    let request = format!("GET / HTTP/1.1\r\nhost: {SERVICE}\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let error = timeout(PATIENCE, stream.read(&mut [0; 1])).await.unwrap();
    assert_eq!(error.unwrap_err().kind(), std::io::ErrorKind::ConnectionReset);
    assert_eq!(bed.lines(1).await[0].reason, "fault-abort");
}

#[tokio::test]
async fn exponential_delays_differ_and_have_their_mean() {
    let server = Server::named("v1").await;
    let mean = Duration::from_millis(40);
    let fault = Fault {
        delay: Some(Delay {
            fraction: Fraction::ALL,
            time: DelayTime::Exponential { mean },
        }),
        abort: None,
    };
    let bed = Bed::start(model(&server, fault));
    let delays = futures_util::future::join_all((0..200).map(|_| async {
        let begun = Instant::now();
        fetch(bed.address(), get("/").body(empty()).unwrap()).await;
        begun.elapsed()
    }));
    let delays = delays.await;
    // The standard deviation of the sum is 14 means; five of them below. Above, the machine may be slow.
    assert!(delays.iter().sum::<Duration>() >= mean * 130, "{delays:?}");
    let (shortest, longest) = (delays.iter().min(), delays.iter().max());
    assert!(longest > shortest.map(|s| *s + mean).as_ref(), "{delays:?}");
}
