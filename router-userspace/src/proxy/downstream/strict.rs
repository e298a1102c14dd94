//! An HTTP/1.1 client's stream that hands on only bytes whose framing was read and found in order.
//!
//! A refused request reaches the server in an empty guise: its request line and nothing else. So the pipeline answers
//! it, in its turn, with a reason, like every other refusal. A body that is refused breaks off.
//!
//! It does not know what is wrong with a request; `framing` does.

use std::{
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use bytes::{Buf as _, BytesMut};
use http::Uri;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::framing::{Bounds, Framing};
use crate::proxy::{
    connection::{Activity, Part, Switch},
    error::{Kind, ProxyError},
};

/// What stands for a request line that cannot be shown.
const UNREADABLE: &[u8] = b"- * HTTP/1.1";

pub(super) struct Strict<S> {
    stream: S,
    framing: Framing,
    /// Bytes that were read and not handed on: `passed` that may be, then the beginning of a head or line. Empty
    /// nearly always.
    held: BytesMut,
    passed: usize,
    end: End,
    activity: Arc<Activity>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    /// There is none yet.
    Open,
    /// After the bytes that are held there is nothing more to read.
    Refused,
    /// After the bytes that are held reading fails.
    Broken,
}

impl<S: AsyncRead + Unpin> Strict<S> {
    pub(super) fn new(stream: S, bounds: Bounds, activity: Arc<Activity>) -> Self {
        Self {
            stream,
            framing: Framing::new(bounds),
            held: BytesMut::new(),
            passed: 0,
            end: End::Open,
            activity,
        }
    }

    fn hand_on(&mut self, buf: &mut ReadBuf<'_>) {
        let length = self.passed.min(buf.remaining());
        buf.put_slice(&self.held[..length]);
        self.held.advance(length);
        self.passed -= length;
        if self.held.is_empty() {
            // Most connections never need it again.
            self.held = BytesMut::new();
        }
    }

    /// Takes what arrived behind `start` of `buf`, leaves there what may be handed on at once.
    fn admit(&mut self, buf: &mut ReadBuf<'_>, start: usize) {
        let arrived = &buf.filled()[start..];
        let progress = if self.held.is_empty() {
            let progress = self.framing.scan(arrived);
            self.held.extend_from_slice(&arrived[progress.passed..]);
            buf.set_filled(start + progress.passed);
            progress
        } else {
            self.held.extend_from_slice(arrived);
            buf.set_filled(start);
            let progress = self.framing.scan(&self.held);
            self.passed = progress.passed;
            progress
        };
        self.activity.receives(self.part());
        if let Some(error) = progress.refused {
            self.refuse(error);
        } else if self.framing.is_parked() {
            self.activity
                .switch_is_pending(self.framing.heads(), self.framing.is_early());
        }
    }

    /// Where the bytes end that have come.
    fn part(&self) -> Part {
        if self.framing.is_in_body() {
            Part::Body
        } else if self.held.len() > self.passed {
            Part::Head
        } else {
            Part::End
        }
    }

    /// From here on nothing that the client sends is handed on.
    fn refuse(&mut self, error: ProxyError) {
        if self.framing.is_in_head() {
            let line = self
                .framing
                .first_line(&self.held[self.passed..])
                .filter(|line| is_readable(line))
                .unwrap_or(UNREADABLE)
                .to_vec();
            self.held.truncate(self.passed);
            self.held.extend_from_slice(&line);
            self.held.extend_from_slice(b"\r\n\r\n");
            self.passed = self.held.len();
            self.activity.refuse_request(self.framing.heads() + 1, error);
            self.end = End::Refused;
        } else {
            self.held.truncate(self.passed);
            self.activity.break_off(error);
            self.end = End::Broken;
        }
        self.framing.refuse(error);
    }

    /// Acts on what the rest of the proxy found out since the last reading.
    fn heed(&mut self) {
        if self.framing.is_parked() {
            match self.activity.switch() {
                Switch::None => self.framing.resume(),
                Switch::Made => self.framing.becomes_tunnel(),
                Switch::Pending => {}
            }
        }
        if self.end == End::Open && self.activity.is_head_overdue() && self.framing.is_in_head() {
            let error = ProxyError::new(Kind::HeadTimeout, "the request's head took too long");
            self.refuse(error);
        }
    }
}

/// True when hyper will take a first line for one, so that the log can tell which request it was.
fn is_readable(line: &[u8]) -> bool {
    let mut parts = line.split(|&b| b == b' ');
    let target = parts.nth(1).unwrap_or_default();
    !line.starts_with(b"CONNECT ") && Uri::try_from(target).is_ok()
}

impl<S: AsyncRead + Unpin> AsyncRead for Strict<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        loop {
            if this.passed > 0 {
                this.hand_on(buf);
                return Poll::Ready(Ok(()));
            }
            match this.end {
                End::Open => {}
                // An end would make the server drop the request that it is to answer; the answer ends the connection.
                End::Refused => return Poll::Pending,
                End::Broken => return Poll::Ready(Err(io::ErrorKind::InvalidData.into())),
            }
            this.heed();
            if this.passed > 0 {
                continue;
            }
            let start = buf.filled().len();
            ready!(Pin::new(&mut this.stream).poll_read(cx, buf))?;
            if buf.filled().len() == start {
                return Poll::Ready(Ok(()));
            }
            this.admit(buf, start);
            if buf.filled().len() > start {
                return Poll::Ready(Ok(()));
            }
        }
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Strict<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests;
