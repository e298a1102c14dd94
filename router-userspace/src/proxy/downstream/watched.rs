//! A client's socket: it can end with a reset, and can wait a little before it closes.
//!
//! It does not look at bytes.

use std::{
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::proxy::{connection::Activity, l4_fault::Shaped, transport::Transport};

/// Bytes that are thrown away behind the last response, so that closing does not reset the connection under it: its
/// client may read no response before it has sent all of its request. nginx and Apache wait in the same way ("lingering
/// close"), for a time; whoever looks after slow clients ends this too.
const LINGERING_BYTES: usize = 16 * 1024 * 1024;

pub(super) struct Watched {
    stream: Shaped<Transport>,
    activity: Arc<Activity>,
    lingering: usize,
}

impl Watched {
    pub(super) const fn new(stream: Shaped<Transport>, activity: Arc<Activity>) -> Self {
        Self {
            stream,
            activity,
            lingering: LINGERING_BYTES,
        }
    }

    /// Throws away what the client still sends, until it closes or has sent too much.
    fn poll_linger(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let mut scratch = [0; 4096];
        while self.lingering > 0 {
            let mut buf = ReadBuf::new(&mut scratch);
            match ready!(Pin::new(&mut self.stream).poll_read(cx, &mut buf)) {
                Ok(()) if !buf.filled().is_empty() => {
                    self.lingering = self.lingering.saturating_sub(buf.filled().len());
                }
                _ => self.lingering = 0,
            }
        }
        Poll::Ready(())
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        if self.activity.is_aborted() {
            // Closing a socket that does not linger resets its connection. That this fails is no reason to keep it.
            let _ = SockRef::from(&self.stream).set_linger(Some(Duration::ZERO));
        }
    }
}

impl AsyncRead for Watched {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Watched {
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
        let this = self.get_mut();
        ready!(Pin::new(&mut this.stream).poll_shutdown(cx))?;
        if this.activity.is_unfinished() {
            this.activity.refuse();
        }
        if this.activity.refuses() && !this.activity.is_aborted() {
            ready!(this.poll_linger(cx));
        }
        Poll::Ready(Ok(()))
    }
}
