//! The floor under every proxy: bytes go from one socket to another, and nobody looks at them.
//!
//! A thread for each processor with a listener and an `epoll` of its own; each accepted connection has one connection to
//! a server from the beginning. A request costs two reads and two writes, which is the least that a program between two
//! TCP sockets can do, and nothing else that can be avoided. So what it takes is what the kernel's TCP/IP takes, and no
//! proxy of these four system calls takes less. It is no product: it chooses once for a connection, waits for whoever
//! does not read, and knows nothing of HTTP.

use std::{
    io::{self, ErrorKind, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    os::fd::AsFd,
    process::ExitCode,
    sync::atomic::{AtomicU64, Ordering},
    thread,
};

use anyhow::{Context, Result};
use rustix::event::{PollFd, PollFlags, epoll, poll};
use socket2::{Domain, Protocol, Socket, Type};

use crate::system::WEIGHTS;

/// Hidden argument: `floor LISTEN SERVER SERVER`.
pub(crate) const FLOOR: &str = "floor";

/// Bytes of one read.
const BUFFER: usize = 16 * 1024;
/// Ready sockets of one wait.
const READY: usize = 256;
/// Connections that wait to be accepted.
const BACKLOG: i32 = 4096;
/// The listener's mark among those of the sockets, which are numbered from 0.
const LISTENER: u64 = u64::MAX;

/// Connections so far, of all threads: whose turn it is.
static TURN: AtomicU64 = AtomicU64::new(0);

/// Forwards until it is killed.
pub(crate) fn run(listen: &str, servers: [&str; 2]) -> Result<ExitCode> {
    let listen: SocketAddr = listen.parse().context("the address to listen on")?;
    let servers: [SocketAddr; 2] = [servers[0].parse()?, servers[1].parse()?];
    let mut threads = Vec::new();
    for _ in 0..thread::available_parallelism()?.get() {
        let listener = open(listen)?;
        threads.push(thread::spawn(move || {
            Forwarder::new(listener, servers).and_then(Forwarder::run)
        }));
    }
    for thread in threads {
        let ended = thread.join().map_err(|_| io::Error::other("a thread panicked"))?;
        ended.context("forwarding")?;
    }
    Ok(ExitCode::SUCCESS)
}

fn open(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// One thread's sockets. The two of a pair have numbers that differ in the last bit.
struct Forwarder {
    epoll: std::os::fd::OwnedFd,
    listener: TcpListener,
    servers: [SocketAddr; 2],
    sockets: Vec<Option<TcpStream>>,
    /// Numbers of pairs that are over.
    free: Vec<usize>,
    buffer: Vec<u8>,
}

impl Forwarder {
    fn new(listener: TcpListener, servers: [SocketAddr; 2]) -> io::Result<Self> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let data = epoll::EventData::new_u64(LISTENER);
        epoll::add(&epoll, &listener, data, epoll::EventFlags::IN)?;
        Ok(Self {
            epoll,
            listener,
            servers,
            sockets: Vec::new(),
            free: Vec::new(),
            buffer: vec![0; BUFFER],
        })
    }

    fn run(mut self) -> io::Result<()> {
        let mut events = Vec::with_capacity(READY);
        loop {
            events.clear();
            epoll::wait(&self.epoll, rustix::buffer::spare_capacity(&mut events), None)?;
            for event in &events {
                let mark = event.data.u64();
                match usize::try_from(mark) {
                    Ok(number) if mark != LISTENER => self.forward(number),
                    _ => self.accept()?,
                }
            }
        }
    }

    /// Accepts what waits, and connects each to the server whose turn it is.
    fn accept(&mut self) -> io::Result<()> {
        loop {
            let client = match self.listener.accept() {
                Ok((client, _)) => client,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            };
            let turn = TURN.fetch_add(1, Ordering::Relaxed) % (WEIGHTS[0] + WEIGHTS[1]);
            let server = TcpStream::connect(self.servers[usize::from(turn >= WEIGHTS[0])])?;
            let number = self.free.pop().unwrap_or_else(|| {
                self.sockets.extend([None, None]);
                self.sockets.len() - 2
            });
            for (place, socket) in [client, server].into_iter().enumerate() {
                socket.set_nonblocking(true)?;
                socket.set_nodelay(true)?;
                let data = epoll::EventData::new_u64((number + place) as u64);
                epoll::add(
                    &self.epoll,
                    &socket,
                    data,
                    epoll::EventFlags::IN | epoll::EventFlags::ET,
                )?;
                self.sockets[number + place] = Some(socket);
            }
        }
    }

    /// Writes what one socket has to the other. When either is over, both are.
    fn forward(&mut self, number: usize) {
        let pair = number & !1;
        let (from, to) = (&self.sockets[number], &self.sockets[number ^ 1]);
        if let (Some(from), Some(to)) = (from, to)
            && copy(from, to, &mut self.buffer).is_ok()
        {
            return;
        }
        // An event of its partner may have ended it already.
        if self.sockets[pair].take().is_some() {
            self.sockets[pair | 1] = None;
            self.free.push(pair);
        }
    }
}

/// Reads until a read is short, which says that there is no more: one read for a small message.
fn copy(mut from: &TcpStream, mut to: &TcpStream, buffer: &mut [u8]) -> io::Result<()> {
    loop {
        let length = match from.read(buffer) {
            Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
            Ok(length) => length,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
            Err(error) => return Err(error),
        };
        let mut rest = &buffer[..length];
        while !rest.is_empty() {
            match to.write(rest) {
                Ok(written) => rest = &rest[written..],
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    poll(&mut [PollFd::from_borrowed_fd(to.as_fd(), PollFlags::OUT)], None)?;
                }
                Err(error) => return Err(error),
            }
        }
        if length < buffer.len() {
            return Ok(());
        }
    }
}
