//! Failed attempts in a row at one endpoint, counted by many threads without a lock.
//!
//! It does not know what a failed attempt is, nor what follows.

use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

/// Failed attempts in a row.
#[derive(Debug, Default)]
pub struct Streak(AtomicU32);

impl Streak {
    /// An attempt succeeded, or the endpoint begins anew. While nothing fails this is one load of a line that no
    /// processor writes.
    pub fn end(&self) {
        if self.0.load(Relaxed) != 0 {
            self.0.store(0, Relaxed);
        }
    }

    /// An attempt failed. True for every `limit`-th in a row: for exactly one thread, however many count at once.
    pub fn failed(&self, limit: u32) -> bool {
        let count = self.0.fetch_add(1, Relaxed).wrapping_add(1);
        count.is_multiple_of(limit.max(1))
    }
}
