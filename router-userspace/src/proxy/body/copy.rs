//! A second reading of a request's body, for a mirror: it sees the frames that pass, and falls out when it cannot
//! keep up.
//!
//! It never makes the first reader wait, and never reads further than it.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
};

use bytes::Bytes;
use http_body::{Frame, SizeHint};

use super::BodyError;

/// What a frame costs beside its bytes, so that a body of many small frames is bounded too.
const FRAME_BYTES: usize = 64;

/// Where the frames of a body are shown to its copy.
pub(super) struct Tap(Shared);

/// The copy.
pub(crate) struct Copied {
    shared: Shared,
    hint: SizeHint,
}

/// How far a copy has come.
pub(crate) struct Progress(Shared);

/// Both ends.
#[derive(Clone)]
struct Shared(Arc<Mutex<State>>);

struct State {
    frames: VecDeque<Frame<Bytes>>,
    /// Of the frames that wait to be read.
    bytes: usize,
    bound: usize,
    end: Option<End>,
    reader: Option<Waker>,
}

/// Why no more frames come.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum End {
    /// That was the whole body.
    Whole,
    /// The original was not read to its end.
    Broken,
    /// More than the bound waited to be read.
    Behind,
    /// Nobody reads the copy any more.
    Unread,
}

/// A tap and what is read through it; at most `bound` bytes wait in between.
pub(super) fn copy(hint: SizeHint, bound: usize) -> (Tap, Copied) {
    let shared = Shared(Arc::new(Mutex::new(State {
        frames: VecDeque::new(),
        bytes: 0,
        bound,
        end: None,
        reader: None,
    })));
    (Tap(shared.clone()), Copied { shared, hint })
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        // Every field is valid after each single assignment.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The first end counts.
    fn end(&self, end: End) {
        let mut state = self.state();
        state.end.get_or_insert(end);
        if let Some(reader) = state.reader.take() {
            reader.wake();
        }
    }
}

impl Tap {
    pub(super) fn show(&self, frame: &Frame<Bytes>) {
        let (copy, length) = match (frame.data_ref(), frame.trailers_ref()) {
            (Some(bytes), _) => (Frame::data(bytes.clone()), bytes.len()),
            (_, Some(trailers)) => (Frame::trailers(trailers.clone()), 0),
            (None, None) => return,
        };
        let mut state = self.0.state();
        if state.end.is_some() {
            return;
        }
        state.bytes += length + FRAME_BYTES;
        if state.bytes > state.bound {
            state.end = Some(End::Behind);
            // A body with a gap is worse than none.
            state.frames = VecDeque::new();
        } else {
            state.frames.push_back(copy);
        }
        if let Some(reader) = state.reader.take() {
            reader.wake();
        }
    }

    pub(super) fn end(&self) {
        self.0.end(End::Whole);
    }
}

impl Drop for Tap {
    fn drop(&mut self) {
        self.0.end(End::Broken);
    }
}

impl Copied {
    pub(crate) fn progress(&self) -> Progress {
        Progress(self.shared.clone())
    }

    pub(super) fn poll(&self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let mut state = self.shared.state();
        if let Some(frame) = state.frames.pop_front() {
            state.bytes -= frame.data_ref().map_or(0, Bytes::len) + FRAME_BYTES;
            return Poll::Ready(Some(Ok(frame)));
        }
        match state.end {
            None => {
                state.reader = Some(cx.waker().clone());
                Poll::Pending
            }
            Some(End::Whole | End::Unread) => Poll::Ready(None),
            Some(End::Behind) => Poll::Ready(Some(Err(BodyError::Behind))),
            Some(End::Broken) => Poll::Ready(Some(Err(BodyError::Original))),
        }
    }

    pub(super) fn is_end(&self) -> bool {
        is_read(&self.shared.state())
    }

    pub(super) const fn size_hint(&self) -> SizeHint {
        self.hint
    }
}

impl Drop for Copied {
    fn drop(&mut self) {
        let mut state = self.shared.state();
        state.end.get_or_insert(End::Unread);
        if state.end != Some(End::Whole) {
            state.frames = VecDeque::new();
        }
    }
}

impl Progress {
    /// True when every frame was read.
    pub(crate) fn is_whole(&self) -> bool {
        is_read(&self.0.state())
    }

    /// True when the copy could not keep up with the original.
    pub(crate) fn fell_behind(&self) -> bool {
        self.0.state().end == Some(End::Behind)
    }
}

fn is_read(state: &State) -> bool {
    state.end == Some(End::Whole) && state.frames.is_empty()
}

#[cfg(test)]
mod tests {
    use std::task::Context;

    use super::*;

    fn read(copied: &Copied) -> Poll<Option<Result<String, String>>> {
        let cx = &mut Context::from_waker(Waker::noop());
        copied.poll(cx).map(|frame| {
            frame.map(|frame| match frame {
                Ok(frame) => Ok(String::from_utf8_lossy(frame.data_ref().unwrap()).into_owned()),
                Err(error) => Err(error.to_string()),
            })
        })
    }

    fn data(text: &'static str) -> Frame<Bytes> {
        Frame::data(Bytes::from_static(text.as_bytes()))
    }

    #[test]
    fn a_copy_reads_what_passes_to_its_end() {
        let (tap, copied) = copy(SizeHint::default(), 1000);
        let progress = copied.progress();
        assert!(read(&copied).is_pending());
        tap.show(&data("a"));
        tap.show(&data("b"));
        tap.end();
        drop(tap);
        assert_eq!(read(&copied), Poll::Ready(Some(Ok("a".into()))));
        assert!(!copied.is_end() && !progress.is_whole());
        assert_eq!(read(&copied), Poll::Ready(Some(Ok("b".into()))));
        assert!(copied.is_end() && progress.is_whole());
        assert_eq!(read(&copied), Poll::Ready(None));
    }

    #[test]
    fn a_copy_that_falls_behind_has_no_gap_but_an_error() {
        let (tap, copied) = copy(SizeHint::default(), 3 * FRAME_BYTES);
        for _ in 0..2 {
            tap.show(&data("x"));
        }
        assert_eq!(read(&copied), Poll::Ready(Some(Ok("x".into()))));
        for _ in 0..2 {
            tap.show(&data("x"));
        }
        tap.end();
        assert_eq!(
            read(&copied),
            Poll::Ready(Some(Err("the copy fell behind".into())))
        );
        assert!(copied.progress().fell_behind() && !copied.progress().is_whole());
    }

    #[test]
    fn an_original_that_breaks_off_is_no_end() {
        let (tap, copied) = copy(SizeHint::default(), 1000);
        tap.show(&data("a"));
        drop(tap);
        assert_eq!(read(&copied), Poll::Ready(Some(Ok("a".into()))));
        assert_eq!(
            read(&copied),
            Poll::Ready(Some(Err("the original broke off".into())))
        );
        assert!(!copied.progress().fell_behind());
    }

    #[test]
    fn nothing_is_kept_for_a_copy_that_nobody_reads() {
        let (tap, copied) = copy(SizeHint::default(), 1000);
        let progress = copied.progress();
        tap.show(&data("a"));
        drop(copied);
        tap.show(&data("b"));
        assert!(progress.0.state().frames.is_empty() && !progress.is_whole());
    }
}
