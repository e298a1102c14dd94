//! A UDP server that answers with its name, and clients that send without connecting.

use std::{
    io,
    net::{Ipv6Addr, SocketAddr, UdpSocket},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use socket2::{Domain, Protocol, Socket, Type};

use super::tcp_client::name;
use crate::protocol::{Connected, Datagrams};

/// An answer that takes longer is lost.
const TIMEOUT: Duration = Duration::from_secs(5);

const QUESTION: &[u8] = b"who are you?";

/// Longest datagram that is read.
const LONGEST: usize = 512;

/// Starts a server on a thread of its own.
pub(super) fn serve(server: &str, port: u16) -> Result<()> {
    let socket = Socket::new(Domain::IPV6, Type::DGRAM, Some(Protocol::UDP))?;
    socket.set_only_v6(false)?;
    let any = SocketAddr::from((Ipv6Addr::UNSPECIFIED, port));
    socket
        .bind(&any.into())
        .with_context(|| format!("binding port {port}"))?;
    let socket: UdpSocket = socket.into();
    let server = server.to_owned();
    std::thread::spawn(move || {
        let mut asked = [0; LONGEST];
        while let Ok((_, client)) = socket.recv_from(&mut asked) {
            // A client that is gone is no fault of the server's.
            let _ = socket.send_to(server.as_bytes(), client);
        }
    });
    Ok(())
}

/// Asks, one datagram after the other; returns the answers by server, and what went wrong.
pub(super) fn ask(datagrams: &Datagrams, stop: &Arc<AtomicBool>) -> Result<Connected> {
    let mut seen = Connected::default();
    for _ in 0..datagrams.sockets {
        let (socket, target) = open(datagrams)?;
        if datagrams.unanswered {
            let start = Instant::now();
            for _ in 0..datagrams.each {
                if let Err(error) = socket.send_to(QUESTION, target) {
                    *seen.errors.entry(name(&error)).or_default() += 1;
                }
            }
            seen.slowest_us += u64::try_from(start.elapsed().as_micros()).unwrap_or(u64::MAX);
            continue;
        }
        let mut last = None;
        for _ in 0..datagrams.each {
            if stop.load(Ordering::Relaxed) {
                break;
            }
            match exchange(&socket, target) {
                Ok((server, from)) if from == target => {
                    if last.as_ref().is_some_and(|last| *last != server) {
                        *seen.errors.entry("moved".into()).or_default() += 1;
                    }
                    *seen.served.entry(server.clone()).or_default() += 1;
                    last = Some(server);
                }
                Ok((_, from)) => *seen.errors.entry(format!("from {from}")).or_default() += 1,
                Err(error) => *seen.errors.entry(name(&error)).or_default() += 1,
            }
        }
    }
    Ok(seen)
}

fn open(datagrams: &Datagrams) -> Result<(UdpSocket, SocketAddr)> {
    let target = match datagrams.target {
        SocketAddr::V4(v4) if datagrams.mapped => (v4.ip().to_ipv6_mapped(), v4.port()).into(),
        target => target,
    };
    let socket = Socket::new(Domain::for_address(target), Type::DGRAM, Some(Protocol::UDP))?;
    socket.set_read_timeout(Some(TIMEOUT))?;
    Ok((socket.into(), target))
}

fn exchange(socket: &UdpSocket, target: SocketAddr) -> io::Result<(String, SocketAddr)> {
    socket.send_to(QUESTION, target)?;
    let mut answer = [0; LONGEST];
    let (length, from) = socket.recv_from(&mut answer)?;
    Ok((String::from_utf8_lossy(&answer[..length]).into_owned(), from))
}
