//! An HTTP/2 client's stream that notices floods: streams opened only to be reset, and frames that carry nothing; and a
//! beginning that is none.
//!
//! The HTTP library bounds what a client can make it keep (streams, resets that wait, header lists, empty data); this
//! bounds what a client can make it do. It also counts what the library refuses by itself. It knows no streams.

use std::{
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::Instant,
};

use super::frames::{
    ACK, CONTINUATION, DATA, END_HEADERS, ENHANCE_YOUR_CALM, Frame, Frames, GOAWAY, HEADERS, PROTOCOL_ERROR,
    RST_STREAM, SETTINGS, WINDOW_UPDATE, goaway,
};
use crate::proxy::{
    connection::Session,
    error::{Kind, ProxyError},
    limits::Rate,
};

/// Bytes that a client sends before its first frame.
const PREFACE: u32 = 24;

pub(super) struct Guarded<S> {
    stream: S,
    received: Frames,
    /// The frame that must come first has come.
    has_begun: bool,
    /// A header block has begun, and has not ended.
    in_block: bool,
    sent: Frames,
    resets: Bucket,
    controls: Bucket,
    session: Arc<Session>,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Guarded<S> {
    pub(super) fn new(stream: S, session: Arc<Session>) -> Self {
        let limits = session.worker.limits();
        Self {
            stream,
            received: Frames::after(PREFACE),
            has_begun: false,
            in_block: false,
            sent: Frames::after(0),
            resets: Bucket::new(limits.resets),
            controls: Bucket::new(limits.control_frames),
            session,
        }
    }

    /// Looks at what was received.
    fn check(&mut self, mut bytes: &[u8]) -> Result<(), ProxyError> {
        while let Some(frame) = self.received.next(&mut bytes) {
            if !self.has_begun {
                // RFC 9113, 3.4: the preface ends with a SETTINGS frame. The library takes whatever comes.
                if frame.kind != SETTINGS || frame.flags & ACK != 0 {
                    return Err(ProxyError::new(
                        Kind::ClientProtocolError,
                        "the first frame is not SETTINGS",
                    ));
                }
                self.has_begun = true;
            }
            self.in_block = matches!(frame.kind, HEADERS | CONTINUATION) && frame.flags & END_HEADERS == 0;
            match frame.kind {
                RST_STREAM if !self.resets.take(Instant::now()) => {
                    return Err(ProxyError::new(Kind::RapidReset, "too many streams were reset"));
                }
                DATA | HEADERS if frame.length > 0 => self.controls.put(),
                RST_STREAM | CONTINUATION | WINDOW_UPDATE => {}
                // DATA without data, PING, SETTINGS, PRIORITY, and what the standard does not know.
                _ if !self.controls.take(Instant::now()) => {
                    return Err(ProxyError::new(Kind::FrameFlood, "too many control frames"));
                }
                _ => {}
            }
        }
        let rest = self.in_block || !self.received.is_between();
        self.session.activity.awaits_rest(rest);
        Ok(())
    }

    /// Says why the connection ends, if that can be said now, and ends it.
    fn break_off(&mut self, cx: &mut Context<'_>, error: ProxyError) -> io::Error {
        self.session.activity.break_off(error);
        let code = match error.kind {
            Kind::ClientProtocolError => PROTOCOL_ERROR,
            _ => ENHANCE_YOUR_CALM,
        };
        if self.sent.is_between() {
            // As good as it gets: a client that floods may not read, and must not be waited for.
            let _ = Pin::new(&mut self.stream).poll_write(cx, &goaway(code));
        }
        io::ErrorKind::InvalidData.into()
    }

    fn note_sent(&mut self, mut bytes: &[u8]) {
        while let Some(frame) = self.sent.next(&mut bytes) {
            match frame.kind {
                // Whoever downloads acknowledges: what is sent to a client buys it as many frames.
                DATA | HEADERS => self.controls.put(),
                RST_STREAM | GOAWAY => self.note_end(&frame),
                _ => {}
            }
        }
    }

    /// Counts what the library ends because of the client.
    fn note_end(&self, frame: &Frame) {
        use h2::Reason;
        let code = frame.code().map(Reason::from);
        let clients = matches!(
            code,
            Some(
                Reason::PROTOCOL_ERROR
                    | Reason::FLOW_CONTROL_ERROR
                    | Reason::SETTINGS_TIMEOUT
                    | Reason::STREAM_CLOSED
                    | Reason::FRAME_SIZE_ERROR
                    | Reason::REFUSED_STREAM
                    | Reason::COMPRESSION_ERROR
                    | Reason::ENHANCE_YOUR_CALM
            )
        );
        if clients && !self.session.activity.is_reset_by_rule() {
            self.session.refused_unseen(Kind::ClientProtocolError);
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for Guarded<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let start = buf.filled().len();
        ready!(Pin::new(&mut this.stream).poll_read(cx, buf))?;
        if let Err(error) = this.check(&buf.filled()[start..]) {
            buf.set_filled(start);
            return Poll::Ready(Err(this.break_off(cx, error)));
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Guarded<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = ready!(Pin::new(&mut this.stream).poll_write(cx, bytes))?;
        this.note_sent(&bytes[..written]);
        Poll::Ready(Ok(written))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = ready!(Pin::new(&mut this.stream).poll_write_vectored(cx, slices))?;
        let mut left = written;
        for slice in slices {
            let part = &slice[..left.min(slice.len())];
            this.note_sent(part);
            left -= part.len();
        }
        Poll::Ready(Ok(written))
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

/// How much of something may happen: a store that fills with time.
#[derive(Debug)]
struct Bucket {
    rate: Rate,
    left: f64,
    /// None: it has never been taken from.
    filled: Option<Instant>,
}

impl Bucket {
    fn new(rate: Rate) -> Self {
        Self {
            rate,
            left: f64::from(rate.burst),
            filled: None,
        }
    }

    /// Takes one; false: there is none.
    fn take(&mut self, now: Instant) -> bool {
        if self.left < 1.0 {
            let since = self.filled.map_or(0.0, |at| (now - at).as_secs_f64());
            self.filled = Some(now);
            self.left = (self.left + since * f64::from(self.rate.per_second)).min(f64::from(self.rate.burst));
        } else if self.filled.is_none() {
            self.filled = Some(now);
        }
        let some = self.left >= 1.0;
        if some {
            self.left -= 1.0;
        }
        some
    }

    /// Gives one back.
    fn put(&mut self) {
        self.left = (self.left + 1.0).min(f64::from(self.rate.burst));
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_bucket_holds_a_burst_and_fills_with_time() {
        let mut bucket = Bucket::new(Rate {
            per_second: 2,
            burst: 3,
        });
        let start = Instant::now();
        let mut takes = |n: usize, at: u64| {
            (0..n)
                .filter(|_| bucket.take(start + Duration::from_secs(at)))
                .count()
        };
        assert_eq!(takes(5, 0), 3);
        assert_eq!(takes(5, 1), 2);
        assert_eq!(takes(5, 100), 3);
        bucket.put();
        let later = start + Duration::from_secs(100);
        assert!(bucket.take(later) && !bucket.take(later));
    }
}
