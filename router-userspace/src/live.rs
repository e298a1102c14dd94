//! The configuration in force, readable without a lock.

use std::sync::Arc;

use arc_swap::ArcSwap;
use router_rules::Snapshot;

/// The snapshot in force. Only [`control`](crate::control) publishes.
#[derive(Debug, Default)]
pub struct Live(ArcSwap<Snapshot>);

impl Live {
    /// Starts with `snapshot` in force.
    pub fn new(snapshot: Snapshot) -> Self {
        Self(ArcSwap::from_pointee(snapshot))
    }

    /// The snapshot in force now. A request loads it once and keeps it.
    pub fn load(&self) -> Arc<Snapshot> {
        self.0.load_full()
    }

    /// Puts `snapshot` in force for requests that begin from now on.
    pub fn publish(&self, snapshot: Arc<Snapshot>) {
        self.0.store(snapshot);
    }
}
