//! The mirror of the maps with what it was made from: a change of endpoints touches the services that route to them, and
//! everything else is compared whole.
//!
//! It does not know when to reconcile, nor what the proxy does with the ids that it is told.

use super::{
    UpstreamIds,
    desired::{Base, Inputs},
    plan::{MapOp, Plan, plan_touched},
    reconcile::{self, ReconcileError, Report},
    state::State,
    store::{MapStore, StoreError},
};

/// What is installed, and from what.
#[derive(Debug)]
pub struct Mirror {
    state: State,
    /// What the maps are in step with; none: that is not known.
    base: Option<Base>,
    ids: UpstreamIds,
}

impl Mirror {
    /// Nothing is known of what `state` was made from.
    pub fn new(state: State) -> Self {
        Self {
            ids: state.upstream_ids(),
            state,
            base: None,
        }
    }

    /// What is installed.
    pub const fn state(&self) -> &State {
        &self.state
    }

    /// Ids by policy and by endpoint, for whoever opens connections that are to be counted.
    pub const fn ids(&self) -> &UpstreamIds {
        &self.ids
    }

    /// Makes the maps hold what `inputs` ask for. `counted` is given the ids as
    /// [`reconcile_around`](reconcile::reconcile_around) gives them.
    ///
    /// # Errors
    ///
    /// See [`ReconcileError`].
    pub fn reconcile(
        &mut self,
        inputs: &Inputs<'_>,
        store: &mut impl MapStore,
        counted: impl FnOnce(UpstreamIds),
    ) -> Result<Report, ReconcileError> {
        // It is put back when everything is done.
        let base = self.base.take();
        if let Some((base, plan)) = self.plan_touched(base, inputs) {
            self.follow(&plan, inputs.snapshot.generation(), store, counted)?;
            self.base = Some(base);
            return Ok(Report {
                ops: plan.ops.len(),
                services: plan.services(),
                leftovers: self.state.is_resting(),
                followed: true,
            });
        }
        let desired = inputs.desired();
        let mut told = None;
        let report = reconcile::reconcile_around(&mut self.state, &desired, store, |ids| {
            told = Some(ids.clone());
            counted(ids);
        });
        // Usually it is what was told already, of which copies share everything.
        let is_told = |ids: &UpstreamIds| report.is_ok() && self.state.has_ids(ids);
        self.ids = told.filter(is_told).unwrap_or_else(|| self.state.upstream_ids());
        if report.is_ok() {
            self.base = Base::new(inputs, &desired);
        }
        report
    }

    /// Looks whether somebody else wrote to the maps, as [`reconcile::refresh`] does.
    ///
    /// # Errors
    ///
    /// As there; the mirror is as it was.
    pub fn refresh(&mut self, store: &mut impl MapStore) -> Result<usize, StoreError> {
        let differing = reconcile::refresh(&mut self.state, store)?;
        if differing > 0 {
            self.base = None;
        }
        Ok(differing)
    }

    /// Sees to it that connections which are sent to the proxy are handed over to it, and that no connection pays for that
    /// where none are.
    ///
    /// # Errors
    ///
    /// The program could not be attached or detached; the next call tries again.
    pub fn keep_handover(&self, store: &mut impl MapStore) -> Result<(), StoreError> {
        store.keep_handover(self.state.sends_to_proxy())
    }

    /// Frees what has rested for long enough, as [`reconcile::collect`] does. True when something still rests.
    ///
    /// # Errors
    ///
    /// A map could not be written; the next call goes on.
    pub fn collect(&mut self, store: &mut impl MapStore) -> Result<bool, StoreError> {
        reconcile::collect(&mut self.state, store)?;
        Ok(self.state.is_resting())
    }

    fn plan_touched(&self, base: Option<Base>, inputs: &Inputs<'_>) -> Option<(Base, Plan)> {
        let mut base = base?;
        let touched = base.touched(inputs, |key| self.state.is_in_use(key))?;
        let plan = plan_touched(&self.state, &touched, inputs.sources)?;
        Some((base, plan))
    }

    fn follow(
        &mut self,
        plan: &Plan,
        generation: u64,
        store: &mut impl MapStore,
        counted: impl FnOnce(UpstreamIds),
    ) -> Result<(), ReconcileError> {
        for op in &plan.ops {
            if let MapOp::WriteEndpointState { id, key } = op {
                self.ids.endpoints.insert(*key, *id);
            }
        }
        let ids = self.ids.clone();
        let done = reconcile::carry_out(&mut self.state, plan, store, |_| counted(ids));
        if done.is_err() {
            // As far as it went.
            self.ids = self.state.upstream_ids();
        }
        done?;
        self.state.followed(generation);
        for op in &plan.ops {
            if let MapOp::ReleaseEndpoint { key } = op {
                self.ids.endpoints.remove(key);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
