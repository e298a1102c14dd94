//! Listening sockets: one per address and worker on the same port, and the loop that accepts.
//!
//! Closing a listener resets connections that wait in its queue. So a worker that stops accepts what waits first; what
//! arrives between the last `accept` and the close goes to the other listeners of the port when the host has
//! `net.ipv4.tcp_migrate_req` on.

use std::{
    io,
    net::{IpAddr, SocketAddr, TcpListener as StdListener},
    sync::Arc,
    time::Duration,
};

use socket2::{Domain, Protocol, Socket, Type};
use tokio::{net::TcpListener, net::TcpStream, sync::Semaphore, time::sleep};
use tokio_util::task::TaskTracker;

use super::{
    connection, drain::Draining, gateways::Door, limits::Limits, upstream::keepalive, worker::Worker,
};

/// Pause after `accept` failed, for want of file descriptors most likely.
const ACCEPT_PAUSE: Duration = Duration::from_millis(20);

/// Opens a listener per address for each of `workers`; gives the addresses with their real ports.
pub(crate) fn bind(
    addresses: &[SocketAddr],
    workers: usize,
    limits: &Limits,
) -> io::Result<(Vec<SocketAddr>, Vec<Vec<StdListener>>)> {
    let mut bound = Vec::with_capacity(addresses.len());
    let mut listeners: Vec<Vec<StdListener>> = Vec::new();
    listeners.resize_with(workers, Vec::new);
    for &address in addresses {
        let first = listen(address, limits)?;
        let address = first.local_addr()?;
        bound.push(address);
        listeners[0].push(first);
        for others in &mut listeners[1..] {
            others.push(listen(address, limits)?);
        }
    }
    Ok((bound, listeners))
}

fn listen(address: SocketAddr, limits: &Limits) -> io::Result<StdListener> {
    let named =
        |error: io::Error| io::Error::new(error.kind(), format!("cannot listen on {address}: {error}"));
    let open = || {
        let socket = Socket::new(
            Domain::for_address(address),
            Type::STREAM.nonblocking(),
            Some(Protocol::TCP),
        )?;
        if address.is_ipv6() {
            socket.set_only_v6(true)?;
        }
        socket.set_reuse_address(true)?;
        socket.set_reuse_port(true)?;
        // Accepted sockets inherit both.
        socket.set_tcp_nodelay(true)?;
        socket.set_tcp_keepalive(&keepalive(limits.keepalive))?;
        socket.bind(&address.into())?;
        socket.listen(limits.backlog)?;
        Ok(socket.into())
    };
    open().map_err(named)
}

/// Whether the node has the family of an address at all.
pub(crate) fn probe(address: IpAddr) -> io::Result<()> {
    let domain = Domain::for_address(SocketAddr::new(address, 0));
    Socket::new(domain, Type::STREAM, Some(Protocol::TCP)).map(drop)
}

/// What becomes of the connections of a listener.
pub(crate) struct Accepting {
    /// How many there may be.
    pub(crate) places: Arc<Semaphore>,
    /// Where they run.
    pub(crate) connections: TaskTracker,
    /// The node's port at which they come in; none: the kernel sends them.
    pub(crate) door: Option<Arc<Door>>,
}

/// Accepts connections and serves each in a task of its own, until the drain begins and the queue is empty.
pub(crate) async fn accept(
    worker: Arc<Worker>,
    listener: TcpListener,
    accepting: Accepting,
    mut draining: Draining,
) {
    let Accepting {
        places,
        connections,
        door,
    } = accepting;
    let serve = |(stream, client): (TcpStream, SocketAddr), place, draining: Draining| {
        let (worker, door) = (worker.clone(), door.clone());
        connections.spawn(async move {
            connection::serve(worker, (stream, client), door, draining).await;
            drop(place);
        });
    };
    loop {
        let accepted = tokio::select! {
            biased;
            () = draining.begun() => break,
            accepted = accept_one(&listener, &places) => accepted,
        };
        match accepted {
            Ok((connection, place)) => serve(connection, Some(place), draining.clone()),
            Err(error) => {
                tracing::warn!(%error, "accept failed");
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    // Asked of the kernel, not of the runtime, which may not have heard yet.
    let Ok(listener) = listener.into_std() else {
        return;
    };
    while let Ok((stream, client)) = listener.accept() {
        let stream = stream
            .set_nonblocking(true)
            .and_then(|()| TcpStream::from_std(stream));
        if let Ok(stream) = stream {
            serve((stream, client), None, draining.clone());
        }
    }
}

async fn accept_one(
    listener: &TcpListener,
    places: &Arc<Semaphore>,
) -> io::Result<((TcpStream, SocketAddr), tokio::sync::OwnedSemaphorePermit)> {
    let place = places.clone().acquire_owned().await.map_err(io::Error::other)?;
    Ok((listener.accept().await?, place))
}
