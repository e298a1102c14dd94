//! Tells slow and idle clients by comparing one look at a connection with the next.
//!
//! It has no clock: whoever looks does.

use crate::proxy::{connection::Look, limits::Limits};

/// What was seen at the last looks.
pub(super) struct Patience {
    last: Look,
    unchanged: u64,
    idle_looks: u64,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Judgement {
    Fine,
    /// A head has been on its way since the last look.
    Slow,
    /// Nothing has happened for long.
    Idle,
    /// Everything has been said, and the client does not close.
    Over,
}

impl Patience {
    pub(super) fn new(limits: &Limits) -> Self {
        let period = limits.head_timeout.as_secs_f64().max(f64::MIN_POSITIVE);
        Self {
            last: Look::default(),
            unchanged: 0,
            idle_looks: (limits.downstream_idle.as_secs_f64() / period).ceil() as u64,
        }
    }

    pub(super) fn look(&mut self, now: Look) -> Judgement {
        let unchanged = now == self.last;
        self.last = now;
        if !now.idle || !unchanged {
            self.unchanged = 0;
            return Judgement::Fine;
        }
        self.unchanged += 1;
        if now.refuses {
            Judgement::Over
        } else if now.receiving {
            Judgement::Slow
        } else if self.unchanged >= self.idle_looks {
            Judgement::Idle
        } else {
            Judgement::Fine
        }
    }
}

#[cfg(test)]
mod tests;
