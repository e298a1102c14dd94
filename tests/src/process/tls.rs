//! A TLS server that says its name, and a client that wants it proven.

use std::{
    io::{self, BufRead, BufReader, Write},
    net::TcpStream,
    sync::Arc,
    time::Duration,
};

use anyhow::{Context, Result};
use rustls::{
    ClientConfig, ClientConnection, RootCertStore, ServerConfig, ServerConnection, StreamOwned,
    crypto::ring::default_provider,
    pki_types::{CertificateDer, PrivatePkcs8KeyDer, ServerName},
};

use crate::protocol::Tls;

/// A handshake or a line that takes longer has failed.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Starts a server on a thread of its own; it serves one client after the other.
pub(super) fn serve(name: &str, port: u16, certificate: Vec<u8>, key: Vec<u8>) -> Result<()> {
    let config = ServerConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(
            vec![CertificateDer::from(certificate)],
            PrivatePkcs8KeyDer::from(key).into(),
        )?;
    let config = Arc::new(config);
    let listener = super::listen(port)?;
    listener.set_nonblocking(false).context("a blocking listener")?;
    let greeting = format!("{name}\n");
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            // A client that goes away is no fault of the server's.
            let _ = greet(&config, stream, &greeting);
        }
    });
    Ok(())
}

fn greet(config: &Arc<ServerConfig>, stream: TcpStream, greeting: &str) -> io::Result<()> {
    stream.set_read_timeout(Some(TIMEOUT))?;
    let connection = ServerConnection::new(config.clone()).map_err(io::Error::other)?;
    let mut tls = StreamOwned::new(connection, stream);
    tls.write_all(greeting.as_bytes())?;
    tls.conn.send_close_notify();
    tls.flush()
}

/// Connects, checks the server's certificate, and reads a line.
pub(super) fn read_line(tls: &Tls) -> io::Result<String> {
    let mut roots = RootCertStore::empty();
    let certificate = CertificateDer::from(tls.certificate.clone());
    roots.add(certificate).map_err(io::Error::other)?;
    let config = ClientConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(io::Error::other)?
        .with_root_certificates(roots)
        .with_no_client_auth();
    let name = ServerName::try_from(tls.server_name.clone()).map_err(io::Error::other)?;
    let connection = ClientConnection::new(Arc::new(config), name).map_err(io::Error::other)?;
    let stream = TcpStream::connect_timeout(&tls.target, TIMEOUT)?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    let mut line = String::new();
    BufReader::new(StreamOwned::new(connection, stream)).read_line(&mut line)?;
    if line.pop() != Some('\n') {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(line)
}
