//! Whether another attempt is allowed now: by the policy's limit on retries, or by the destination's budget where the
//! policy gives none. It does not know whether another attempt would help.

use std::sync::Arc;

use super::{error::Kind, forward::Destination};
use crate::enforce::breaker::{Breaker, Budgeted, BudgetedRetry, RetryPlace};

/// What lets the retries of one request pass. While it lives, the request counts as one that may be retried.
pub(crate) enum RetryGate<'v> {
    /// The rule asks for no retries.
    Closed,
    Limit(&'v Arc<Breaker>, u32),
    Budget(Budgeted),
}

/// A retry that is under way, until it is dropped.
#[expect(dead_code, reason = "what it holds is given back when it is dropped")]
pub(crate) enum Retry {
    Limited(RetryPlace),
    Budgeted(BudgetedRetry),
}

impl<'v> RetryGate<'v> {
    pub(crate) fn of(destination: &Destination<'v>) -> Self {
        if destination.retries.is_none_or(|retries| retries.attempts == 0) {
            return Self::Closed;
        }
        let limit = destination
            .limits
            .and_then(|l| Some((l.breaker, l.limits.max_retries?)));
        match limit {
            Some((breaker, max)) => Self::Limit(breaker, max),
            None => Self::Budget(destination.state.retries.begin()),
        }
    }

    /// A place for a retry.
    ///
    /// # Errors
    ///
    /// Why there is none.
    pub(crate) fn pass(&self) -> Result<Retry, Kind> {
        match self {
            Self::Closed => Err(Kind::RetryLimitReached),
            Self::Limit(breaker, max) => {
                let place = breaker.retry(*max).ok_or(Kind::RetryLimitReached)?;
                Ok(Retry::Limited(place))
            }
            Self::Budget(budgeted) => {
                let place = budgeted.retry().ok_or(Kind::RetryBudgetSpent)?;
                Ok(Retry::Budgeted(place))
            }
        }
    }
}
