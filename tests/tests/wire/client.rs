//! Clients of the wire tests.

use std::{io, net::SocketAddr, time::Duration};

use bytes::Bytes;
use http::{HeaderMap, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::{
    body::{Frame, Incoming},
    client::conn::{http1, http2},
};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::mpsc,
    time::timeout,
};

use super::{
    bed::SERVICE,
    server::{Body, text},
};

/// Longer than anything here takes.
pub const PATIENCE: Duration = Duration::from_secs(10);

/// A whole response.
#[derive(Debug)]
pub struct Whole {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: String,
    pub trailers: Option<HeaderMap>,
}

impl Whole {
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |v| v.to_str().unwrap())
    }

    pub fn reason(&self) -> &str {
        self.header("x-router-reason")
    }
}

pub async fn whole(response: Response<Incoming>) -> Whole {
    let (head, body) = response.into_parts();
    let body = timeout(PATIENCE, body.collect()).await.unwrap().unwrap();
    let trailers = body.trailers().cloned();
    Whole {
        status: head.status,
        headers: head.headers,
        body: String::from_utf8(body.to_bytes().to_vec()).unwrap(),
        trailers,
    }
}

/// A request for `path` of the service, to be completed.
pub fn get(path: &str) -> http::request::Builder {
    Request::get(path).header("host", SERVICE)
}

pub fn empty() -> Body {
    text("")
}

/// One HTTP/1.1 connection.
pub struct Http1(pub http1::SendRequest<Body>);

impl Http1 {
    pub async fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).await.unwrap();
        stream.set_nodelay(true).unwrap();
        let (sender, connection) = http1::handshake(TokioIo::new(stream)).await.unwrap();
        tokio::spawn(connection.with_upgrades());
        Self(sender)
    }

    pub async fn send(&mut self, request: Request<Body>) -> Response<Incoming> {
        self.0.ready().await.unwrap();
        timeout(PATIENCE, self.0.send_request(request))
            .await
            .unwrap()
            .unwrap()
    }

    pub async fn get(&mut self, path: &str) -> Whole {
        whole(self.send(get(path).body(empty()).unwrap()).await).await
    }
}

/// One HTTP/2 connection.
#[derive(Clone)]
pub struct Http2(pub http2::SendRequest<Body>);

impl Http2 {
    pub async fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).await.unwrap();
        stream.set_nodelay(true).unwrap();
        let handshake = http2::handshake(TokioExecutor::new(), TokioIo::new(stream));
        let (sender, connection) = handshake.await.unwrap();
        tokio::spawn(connection);
        Self(sender)
    }

    pub async fn send(&mut self, request: Request<Body>) -> Response<Incoming> {
        self.0.ready().await.unwrap();
        timeout(PATIENCE, self.0.send_request(request))
            .await
            .unwrap()
            .unwrap()
    }

    pub async fn get(&mut self, path: &str) -> Whole {
        let uri = format!("http://{SERVICE}{path}");
        whole(self.send(Request::get(uri).body(empty()).unwrap()).await).await
    }
}

/// One request on a connection of its own.
pub async fn fetch(address: SocketAddr, request: Request<Body>) -> Whole {
    whole(Http1::connect(address).await.send(request).await).await
}

/// Sends bytes and reads until the other side closes.
pub async fn exchange(address: SocketAddr, bytes: &[u8]) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(bytes).await.unwrap();
    let mut answer = Vec::new();
    // A reset after the answer is as good as a close.
    let _ = timeout(PATIENCE, stream.read_to_end(&mut answer)).await.unwrap();
    String::from_utf8_lossy(&answer).into_owned()
}

/// Reads until what was read ends with `end`.
pub async fn read_until(stream: &mut TcpStream, end: &str) -> String {
    let mut read = Vec::new();
    while !read.ends_with(end.as_bytes()) {
        let mut byte = [0];
        let n = timeout(PATIENCE, stream.read(&mut byte)).await.unwrap().unwrap();
        assert!(n == 1, "closed after {:?}", String::from_utf8_lossy(&read));
        read.push(byte[0]);
    }
    String::from_utf8(read).unwrap()
}

pub fn full(size: usize) -> Body {
    Full::new(Bytes::from(vec![b'x'; size]))
        .map_err(|never| match never {})
        .boxed()
}

/// A body that sends what it is given, until nobody can give it anything any more.
pub fn channel() -> (mpsc::UnboundedSender<io::Result<Bytes>>, Body) {
    let (sender, receiver) = mpsc::unbounded_channel();
    let frames = futures_util::stream::unfold(receiver, |mut receiver| async move {
        let piece: io::Result<Bytes> = receiver.recv().await?;
        Some((piece.map(Frame::data), receiver))
    });
    (sender, StreamBody::new(frames).boxed())
}
