//! A bound on retries where no policy gives one: a share of the requests that are under way, so that a destination
//! that fails is not asked many times as often as one that works.
//!
//! It does not know why an attempt failed.

use std::sync::{
    Arc,
    atomic::{AtomicU32, Ordering::Relaxed},
};

/// Share of the requests under way that may be retries, in percent (Envoy's retry budget: 20).
pub const BUDGET_PERCENT: u32 = 20;
/// Retries that may be under way however few requests are (Envoy's retry budget: 3).
pub const BUDGET_MIN: u32 = 3;

/// Requests of one destination that may be retried, and the retries among them, over all threads.
#[derive(Debug, Default)]
pub struct RetryBudget {
    active: AtomicU32,
    retries: AtomicU32,
}

impl RetryBudget {
    /// Counts a request that may be retried, until the result is dropped.
    pub fn begin(self: &Arc<Self>) -> Budgeted {
        self.active.fetch_add(1, Relaxed);
        Budgeted(self.clone())
    }
}

/// A request under way that may be retried.
#[derive(Debug)]
pub struct Budgeted(Arc<RetryBudget>);

impl Budgeted {
    /// Takes a place for a retry; none: the budget is spent.
    pub fn retry(&self) -> Option<BudgetedRetry> {
        let budget = &self.0;
        let active = u64::from(budget.active.load(Relaxed));
        let share = active * u64::from(BUDGET_PERCENT) / 100;
        let max = share.max(BUDGET_MIN.into());
        let taken = super::take(&budget.retries, Some(u32::try_from(max).unwrap_or(u32::MAX)));
        taken.then(|| BudgetedRetry(budget.clone()))
    }
}

impl Drop for Budgeted {
    fn drop(&mut self) {
        self.0.active.fetch_sub(1, Relaxed);
    }
}

/// A retry under way.
#[derive(Debug)]
pub struct BudgetedRetry(Arc<RetryBudget>);

impl Drop for BudgetedRetry {
    fn drop(&mut self) {
        self.0.retries.fetch_sub(1, Relaxed);
    }
}
