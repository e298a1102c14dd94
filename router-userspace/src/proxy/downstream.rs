//! HTTP connections from clients: hyper's server with our bounds, slow and idle clients, draining.
//!
//! It does not look at requests: `pipeline` does.

use std::{
    future::Future,
    io,
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use http::Request;
use hyper::{
    body::Incoming,
    server::conn::{http1, http2},
    service::service_fn,
};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use socket2::SockRef;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    time::{Instant, MissedTickBehavior, interval_at, sleep},
};

use super::{
    connection::{Activity, Look, Session},
    drain::Draining,
    error::Kind,
    limits::Limits,
    pipeline,
};

/// Serves an HTTP/1.1 connection to its end.
pub(crate) async fn serve_http1(session: Arc<Session>, stream: TcpStream, draining: Draining) {
    let limits = session.worker.limits();
    let activity = session.activity.clone();
    let requests = {
        let session = session.clone();
        service_fn(move |request: Request<Incoming>| {
            let session = session.clone();
            pipeline::serve(session, request)
        })
    };
    let connection = http1::Builder::new()
        .max_buf_size(limits.http1_buffer)
        .max_header_size(limits.head_bytes)
        .serve_connection(TokioIo::new(Watched::new(stream, activity)), requests)
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
pub(crate) async fn serve_http2(session: Arc<Session>, stream: TcpStream, draining: Draining) {
    let activity = session.activity.clone();
    let requests = {
        let session = session.clone();
        service_fn(move |request: Request<Incoming>| {
            let session = session.clone();
            pipeline::serve(session, request)
        })
    };
    let limits = session.worker.limits();
    let connection = http2::Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .max_concurrent_streams(limits.streams)
        .max_pending_accept_reset_streams(limits.pending_resets)
        .max_local_error_reset_streams(limits.error_resets)
        .max_header_list_size(u32::try_from(limits.head_bytes).unwrap_or(u32::MAX))
        .initial_stream_window_size(limits.stream_window)
        .initial_connection_window_size(limits.connection_window)
        .serve_connection(TokioIo::new(Watched::new(stream, activity)), requests);
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
                Judgement::Slow => return session.worker.stats.reason(Kind::HeadTimeout),
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
    if let Err(error) = ended {
        let client = session.client;
        tracing::debug!(%client, %error, "downstream connection ended");
    }
}

/// Tells slow and idle clients by comparing one look with the next.
struct Patience {
    last: Look,
    unchanged: u64,
    idle_looks: u64,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Judgement {
    Fine,
    /// A head has been on its way since the last look.
    Slow,
    /// Nothing has happened for long.
    Idle,
}

impl Patience {
    fn new(limits: &Limits) -> Self {
        let period = limits.head_timeout.as_secs_f64().max(f64::MIN_POSITIVE);
        Self {
            last: Look::default(),
            unchanged: 0,
            idle_looks: (limits.downstream_idle.as_secs_f64() / period).ceil() as u64,
        }
    }

    fn look(&mut self, now: Look) -> Judgement {
        let unchanged = now == self.last;
        self.last = now;
        if !now.idle || !unchanged {
            self.unchanged = 0;
            return Judgement::Fine;
        }
        self.unchanged += 1;
        if now.receiving {
            Judgement::Slow
        } else if self.unchanged >= self.idle_looks {
            Judgement::Idle
        } else {
            Judgement::Fine
        }
    }
}

/// A client's stream that notes when bytes come.
struct Watched {
    stream: TcpStream,
    activity: Arc<Activity>,
}

impl Watched {
    const fn new(stream: TcpStream, activity: Arc<Activity>) -> Self {
        Self { stream, activity }
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        if self.activity.is_aborted() {
            // Closing a socket that does not linger resets its connection. That this fails is no reason to keep it.
            let _ = SockRef::from(&self.stream).set_linger(Some(Duration::ZERO));
        }
    }
}

impl AsyncRead for Watched {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buf.filled().len();
        let read = Pin::new(&mut this.stream).poll_read(cx, buf);
        if buf.filled().len() > before {
            this.activity.receives();
        }
        read
    }
}

impl AsyncWrite for Watched {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests;
