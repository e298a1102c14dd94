//! TCP from one blocking thread: what a plain client sees, with nothing of a runtime in the way.

use std::{
    io::{self, Read, Write},
    net::{SocketAddr, TcpStream},
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use socket2::SockRef;

use super::recorder::Recorder;
use crate::job::{Job, Measured, Until};

/// Bytes of one write of bulk data.
const CHUNK: usize = 128 * 1024;
/// A peer that is silent for so long has failed.
const SILENCE: Duration = Duration::from_secs(5);

/// Connects and closes, one connection after the other.
pub(super) fn connect(job: &Job, target: SocketAddr, until: Until) -> Result<Measured> {
    let mut recorder = Recorder::new(job)?;
    loop {
        let begin = Instant::now();
        if !recorder.tick(begin)? {
            return Ok(recorder.finish());
        }
        match once(target, until) {
            Ok(latency) => recorder.success(begin, latency, 0),
            Err(error) => {
                if !recorder.failure(&error.kind().to_string()) {
                    return Ok(recorder.finish());
                }
            }
        }
    }
}

/// One connection; it ends in a reset, which leaves no socket behind to wait.
fn once(target: SocketAddr, until: Until) -> io::Result<Duration> {
    let begin = Instant::now();
    let mut stream = TcpStream::connect(target)?;
    if until == Until::FirstByte {
        stream.set_read_timeout(Some(SILENCE))?;
        stream.read_exact(&mut [0])?;
    }
    let latency = begin.elapsed();
    SockRef::from(&stream).set_linger(Some(Duration::ZERO))?;
    Ok(latency)
}

/// Sends `bytes` and waits for as many.
pub(super) fn ping_pong(job: &Job, target: SocketAddr, bytes: usize) -> Result<Measured> {
    let mut stream = open(target)?;
    let mut message = vec![0x5a; bytes];
    let mut recorder = Recorder::new(job)?;
    loop {
        let begin = Instant::now();
        if !recorder.tick(begin)? {
            return Ok(recorder.finish());
        }
        let exchanged = stream
            .write_all(&message)
            .and_then(|()| stream.read_exact(&mut message));
        exchanged.context("a message and its echo")?;
        recorder.success(begin, begin.elapsed(), 2 * bytes as u64);
    }
}

/// Writes as fast as the connection takes it; a "request" is one chunk.
pub(super) fn bulk(job: &Job, target: SocketAddr) -> Result<Measured> {
    let mut stream = open(target)?;
    let chunk = vec![0x5a; CHUNK];
    let mut recorder = Recorder::new(job)?;
    loop {
        let begin = Instant::now();
        if !recorder.tick(begin)? {
            return Ok(recorder.finish());
        }
        stream.write_all(&chunk).context("bulk data")?;
        recorder.success(begin, begin.elapsed(), CHUNK as u64);
    }
}

fn open(target: SocketAddr) -> Result<TcpStream> {
    let stream = TcpStream::connect(target).with_context(|| format!("connecting to {target}"))?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(SILENCE))?;
    stream.set_write_timeout(Some(SILENCE))?;
    Ok(stream)
}
