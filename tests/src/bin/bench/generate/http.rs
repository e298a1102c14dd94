//! HTTP from one thread: many connections, each with one request at a time (HTTP/1.1) or many streams (HTTP/2).

use std::{
    cell::{Cell, RefCell},
    rc::Rc,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, Uri, Version, header};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::{net::TcpStream, task::LocalSet};

use super::{recorder::Recorder, timer::Timer};
use crate::job::{HttpLoad, Job, Measured, Pace, Protocol};

/// What every request names.
pub(crate) const AUTHORITY: &str = "web.default.svc.cluster.local";
/// A request without an answer for so long has failed.
const SILENCE: Duration = Duration::from_secs(10);
/// Length of the prefix of a gRPC message.
const GRPC_PREFIX: usize = 5;
/// Streams that a server of HTTP/2 may keep waiting on our side.
const WINDOW: u32 = 1 << 20;

/// What all connections of a run share.
struct Shared {
    load: HttpLoad,
    request: Template,
    recorder: RefCell<Recorder>,
    /// Number of the next request of an open loop.
    next: Cell<u32>,
    /// Set when going on is pointless.
    ended: Cell<bool>,
}

/// The parts of a request, which are cheap to copy.
struct Template {
    method: Method,
    uri: Uri,
    version: Version,
    headers: HeaderMap,
    body: Bytes,
}

enum Sender {
    Http1(http1::SendRequest<Full<Bytes>>),
    Http2(http2::SendRequest<Full<Bytes>>),
}

/// Sends requests until the window is over.
pub(super) fn run(job: &Job, load: &HttpLoad) -> Result<Measured> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(LocalSet::new().run_until(async {
        let shared = Rc::new(Shared {
            load: load.clone(),
            request: Template::new(load)?,
            recorder: RefCell::new(Recorder::new(job)?),
            next: Cell::new(0),
            ended: Cell::new(false),
        });
        let mut workers = Vec::new();
        for _ in 0..load.connections {
            workers.push(tokio::task::spawn_local(connection(shared.clone())));
        }
        let start = shared.recorder.borrow().start();
        tokio::time::sleep_until(start.into()).await;
        shared.recorder.borrow_mut().open()?;
        let end = shared.recorder.borrow().end();
        tokio::time::sleep_until(end.into()).await;
        shared.recorder.borrow_mut().close()?;
        for worker in workers {
            worker.await.context("a connection's task panicked")??;
        }
        let Ok(shared) = Rc::try_unwrap(shared) else {
            bail!("a connection is still in use");
        };
        Ok(shared.recorder.into_inner().finish())
    }))
}

/// One connection with all its streams.
async fn connection(shared: Rc<Shared>) -> Result<()> {
    if shared.load.streams <= 1 {
        return stream(shared, None).await;
    }
    let sender = open(&shared).await?;
    let mut streams = Vec::new();
    for _ in 0..shared.load.streams {
        let Sender::Http2(sender) = &sender else {
            bail!("only HTTP/2 has streams");
        };
        let sender = Some(Sender::Http2(sender.clone()));
        streams.push(tokio::task::spawn_local(stream(shared.clone(), sender)));
    }
    drop(sender);
    for stream in streams {
        stream.await.context("a stream's task panicked")??;
    }
    Ok(())
}

/// One request after the other.
async fn stream(shared: Rc<Shared>, mut sender: Option<Sender>) -> Result<()> {
    let timer = Timer::new()?;
    while !shared.ended.get() {
        let due = match shared.load.pace {
            Pace::Closed => Instant::now(),
            Pace::PerSecond(rate) => shared.due(rate),
        };
        if due >= shared.recorder.borrow().end() {
            break;
        }
        timer.until(due).await?;
        let answer = tokio::time::timeout(SILENCE, exchange(&shared, &mut sender)).await;
        let answer = answer.unwrap_or_else(|_| Err(anyhow::anyhow!("no answer in time")));
        let done = Instant::now();
        let mut recorder = shared.recorder.borrow_mut();
        match answer {
            // A closed loop asks what was done in the window, an open one how long what was due in it took.
            Ok(bytes) => {
                let at = if shared.load.pace == Pace::Closed {
                    done
                } else {
                    due
                };
                recorder.success(at, done - due, bytes);
            }
            Err(error) => {
                sender = None;
                shared.ended.set(!recorder.failure(&format!("{error:#}")));
            }
        }
    }
    Ok(())
}

impl Shared {
    /// When the next request of an open loop is due. Those of the warm-up come at the same rate.
    fn due(&self, rate: u32) -> Instant {
        let number = self.next.replace(self.next.get() + 1);
        let begin = self.recorder.borrow().begin();
        begin + Duration::from_secs_f64(f64::from(number) / f64::from(rate))
    }
}

async fn exchange(shared: &Shared, sender: &mut Option<Sender>) -> Result<u64> {
    if sender.is_none() {
        *sender = Some(open(shared).await?);
    }
    let request = shared.request.build();
    let response = match sender.as_mut().context("no connection")? {
        Sender::Http1(sender) => {
            sender.ready().await?;
            sender.send_request(request).await?
        }
        Sender::Http2(sender) => {
            sender.ready().await?;
            sender.send_request(request).await?
        }
    };
    if response.status() != 200 {
        bail!("status {}", response.status().as_u16());
    }
    let grpc = shared.load.protocol == Protocol::Grpc;
    let bytes = drain(response.into_body(), grpc).await?;
    let wanted = shared.load.body + if grpc { GRPC_PREFIX } else { 0 };
    if bytes != wanted as u64 {
        bail!("{bytes} bytes instead of {wanted}");
    }
    if shared.load.protocol == Protocol::Http1Close {
        *sender = None;
    }
    Ok(bytes)
}

/// Reads a body to its end; a gRPC answer must end well.
async fn drain(mut body: hyper::body::Incoming, grpc: bool) -> Result<u64> {
    let mut bytes = 0;
    let mut status = None;
    while let Some(frame) = body.frame().await {
        let frame = frame?;
        if let Some(data) = frame.data_ref() {
            bytes += data.len() as u64;
        } else if let Some(trailers) = frame.trailers_ref() {
            status = trailers.get("grpc-status").cloned();
        }
    }
    if grpc && status.as_ref().map(HeaderValue::as_bytes) != Some(b"0") {
        bail!("grpc-status {status:?}");
    }
    Ok(bytes)
}

async fn open(shared: &Shared) -> Result<Sender> {
    let stream = TcpStream::connect(shared.load.target).await.context("connect")?;
    stream.set_nodelay(true)?;
    let stream = TokioIo::new(stream);
    if matches!(shared.load.protocol, Protocol::Http2 | Protocol::Grpc) {
        let (sender, connection) = http2::Builder::new(TokioExecutor::new())
            .initial_stream_window_size(WINDOW)
            .initial_connection_window_size(WINDOW)
            .handshake(stream)
            .await?;
        tokio::task::spawn_local(connection);
        return Ok(Sender::Http2(sender));
    }
    let (sender, connection) = http1::handshake(stream).await?;
    tokio::task::spawn_local(connection);
    Ok(Sender::Http1(sender))
}

impl Template {
    /// The headers of an ordinary client; none of the rules but the last matches them.
    fn new(load: &HttpLoad) -> Result<Self> {
        let mut headers = HeaderMap::new();
        let fields = [
            (header::USER_AGENT, "router-bench/1"),
            (header::ACCEPT, "*/*"),
            (header::ACCEPT_LANGUAGE, "en-GB,en;q=0.8"),
        ];
        for (name, value) in fields {
            headers.insert(name, HeaderValue::from_static(value));
        }
        headers.insert("x-user", HeaderValue::from_static("guest"));
        headers.insert(header::COOKIE, HeaderValue::from_static("session=0f3c9a17d2"));
        let path = format!("/{}", load.body);
        let mut template = Self {
            method: Method::GET,
            uri: path.parse()?,
            version: Version::HTTP_11,
            headers,
            body: Bytes::new(),
        };
        match load.protocol {
            Protocol::Http1 => template.name_host(),
            Protocol::Http1Close => {
                template.name_host();
                let close = HeaderValue::from_static("close");
                template.headers.insert(header::CONNECTION, close);
            }
            Protocol::Http2 | Protocol::Grpc => {
                template.uri = format!("http://{AUTHORITY}{path}").parse()?;
                template.version = Version::HTTP_2;
            }
        }
        if load.protocol == Protocol::Grpc {
            template.call(load.body)?;
        }
        Ok(template)
    }

    fn name_host(&mut self) {
        let host = HeaderValue::from_static(AUTHORITY);
        self.headers.insert(header::HOST, host);
    }

    /// Makes it a unary gRPC call with a message of `length` bytes.
    fn call(&mut self, length: usize) -> Result<()> {
        self.method = Method::POST;
        let media = HeaderValue::from_static("application/grpc");
        self.headers.insert(header::CONTENT_TYPE, media);
        self.headers
            .insert(header::TE, HeaderValue::from_static("trailers"));
        let mut body = vec![0; GRPC_PREFIX + length];
        body[1..GRPC_PREFIX].copy_from_slice(&u32::try_from(length)?.to_be_bytes());
        self.body = body.into();
        Ok(())
    }

    fn build(&self) -> Request<Full<Bytes>> {
        let mut request = Request::new(Full::new(self.body.clone()));
        *request.method_mut() = self.method.clone();
        *request.uri_mut() = self.uri.clone();
        *request.version_mut() = self.version;
        *request.headers_mut() = self.headers.clone();
        request
    }
}
