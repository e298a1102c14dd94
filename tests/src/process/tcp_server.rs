//! A TCP server that says its name, then echoes.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use anyhow::Result;
use tokio::{
    io::AsyncWriteExt,
    net::{TcpListener, TcpStream},
};

use crate::protocol::Seen;

/// A running server.
pub(super) struct TcpServer {
    greeting: String,
    pub(super) connections: Connections,
}

/// Connections of a server, counted.
#[derive(Default)]
pub(super) struct Connections {
    accepted: AtomicU64,
    open: AtomicU64,
    peak: AtomicU64,
}

/// One open connection; dropping it counts the close.
pub(super) struct Open<'a>(&'a Connections);

impl Connections {
    pub(super) fn accept(&self) -> Open<'_> {
        self.accepted.fetch_add(1, Ordering::Relaxed);
        let open = self.open.fetch_add(1, Ordering::Relaxed) + 1;
        self.peak.fetch_max(open, Ordering::Relaxed);
        Open(self)
    }

    pub(super) fn seen(&self) -> Seen {
        Seen {
            connections: self.accepted.load(Ordering::Relaxed),
            open: self.open.load(Ordering::Relaxed),
            peak: self.peak.load(Ordering::Relaxed),
            ..Seen::default()
        }
    }
}

impl Drop for Open<'_> {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::Relaxed);
    }
}

impl TcpServer {
    pub(super) fn seen(&self) -> Seen {
        self.connections.seen()
    }
}

/// Starts a server on a thread of its own.
pub(super) fn start(name: &str, port: u16) -> Result<Arc<TcpServer>> {
    let listener = super::listen(port)?;
    let server = Arc::new(TcpServer {
        greeting: format!("{name}\n"),
        connections: Connections::default(),
    });
    let running = server.clone();
    let runtime = super::runtime()?;
    std::thread::spawn(move || {
        let accepted: Result<()> = runtime.block_on(async {
            let listener = TcpListener::from_std(listener)?;
            loop {
                let (stream, _) = listener.accept().await?;
                let server = running.clone();
                tokio::spawn(async move { serve(&server, stream).await });
                // Those that are open come first: however fast clients are, descriptors do not run out.
                tokio::task::yield_now().await;
            }
        });
        if let Err(error) = accepted {
            eprintln!("tcp server on port {port}: {error:#}");
        }
    });
    Ok(server)
}

async fn serve(server: &TcpServer, mut stream: TcpStream) {
    let _open = server.connections.accept();
    // A client that resets is no fault of the server's.
    if stream.write_all(server.greeting.as_bytes()).await.is_ok() {
        let (mut read, mut write) = stream.split();
        let _ = tokio::io::copy(&mut read, &mut write).await;
    }
}
