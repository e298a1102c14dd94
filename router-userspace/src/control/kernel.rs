//! The kernel half as control sees it.
//!
//! It knows nothing of maps.

use std::collections::BTreeMap;

use router_rules::{Snapshot, source::ClassId};

/// What was done to bring the kernel in step.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Reconciled {
    /// Changes written.
    pub operations: usize,
    /// True when something is left that can only be cleared away later, by [`Reconcile::collect`] or by the next
    /// reconciliation.
    pub leftovers: bool,
    /// True when only what a change of endpoints touches was looked at.
    pub followed: bool,
}

/// Why the kernel is not in step.
#[derive(Debug, thiserror::Error)]
pub enum NotReconciled {
    /// The configuration needs more room than the maps have. Nothing was changed.
    #[error("{0}")]
    DoesNotFit(String),
    /// A map could not be written. What was routed before still is, by the old rules or by the new ones.
    #[error("{0}")]
    Failed(String),
}

/// The kernel half as control sees it.
pub trait Reconcile: Send {
    /// Brings the maps in step. It may be repeated at any time.
    ///
    /// It calls `counted` when connections can be counted under every limit of the snapshot, and before any is routed
    /// otherwise than before: that is the moment for the proxy to follow.
    ///
    /// # Errors
    ///
    /// See [`NotReconciled`]; `counted` may have been called or not.
    fn reconcile(
        &mut self,
        snapshot: &Snapshot,
        sources: &BTreeMap<u64, ClassId>,
        counted: &mut dyn FnMut(),
    ) -> Result<Reconciled, NotReconciled>;

    /// Clears away what changes left, as far as that can be done now. True when something is left.
    ///
    /// # Errors
    ///
    /// A map could not be written; the next call goes on.
    fn collect(&mut self) -> Result<bool, NotReconciled>;

    /// Looks whether somebody else wrote to the maps, for the next [`Reconcile::reconcile`] to put right. Returns how
    /// many entries differed.
    ///
    /// # Errors
    ///
    /// A map could not be read.
    fn refresh(&mut self) -> Result<usize, NotReconciled>;

    /// Sees to it that connections which are sent to the proxy are handed over to it, and that no connection pays for that
    /// where none are.
    ///
    /// # Errors
    ///
    /// A program could not be attached or detached; the next call tries again.
    fn keep_handover(&mut self) -> Result<(), NotReconciled>;
}
