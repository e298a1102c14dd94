//! What a rule does to a request, as data.

use std::time::Duration;

use crate::{id::ServiceName, labels::Labels};

/// Time a request of a service with rules may take when its rule names no timeout (0.1 documentation: 15 seconds).
pub const DEFAULT_TIMEOUT: Duration = Duration::from_secs(15);

/// A destination with its share.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Target {
    /// The service; the rule's own destination unless another is named.
    pub service: ServiceName,
    /// Labels that instances must carry; none: every instance.
    pub labels: Labels,
    /// Share in proportion to the other targets' weights; 0: never chosen.
    pub weight: u32,
}

/// Retries after failed attempts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Retries {
    /// Attempts after the first.
    pub attempts: u32,
    /// Limit of each attempt; none: only the request's timeout.
    pub per_try_timeout: Option<Duration>,
}

/// A share of requests, in millionths, so that fractions of a percent are exact.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Fraction(u32);

impl Fraction {
    /// Every request.
    pub const ALL: Self = Self(1_000_000);

    /// From a percentage; `None` outside 0..=100 or when it is not a number.
    pub fn from_percent(percent: f64) -> Option<Self> {
        (0.0..=100.0)
            .contains(&percent)
            .then(|| Self((percent * 10_000.0).round() as u32))
    }

    /// The percentage.
    pub fn percent(self) -> f64 {
        f64::from(self.0) / 10_000.0
    }

    /// True for the given share of uniformly distributed draws.
    pub fn takes(self, draw: u64) -> bool {
        // The high 32 bits scaled to a million: bias below one in 4,000.
        ((draw >> 32) * 1_000_000) >> 32 < u64::from(self.0)
    }
}

/// Delay of requests before they are forwarded.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Delay {
    /// Share of requests that are delayed.
    pub fraction: Fraction,
    /// How long.
    pub duration: Duration,
}

/// Requests that are answered instead of forwarded.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Abort {
    /// Share of requests that are aborted.
    pub fraction: Fraction,
    /// HTTP status of the answer, 200..=599.
    pub status: u16,
}

/// Faults; the delay runs first, and both draw independently.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub struct Fault {
    /// Delay, if any.
    pub delay: Option<Delay>,
    /// Abort, if any.
    pub abort: Option<Abort>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fractions_take_their_share() {
        let ten = Fraction::from_percent(10.0).unwrap();
        let step = u64::MAX / 100_000;
        let taken = (0..100_000_u64).filter(|n| ten.takes(n * step)).count();
        assert!((9_999..=10_001).contains(&taken), "{taken}");
        assert!((0..1000).all(|n| Fraction::ALL.takes(n * (u64::MAX / 1000))));
        assert!(!Fraction::from_percent(0.0).unwrap().takes(0));
        assert_eq!(Fraction::from_percent(f64::NAN), None);
        assert_eq!(Fraction::from_percent(100.1), None);
    }
}
