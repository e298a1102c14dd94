//! What the proxy counts: atomics, one set per worker so that no two threads write the same cache line.
//!
//! It does not know how metrics are named or served.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering::Relaxed},
};

use super::error::Kind;

/// Status classes: index 0 is "no response", 1 to 5 are `1xx` to `5xx`.
pub const CLASSES: usize = 6;

macro_rules! counters {
    ($($(#[doc = $doc:literal])+ $name:ident;)+) => {
        /// Counters of one worker.
        #[derive(Debug)]
        #[repr(align(128))]
        pub struct WorkerStats {
            classes: [AtomicU64; CLASSES],
            reasons: [AtomicU64; Kind::ALL.len()],
            $($(#[doc = $doc])+ pub(crate) $name: AtomicU64),+
        }

        impl Default for WorkerStats {
            fn default() -> Self {
                Self {
                    classes: [const { AtomicU64::new(0) }; CLASSES],
                    reasons: [const { AtomicU64::new(0) }; Kind::ALL.len()],
                    $($name: AtomicU64::new(0)),+
                }
            }
        }

        /// Sums over the workers at one moment.
        #[derive(Clone, Debug, Default)]
        pub struct Totals {
            classes: [u64; CLASSES],
            reasons: Vec<u64>,
            $($(#[doc = $doc])+ pub $name: u64),+
        }

        impl ProxyStats {
            /// Sums over the workers now. The counters are read one after the other, not at one instant.
            pub fn totals(&self) -> Totals {
                let mut totals = Totals { reasons: vec![0; Kind::ALL.len()], ..Totals::default() };
                for worker in &self.workers {
                    for (sum, count) in totals.classes.iter_mut().zip(&worker.classes) {
                        *sum += count.load(Relaxed);
                    }
                    for (sum, count) in totals.reasons.iter_mut().zip(&worker.reasons) {
                        *sum += count.load(Relaxed);
                    }
                    $(totals.$name += worker.$name.load(Relaxed);)+
                }
                totals
            }
        }
    };
}

counters! {
    /// Downstream connections accepted.
    downstream_opened;
    /// Downstream connections closed.
    downstream_closed;
    /// Upstream connections opened.
    upstream_opened;
    /// Upstream connections closed.
    upstream_closed;
    /// Connections proxied as TCP, counted at their end.
    tcp_connections;
    /// HTTP requests, counted at their end.
    requests;
    /// Attempts after the first.
    retries;
    /// Attempts that were not made because as many retries were under way as may be.
    retries_refused;
    /// Connections closed because their limit was reached and another endpoint needed the slot.
    evictions;
    /// Copies of requests that a mirror answered.
    mirrors_sent;
    /// Copies of requests that were not made, or lost, because a bound was reached.
    mirrors_dropped;
    /// Copies of requests that broke off or that nobody answered in time.
    mirrors_failed;
    /// Connections that a rule's fault slowed down.
    connections_throttled;
    /// Connections that a rule's fault reset.
    connections_terminated;
    /// Body bytes received from clients.
    received_bytes;
    /// Body bytes sent to clients.
    sent_bytes;
}

impl WorkerStats {
    pub(crate) fn add(counter: &AtomicU64, amount: u64) {
        counter.fetch_add(amount, Relaxed);
    }

    /// Counts a response; status 0: there was none.
    pub(crate) fn response(&self, status: u16) {
        let class = usize::from(status / 100).min(CLASSES - 1);
        Self::add(&self.requests, 1);
        Self::add(&self.classes[class], 1);
    }

    pub(crate) fn reason(&self, kind: Kind) {
        Self::add(&self.reasons[kind as usize], 1);
    }
}

/// Counters of a proxy.
#[derive(Debug)]
pub struct ProxyStats {
    workers: Vec<Arc<WorkerStats>>,
}

impl ProxyStats {
    pub(crate) fn new(workers: usize) -> Self {
        Self {
            workers: std::iter::repeat_with(Arc::default).take(workers).collect(),
        }
    }

    pub(crate) fn worker(&self, index: usize) -> Arc<WorkerStats> {
        self.workers[index].clone()
    }
}

impl Totals {
    /// Requests by class of their status: 0 is "no response", 1 to 5 are `1xx` to `5xx`.
    pub const fn by_class(&self) -> &[u64; CLASSES] {
        &self.classes
    }

    /// Refused or broken requests and connections, by kind.
    pub fn by_reason(&self) -> impl Iterator<Item = (Kind, u64)> {
        Kind::ALL.iter().copied().zip(self.reasons.iter().copied())
    }

    /// Requests and connections refused or broken for one reason.
    pub fn reason(&self, kind: Kind) -> u64 {
        self.reasons.get(kind as usize).copied().unwrap_or(0)
    }

    /// Downstream connections open now.
    pub const fn downstream_active(&self) -> u64 {
        self.downstream_opened.saturating_sub(self.downstream_closed)
    }

    /// Upstream connections open now.
    pub const fn upstream_active(&self) -> u64 {
        self.upstream_opened.saturating_sub(self.upstream_closed)
    }
}
