//! TLS at the node's ports: handshakes, with the certificates of the snapshot in force.
//!
//! A change of a certificate counts for handshakes that begin after it; connections that are open keep what they have.
//! It knows no requests.

use std::{
    collections::HashMap,
    fmt, io,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use router_rules::gateway::{Credential, Entrance, choose};
use rustls::{
    ServerConfig,
    crypto::{CryptoProvider, ring},
    pki_types::{CertificateDer, PrivateKeyDer},
    server::{ClientHello, ProducesTickets, ResolvesServerCert},
    sign::CertifiedKey,
    version::{TLS12, TLS13},
};
use tokio::{
    net::TcpStream,
    time::{Instant, timeout_at},
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};

use super::{error::Kind, gateways::Door, worker::Worker};

/// What clients may choose from after the handshake, in the order of preference. curl offers the last one alone when it
/// is told to speak HTTP/1.0.
const PROTOCOLS: [&[u8]; 3] = [b"h2", b"http/1.1", b"http/1.0"];

/// What handshakes need, by port, for all workers.
pub(crate) struct Handshakes {
    provider: Arc<CryptoProvider>,
    /// Shared by all ports and snapshots, so that clients may resume sessions after a reload. None: they cannot.
    tickets: Option<Arc<dyn ProducesTickets>>,
    ports: Mutex<HashMap<u16, Ready>>,
}

/// A port's certificates, ready for use.
struct Ready {
    credentials: Box<[Arc<Credential>]>,
    config: Arc<ServerConfig>,
}

impl Handshakes {
    pub(crate) fn new() -> Self {
        let tickets = ring::Ticketer::new()
            .inspect_err(|error| tracing::warn!(%error, "TLS sessions cannot be resumed"));
        Self {
            provider: Arc::new(ring::default_provider()),
            tickets: tickets.ok(),
            ports: Mutex::default(),
        }
    }

    /// The configuration for the certificates that `entrance` has now; the one before as long as they are the same.
    fn config(&self, entrance: &Entrance) -> Result<Arc<ServerConfig>, rustls::Error> {
        let mut ports = self.ports();
        if let Some(ready) = ports.get(&entrance.port())
            && *ready.credentials == *entrance.credentials()
        {
            return Ok(ready.config.clone());
        }
        let config = Arc::new(self.build(entrance.credentials())?);
        let ready = Ready {
            credentials: entrance.credentials().into(),
            config: config.clone(),
        };
        ports.insert(entrance.port(), ready);
        Ok(config)
    }

    /// Forgets the keys of ports that are closed.
    pub(super) fn retain(&self, wanted: impl Fn(u16) -> bool) {
        self.ports().retain(|port, _| wanted(*port));
    }

    fn ports(&self) -> MutexGuard<'_, HashMap<u16, Ready>> {
        // The map is valid after every single operation on it.
        self.ports.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn build(&self, credentials: &[Arc<Credential>]) -> Result<ServerConfig, rustls::Error> {
        let keys = credentials.iter().map(|credential| self.key(credential));
        let by_name = ByServerName {
            credentials: credentials.into(),
            keys: keys.collect::<Result<_, _>>()?,
        };
        let builder = ServerConfig::builder_with_provider(self.provider.clone());
        let mut config = builder
            .with_protocol_versions(&[&TLS13, &TLS12])?
            .with_no_client_auth()
            .with_cert_resolver(Arc::new(by_name));
        config.alpn_protocols = PROTOCOLS.map(<[u8]>::to_vec).to_vec();
        if let Some(tickets) = &self.tickets {
            config.ticketer = tickets.clone();
        }
        Ok(config)
    }

    fn key(&self, credential: &Credential) -> Result<Arc<CertifiedKey>, rustls::Error> {
        let chain = credential.chain.iter().cloned().map(CertificateDer::from);
        let key = PrivateKeyDer::try_from(credential.key.reveal())
            .map_err(|what| rustls::Error::General(what.into()))?;
        CertifiedKey::from_der(chain.collect(), key.clone_key(), &self.provider).map(Arc::new)
    }
}

impl fmt::Debug for Handshakes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Handshakes")
    }
}

/// Chooses the certificate by the name that the client asks for.
#[derive(Debug)]
struct ByServerName {
    credentials: Box<[Arc<Credential>]>,
    /// In the same order.
    keys: Box<[Arc<CertifiedKey>]>,
}

impl ResolvesServerCert for ByServerName {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        choose(&self.credentials, hello.server_name()).map(|at| self.keys[at].clone())
    }
}

/// Why there is no TLS with a client.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HandshakeError {
    /// The port is being closed.
    #[error("the port is closed")]
    Closed,
    /// The certificates in force cannot be used; that they can was made sure of when they were read.
    #[error("the certificates cannot be used: {0}")]
    Unusable(#[from] rustls::Error),
    /// The client went away before it had said anything.
    #[error("the client went away")]
    Gone,
    /// The client took too long, or as many handshakes were under way as there may be.
    #[error("it took too long")]
    TooLate,
    /// The client does not speak TLS, or not as the node does.
    #[error(transparent)]
    Failed(io::Error),
}

impl HandshakeError {
    /// How it is counted and logged.
    pub(crate) const fn kind(&self) -> Kind {
        match self {
            Self::Gone | Self::Closed => Kind::ClientDisconnected,
            Self::TooLate => Kind::TlsHandshakeTimeout,
            Self::Unusable(_) | Self::Failed(_) => Kind::TlsHandshakeFailed,
        }
    }
}

/// Agrees on TLS with a client, within the time that it has for a request head. True: HTTP/2 follows.
pub(crate) async fn shake(
    worker: &Worker,
    door: &Door,
    stream: TcpStream,
) -> Result<(TlsStream<TcpStream>, bool), HandshakeError> {
    let deadline = Instant::now() + worker.limits().head_timeout;
    let late = |_| HandshakeError::TooLate;
    // Nothing is kept for a client that says nothing.
    let first = timeout_at(deadline, stream.peek(&mut [0])).await.map_err(late)?;
    if !matches!(first, Ok(1..)) {
        return Err(HandshakeError::Gone);
    }
    let place = timeout_at(deadline, worker.handshaking().acquire());
    let _place = place.await.map_err(late)?.map_err(|_| HandshakeError::Closed)?;
    let config = {
        let view = worker.views().load();
        let entrance = door.entrance(&view.snapshot).ok_or(HandshakeError::Closed)?;
        worker.handshakes().config(entrance)?
    };
    let accepted = timeout_at(deadline, TlsAcceptor::from(config).accept(stream)).await;
    let stream = accepted.map_err(late)?.map_err(HandshakeError::Failed)?;
    let http2 = stream.get_ref().1.alpn_protocol() == Some(PROTOCOLS[0]);
    Ok((stream, http2))
}
