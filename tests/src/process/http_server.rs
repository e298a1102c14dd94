//! An HTTP server that says its name and what it was asked, and can be told to be slow or to fail.

use std::{
    collections::VecDeque,
    convert::Infallible,
    sync::{Arc, Mutex},
    time::Duration,
};

use anyhow::Result;
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::{Response, body::Incoming, service::service_fn};
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto,
};
use tokio::net::{TcpListener, TcpStream};

use super::{lock, tcp_server::Connections};
use crate::protocol::{Behaviour, HttpRequest, RECENT, Seen};

/// A running server.
pub(super) struct HttpServer {
    name: String,
    connections: Connections,
    state: Mutex<State>,
}

struct State {
    behaviour: Behaviour,
    requests: u64,
    recent: VecDeque<HttpRequest>,
}

impl HttpServer {
    pub(super) fn behave(&self, behaviour: Behaviour) {
        lock(&self.state).behaviour = behaviour;
    }

    pub(super) fn seen(&self) -> Seen {
        let state = lock(&self.state);
        Seen {
            requests: state.requests,
            recent: state.recent.iter().cloned().collect(),
            ..self.connections.seen()
        }
    }

    /// Notes a request and tells its number, status and delay.
    fn note(&self, request: HttpRequest) -> (u64, u16, Duration) {
        let mut state = lock(&self.state);
        state.requests += 1;
        if state.recent.len() == RECENT {
            state.recent.pop_front();
        }
        state.recent.push_back(request);
        let mut status = state.behaviour.status;
        if state.behaviour.fail_first > 0 {
            state.behaviour.fail_first -= 1;
            status = 503;
        }
        (
            state.requests,
            status,
            Duration::from_millis(state.behaviour.delay_ms),
        )
    }
}

/// Starts a server on a thread of its own.
pub(super) fn start(name: &str, port: u16, behaviour: Behaviour) -> Result<Arc<HttpServer>> {
    let listener = super::listen(port)?;
    let server = Arc::new(HttpServer {
        name: name.into(),
        connections: Connections::default(),
        state: Mutex::new(State {
            behaviour,
            requests: 0,
            recent: VecDeque::new(),
        }),
    });
    let running = server.clone();
    let runtime = super::runtime()?;
    std::thread::spawn(move || {
        let accepted: Result<()> = runtime.block_on(async {
            let listener = TcpListener::from_std(listener)?;
            loop {
                let (stream, _) = listener.accept().await?;
                let server = running.clone();
                tokio::spawn(async move { serve(server, stream).await });
                // Those that are open come first: however fast clients are, descriptors do not run out.
                tokio::task::yield_now().await;
            }
        });
        if let Err(error) = accepted {
            eprintln!("http server on port {port}: {error:#}");
        }
    });
    Ok(server)
}

async fn serve(server: Arc<HttpServer>, stream: TcpStream) {
    let _open = server.connections.accept();
    let _ = stream.set_nodelay(true);
    let service = service_fn(|request| answer(server.clone(), request));
    let connections = auto::Builder::new(TokioExecutor::new());
    // A client that goes away is no fault of the server's.
    let _ = connections.serve_connection(TokioIo::new(stream), service).await;
}

async fn answer(
    server: Arc<HttpServer>,
    request: hyper::Request<Incoming>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let (head, body) = request.into_parts();
    let mut headers: Vec<_> = head
        .headers
        .iter()
        .map(|(name, value)| {
            (
                name.to_string(),
                String::from_utf8_lossy(value.as_bytes()).into_owned(),
            )
        })
        .collect();
    if let Some(authority) = head.uri.authority() {
        headers.push((":authority".into(), authority.to_string()));
    }
    let path = head.uri.path_and_query().map_or("/", |path| path.as_str());
    let (number, status, delay) = server.note(HttpRequest {
        method: head.method.to_string(),
        path: path.into(),
        headers,
    });
    // The body is read to its end, so that the connection can be kept.
    let _ = body.collect().await;
    if !delay.is_zero() {
        // waits: the server is asked to be slow.
        tokio::time::sleep(delay).await;
    }
    let text = format!(
        "{} answers request {number}: {} {path}\n",
        server.name, head.method
    );
    let mut response = Response::new(Full::new(Bytes::from(text)));
    *response.status_mut() = http::StatusCode::from_u16(status).unwrap_or(http::StatusCode::IM_A_TEAPOT);
    if let Ok(name) = http::HeaderValue::from_str(&server.name) {
        response.headers_mut().insert("x-pod", name);
    }
    Ok(response)
}
