//! HTTP connections from clients: hyper's server with our bounds, slow and idle clients, draining.
//!
//! It does not look at requests: `pipeline` does.

use std::{
    future::Future,
    pin::{Pin, pin},
    sync::Arc,
};

use http::Request;
use hyper::{
    body::Incoming,
    server::conn::{http1, http2},
    service::service_fn,
};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::time::{Instant, MissedTickBehavior, interval_at, sleep};

use self::{
    framing::Bounds,
    guarded::Guarded,
    patience::{Judgement, Patience},
    strict::Strict,
    watched::Watched,
};
use super::{
    connection::Session, drain::Draining, error::Kind, l4_fault::Shaped, pipeline, transport::Transport,
};

mod frames;
pub mod framing;
mod guarded;
mod patience;
mod strict;
mod watched;

/// Bytes by which hyper's and h2's own bounds of a head are above ours, so that it is our refusal, with its reason, that
/// a client gets to see.
const SLACK: usize = 16 * 1024;

/// Fields that hyper takes without being told; the last one only in heads, not in trailer sections, where it ends the
/// connection. Being told costs two heap allocations for every request.
const HYPER_FIELDS: usize = 100;

/// Serves an HTTP/1.1 connection to its end.
pub(crate) async fn serve_http1(session: Arc<Session>, stream: Shaped<Transport>, draining: Draining) {
    let limits = session.worker.limits();
    let bounds = Bounds::of(limits);
    let stream = Watched::new(stream, session.activity.clone());
    let stream = Strict::new(stream, bounds, session.activity.clone());
    let requests = {
        let session = session.clone();
        service_fn(move |request: Request<Incoming>| {
            let session = session.clone();
            pipeline::serve(session, request)
        })
    };
    let mut server = http1::Builder::new();
    server
        .max_buf_size(limits.http1_buffer.max(limits.head_bytes + 2 * SLACK))
        .max_header_size(limits.head_bytes + SLACK);
    if limits.fields > HYPER_FIELDS {
        server.max_headers(limits.fields + 1);
    }
    let connection = server
        .serve_connection(TokioIo::new(stream), requests)
        .with_upgrades();
    let connection = pin!(connection);
    supervise(
        &session,
        draining,
        Waits::ForRequest,
        (connection, http1::UpgradeableConnection::graceful_shutdown),
    )
    .await;
}

/// Serves an HTTP/2 connection to its end.
pub(crate) async fn serve_http2(session: Arc<Session>, stream: Shaped<Transport>, draining: Draining) {
    let stream = Watched::new(stream, session.activity.clone());
    let stream = Guarded::new(stream, session.clone());
    let requests = {
        let session = session.clone();
        service_fn(move |request: Request<Incoming>| {
            let session = session.clone();
            // The runtime moves a stream's task several times before and after it runs: a pointer, then.
            Box::pin(pipeline::serve(session, request))
        })
    };
    let limits = session.worker.limits();
    let connection = http2::Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .max_concurrent_streams(limits.streams)
        .max_pending_accept_reset_streams(limits.pending_resets)
        .max_local_error_reset_streams(limits.error_resets)
        .max_header_list_size(u32::try_from(limits.head_bytes + SLACK).unwrap_or(u32::MAX))
        .initial_stream_window_size(limits.stream_window)
        .initial_connection_window_size(limits.connection_window)
        .serve_connection(TokioIo::new(stream), requests);
    let connection = pin!(connection);
    supervise(
        &session,
        draining,
        Waits::Never,
        (connection, http2::Connection::graceful_shutdown),
    )
    .await;
}

/// Whether a draining connection waits for one more request: HTTP/1.1 can only say goodbye in a response.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Waits {
    ForRequest,
    Never,
}

/// Drives a connection to its end; closes it when its client is slow or idle, or the proxy drains.
async fn supervise<C>(
    session: &Session,
    mut draining: Draining,
    waits: Waits,
    (mut connection, stop): (Pin<&mut C>, fn(Pin<&mut C>)),
) where
    C: Future<Output = Result<(), hyper::Error>>,
{
    let limits = session.worker.limits();
    let mut clock = interval_at(Instant::now() + limits.head_timeout, limits.head_timeout);
    clock.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut patience = Patience::new(limits);
    loop {
        tokio::select! {
            biased;
            ended = connection.as_mut() => return log_end(session, ended),
            _ = clock.tick() => match patience.look(session.activity.look()) {
                Judgement::Fine => {}
                Judgement::Idle => break,
                Judgement::Over => return,
                Judgement::Slow if session.is_http2() || session.activity.is_head_overdue() => {
                    return session.refused_unseen(Kind::HeadTimeout);
                }
                // The stream answers at its next reading, which follows.
                Judgement::Slow => session.activity.head_is_overdue(),
            },
            () = draining.begun() => {
                if waits == Waits::ForRequest {
                    // Answers carry `connection: close` from now on; give clients the time to get one.
                    tokio::select! {
                        ended = connection.as_mut() => return log_end(session, ended),
                        () = sleep(limits.drain_idle) => {}
                    }
                }
                break;
            }
        }
    }
    stop(connection.as_mut());
    log_end(session, connection.as_mut().await);
}

fn log_end(session: &Session, ended: Result<(), hyper::Error>) {
    session.note_break();
    if let Err(error) = ended {
        let client = session.client;
        if error.is_parse() {
            // hyper answered by itself what our own reading had let pass.
            session.refused_unseen(Kind::BadRequest);
        }
        tracing::debug!(%client, %error, "downstream connection ended");
    }
}
