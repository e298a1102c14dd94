//! A request's body that can be sent again, as long as no more than a bound of it has been sent.
//!
//! It keeps frames by reference count; it never waits for more of the body than an attempt asks for.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
};

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body as _, Frame, SizeHint};

use super::{BodyError, Metered};

/// The body, and the copy of what has been sent of it.
#[derive(Clone)]
pub(crate) struct Replay(Arc<Mutex<State>>);

struct State {
    body: Metered,
    hint: SizeHint,
    kept: Vec<Kept>,
    kept_bytes: usize,
    bound: usize,
    /// More than the bound was sent: the beginning is gone.
    beyond: bool,
    ended: bool,
    /// Number of the attempt that may read.
    attempt: u32,
    /// Whoever waits for more of the body.
    reader: Option<Waker>,
}

enum Kept {
    Data(Bytes),
    Trailers(HeaderMap),
}

impl Kept {
    fn frame(&self) -> Frame<Bytes> {
        match self {
            Self::Data(bytes) => Frame::data(bytes.clone()),
            Self::Trailers(trailers) => Frame::trailers(trailers.clone()),
        }
    }
}

/// One attempt's reading of the body, from its beginning.
pub(crate) struct Reading {
    replay: Replay,
    position: usize,
    attempt: u32,
}

impl Replay {
    /// Keeps up to `bound` bytes of `body`.
    pub(crate) fn new(body: Metered, bound: usize) -> Self {
        let hint = body.body.size_hint();
        Self(Arc::new(Mutex::new(State {
            body,
            hint,
            kept: Vec::new(),
            kept_bytes: 0,
            bound,
            beyond: false,
            ended: false,
            attempt: 0,
            reader: None,
        })))
    }

    /// True while the beginning is still there and the client has not broken off.
    pub(crate) fn is_replayable(&self) -> bool {
        self.state().is_replayable()
    }

    /// The body from its beginning; what read it before gets an error from now on. None: it is not replayable, and what
    /// reads it goes on.
    pub(crate) fn read(&self) -> Option<Reading> {
        let mut state = self.state();
        if !state.is_replayable() {
            return None;
        }
        state.attempt += 1;
        if let Some(reader) = state.reader.take() {
            // It may wait for a client that has nothing more to say, and its stream with it.
            reader.wake();
        }
        Some(Reading {
            replay: self.clone(),
            position: 0,
            attempt: state.attempt,
        })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Every field is valid after each single assignment.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn is_replayable(&self) -> bool {
        !self.beyond && !self.body.transfer.is_failed()
    }

    fn keep(&mut self, frame: &Frame<Bytes>) {
        if self.beyond {
            return;
        }
        if let Some(bytes) = frame.data_ref() {
            self.kept_bytes += bytes.len();
            self.kept.push(Kept::Data(bytes.clone()));
        } else if let Some(trailers) = frame.trailers_ref() {
            self.kept.push(Kept::Trailers(trailers.clone()));
        }
        if self.kept_bytes > self.bound {
            self.beyond = true;
            self.kept = Vec::new();
        }
    }
}

impl Reading {
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let mut state = self.replay.state();
        if state.attempt != self.attempt {
            return Poll::Ready(Some(Err(BodyError::Superseded)));
        }
        if let Some(kept) = state.kept.get(self.position) {
            self.position += 1;
            return Poll::Ready(Some(Ok(kept.frame())));
        }
        if state.ended {
            return Poll::Ready(None);
        }
        let Poll::Ready(frame) = state.body.poll(cx) else {
            state.reader = Some(cx.waker().clone());
            return Poll::Pending;
        };
        let frame = frame.transpose()?;
        let Some(frame) = frame else {
            state.ended = true;
            return Poll::Ready(None);
        };
        state.keep(&frame);
        state.ended = frame.is_trailers() || state.body.body.is_end_stream();
        self.position += 1;
        Poll::Ready(Some(Ok(frame)))
    }

    pub(super) fn is_end(&self) -> bool {
        let state = self.replay.state();
        state.ended && self.position >= state.kept.len()
    }

    pub(super) fn size_hint(&self) -> SizeHint {
        let state = self.replay.state();
        if self.position == 0 {
            state.hint
        } else {
            SizeHint::default()
        }
    }
}
