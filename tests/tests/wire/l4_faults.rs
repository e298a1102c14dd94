//! Faults of connections: bytes that take their time, and connections that are reset, for TCP, HTTP and tunnels alike.

use std::{
    io::ErrorKind,
    num::NonZeroU64,
    time::{Duration, Instant},
};

use http::Response;
use router_rules::{
    action::Fraction,
    l4_fault::{L4Fault, Shape, Start, Terminate, Throttle},
    model::{Match, Model, Protocol, Rule},
    text::TextMatch,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::mpsc,
    time::timeout,
};

use super::{
    bed::{Bed, SERVICE, rule, service, until},
    client::{Http1, Http2, PATIENCE, empty, fetch, full, get, read_until},
    server::{Server, Speaks},
};

const NO_LIMIT: Option<NonZeroU64> = None;
/// Bits per second of a limit that lets nothing pass as long as a test takes, but for the byte that is free.
const STOPPED: Option<NonZeroU64> = NonZeroU64::new(1);

/// Milliseconds in which a connection gets somewhere before it is terminated, on a busy machine too.
const LATER: u64 = 1500;

fn model(protocol: Protocol, server: &Server, l4_fault: L4Fault) -> Model {
    let mut model = service(protocol, &[(server.address, "v1")]);
    model.rules.push(Rule {
        l4_fault,
        ..rule("l4")
    });
    model
}

fn shape(to_client: Option<NonZeroU64>, to_endpoint: Option<NonZeroU64>) -> Shape {
    Shape {
        to_client,
        to_endpoint,
        start: Start::AT_ONCE,
        duration: None,
    }
}

fn throttle(shape: Shape) -> L4Fault {
    L4Fault {
        throttle: Some(Throttle {
            fraction: Fraction::ALL,
            shape,
        }),
        terminate: None,
    }
}

fn terminate(percent: f64, millis: u64) -> L4Fault {
    L4Fault {
        throttle: None,
        terminate: Some(Terminate {
            fraction: Fraction::from_percent(percent).unwrap(),
            after: Duration::from_millis(millis),
        }),
    }
}

/// Bits per second of a limit in bytes per second.
fn bytes_per_second(bytes: u64) -> Option<NonZeroU64> {
    NonZeroU64::new(bytes * 8)
}

/// A server that sends as much as the first byte says, in multiples of 100 kB, after it has read the rest to its end.
async fn sink_and_source() -> Server {
    Server::raw(|mut stream: TcpStream, _| async move {
        let Ok(hundreds) = stream.read_u8().await else {
            return;
        };
        let mut rest = Vec::new();
        if stream.read_to_end(&mut rest).await.is_ok() {
            let _ = stream
                .write_all(&vec![b'y'; usize::from(hundreds) * 100_000])
                .await;
        }
    })
    .await
}

/// Sends a request for `down` and `up`, both in multiples of 100 kB, through `bed`, and says how long the answer took.
async fn transfer(bed: &Bed, down: u8, up: usize) -> Duration {
    let started = Instant::now();
    let transfer = async {
        let mut stream = TcpStream::connect(bed.address()).await.unwrap();
        stream.write_u8(down).await.unwrap();
        stream.write_all(&vec![b'x'; up * 100_000]).await.unwrap();
        stream.shutdown().await.unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await.unwrap();
        assert_eq!(answer.len(), usize::from(down) * 100_000);
    };
    timeout(PATIENCE * 3, transfer).await.unwrap();
    started.elapsed()
}

#[tokio::test]
async fn bytes_take_the_time_that_the_limit_says() {
    let server = sink_and_source().await;
    for (to_client, to_endpoint) in [
        (bytes_per_second(500_000), NO_LIMIT),
        (NO_LIMIT, bytes_per_second(500_000)),
    ] {
        let fault = throttle(shape(to_client, to_endpoint));
        let bed = Bed::start(model(Protocol::Tcp, &server, fault));
        let (down, up) = if to_client.is_some() { (5, 20) } else { (20, 5) };
        let took = transfer(&bed, down, up).await;
        // 500 kB of which 50 kB go at once; the 2 MB the other way take no time worth mentioning.
        assert!(took >= Duration::from_millis(895), "{took:?}");
        assert!(took < Duration::from_secs(4), "{took:?}");
        let line = &bed.lines(1).await[0];
        assert_eq!((line.reason.as_str(), line.rule.as_str()), ("", "route-rule l4"));
        assert_eq!(bed.proxy.stats().totals().connections_throttled, 1);
    }
}

#[tokio::test]
async fn a_throttle_ends_and_may_begin_late() {
    let server = sink_and_source().await;
    let brief = Shape {
        duration: Some(Duration::from_millis(300)),
        ..shape(STOPPED, STOPPED)
    };
    let late = Shape {
        start: Start::After(Duration::from_secs(3600)),
        ..shape(STOPPED, STOPPED)
    };
    for (shape, least) in [(brief, 300), (late, 0)] {
        let bed = Bed::start(model(Protocol::Tcp, &server, throttle(shape)));
        let took = transfer(&bed, 3, 3).await;
        assert!(took >= Duration::from_millis(least), "{took:?}");
    }
}

#[tokio::test]
async fn a_throttle_may_begin_after_so_many_bytes_to_the_endpoint() {
    let server = Server::raw(|stream: TcpStream, _| async move {
        let (mut from, mut to) = stream.into_split();
        let _ = tokio::io::copy(&mut from, &mut to).await;
    })
    .await;
    let fault = throttle(Shape {
        start: Start::AfterBytes(8),
        ..shape(bytes_per_second(100), NO_LIMIT)
    });
    let bed = Bed::start(model(Protocol::Tcp, &server, fault));
    let mut stream = TcpStream::connect(bed.address()).await.unwrap();
    stream.write_all(b"1234567").await.unwrap();
    read_until(&mut stream, "1234567").await;
    let started = Instant::now();
    stream.write_all(&[b'x'; 60]).await.unwrap();
    let mut answer = [0; 60];
    timeout(PATIENCE, stream.read_exact(&mut answer))
        .await
        .unwrap()
        .unwrap();
    // 10 bytes go at once, and a hundred a second after that.
    assert!(
        started.elapsed() >= Duration::from_millis(480),
        "{:?}",
        started.elapsed()
    );
}

/// A server that never says anything, and how its connections end.
async fn witness() -> (Server, mpsc::UnboundedReceiver<Result<usize, ErrorKind>>) {
    let (ended, ends) = mpsc::unbounded_channel();
    let server = Server::raw(move |mut stream: TcpStream, _| {
        let ended = ended.clone();
        async move {
            let mut read = Vec::new();
            let end = stream.read_to_end(&mut read).await;
            let _ = ended.send(end.map_err(|error| error.kind()));
        }
    })
    .await;
    (server, ends)
}

#[tokio::test]
async fn terminated_connections_are_reset_on_both_sides() {
    let (server, mut ends) = witness().await;
    let bed = Bed::start(model(Protocol::Tcp, &server, terminate(100.0, LATER)));
    let started = Instant::now();
    let mut stream = TcpStream::connect(bed.address()).await.unwrap();
    stream.write_all(b"question").await.unwrap();
    let seen = timeout(PATIENCE, stream.read_u8()).await.unwrap();
    assert_eq!(seen.unwrap_err().kind(), ErrorKind::ConnectionReset);
    assert!(started.elapsed() >= Duration::from_millis(LATER - 5));
    let end = timeout(PATIENCE, ends.recv()).await.unwrap().unwrap();
    assert_eq!(end, Err(ErrorKind::ConnectionReset));
    let line = &bed.lines(1).await[0];
    assert_eq!(
        (line.reason.as_str(), line.received, line.endpoint),
        ("fault-terminate", 8, Some(server.address))
    );
    let totals = bed.proxy.stats().totals();
    assert_eq!(
        (totals.connections_terminated, totals.connections_throttled),
        (1, 0)
    );
}

#[tokio::test]
async fn at_once_means_before_an_endpoint_is_asked() {
    let (server, _ends) = witness().await;
    for protocol in [Protocol::Tcp, Protocol::Http] {
        let bed = Bed::start(model(protocol, &server, terminate(100.0, 0)));
        for _ in 0..5 {
            let attempt = async {
                let mut stream = TcpStream::connect(bed.address()).await?;
                stream.read_u8().await
            };
            let seen = timeout(PATIENCE, attempt).await.unwrap();
            assert_eq!(
                seen.unwrap_err().kind(),
                ErrorKind::ConnectionReset,
                "{protocol:?}"
            );
        }
        let lines = bed.lines(5).await;
        assert!(lines.iter().all(|line| line.reason == "fault-terminate"));
        assert_eq!(bed.proxy.stats().totals().connections_terminated, 5);
    }
    assert_eq!(server.counts.connections(), 0);
}

#[tokio::test]
async fn no_share_is_nobody_and_other_rules_have_their_own_faults() {
    let server = Server::named("v1").await;
    let mut of_nobody = terminate(0.0, 0);
    of_nobody.throttle = Some(Throttle {
        fraction: Fraction::from_percent(0.0).unwrap(),
        shape: shape(STOPPED, STOPPED),
    });
    let mut model = model(Protocol::Http, &server, of_nobody);
    model.rules.push(Rule {
        precedence: 1,
        any_of: vec![Match {
            path: Some(TextMatch::Present),
            ..Match::default()
        }],
        // A connection is decided before its requests: by the rule that asks for nothing of them.
        l4_fault: terminate(100.0, 0),
        ..rule("requests")
    });
    let bed = Bed::start(model);
    for _ in 0..20 {
        let answer = fetch(bed.address(), get("/").body(empty()).unwrap()).await;
        assert_eq!((answer.status.as_u16(), answer.body.as_str()), (200, "v1"));
    }
    let totals = bed.proxy.stats().totals();
    assert_eq!(
        (totals.connections_throttled, totals.connections_terminated),
        (0, 0)
    );
}

#[tokio::test]
async fn responses_and_requests_of_http_are_throttled() {
    for (protocol, speaks) in [(Protocol::Http, Speaks::Http1), (Protocol::Http2, Speaks::Http2)] {
        let server = Server::http(speaks, |request| async move {
            let body = http_body_util::BodyExt::collect(request.into_body()).await;
            let read = body.map_or(0, |body| body.to_bytes().len());
            Response::new(full(if read == 0 { 500_000 } else { 1 }))
        })
        .await;
        let fault = throttle(shape(bytes_per_second(500_000), bytes_per_second(400_000)));
        let bed = Bed::start(model(protocol, &server, fault));
        let request = |size| {
            let uri = format!("http://{SERVICE}/");
            let request = http::Request::post(uri).header("host", SERVICE);
            request
                .body(if size == 0 { empty() } else { full(size) })
                .unwrap()
        };
        let mut http1 = Http1::connect(bed.address()).await;
        let mut http2 = Http2::connect(bed.address()).await;
        for (size, least) in [(0, 895), (200_000, 395)] {
            let started = Instant::now();
            super::client::whole(http1.send(request(size)).await).await;
            let took = started.elapsed();
            assert!(
                took >= Duration::from_millis(least) && took < Duration::from_secs(5),
                "{took:?}"
            );
            let started = Instant::now();
            super::client::whole(http2.send(request(size)).await).await;
            let took = started.elapsed();
            assert!(
                took >= Duration::from_millis(least) && took < Duration::from_secs(5),
                "{took:?}"
            );
        }
    }
}

#[tokio::test]
async fn requests_under_way_end_with_their_connection() {
    for (protocol, speaks) in [(Protocol::Http, Speaks::Http1), (Protocol::Http2, Speaks::Http2)] {
        let server = Server::http(speaks, |_| std::future::pending()).await;
        let bed = Bed::start(model(protocol, &server, terminate(100.0, LATER)));
        let mut http1 = Http1::connect(bed.address()).await.0;
        http1.ready().await.unwrap();
        let waiting = http1.send_request(get("/1").body(empty()).unwrap());
        assert!(timeout(PATIENCE, waiting).await.unwrap().is_err());
        let mut http2 = Http2::connect(bed.address()).await.0;
        http2.ready().await.unwrap();
        let request = http::Request::get(format!("http://{SERVICE}/2")).body(empty());
        let waiting = http2.send_request(request.unwrap());
        assert!(timeout(PATIENCE, waiting).await.unwrap().is_err());
        let lines = bed.lines(2).await;
        for (line, path) in lines.iter().zip(["/1", "/2"]) {
            assert_eq!((line.reason.as_str(), line.status), ("fault-terminate", 0));
            assert!(line.path.ends_with(path), "{}", line.path);
        }
        assert_eq!(bed.proxy.stats().totals().connections_terminated, 2);
        assert_eq!(server.counts.requests(), 2);
    }
}

#[tokio::test]
async fn silent_connections_of_http_are_terminated_too() {
    let server = Server::named("v1").await;
    let bed = Bed::start(model(Protocol::Http, &server, terminate(100.0, LATER)));
    // One says nothing at all, the other nothing after its first response.
    let mut silent = TcpStream::connect(bed.address()).await.unwrap();
    let mut idle = TcpStream::connect(bed.address()).await.unwrap();
    let request = format!("GET / HTTP/1.1\r\nhost: {SERVICE}\r\n\r\n");
    idle.write_all(request.as_bytes()).await.unwrap();
    read_until(&mut idle, "\r\n\r\nv1").await;
    for stream in [&mut silent, &mut idle] {
        let seen = timeout(PATIENCE, stream.read_u8()).await.unwrap();
        assert_eq!(seen.unwrap_err().kind(), ErrorKind::ConnectionReset);
    }
    let lines = bed.lines(3).await;
    let mut reasons: Vec<_> = lines.iter().map(|line| line.reason.as_str()).collect();
    reasons.sort_unstable();
    assert_eq!(reasons, ["", "fault-terminate", "fault-terminate"]);
}

#[tokio::test]
async fn tunnels_are_terminated_on_both_sides() {
    let (ended, mut ends) = mpsc::unbounded_channel();
    let server = Server::raw(move |mut stream: TcpStream, _| {
        let ended = ended.clone();
        async move {
            read_until(&mut stream, "\r\n\r\n").await;
            let switch = "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: test\r\n\r\n";
            stream.write_all(switch.as_bytes()).await.unwrap();
            let mut read = Vec::new();
            let end = stream.read_to_end(&mut read).await;
            let _ = ended.send(end.map_err(|error| error.kind()));
        }
    })
    .await;
    let bed = Bed::start(model(Protocol::Http, &server, terminate(100.0, LATER)));
    let mut stream = TcpStream::connect(bed.address()).await.unwrap();
    let request =
        format!("GET /t HTTP/1.1\r\nhost: {SERVICE}\r\nconnection: upgrade\r\nupgrade: test\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    assert!(
        read_until(&mut stream, "\r\n\r\n")
            .await
            .starts_with("HTTP/1.1 101")
    );
    let seen = timeout(PATIENCE, stream.read_u8()).await.unwrap();
    assert_eq!(seen.unwrap_err().kind(), ErrorKind::ConnectionReset);
    let end = timeout(PATIENCE, ends.recv()).await.unwrap().unwrap();
    assert_eq!(end, Err(ErrorKind::ConnectionReset));
    assert_eq!(bed.lines(1).await[0].reason, "fault-terminate");
    until("the count", || {
        bed.proxy.stats().totals().connections_terminated == 1
    })
    .await;
}
