//! Requests that wait for a connection, first come, first served. Only the first looks for one; the others sleep.
//!
//! It does not know what they wait for.

use std::{
    collections::VecDeque,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU32, Ordering::SeqCst},
    },
    time::Duration,
};

use tokio::{sync::Notify, time::sleep};

use super::Breaker;

/// How often the first in the queue looks whether the kernel has a place: plain TCP connections under the same limit
/// end without telling anybody.
const LOOK_EVERY: Duration = Duration::from_millis(10);
/// Looks in vain after which it tries all the same.
const LOOKS: u32 = 25;

/// Those that wait.
#[derive(Default)]
pub(super) struct Queue {
    /// As long as `waiting`, for those who only ask whether anybody is there.
    len: AtomicU32,
    waiting: Mutex<Waiting>,
}

#[derive(Default)]
struct Waiting {
    /// Numbers rise from front to back.
    line: VecDeque<(u64, Arc<Notify>)>,
    next: u64,
}

impl Queue {
    pub(super) fn join(breaker: &Arc<Breaker>, max: u32) -> Option<Turn> {
        let queue = &breaker.queue;
        let mut waiting = queue.lock();
        if waiting.line.len() >= max as usize {
            return None;
        }
        let number = waiting.next;
        waiting.next += 1;
        let wake = Arc::new(Notify::new());
        waiting.line.push_back((number, wake.clone()));
        queue.len.fetch_add(1, SeqCst);
        Some(Turn {
            breaker: breaker.clone(),
            number,
            wake,
        })
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub(super) fn len(&self) -> u32 {
        self.len.load(SeqCst)
    }

    pub(super) fn wake_first(&self) {
        if self.is_empty() {
            return;
        }
        if let Some((_, first)) = self.lock().line.front() {
            first.notify_one();
        }
    }

    fn is_first(&self, number: u64) -> bool {
        self.lock()
            .line
            .front()
            .is_some_and(|(first, _)| *first == number)
    }

    fn leave(&self, number: u64) {
        let mut waiting = self.lock();
        let Ok(place) = waiting.line.binary_search_by_key(&number, |(number, _)| *number) else {
            return;
        };
        waiting.line.remove(place);
        self.len.fetch_sub(1, SeqCst);
        // Whatever the leaver was woken for may be left for the next.
        if place == 0
            && let Some((_, first)) = waiting.line.front()
        {
            first.notify_one();
        }
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        // Every critical section here is a few operations that do not panic.
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Somebody's turn in the queue. Who drops it leaves: because it is served, or because it gives up.
pub struct Turn {
    breaker: Arc<Breaker>,
    number: u64,
    wake: Arc<Notify>,
}

impl Turn {
    /// Resolves when everybody who came earlier has left.
    pub async fn first(&self) {
        while !self.breaker.queue.is_first(self.number) {
            self.wake.notified().await;
        }
    }

    /// Resolves when the first in the queue should look again: something was vacated since it looked last, `room` says
    /// that there is room, or enough time has gone by.
    pub async fn vacancy(&self, room: impl Fn() -> bool) {
        for _ in 0..LOOKS {
            tokio::select! {
                biased;
                () = self.wake.notified() => return,
                () = sleep(LOOK_EVERY) => if room() { return },
            }
        }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.breaker.queue.leave(self.number);
    }
}
