//! Upstream servers of the wire tests, with counts.

use std::{
    future::Future,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
};

use bytes::Bytes;
use h2::{RecvStream, server::SendResponse};
use http::{Request, Response};
use http_body_util::{BodyExt, Full, combinators::BoxBody};
use hyper::{body::Incoming, service::service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo};
use socket2::{Domain, Socket, Type};
use tokio::{
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};

pub type Body = BoxBody<Bytes, std::io::Error>;

pub fn text(text: impl Into<Bytes>) -> Body {
    Full::new(text.into()).map_err(|never| match never {}).boxed()
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Speaks {
    Http1,
    Http2,
}

/// What a server has seen.
#[derive(Default, Debug)]
pub struct Counts {
    pub connections: AtomicUsize,
    pub closed: AtomicUsize,
    pub requests: AtomicUsize,
}

impl Counts {
    pub fn connections(&self) -> usize {
        self.connections.load(SeqCst)
    }
    pub fn requests(&self) -> usize {
        self.requests.load(SeqCst)
    }
    pub fn open(&self) -> usize {
        self.connections() - self.closed.load(SeqCst)
    }
}

pub struct Server {
    pub address: SocketAddr,
    pub counts: Arc<Counts>,
    task: JoinHandle<()>,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Server {
    /// Serves HTTP with `answer`.
    pub async fn http<F, A>(speaks: Speaks, answer: F) -> Self
    where
        F: Fn(Request<Incoming>) -> A + Clone + Send + Sync + 'static,
        A: Future<Output = Response<Body>> + Send + 'static,
    {
        Self::raw(move |stream, counts| {
            let answer = answer.clone();
            async move {
                let io = TokioIo::new(stream);
                let service = service_fn(move |request| {
                    counts.requests.fetch_add(1, SeqCst);
                    let response = answer(request);
                    async move { Ok::<_, std::convert::Infallible>(response.await) }
                });
                let _ = match speaks {
                    Speaks::Http1 => {
                        hyper::server::conn::http1::Builder::new()
                            .serve_connection(io, service)
                            .with_upgrades()
                            .await
                    }
                    Speaks::Http2 => {
                        hyper::server::conn::http2::Builder::new(TokioExecutor::new())
                            .serve_connection(io, service)
                            .await
                    }
                };
            }
        })
        .await
    }

    /// Answers every request with `name`.
    pub async fn named(name: &'static str) -> Self {
        Self::http(Speaks::Http1, move |_| async move { Response::new(text(name)) }).await
    }

    /// Answers with what it got: the request line, the fields sorted by name, an empty line, the body.
    pub async fn echo(speaks: Speaks) -> Self {
        Self::http(speaks, |request| async move {
            let (head, body) = request.into_parts();
            let mut lines: Vec<String> = head
                .headers
                .iter()
                .map(|(name, value)| format!("{name}: {}\n", String::from_utf8_lossy(value.as_bytes())))
                .collect();
            lines.sort();
            let body = body.collect().await.map(|b| b.to_bytes()).unwrap_or_default();
            let body = String::from_utf8_lossy(&body).into_owned();
            let echo = format!(
                "{} {} {:?}\n{}\n{body}",
                head.method,
                head.uri,
                head.version,
                lines.concat()
            );
            Response::new(text(echo))
        })
        .await
    }

    /// An endpoint of HTTP/2 that allows `most` streams at once on a connection, and passes every one to `serve`.
    pub async fn streams<F>(most: u32, serve: F) -> Self
    where
        F: Fn(Request<RecvStream>, SendResponse<Bytes>) + Clone + Send + Sync + 'static,
    {
        Self::raw(move |stream, counts| {
            let serve = serve.clone();
            async move {
                let mut builder = h2::server::Builder::new();
                builder.max_concurrent_streams(most);
                let mut connection = builder.handshake(stream).await.unwrap();
                while let Some(Ok((request, respond))) = connection.accept().await {
                    counts.requests.fetch_add(1, SeqCst);
                    serve(request, respond);
                }
            }
        })
        .await
    }

    /// Hands every connection to `serve`.
    pub async fn raw<F, A>(serve: F) -> Self
    where
        F: Fn(TcpStream, Arc<Counts>) -> A + Send + 'static,
        A: Future<Output = ()> + Send + 'static,
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let counts = Arc::new(Counts::default());
        let counted = counts.clone();
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                stream.set_nodelay(true).unwrap();
                counted.connections.fetch_add(1, SeqCst);
                let served = serve(stream, counted.clone());
                let closing = Closing(counted.clone());
                tokio::spawn(async move {
                    served.await;
                    drop(closing);
                });
            }
        });
        Self {
            address,
            counts,
            task,
        }
    }
}

/// Counts the end of a connection, however it ended.
struct Closing(Arc<Counts>);

impl Drop for Closing {
    fn drop(&mut self) {
        self.0.closed.fetch_add(1, SeqCst);
    }
}

/// An address that refuses connections. It stays bound, so that no other test listens there later.
pub fn nobody() -> SocketAddr {
    let (socket, address) = bound();
    std::mem::forget(socket);
    address
}

/// An address that listens with a full queue, so that connecting to it takes for ever.
pub fn nobody_accepts() -> SocketAddr {
    let (listener, address) = bound();
    listener.listen(0).unwrap();
    for _ in 0..2 {
        let filler = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        filler.set_nonblocking(true).unwrap();
        let _ = filler.connect(&address.into());
        std::mem::forget(filler);
    }
    std::mem::forget(listener);
    address
}

fn bound() -> (Socket, SocketAddr) {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket
        .bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into())
        .unwrap();
    let address = socket.local_addr().unwrap().as_socket().unwrap();
    (socket, address)
}
