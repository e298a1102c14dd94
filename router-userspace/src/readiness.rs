//! Ready when nothing blocks it any more. What blocks has a name, so that `/readyz` can say what it waits for.
//!
//! It knows nothing of what is waited for.

use std::{collections::BTreeMap, sync::Arc};

use arc_swap::ArcSwap;

/// Whether the agent is ready. Clones share their state.
#[derive(Clone, Debug, Default)]
pub struct Readiness(Arc<ArcSwap<BTreeMap<&'static str, usize>>>);

/// Blocks readiness until it is dropped.
#[derive(Debug)]
#[must_use = "dropping it unblocks readiness"]
pub struct BlockReady {
    readiness: Readiness,
    what: &'static str,
}

impl Readiness {
    /// Blocks readiness by `what`, which names what is missing: `configuration`.
    pub fn block(&self, what: &'static str) -> BlockReady {
        self.change(what, |count| count + 1);
        BlockReady {
            readiness: self.clone(),
            what,
        }
    }

    /// What blocks, in the order of the names; empty when ready.
    pub fn blockers(&self) -> Vec<&'static str> {
        self.0.load().keys().copied().collect()
    }

    /// True when nothing blocks.
    pub fn is_ready(&self) -> bool {
        self.0.load().is_empty()
    }

    fn change(&self, what: &'static str, change: impl Fn(usize) -> usize) {
        self.0.rcu(|blockers| {
            let mut blockers = BTreeMap::clone(blockers);
            match change(blockers.get(what).copied().unwrap_or(0)) {
                0 => blockers.remove(what),
                count => blockers.insert(what, count),
            };
            blockers
        });
    }
}

impl Drop for BlockReady {
    fn drop(&mut self) {
        self.readiness.change(self.what, |count| count.saturating_sub(1));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ready_when_every_block_is_dropped() {
        let readiness = Readiness::default();
        assert!(readiness.is_ready());
        let (first, second, other) = (
            readiness.block("maps"),
            readiness.block("maps"),
            readiness.block("listeners"),
        );
        drop(first);
        assert_eq!(readiness.blockers(), ["listeners", "maps"]);
        drop((second, other));
        assert!(readiness.is_ready());
    }
}
