//! An HTTP client: many requests over a few connections, counted by pod, by status and by error.

use std::{
    cell::{Cell, RefCell},
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use bytes::Bytes;
use http_body_util::{BodyExt, Empty};
use hyper::{
    Request,
    client::conn::{http1, http2},
};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::{net::TcpStream, task::LocalSet};

use crate::protocol::{Http, Replies, Reply};

/// Tries on a kept connection that its server closed while it was idle.
const TRIES: u32 = 2;

enum Sender {
    Http1(http1::SendRequest<Empty<Bytes>>),
    Http2(http2::SendRequest<Empty<Bytes>>),
}

impl Sender {
    fn is_closed(&self) -> bool {
        match self {
            Self::Http1(sender) => sender.is_closed(),
            Self::Http2(sender) => sender.is_closed(),
        }
    }
}

/// Sends requests; returns what became of them.
pub(super) fn run(http: Http, stop: Arc<AtomicBool>) -> Result<Replies> {
    let http = Rc::new(http);
    let next = Rc::new(Cell::new(0));
    let replies = Rc::new(RefCell::new(Vec::new()));
    super::runtime()?.block_on(LocalSet::new().run_until(async {
        let workers: Vec<_> = (0..http.connections.max(1))
            .map(|_| {
                let (http, next, replies, stop) = (http.clone(), next.clone(), replies.clone(), stop.clone());
                tokio::task::spawn_local(async move {
                    let mut sender = None;
                    while next.get() < http.count && !stop.load(Ordering::Relaxed) {
                        let number = usize::try_from(next.replace(next.get() + 1)).unwrap_or(0);
                        let reply = exchange(&http, number % http.requests.len(), &mut sender).await;
                        replies.borrow_mut().push(reply);
                    }
                })
            })
            .collect();
        for worker in workers {
            worker.await.context("a connection's task panicked")?;
        }
        anyhow::Ok(())
    }))?;
    Ok(summary(replies.take(), http.trace))
}

/// One request with its reply, within the timeout.
async fn exchange(http: &Http, request: usize, sender: &mut Option<Sender>) -> Reply {
    let start = Instant::now();
    let deadline = Duration::from_millis(http.timeout_ms);
    let result = tokio::time::timeout(deadline, attempt(http, request, sender)).await;
    let result = result.unwrap_or_else(|_| Err(anyhow::anyhow!("no reply in time")));
    if !http.keep_alive || result.is_err() {
        *sender = None;
    }
    let latency_us = u64::try_from(start.elapsed().as_micros()).unwrap_or(u64::MAX);
    match result {
        Ok(reply) => Reply {
            request,
            latency_us,
            ..reply
        },
        Err(error) => Reply {
            request,
            latency_us,
            error: Some(format!("{error:#}")),
            ..Reply::default()
        },
    }
}

async fn attempt(http: &Http, request: usize, sender: &mut Option<Sender>) -> Result<Reply> {
    let mut last = None;
    for _ in 0..TRIES {
        let reused = sender.as_ref().is_some_and(|s| !s.is_closed());
        if !reused {
            *sender = Some(open(http).await?);
        }
        let Some(open) = sender.as_mut() else { continue };
        match send(http, request, open).await {
            Ok(reply) => return Ok(reply),
            // Only a connection that was closed before it took the request is tried again.
            Err(error) if reused && is_closed(&error) => last = Some(error),
            Err(error) => return Err(error),
        }
        *sender = None;
    }
    Err(last.unwrap_or_else(|| anyhow::anyhow!("never connected")))
}

fn is_closed(error: &anyhow::Error) -> bool {
    error
        .downcast_ref::<hyper::Error>()
        .is_some_and(hyper::Error::is_canceled)
}

async fn open(http: &Http) -> Result<Sender> {
    let stream = TcpStream::connect(http.target).await.map_err(|error| {
        let name = super::tcp_client::name(&error);
        anyhow::anyhow!("connect: {name}")
    })?;
    stream.set_nodelay(true)?;
    let stream = TokioIo::new(stream);
    if http.http2 {
        let (sender, connection) = http2::handshake(TokioExecutor::new(), stream).await?;
        tokio::task::spawn_local(connection);
        return Ok(Sender::Http2(sender));
    }
    let (sender, connection) = http1::handshake(stream).await?;
    tokio::task::spawn_local(connection);
    Ok(Sender::Http1(sender))
}

async fn send(http: &Http, index: usize, sender: &mut Sender) -> Result<Reply> {
    let wanted = &http.requests[index];
    let mut request = Request::builder().method(wanted.method.as_str());
    request = if http.http2 {
        request.uri(format!("http://{}{}", http.authority, wanted.path))
    } else {
        request.uri(wanted.path.as_str()).header("host", &http.authority)
    };
    for (name, value) in &wanted.headers {
        request = request.header(name, value);
    }
    let request = request.body(Empty::new())?;
    let response = match sender {
        Sender::Http1(sender) => sender.send_request(request).await?,
        Sender::Http2(sender) => sender.send_request(request).await?,
    };
    let (head, body) = response.into_parts();
    let body = body.collect().await?.to_bytes();
    let text = |value: &http::HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
    let headers = head.headers.iter().map(|(n, v)| (n.to_string(), text(v)));
    Ok(Reply {
        status: head.status.as_u16(),
        pod: head.headers.get("x-pod").map(text).unwrap_or_default(),
        headers: headers.collect(),
        body: String::from_utf8_lossy(&body).into_owned(),
        ..Reply::default()
    })
}

fn summary(replies: Vec<Reply>, trace: bool) -> Replies {
    let mut seen = Replies::default();
    let mut latencies = Vec::new();
    for reply in &replies {
        if let Some(error) = &reply.error {
            *seen.errors.entry(error.clone()).or_default() += 1;
            continue;
        }
        let pod = if reply.pod.is_empty() { "-" } else { &reply.pod };
        *seen.pods.entry(pod.into()).or_default() += 1;
        *seen.statuses.entry(reply.status).or_default() += 1;
        latencies.push(reply.latency_us);
    }
    latencies.sort_unstable();
    if let (Some(first), Some(last)) = (latencies.first(), latencies.last()) {
        seen.latency_us = [*first, latencies[latencies.len() / 2], *last];
    }
    if trace {
        seen.replies = replies;
    }
    seen
}
