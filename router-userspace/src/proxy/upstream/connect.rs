//! Opening a socket to an endpoint, claimed before the kernel sees it connect.
//!
//! It knows no pools and no HTTP.

use std::{io, net::SocketAddr, os::fd::AsFd, time::Duration};

use socket2::{Domain, Protocol, Socket, TcpKeepalive, Type};
use tokio::{net::TcpStream, time::timeout};

use crate::{
    enforce::Enforcement,
    proxy::{
        error::{Kind, ProxyError},
        limits::Limits,
    },
};

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConnectError {
    /// The kernel refused it.
    #[error("the connection limit of the policy is reached")]
    LimitReached,
    /// Nobody answered.
    #[error("connecting took too long")]
    TimedOut,
    /// The endpoint or the network refused.
    #[error("connecting failed: {0}")]
    Failed(#[from] io::Error),
}

impl ConnectError {
    /// The same for a request that has waited for this one's connection. None: it says nothing about others.
    pub(super) fn shared(&self) -> Option<Self> {
        match self {
            Self::LimitReached => None,
            Self::TimedOut => Some(Self::TimedOut),
            Self::Failed(error) => Some(Self::Failed(error.kind().into())),
        }
    }
}

impl From<ConnectError> for ProxyError {
    fn from(error: ConnectError) -> Self {
        match error {
            ConnectError::LimitReached => Self::new(Kind::LimitReached, "overflow"),
            ConnectError::TimedOut => Self::new(Kind::ConnectTimeout, "connection timeout"),
            ConnectError::Failed(error) => {
                tracing::debug!(%error, "upstream connection failed");
                Self::new(Kind::ConnectFailure, "remote connection failure")
            }
        }
    }
}

/// Probes of a silent connection, first after `interval` and then as often.
pub(crate) const fn keepalive(interval: Duration) -> TcpKeepalive {
    TcpKeepalive::new().with_time(interval).with_interval(interval)
}

/// Connects to `endpoint`, counted against `policy`. Calls `admitted` when the kernel has given it a place, before the
/// endpoint has answered.
///
/// # Errors
///
/// The limit is reached, the endpoint refused, or it did not answer in time.
pub(crate) async fn connect(
    enforcement: &dyn Enforcement,
    endpoint: SocketAddr,
    policy: Option<&str>,
    limits: &Limits,
    admitted: impl FnOnce(),
) -> Result<TcpStream, ConnectError> {
    let socket = Socket::new(
        Domain::for_address(endpoint),
        Type::STREAM.nonblocking(),
        Some(Protocol::TCP),
    )?;
    socket.set_tcp_nodelay(true)?;
    socket.set_tcp_keepalive(&keepalive(limits.keepalive))?;
    enforcement.claim(socket.as_fd(), policy, endpoint)?;
    match socket.connect(&endpoint.into()) {
        Ok(()) => {}
        Err(error) if error.raw_os_error() == Some(libc::EINPROGRESS) => {}
        Err(_) if enforcement.over_limit(socket.as_fd()) => return Err(ConnectError::LimitReached),
        Err(error) => return Err(error.into()),
    }
    admitted();
    let stream = TcpStream::from_std(socket.into())?;
    timeout(limits.connect_timeout, stream.writable())
        .await
        .map_err(|_| ConnectError::TimedOut)??;
    stream.take_error()?.map_or(Ok(stream), |error| Err(error.into()))
}
