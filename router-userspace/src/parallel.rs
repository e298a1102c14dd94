//! The same work for many things, on all processors.
//!
//! It knows nothing of the work.

use std::{
    num::NonZero,
    panic,
    sync::{
        OnceLock,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    thread,
};

/// Threads that work at most.
const MAX_THREADS: usize = 8;

/// Things below this number are worked on by one thread: starting another would take longer.
const WORTH_A_THREAD: usize = 2;

/// Applies `work` to every item, several at a time; results are in the order of the items.
pub(crate) fn map<I: Sync, O: Send + Sync>(items: &[I], work: impl Fn(&I) -> O + Sync) -> Vec<O> {
    let processors = thread::available_parallelism().map_or(1, NonZero::get);
    let threads = processors.min(MAX_THREADS).min(items.len() / WORTH_A_THREAD);
    if threads < 2 {
        return items.iter().map(work).collect();
    }
    let results: Vec<OnceLock<O>> = items.iter().map(|_| OnceLock::new()).collect();
    let next = AtomicUsize::new(0);
    let some = || {
        while let Some((item, result)) = {
            let at = next.fetch_add(1, Relaxed);
            items.get(at).zip(results.get(at))
        } {
            // Each is taken once.
            let _ = result.set(work(item));
        }
    };
    thread::scope(|scope| {
        let others: Vec<_> = (1..threads).map(|_| scope.spawn(some)).collect();
        some();
        for other in others {
            if let Err(payload) = other.join() {
                panic::resume_unwind(payload);
            }
        }
    });
    results.into_iter().filter_map(OnceLock::into_inner).collect()
}

/// Does both, at the same time when they are worth a thread.
pub(crate) fn both<A: Send, B>(
    worth_it: bool,
    one: impl FnOnce() -> A + Send,
    other: impl FnOnce() -> B,
) -> (A, B) {
    if !worth_it {
        return (one(), other());
    }
    thread::scope(|scope| {
        let one = scope.spawn(one);
        let other = other();
        match one.join() {
            Ok(one) => (one, other),
            Err(payload) => panic::resume_unwind(payload),
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_are_done() {
        for worth_it in [false, true] {
            assert_eq!(both(worth_it, || 1, || "a"), (1, "a"));
        }
    }

    #[test]
    fn results_are_in_order() {
        for count in [0, 1, 2, 3, 1000] {
            let items: Vec<usize> = (0..count).collect();
            assert_eq!(
                map(&items, |n| n * 2),
                items.iter().map(|n| n * 2).collect::<Vec<_>>()
            );
        }
    }
}
