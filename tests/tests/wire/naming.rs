//! Connections to unknown addresses, on ports where hosts below a domain may be reached: the name that the client sends
//! decides, and the address that it dialled is where it goes.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::{Arc, atomic::Ordering::SeqCst},
    time::Duration,
};

use http::Request;
use router_rules::{
    external::{External, ORIGINAL_DESTINATION, at},
    id::ServiceName,
    model::{Match, Model, Port, Protocol, Rule, Service},
    policy::Policy,
    rewrite::Rewrite,
    text::TextMatch,
};
use router_userspace::{
    enforce::Origin,
    proxy::{Limits, error::Kind},
};
use rustls::{ClientConfig, ClientConnection, RootCertStore};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

use super::{
    bed::{Bed, until, written},
    client::{Http1, Http2, PATIENCE, empty, exchange, read_until, whole},
    server::{Server, Speaks},
};

const DOMAIN: &str = "*.example.com";

/// Hosts below a domain at `port`, over `protocol`.
fn below(domain: &str, port: u16, protocol: Protocol) -> Model {
    let name = ServiceName::new(domain);
    Model {
        services: vec![Service {
            name: name.clone(),
            addresses: Vec::new(),
            ports: vec![Port {
                number: port,
                name: None,
                protocol,
                endpoints: vec![at(ORIGINAL_DESTINATION)],
            }],
        }],
        externals: BTreeMap::from([(name, External::Below(domain.trim_start_matches('*').into()))]),
        ..Model::default()
    }
}

/// Both in one configuration.
fn and(mut one: Model, other: Model) -> Model {
    one.services.extend(other.services);
    one.externals.extend(other.externals);
    one
}

/// Who dials the server: a workload under registry-only, or somebody who may reach everything.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Caller {
    Confined,
    Free,
}

fn hurried() -> Limits {
    Limits {
        head_timeout: Duration::from_millis(400),
        silence: Duration::from_millis(100),
        ..Limits::default()
    }
}

/// A proxy whose clients dialled `server`.
fn bed(model: Model, server: SocketAddr, caller: Caller) -> Bed {
    let bed = Bed::with(model, 1, hurried());
    let origin = Origin {
        destination: server,
        cgroup: 7,
        confined: caller == Caller::Confined,
    };
    let client = IpAddr::V4(Ipv4Addr::LOCALHOST);
    bed.kernel.origins.lock().unwrap().insert(client, origin);
    bed
}

/// Answers with a word and everything it reads, and closes when its client does.
async fn listener() -> Server {
    Server::raw(|mut stream: TcpStream, counts| async move {
        let mut read = Vec::new();
        if stream.read_to_end(&mut read).await.is_ok() {
            counts.requests.fetch_add(1, SeqCst);
            let _ = stream.write_all(&[b"server:", &read[..]].concat()).await;
        }
    })
    .await
}

/// The first message of a TLS client; without a name for an address.
fn client_hello(host: &str) -> Vec<u8> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(RootCertStore::empty())
        .with_no_client_auth();
    let name = host.to_owned().try_into().unwrap();
    let mut client = ClientConnection::new(Arc::new(config), name).unwrap();
    let mut hello = Vec::new();
    client.write_tls(&mut hello).unwrap();
    hello
}

/// The same in records of `size` bytes.
fn divided(hello: &[u8], size: usize) -> Vec<u8> {
    let records = hello[5..].chunks(size).map(|part| {
        let length = u16::try_from(part.len()).unwrap();
        [&hello[..3], &length.to_be_bytes(), part].concat()
    });
    records.collect::<Vec<_>>().concat()
}

/// Sends all pieces, each after the one before it can have been seen, closes its side, and reads to the end.
async fn send(proxy: SocketAddr, pieces: &[&[u8]]) -> std::io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect(proxy).await?;
    stream.set_nodelay(true)?;
    for (index, piece) in pieces.iter().enumerate() {
        if index > 0 {
            // waits: the pieces must not arrive together; nothing shows that one was looked at.
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        stream.write_all(piece).await?;
    }
    stream.shutdown().await?;
    let mut answer = Vec::new();
    timeout(PATIENCE, stream.read_to_end(&mut answer))
        .await
        .unwrap()?;
    Ok(answer)
}

fn answered(answer: std::io::Result<Vec<u8>>, sent: &[u8]) {
    assert_eq!(answer.unwrap(), [b"server:", sent].concat());
}

#[tokio::test]
async fn the_server_name_of_tls_opens_the_way() {
    let server = listener().await;
    let model = below(DOMAIN, server.address.port(), Protocol::Tcp);
    let bed = bed(model, server.address, Caller::Confined);
    let hello = client_hello("www.example.com");
    // Whole, in two pieces, byte by byte at the end, in many records, and with data behind it.
    let (front, back) = hello.split_at(hello.len() / 2);
    let tail: Vec<&[u8]> = std::iter::once(&hello[..hello.len() - 3])
        .chain(hello[hello.len() - 3..].chunks(1))
        .collect();
    let records = divided(&hello, 20);
    let followed = [&hello[..], b"and more"].concat();
    for pieces in [
        vec![&hello[..]],
        vec![front, back],
        tail,
        vec![&records],
        vec![&followed],
    ] {
        answered(send(bed.address(), &pieces).await, &pieces.concat());
    }
    let lines = bed.lines(5).await;
    assert!(
        lines.iter().all(|line| line.service == DOMAIN
            && line.endpoint == Some(server.address)
            && line.reason.is_empty()),
        "{lines:?}"
    );
}

#[tokio::test]
async fn whoever_names_no_declared_host_is_refused() {
    let server = listener().await;
    let model = below(DOMAIN, server.address.port(), Protocol::Tcp);
    let bed = bed(model, server.address, Caller::Confined);
    let huge = {
        let mut hello = client_hello("www.example.com");
        // A hello of 60,000 bytes, of which there are 20,000.
        hello[6..9].copy_from_slice(&[0, 0xea, 0x60]);
        let mut rest = hello[5..].to_vec();
        rest.resize(20_000, 0);
        divided(&[&hello[..5], &rest].concat(), 16_000)
    };
    for (what, bytes) in [
        ("another domain", client_hello("www.example.org")),
        ("the domain itself", client_hello("example.com")),
        ("a longer word", client_hello("www.badexample.com")),
        ("an address", client_hello("192.0.2.7")),
        (
            "no TLS",
            b"GET / HTTP/1.1\r\nHost: www.example.com\r\n\r\n".to_vec(),
        ),
        ("garbage", vec![22, 3, 1, 0, 4, 0xff, 0xff, 0xff, 0xff]),
        ("a hello without an end", huge),
    ] {
        let refused = send(bed.address(), &[&bytes]).await;
        assert!(
            refused.is_err() || refused.is_ok_and(|answer| answer.is_empty()),
            "{what}"
        );
    }
    let lines = bed.lines(7).await;
    assert!(
        lines.iter().all(|l| l.reason == "unknown-destination"),
        "{lines:?}"
    );
    assert_eq!(server.counts.connections(), 0);
    until("refusals to be counted", || {
        bed.proxy.stats().totals().reason(Kind::UnknownDestination) == 7
    })
    .await;
}

#[tokio::test]
async fn a_name_that_does_not_come_is_not_waited_for() {
    let server = listener().await;
    let model = below(DOMAIN, server.address.port(), Protocol::Tcp);
    let bed = bed(model, server.address, Caller::Confined);
    let hello = client_hello("www.example.com");
    for begun in [&hello[..0], &hello[..1], &hello[..hello.len() - 1]] {
        let mut stream = TcpStream::connect(bed.address()).await.unwrap();
        stream.write_all(begun).await.unwrap();
        let mut byte = [0];
        let ended = timeout(PATIENCE, stream.read(&mut byte)).await.unwrap();
        assert!(ended.is_err() || ended.is_ok_and(|n| n == 0));
    }
    let lines = bed.lines(3).await;
    assert!(lines.iter().all(|l| l.reason == "head-timeout"), "{lines:?}");
    assert_eq!(server.counts.connections(), 0);
}

#[tokio::test]
async fn rules_and_policies_of_the_domain_are_in_force() {
    let server = Server::raw(|mut stream: TcpStream, _| async move {
        let _ = stream.read_to_end(&mut Vec::new()).await;
    })
    .await;
    let port = server.address.port();
    let mut model = and(
        below(DOMAIN, port, Protocol::Tcp),
        below("*.eu.example.com", port, Protocol::Tcp),
    );
    let few = "destination-policy few";
    model.policies.push(Policy {
        max_connections: Some(1),
        ..Policy::new(written(few), ServiceName::new("*.eu.example.com"))
    });
    let bed = bed(model, server.address, Caller::Confined);
    bed.kernel.limits.lock().unwrap().insert(few.to_owned(), 1);
    let mut held = TcpStream::connect(bed.address()).await.unwrap();
    held.write_all(&client_hello("a.eu.example.com")).await.unwrap();
    until("the first connection", || server.counts.connections() == 1).await;
    // The longest domain is the one that is meant.
    assert!(
        send(bed.address(), &[&client_hello("b.eu.example.com")])
            .await
            .is_err()
    );
    let lines = bed.lines(1).await;
    assert_eq!(
        (lines[0].service.as_str(), lines[0].reason.as_str()),
        ("*.eu.example.com", "limit-reached")
    );
    // Others are not under its policy.
    assert!(
        send(bed.address(), &[&client_hello("www.example.com")])
            .await
            .is_ok()
    );
}

fn request(host: &str) -> Request<super::server::Body> {
    Request::get("/a").header("host", host).body(empty()).unwrap()
}

#[tokio::test]
async fn every_request_names_its_host() {
    let server = Server::echo(Speaks::Http1).await;
    let mut model = below(DOMAIN, server.address.port(), Protocol::Http);
    model.rules.push(Rule {
        any_of: vec![Match {
            authority: Some(TextMatch::Prefix("api.".into())),
            ..Match::default()
        }],
        rewrite: Rewrite {
            uri: Some("/b".into()),
            ..Rewrite::default()
        },
        ..Rule::new(written("route-rule api"), ServiceName::new(DOMAIN))
    });
    let bed = bed(model, server.address, Caller::Confined);
    let mut client = Http1::connect(bed.address()).await;
    for (host, status, path) in [
        ("www.example.com", 200, "GET /a "),
        ("api.example.com:80", 200, "GET /b/a "),
        ("www.example.org", 502, ""),
        ("example.com", 502, ""),
        ("WWW.EXAMPLE.COM.", 200, "GET /a "),
    ] {
        let answer = whole(client.send(request(host)).await).await;
        assert_eq!(answer.status, status, "{host}: {}", answer.body);
        assert!(answer.body.starts_with(path), "{host}: {}", answer.body);
        let expected = if status == 200 { "" } else { "unknown-destination" };
        assert_eq!(answer.reason(), expected, "{host}");
    }
    assert_eq!(server.counts.requests(), 3);
    // What is no HTTP is refused by its form.
    assert!(
        exchange(bed.address(), b"\x01\x02\x03\x04\r\n\r\n")
            .await
            .starts_with("HTTP/1.1 400 ")
    );
    // TLS is not what the rule opens.
    assert!(
        send(bed.address(), &[&client_hello("www.example.com")])
            .await
            .is_err()
    );
}

#[tokio::test]
async fn every_stream_names_its_host() {
    let server = Server::echo(Speaks::Http2).await;
    let model = below(DOMAIN, server.address.port(), Protocol::Grpc);
    for (caller, other) in [(Caller::Confined, 502), (Caller::Free, 200)] {
        let bed = bed(model.clone(), server.address, caller);
        let mut client = Http2::connect(bed.address()).await;
        for (host, status) in [("a.example.com", 200), ("a.example.org", other)] {
            let request = Request::get(format!("http://{host}/x")).body(empty()).unwrap();
            let answer = whole(client.send(request).await).await;
            assert_eq!(answer.status, status, "{host}: {}", answer.body);
            if status == 200 {
                assert!(
                    answer
                        .body
                        .starts_with(&format!("GET http://{host}/x HTTP/2.0\n")),
                    "{}",
                    answer.body
                );
                // Nothing is added to what is not ours.
                let ours = host == "a.example.com";
                assert_eq!(answer.body.contains("x-forwarded-for"), ours, "{}", answer.body);
            }
        }
    }
}

#[tokio::test]
async fn who_may_reach_everything_is_passed_on_untouched() {
    let server = listener().await;
    let port = server.address.port();
    let model = and(
        below(DOMAIN, port, Protocol::Http),
        below("*.example.net", port, Protocol::Tcp),
    );
    let bed = bed(model, server.address, Caller::Free);
    let passed: [&[u8]; 6] = [
        b"GET / HTTP/1.1\r\nhOsT: www.example.org\r\n\r\n",
        b"GET  / HTTP/1.1\nnot quite: HTTP\n",
        b"\0\x01\x02 something else",
        b"GET / HTTP/1.0\r\n\r\n",
        &client_hello("www.example.org"),
        &client_hello("192.0.2.7"),
    ];
    for bytes in passed {
        answered(send(bed.address(), &[bytes]).await, bytes);
    }
    let lines = bed.lines(passed.len()).await;
    assert!(
        lines
            .iter()
            .all(|l| l.service == "*" && l.endpoint == Some(server.address) && l.reason.is_empty()),
        "{lines:?}"
    );
    let named = client_hello("a.example.net");
    answered(send(bed.address(), &[&named]).await, &named);
    assert_eq!(
        bed.lines(passed.len() + 1).await[passed.len()].service,
        "*.example.net"
    );
}

#[tokio::test]
async fn the_server_may_speak_first_where_nothing_is_refused() {
    let server = Server::raw(|mut stream: TcpStream, _| async move {
        stream.write_all(b"220 ready\r\n").await.unwrap();
        assert_eq!(read_until(&mut stream, "\r\n").await, "QUIT\r\n");
    })
    .await;
    let model = below(DOMAIN, server.address.port(), Protocol::Tcp);
    let bed = bed(model, server.address, Caller::Free);
    let mut stream = TcpStream::connect(bed.address()).await.unwrap();
    assert_eq!(read_until(&mut stream, "\r\n").await, "220 ready\r\n");
    stream.write_all(b"QUIT\r\n").await.unwrap();
    assert_eq!(stream.read(&mut [0]).await.unwrap(), 0);
}
