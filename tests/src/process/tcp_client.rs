//! A TCP client: many connects from many threads, counted by server and by error.

use std::{
    io::{self, BufRead, BufReader},
    net::{IpAddr, SocketAddr, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use socket2::{Domain, Protocol, Socket, Type};

use crate::protocol::{Connect, Connected, Identify};

/// A connect or a greeting that takes longer has failed.
const TIMEOUT: Duration = Duration::from_secs(10);

/// What the threads share.
struct Shared {
    connect: Connect,
    left: AtomicU64,
    open: AtomicU64,
    peak: AtomicU64,
    stop: Arc<AtomicBool>,
}

/// Opens connections; returns what became of them and those that are held.
pub(super) fn run(connect: &Connect, stop: &Arc<AtomicBool>) -> (Connected, Vec<TcpStream>) {
    let shared = Shared {
        connect: connect.clone(),
        left: AtomicU64::new(connect.count),
        open: AtomicU64::new(0),
        peak: AtomicU64::new(0),
        stop: stop.clone(),
    };
    let mut total = Connected::default();
    let mut open = Vec::new();
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..connect.threads)
            .map(|_| scope.spawn(|| work(&shared)))
            .collect();
        for thread in threads {
            match thread.join() {
                Ok((part, streams)) => {
                    add(&mut total, part);
                    open.extend(streams);
                }
                Err(_) => *total.errors.entry("panic".into()).or_default() += 1,
            }
        }
    });
    total.peak = shared.peak.load(Ordering::Relaxed);
    (total, open)
}

fn add(total: &mut Connected, part: Connected) {
    for (name, count) in part.served {
        *total.served.entry(name).or_default() += count;
    }
    for (name, count) in part.errors {
        *total.errors.entry(name).or_default() += count;
    }
    total.slowest_us = total.slowest_us.max(part.slowest_us);
}

fn work(shared: &Shared) -> (Connected, Vec<TcpStream>) {
    let mut seen = Connected::default();
    let mut held = Vec::new();
    while !shared.stop.load(Ordering::Relaxed) && take(&shared.left) {
        let start = Instant::now();
        let result = open(&shared.connect);
        let took = u64::try_from(start.elapsed().as_micros()).unwrap_or(u64::MAX);
        seen.slowest_us = seen.slowest_us.max(took);
        match result {
            Ok(stream) => {
                // Counted after the kernel counted it, and discounted before the kernel does.
                let open = shared.open.fetch_add(1, Ordering::SeqCst) + 1;
                shared.peak.fetch_max(open, Ordering::SeqCst);
                match identify(&stream, shared.connect.identify) {
                    Ok(server) => *seen.served.entry(server).or_default() += 1,
                    Err(error) => {
                        *seen
                            .errors
                            .entry(format!("greeting: {}", name(&error)))
                            .or_default() += 1
                    }
                }
                if shared.connect.hold {
                    held.push(stream);
                } else {
                    shared.open.fetch_sub(1, Ordering::SeqCst);
                }
            }
            Err(error) => *seen.errors.entry(name(&error)).or_default() += 1,
        }
    }
    (seen, held)
}

/// Takes one from the number that is left.
fn take(left: &AtomicU64) -> bool {
    left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |n| n.checked_sub(1))
        .is_ok()
}

fn open(connect: &Connect) -> io::Result<TcpStream> {
    let target = match connect.target {
        SocketAddr::V4(v4) if connect.mapped => (v4.ip().to_ipv6_mapped(), v4.port()).into(),
        target => target,
    };
    let (kind, protocol) = if connect.udp {
        (Type::DGRAM, Protocol::UDP)
    } else {
        (Type::STREAM, Protocol::TCP)
    };
    let socket = Socket::new(Domain::for_address(target), kind, Some(protocol))?;
    socket.set_write_timeout(Some(TIMEOUT))?;
    socket.set_read_timeout(Some(TIMEOUT))?;
    if !connect.hold {
        // Closing resets: no port stays behind, so that a hundred thousand connects do not run out of them.
        socket.set_linger(Some(Duration::ZERO))?;
    }
    let mut connected = socket.connect(&target.into());
    for _ in 0..connect.again {
        if connected.is_err() {
            connected = socket.connect(&target.into());
        }
    }
    connected?;
    Ok(socket.into())
}

fn identify(stream: &TcpStream, identify: Identify) -> io::Result<String> {
    if identify == Identify::Peer {
        let peer = stream.peer_addr()?;
        let ip: IpAddr = peer.ip().to_canonical();
        return Ok(SocketAddr::new(ip, peer.port()).to_string());
    }
    let mut line = String::new();
    BufReader::with_capacity(64, stream).read_line(&mut line)?;
    if line.pop() != Some('\n') {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(line)
}

/// The error's name as `errno(3)` spells it, for those that a test may expect.
pub(super) fn name(error: &io::Error) -> String {
    let known = match error.raw_os_error() {
        Some(libc::ECONNREFUSED) => "ECONNREFUSED",
        Some(libc::ECONNRESET) => "ECONNRESET",
        Some(libc::EPERM) => "EPERM",
        Some(libc::ETIMEDOUT | libc::EINPROGRESS | libc::EAGAIN) => "ETIMEDOUT",
        Some(libc::ENETUNREACH) => "ENETUNREACH",
        Some(libc::EHOSTUNREACH) => "EHOSTUNREACH",
        Some(libc::EADDRNOTAVAIL) => "EADDRNOTAVAIL",
        _ => return error.to_string(),
    };
    known.into()
}
