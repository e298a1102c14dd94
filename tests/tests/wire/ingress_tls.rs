//! TLS at the node's own ports: certificates by name, versions and protocols, certificates that change, clients that
//! never finish.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use futures_util::{SinkExt as _, StreamExt as _};
use http::Request;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use router_rules::{
    gateway::{Credential, Key, Validity},
    model::{Model, Protocol},
};
use router_userspace::proxy::{Limits, error::Kind};
use rustls::{
    ClientConfig, RootCertStore,
    crypto::ring,
    pki_types::{CertificateDer, ServerName},
    version::{TLS12, TLS13},
};
use tests::certificates::{Authority, Issued, Valid};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::timeout,
};
use tokio_rustls::{TlsConnector, client::TlsStream};

use super::{
    bed::{Bed, SERVICE, service, until},
    client::{Http1, Http2, PATIENCE, empty, whole},
    ingress::{Reserved, entry, host, opened, with_gateway},
    server::{Server, Speaks},
};

fn credential(secret: &str, hosts: &[&str], issued: &Issued) -> Arc<Credential> {
    Arc::new(Credential {
        secret: secret.into(),
        names: hosts.iter().map(|&host| host.to_owned()).collect(),
        validity: Validity {
            from: 0,
            until: u64::MAX,
        },
        chain: vec![issued.certificate.clone()],
        key: Key::new(issued.key.clone()),
    })
}

/// A certificate for hosts, as a credential and as clients see it.
fn issued(authority: &Authority, secret: &str, hosts: &[&str]) -> (Arc<Credential>, Vec<u8>) {
    let issued = authority.issue(hosts, Valid::Now).unwrap();
    (credential(secret, hosts, &issued), issued.certificate)
}

/// A client that trusts an authority.
struct Client(ClientConfig);

impl Client {
    fn trusting(authority: &Authority) -> Self {
        Self::of_versions(authority, &[&TLS13, &TLS12])
    }

    fn of_versions(authority: &Authority, versions: &[&'static rustls::SupportedProtocolVersion]) -> Self {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from(authority.der().to_vec())).unwrap();
        let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()));
        let builder = builder.with_protocol_versions(versions).unwrap();
        Self(builder.with_root_certificates(roots).with_no_client_auth())
    }

    fn offering(mut self, protocols: &[&[u8]]) -> Self {
        self.0.alpn_protocols = protocols.iter().map(|p| p.to_vec()).collect();
        self
    }

    async fn connect(&self, address: SocketAddr, host: &str) -> std::io::Result<TlsStream<TcpStream>> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        let connector = TlsConnector::from(Arc::new(self.0.clone()));
        let name = ServerName::try_from(host.to_owned()).unwrap();
        timeout(PATIENCE, connector.connect(name, stream)).await.unwrap()
    }

    async fn http1(&self, address: SocketAddr, host: &str) -> Http1 {
        over(self.connect(address, host).await.unwrap()).await
    }

    async fn http2(&self, address: SocketAddr, host: &str) -> Http2 {
        let stream = self.connect(address, host).await.unwrap();
        assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
        let handshake = http2::handshake(TokioExecutor::new(), TokioIo::new(stream));
        let (sender, connection) = handshake.await.unwrap();
        tokio::spawn(connection);
        Http2(sender)
    }
}

/// A client of HTTP/1.1 on a connection.
async fn over(stream: TlsStream<TcpStream>) -> Http1 {
    let (sender, connection) = http1::handshake(TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection.with_upgrades());
    Http1(sender)
}

/// The certificate that a server shows.
fn shown(stream: &TlsStream<TcpStream>) -> Vec<u8> {
    stream.get_ref().1.peer_certificates().unwrap()[0].to_vec()
}

/// Everything that comes in by TLS goes to the service.
fn secured(model: Model, port: &Reserved, credential: &Arc<Credential>) -> Model {
    let rule = entry("all", SERVICE, Vec::new(), Some(credential.clone()));
    with_gateway(model, port, vec![rule])
}

#[tokio::test]
async fn both_versions_of_http_come_in_by_both_versions_of_tls() {
    let server = Server::echo(Speaks::Http1).await;
    let authority = Authority::new().unwrap();
    let (credential, _) = issued(&authority, "default/shop", &["shop.test"]);
    let port = Reserved::new();
    let model = service(Protocol::Http, &[(server.address, "v1")]);
    let bed = Bed::start(secured(model, &port, &credential));
    opened(&bed, &port).await;
    for version in [&TLS12, &TLS13] {
        let client = Client::of_versions(&authority, &[version]).offering(&[b"h2", b"http/1.1"]);
        let mut over_http2 = client.http2(port.address(), "shop.test").await;
        let request = Request::get("https://shop.test/a").body(empty()).unwrap();
        let answer = whole(over_http2.send(request).await).await;
        for line in ["GET /a ", "host: shop.test\n", "x-forwarded-proto: https\n"] {
            assert!(answer.body.contains(line), "{line} is not in {}", answer.body);
        }
        // Without ALPN, and with HTTP/1.1 alone.
        for protocols in [&[][..], &[&b"http/1.1"[..]]] {
            let client = Client::of_versions(&authority, &[version]).offering(protocols);
            let mut over_http1 = client.http1(port.address(), "shop.test").await;
            let request = Request::post("/b").header("host", "shop.test");
            let answer = over_http1
                .send(request.body(super::client::full(300_000)).unwrap())
                .await;
            let answer = whole(answer).await;
            assert!(answer.body.starts_with("POST /b "), "{}", answer.body);
            assert!(answer.body.len() > 300_000);
        }
    }
    let lines = bed.lines(6).await;
    assert_eq!(lines.iter().filter(|line| line.protocol == "HTTP/2").count(), 2);
    assert!(lines.iter().all(|line| line.ingress == "ingress-rule all"));
}

#[tokio::test]
async fn the_certificate_is_the_one_for_the_name_that_the_client_asks_for() {
    let (shop, blog) = (Server::named("shop").await, Server::named("blog").await);
    let authority = Authority::new().unwrap();
    let (first, first_shown) = issued(&authority, "default/shop", &["shop.test"]);
    let (second, second_shown) = issued(&authority, "default/blog", &["*.blog.test"]);
    let port = Reserved::new();
    let mut model = service(Protocol::Http, &[(shop.address, "v1")]);
    let mut other = service(Protocol::Http, &[(blog.address, "v1")])
        .services
        .remove(0);
    other.name = router_rules::id::ServiceName::new("blog");
    other.addresses.clear();
    model.services.push(other);
    let rules = vec![
        entry("a", SERVICE, vec![host("shop.test")], Some(first)),
        entry("b", "blog", vec![host("news.blog.test")], Some(second)),
    ];
    let bed = Bed::start(with_gateway(model, &port, rules));
    opened(&bed, &port).await;
    let client = Client::trusting(&authority);
    for (name, certificate, answer) in [
        ("shop.test", &first_shown, "shop"),
        ("news.blog.test", &second_shown, "blog"),
    ] {
        let stream = client.connect(port.address(), name).await.unwrap();
        assert_eq!(shown(&stream), *certificate, "{name}");
        let mut http = client.http1(port.address(), name).await;
        let request = Request::get("/").header("host", name).body(empty()).unwrap();
        assert_eq!(whole(http.send(request).await).await.body, answer);
    }
    // Who asks for a name that nobody has is shown the first, and does not accept it.
    let error = client.connect(port.address(), "else.test").await.unwrap_err();
    assert!(error.to_string().contains("certificate"), "{error}");
}

#[tokio::test]
async fn a_new_certificate_counts_at_once_and_no_handshake_fails_meanwhile() {
    let server = Server::named("v1").await;
    let authority = Authority::new().unwrap();
    let port = Reserved::new();
    let model = || service(Protocol::Http, &[(server.address, "v1")]);
    let (credential, mut latest) = issued(&authority, "default/shop", &["shop.test"]);
    let mut bed = Bed::start(secured(model(), &port, &credential));
    opened(&bed, &port).await;
    let client = Arc::new(Client::trusting(&authority));
    let mut kept = client.http1(port.address(), "shop.test").await;
    let stop = Arc::new(AtomicBool::new(false));
    let served = Arc::new(AtomicUsize::new(0));
    let address = port.address();
    let load: Vec<_> = (0..4)
        .map(|_| {
            let (client, stop, served) = (client.clone(), stop.clone(), served.clone());
            tokio::spawn(async move {
                while !stop.load(SeqCst) {
                    let mut http = client.http1(address, "shop.test").await;
                    assert_eq!(http.get("/").await.body, "v1");
                    served.fetch_add(1, SeqCst);
                }
            })
        })
        .collect();
    for round in 1..=5 {
        let so_far = served.load(SeqCst);
        until("handshakes", || served.load(SeqCst) > so_far + 5).await;
        let (credential, certificate) = issued(&authority, "default/shop", &["shop.test"]);
        assert_ne!(certificate, latest);
        bed.publish(secured(model(), &port, &credential));
        // A client of its own has no session to resume.
        let fresh = Client::trusting(&authority);
        let stream = fresh.connect(address, "shop.test").await.unwrap();
        assert_eq!(shown(&stream), certificate, "round {round}");
        latest = certificate;
    }
    stop.store(true, SeqCst);
    for task in load {
        task.await.unwrap();
    }
    assert_eq!(kept.get("/").await.body, "v1");
    let totals = bed.proxy.stats().totals();
    assert_eq!(totals.reason(Kind::TlsHandshakeFailed), 0);
}

#[tokio::test]
async fn sessions_are_resumed_after_a_reload() {
    let server = Server::named("v1").await;
    let authority = Authority::new().unwrap();
    let (credential, _) = issued(&authority, "default/shop", &["shop.test"]);
    let port = Reserved::new();
    let model = || service(Protocol::Http, &[(server.address, "v1")]);
    let mut bed = Bed::start(secured(model(), &port, &credential));
    opened(&bed, &port).await;
    let client = Client::trusting(&authority);
    let mut resumed = Vec::new();
    for _ in 0..2 {
        let mut stream = client.connect(port.address(), "shop.test").await.unwrap();
        let request = b"GET / HTTP/1.1\r\nhost: shop.test\r\nconnection: close\r\n\r\n";
        stream.write_all(request).await.unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await.unwrap();
        resumed.push(stream.get_ref().1.handshake_kind() == Some(rustls::HandshakeKind::Resumed));
        bed.publish(secured(model(), &port, &credential));
    }
    assert_eq!(resumed, [false, true]);
}

#[tokio::test]
async fn whoever_does_not_speak_tls_is_let_go_with_a_reason() {
    let server = Server::named("v1").await;
    let authority = Authority::new().unwrap();
    let (credential, _) = issued(&authority, "default/shop", &["shop.test"]);
    let port = Reserved::new();
    let limits = Limits {
        head_timeout: Duration::from_millis(150),
        handshakes: 1,
        ..Limits::default()
    };
    let model = service(Protocol::Http, &[(server.address, "v1")]);
    let bed = Bed::with(secured(model, &port, &credential), 1, limits);
    opened(&bed, &port).await;
    // Beginning of a ClientHello that never ends, nothing at all, and plain text.
    let stuck: &[u8] = b"\x16\x03\x01\x02\x00\x01";
    for (said, kind) in [
        (stuck, Kind::TlsHandshakeTimeout),
        (b"", Kind::TlsHandshakeTimeout),
        (b"GET / HTTP/1.1\r\nhost: a\r\n\r\n", Kind::TlsHandshakeFailed),
    ] {
        let before = bed.proxy.stats().totals().reason(kind);
        let mut stream = TcpStream::connect(port.address()).await.unwrap();
        stream.write_all(said).await.unwrap();
        let mut rest = Vec::new();
        let _ = timeout(PATIENCE, stream.read_to_end(&mut rest)).await.unwrap();
        until("the count", || {
            bed.proxy.stats().totals().reason(kind) == before + 1
        })
        .await;
    }
    // Two at once where one may be under way: the second waits, and the first's time ends.
    let mut first = TcpStream::connect(port.address()).await.unwrap();
    first.write_all(stuck).await.unwrap();
    let client = Client::trusting(&authority);
    let mut tries = 0;
    let stream = loop {
        tries += 1;
        assert!(tries < 100, "no handshake succeeds");
        if let Ok(stream) = client.connect(port.address(), "shop.test").await {
            break stream;
        }
    };
    drop(stream);
    // Whoever only looks whether somebody listens is not counted as a failure.
    let failed = bed.proxy.stats().totals().reason(Kind::TlsHandshakeFailed);
    drop(TcpStream::connect(port.address()).await.unwrap());
    until("the end of all", || {
        bed.proxy.stats().totals().downstream_active() == 0
    })
    .await;
    assert_eq!(
        bed.proxy.stats().totals().reason(Kind::TlsHandshakeFailed),
        failed
    );
}

#[tokio::test]
async fn a_port_changes_from_plain_text_to_tls_and_back() {
    let server = Server::named("v1").await;
    let authority = Authority::new().unwrap();
    let (credential, _) = issued(&authority, "default/shop", &["shop.test"]);
    let port = Reserved::new();
    let model = || service(Protocol::Http, &[(server.address, "v1")]);
    let plain = || with_gateway(model(), &port, vec![entry("all", SERVICE, Vec::new(), None)]);
    let mut bed = Bed::start(plain());
    opened(&bed, &port).await;
    let mut in_plain_text = Http1::connect(port.address()).await;
    assert_eq!(in_plain_text.get("/").await.body, "v1");
    bed.publish(secured(model(), &port, &credential));
    // What came in as plain text does not get to what is behind TLS.
    let answer = in_plain_text.get("/").await;
    assert_eq!(answer.reason(), "no-route");
    let client = Client::trusting(&authority);
    let deadline = tokio::time::Instant::now() + PATIENCE;
    let mut kept = loop {
        assert!(tokio::time::Instant::now() < deadline, "TLS is not spoken");
        // Connections that the listener of before accepts meet nobody who speaks TLS; each worker has one.
        if let Ok(stream) = client.connect(port.address(), "shop.test").await {
            break over(stream).await;
        }
    };
    assert_eq!(kept.get("/").await.body, "v1");
    bed.publish(plain());
    assert_eq!(kept.get("/").await.reason(), "no-route");
}

#[tokio::test]
async fn refusals_reach_clients_through_tls() {
    let server = Server::named("v1").await;
    let authority = Authority::new().unwrap();
    let (credential, _) = issued(&authority, "default/shop", &["shop.test"]);
    let port = Reserved::new();
    let model = service(Protocol::Http, &[(server.address, "v1")]);
    let bed = Bed::start(secured(model, &port, &credential));
    opened(&bed, &port).await;
    let client = Client::trusting(&authority);
    let mut stream = client.connect(port.address(), "shop.test").await.unwrap();
    let smuggled =
        b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n";
    stream.write_all(smuggled).await.unwrap();
    let mut answer = Vec::new();
    // The end of TLS is announced: no reset cuts the refusal off.
    timeout(PATIENCE, stream.read_to_end(&mut answer))
        .await
        .unwrap()
        .unwrap();
    let answer = String::from_utf8(answer).unwrap();
    assert!(answer.contains("x-router-reason: bad-framing"), "{answer}");
}

#[tokio::test]
async fn websockets_pass_through_tls() {
    let server = Server::raw(|stream, _| async move {
        let Ok(mut socket) = tokio_tungstenite::accept_async(stream).await else {
            return;
        };
        while let Some(Ok(message)) = socket.next().await {
            if message.is_text() && socket.send(message).await.is_err() {
                return;
            }
        }
    })
    .await;
    let authority = Authority::new().unwrap();
    let (credential, _) = issued(&authority, "default/shop", &["shop.test"]);
    let port = Reserved::new();
    let model = service(Protocol::Http, &[(server.address, "v1")]);
    let bed = Bed::start(secured(model, &port, &credential));
    opened(&bed, &port).await;
    let stream = Client::trusting(&authority)
        .connect(port.address(), "shop.test")
        .await;
    let opening = tokio_tungstenite::client_async("ws://shop.test/", stream.unwrap());
    let (mut socket, _) = timeout(PATIENCE, opening).await.unwrap().unwrap();
    socket.send("hello".into()).await.unwrap();
    let echo = timeout(PATIENCE, socket.next()).await.unwrap().unwrap().unwrap();
    assert_eq!(echo.into_text().unwrap().as_str(), "hello");
}
