//! The configuration in force and the outcome of the last reload, readable without a lock.
//!
//! It knows nothing of where a configuration comes from.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::SystemTime,
};

use arc_swap::ArcSwap;
use router_rules::Snapshot;
use tokio::sync::watch;

use crate::finding::{Finding, Severity};

/// The snapshot in force. Only [`control`](crate::control) publishes.
#[derive(Debug, Default)]
pub struct Live {
    snapshot: ArcSwap<Snapshot>,
    in_step: AtomicU64,
    reload: ArcSwap<Option<Reload>>,
    /// Generation of what was published last.
    changes: watch::Sender<u64>,
}

/// The last time that the configuration was read.
#[derive(Clone, Debug)]
pub struct Reload {
    /// When.
    pub at: SystemTime,
    /// What there is to say about it. With an error among them, the snapshot in force is an earlier one.
    pub findings: Arc<[Finding]>,
}

impl Reload {
    /// Number of findings of a severity.
    pub fn count(&self, severity: Severity) -> usize {
        self.findings.iter().filter(|f| f.severity == severity).count()
    }

    /// True when the configuration was put in force.
    pub fn accepted(&self) -> bool {
        self.count(Severity::Error) == 0
    }
}

impl Live {
    /// Starts with `snapshot` in force.
    pub fn new(snapshot: Snapshot) -> Self {
        Self {
            snapshot: ArcSwap::from_pointee(snapshot),
            in_step: AtomicU64::new(0),
            reload: ArcSwap::default(),
            changes: watch::Sender::default(),
        }
    }

    /// The snapshot in force now. A request loads it once and keeps it.
    pub fn load(&self) -> Arc<Snapshot> {
        self.snapshot.load_full()
    }

    /// Puts `snapshot` in force for requests that begin from now on.
    pub fn publish(&self, snapshot: Arc<Snapshot>) {
        let generation = snapshot.generation();
        self.snapshot.store(snapshot);
        self.changes.send_replace(generation);
    }

    /// Tells when a snapshot was published.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    /// Generation of the snapshot that the proxy and the kernel both follow; 0: none yet.
    pub fn in_step(&self) -> u64 {
        self.in_step.load(Ordering::Acquire)
    }

    /// The kernel follows the snapshot of this generation now.
    pub fn kernel_in_step(&self, generation: u64) {
        self.in_step.store(generation, Ordering::Release);
    }

    /// The last reload; none before the first.
    pub fn last_reload(&self) -> Option<Reload> {
        Option::clone(&self.reload.load())
    }

    /// Remembers the outcome of a reload.
    pub fn report(&self, reload: Reload) {
        self.reload.store(Arc::new(Some(reload)));
    }
}
