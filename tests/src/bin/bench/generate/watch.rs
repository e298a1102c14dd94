//! Connects without a pause and prints when the server that answers becomes another one.

use std::{
    io::{self, Read, Write},
    net::{SocketAddr, TcpStream},
    time::Duration,
};

use anyhow::Result;
use socket2::SockRef;

use crate::clock;

/// Prints a line `NANOSECONDS NAME` for each change: the monotonic time at which the first connection to the new
/// server began, and the byte it greets with. Failed connects are changes to the name `!`. Ends with its parent.
pub(super) fn run(target: SocketAddr) -> Result<()> {
    tests::sys::die_with_parent()?;
    let mut last = String::new();
    loop {
        let begin = clock::monotonic_ns();
        let name = greeting(target).unwrap_or_else(|_| "!".into());
        if name != last {
            let mut out = io::stdout().lock();
            writeln!(out, "{begin} {name}")?;
            out.flush()?;
            last = name;
        }
    }
}

fn greeting(target: SocketAddr) -> io::Result<String> {
    let mut stream = TcpStream::connect(target)?;
    let mut byte = [0];
    stream.read_exact(&mut byte)?;
    SockRef::from(&stream).set_linger(Some(Duration::ZERO))?;
    Ok(char::from(byte[0]).to_string())
}
