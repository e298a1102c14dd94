//! The servers behind every system: HTTP that answers with as many bytes as the path says, and three kinds of TCP.
//!
//! They are as lean as a plain program gets, so that what is measured is the system in front of them. They know
//! nothing of it.

use std::{
    convert::Infallible,
    io::{self, BufRead, Read, Write},
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    process::ExitCode,
    sync::atomic::{AtomicU64, Ordering},
    thread,
};

use anyhow::{Context, Result};
use bytes::Bytes;
use futures_util::stream;
use http::{HeaderMap, HeaderValue, Request, Response, header};
use http_body_util::{BodyExt, Either, Full, StreamBody};
use hyper::{
    body::{Frame, Incoming},
    service::service_fn,
};
use hyper_util::{rt::TokioExecutor, rt::TokioIo, server::conn::auto};
use socket2::{Domain, Protocol, Socket, Type};

use crate::{job::Served, place};

/// Hidden argument: `serve NAME`.
pub(crate) const SERVE: &str = "serve";

/// HTTP/1.1, and HTTP/2 with prior knowledge.
pub(crate) const HTTP: u16 = 8080;
/// Sends the first byte of the server's name and closes.
pub(crate) const GREET: u16 = 9000;
/// Sends back what it gets.
pub(crate) const ECHO: u16 = 9001;
/// Reads and forgets.
pub(crate) const SINK: u16 = 9002;

/// Longest body.
const LONGEST: usize = 1 << 20;
/// Bytes of one read of a TCP server.
const BUFFER: usize = 128 * 1024;
/// Connections that wait to be accepted.
const BACKLOG: i32 = 4096;

static ZEROS: [u8; LONGEST] = [0; LONGEST];
static REQUESTS: AtomicU64 = AtomicU64::new(0);
static CONNECTIONS: AtomicU64 = AtomicU64::new(0);

/// Serves until standard input ends. Prints a line when it listens, and what it has served for each line it reads.
pub(crate) fn run(name: &str) -> Result<ExitCode> {
    tests::sys::raise_open_files();
    let greeting = *name.as_bytes().last().context("a name")?;
    let http = listen(HTTP)?;
    thread::spawn(move || report(serve_http(http)));
    let greet = listen(GREET)?;
    thread::spawn(move || report(serve_greeting(&greet, greeting)));
    let echo = listen(ECHO)?;
    thread::spawn(move || report(serve_each(&echo, echo_back)));
    let sink = listen(SINK)?;
    thread::spawn(move || report(serve_each(&sink, forget)));
    tell()?;
    for line in io::stdin().lock().lines() {
        line?;
        tell()?;
    }
    Ok(ExitCode::SUCCESS)
}

fn tell() -> Result<()> {
    let served = Served {
        requests: REQUESTS.load(Ordering::Relaxed),
        connections: CONNECTIONS.load(Ordering::Relaxed),
    };
    let mut out = io::stdout().lock();
    writeln!(out, "{}", serde_json::to_string(&served)?)?;
    out.flush()?;
    Ok(())
}

fn report(outcome: Result<()>) {
    if let Err(error) = outcome {
        eprintln!("a server ended: {error:#}");
    }
}

fn listen(port: u16) -> Result<TcpListener> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    let any = SocketAddr::from((Ipv4Addr::UNSPECIFIED, port));
    socket
        .bind(&any.into())
        .with_context(|| format!("binding port {port}"))?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

fn serve_greeting(listener: &TcpListener, greeting: u8) -> Result<()> {
    place::last()?;
    loop {
        let (mut stream, _) = listener.accept()?;
        CONNECTIONS.fetch_add(1, Ordering::Relaxed);
        // A client that is gone already wanted nothing.
        let _ = stream.write_all(&[greeting]);
    }
}

fn serve_each(listener: &TcpListener, serve: fn(TcpStream) -> io::Result<()>) -> Result<()> {
    place::last()?;
    loop {
        let (stream, _) = listener.accept()?;
        stream.set_nodelay(true)?;
        // A client that resets is no fault of the server's.
        thread::spawn(move || drop(serve(stream)));
    }
}

fn echo_back(mut stream: TcpStream) -> io::Result<()> {
    let mut buffer = vec![0; BUFFER];
    loop {
        let length = stream.read(&mut buffer)?;
        if length == 0 {
            return Ok(());
        }
        stream.write_all(&buffer[..length])?;
    }
}

fn forget(mut stream: TcpStream) -> io::Result<()> {
    let mut buffer = vec![0; BUFFER];
    while stream.read(&mut buffer)? > 0 {}
    Ok(())
}

fn serve_http(listener: TcpListener) -> Result<()> {
    listener.set_nonblocking(true)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let listener = tokio::net::TcpListener::from_std(listener)?;
        loop {
            let (stream, _) = listener.accept().await?;
            stream.set_nodelay(true)?;
            tokio::spawn(async move {
                let mut server = auto::Builder::new(TokioExecutor::new());
                server
                    .http2()
                    .max_concurrent_streams(1024)
                    .initial_connection_window_size(1 << 20);
                // A client that resets is no fault of the server's.
                let _ = server
                    .serve_connection(TokioIo::new(stream), service_fn(answer))
                    .await;
            });
        }
    })
}

type Body =
    Either<Full<Bytes>, StreamBody<stream::Iter<std::array::IntoIter<Result<Frame<Bytes>, Infallible>, 2>>>>;

async fn answer(request: Request<Incoming>) -> Result<Response<Body>, hyper::Error> {
    REQUESTS.fetch_add(1, Ordering::Relaxed);
    let is_grpc = request
        .headers()
        .get(header::CONTENT_TYPE)
        .is_some_and(|media| media == "application/grpc");
    if is_grpc {
        return call(request).await;
    }
    let path = request.uri().path().trim_start_matches('/');
    let length = path.parse().unwrap_or(0).min(LONGEST);
    let body = Full::new(Bytes::from_static(&ZEROS[..length]));
    Ok(Response::new(Either::Left(body)))
}

/// A unary gRPC call: the message comes back.
async fn call(request: Request<Incoming>) -> Result<Response<Body>, hyper::Error> {
    let message = request.into_body().collect().await?.to_bytes();
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", HeaderValue::from_static("0"));
    let frames = [Ok(Frame::data(message)), Ok(Frame::trailers(trailers))];
    let body = StreamBody::new(stream::iter(frames));
    let mut response = Response::new(Either::Right(body));
    let media = HeaderValue::from_static("application/grpc");
    response.headers_mut().insert(header::CONTENT_TYPE, media);
    Ok(response)
}
