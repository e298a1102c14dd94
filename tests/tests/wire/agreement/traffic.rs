//! What really happens to a request: servers that say what they saw, and clients that say what came back.

use std::{
    error::Error as _,
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response, header::HOST};
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::{
    body::{Frame, Incoming},
    client::conn::{http1, http2},
};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpSocket, TcpStream},
    time::timeout,
};

use super::super::{
    client::{PATIENCE, empty},
    server::{Body, Server, Speaks},
};
use super::world::{Ask, SERVICES, Service};

/// What a client got.
#[derive(Clone, Default, Debug)]
pub struct Seen {
    /// None: the stream or connection was reset.
    pub status: Option<u16>,
    /// Name of the code that the stream was reset with.
    pub reset: Option<String>,
    pub headers: HeaderMap,
    pub trailers: HeaderMap,
}

impl Seen {
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }
}

/// An instance that answers with what it saw.
pub async fn instance(service: &Service) -> Server {
    match service.speaks {
        "tcp" => {
            Server::raw(|mut stream: TcpStream, _| async move {
                let own = stream.local_addr().unwrap().to_string();
                let _ = stream.write_all(own.as_bytes()).await;
                let _ = stream.shutdown().await;
                let mut rest = Vec::new();
                let _ = stream.read_to_end(&mut rest).await;
            })
            .await
        }
        "grpc" => Server::http(Speaks::Http2, |request| async move { answer(&request, true) }).await,
        _ => Server::http(Speaks::Http1, |request| async move { answer(&request, false) }).await,
    }
}

fn answer(request: &Request<Incoming>, grpc: bool) -> Response<Body> {
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", HeaderValue::from_static("0"));
    let body: Body = if grpc {
        let frames = [
            Ok(Frame::data(Bytes::from_static(&[0, 0, 0, 0, 0]))),
            Ok(Frame::trailers(trailers)),
        ];
        BodyExt::boxed(StreamBody::new(futures_util::stream::iter(frames)))
    } else {
        Full::new(Bytes::from_static(b"seen"))
            .map_err(|never| match never {})
            .boxed()
    };
    let mut response = Response::new(body);
    let path = request.uri().path_and_query().map_or("/", |path| path.as_str());
    let host = request.uri().authority().map(|a| a.as_str().to_owned());
    let host = host.or_else(|| {
        request
            .headers()
            .get(HOST)
            .map(|h| h.to_str().unwrap().to_owned())
    });
    let headers = response.headers_mut();
    headers.insert("x-path", path.parse().unwrap());
    headers.insert("x-host", host.unwrap_or_default().parse().unwrap());
    headers.insert("x-method", request.method().as_str().parse().unwrap());
    if let Some(added) = request.headers().get("x-added") {
        headers.insert("x-was-added", added.clone());
    }
    response
}

/// The address that a caller's connections to a service come from, by which the double of the kernel knows both.
pub fn source(service: usize, caller: u8) -> IpAddr {
    IpAddr::from([127, 0, SERVICES[service].number, caller + 1])
}

async fn connect(ask: &Ask, proxy: SocketAddr) -> std::io::Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    socket.bind(SocketAddr::new(source(ask.service, ask.caller), 0))?;
    let stream = socket.connect(proxy).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// How a client speaks to the proxy.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Dialect {
    Http1,
    Http2,
    Grpc,
    Tcp,
}

enum Connection {
    Http1(http1::SendRequest<Body>),
    Http2(http2::SendRequest<Body>),
}

/// Sends requests of one caller to one service, one after the other, on connections that are kept while they last.
pub struct Client {
    proxy: SocketAddr,
    dialect: Dialect,
    connection: Option<Connection>,
}

impl Client {
    pub fn new(proxy: SocketAddr, dialect: Dialect) -> Self {
        Self {
            proxy,
            dialect,
            connection: None,
        }
    }

    pub async fn send(&mut self, ask: &Ask) -> Seen {
        if self.dialect == Dialect::Tcp {
            return self.tcp(ask).await;
        }
        let usable = match &self.connection {
            Some(Connection::Http1(sender)) => !sender.is_closed(),
            Some(Connection::Http2(sender)) => !sender.is_closed(),
            None => false,
        };
        if !usable {
            self.connection = self.open(ask).await;
        }
        let attempt = async {
            match self.connection.as_mut()? {
                Connection::Http1(sender) => {
                    sender.ready().await.ok()?;
                    Some(sender.send_request(http1_request(ask)).await)
                }
                Connection::Http2(sender) => {
                    sender.ready().await.ok()?;
                    let request = http2_request(ask, self.dialect);
                    Some(sender.send_request(request).await)
                }
            }
        };
        let error = match timeout(PATIENCE, attempt).await.unwrap() {
            Some(Ok(response)) => return seen(response).await,
            Some(Err(error)) => Some(error),
            None => None,
        };
        let reset = error.as_ref().and_then(reset_code);
        // Without a code it was not the stream that was reset.
        if reset.is_none() || self.dialect == Dialect::Http1 {
            self.connection = None;
        }
        Seen {
            reset,
            ..Seen::default()
        }
    }

    /// None: the connection was reset before anything could be said on it.
    async fn open(&self, ask: &Ask) -> Option<Connection> {
        let io = TokioIo::new(connect(ask, self.proxy).await.ok()?);
        Some(if self.dialect == Dialect::Http1 {
            let (sender, connection) = http1::handshake(io).await.ok()?;
            tokio::spawn(connection);
            Connection::Http1(sender)
        } else {
            let (sender, connection) = http2::handshake(TokioExecutor::new(), io).await.ok()?;
            tokio::spawn(connection);
            Connection::Http2(sender)
        })
    }

    /// A connection; the endpoint's name comes as the header that HTTP servers send.
    async fn tcp(&self, ask: &Ask) -> Seen {
        let attempt = async {
            let mut stream = connect(ask, self.proxy).await?;
            stream.shutdown().await?;
            let mut text = String::new();
            stream.read_to_string(&mut text).await?;
            Ok::<_, std::io::Error>(text)
        };
        let patient = timeout(PATIENCE + Duration::from_secs(20), attempt);
        match patient.await.unwrap() {
            Ok(text) => Seen {
                status: Some(200),
                headers: [("x-endpoint".parse().unwrap(), text.parse().unwrap())]
                    .into_iter()
                    .collect::<HeaderMap>(),
                ..Seen::default()
            },
            Err(_) => Seen::default(),
        }
    }
}

fn http1_request(ask: &Ask) -> Request<Body> {
    let builder = Request::builder()
        .method(ask.method)
        .uri(&ask.path)
        .header(HOST, ask.host);
    fields(builder, ask).body(empty()).unwrap()
}

fn http2_request(ask: &Ask, dialect: Dialect) -> Request<Body> {
    let uri = format!("http://{}{}", ask.host, ask.path);
    let mut builder = fields(Request::builder().method(ask.method).uri(uri), ask);
    if dialect == Dialect::Grpc {
        builder = builder
            .header("content-type", "application/grpc")
            .header("te", "trailers");
    }
    builder.body(empty()).unwrap()
}

fn fields(builder: http::request::Builder, ask: &Ask) -> http::request::Builder {
    ask.headers.iter().fold(builder, |builder, (name, value)| {
        builder.header(*name, HeaderValue::from_bytes(value.as_bytes()).unwrap())
    })
}

async fn seen(response: Response<Incoming>) -> Seen {
    let (head, body) = response.into_parts();
    let body = timeout(PATIENCE, body.collect()).await.unwrap().unwrap();
    Seen {
        status: Some(head.status.as_u16()),
        reset: None,
        headers: head.headers,
        trailers: body.trailers().cloned().unwrap_or_default(),
    }
}

fn reset_code(error: &hyper::Error) -> Option<String> {
    let mut cause = error.source();
    while let Some(error) = cause {
        if let Some(reason) = error.downcast_ref::<h2::Error>().and_then(h2::Error::reason) {
            return Some(format!("{reason:?}"));
        }
        cause = error.source();
    }
    None
}
