//! What a rule does to a request, as data.

use std::time::Duration;

use crate::{
    id::ServiceName,
    labels::Labels,
    status::{GrpcStatus, Http2Error},
};

/// Time a request of a service with rules may take when its rule names no timeout (0.1 documentation: 15 seconds).
pub const DEFAULT_TIMEOUT: Duration = Duration::from_secs(15);

/// Most attempts after the first that a rule or request may ask for.
pub const MAX_ATTEMPTS: u32 = 100;

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

/// Where copies of requests are sent, whose responses nobody sees.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Mirror {
    /// The service.
    pub service: ServiceName,
    /// Labels that instances must carry; none: every instance.
    pub labels: Labels,
    /// Share of requests that are copied.
    pub fraction: Fraction,
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
    pub time: DelayTime,
}

/// Longest exponential delay, as a multiple of its mean: one draw in 22,026 would be longer.
pub const MAX_EXPONENTIAL_DELAY: u32 = 10;

/// How long requests are delayed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum DelayTime {
    /// All of them for the same time.
    Fixed(Duration),
    /// Each for a time of its own: exponentially distributed, at most [`MAX_EXPONENTIAL_DELAY`] times the mean.
    Exponential {
        /// Mean of the distribution.
        mean: Duration,
    },
}

impl DelayTime {
    /// The time that a uniformly distributed draw stands for.
    pub fn duration(self, draw: u64) -> Duration {
        match self {
            Self::Fixed(time) => time,
            Self::Exponential { mean } => {
                // In (0, 1]: 53 bits are what an f64 holds.
                let uniform = ((draw >> 11) + 1) as f64 / (1_u64 << 53) as f64;
                mean.mul_f64((-uniform.ln()).clamp(0.0, f64::from(MAX_EXPONENTIAL_DELAY)))
            }
        }
    }
}

/// Requests that are answered instead of forwarded.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Abort {
    /// Share of requests that are aborted.
    pub fraction: Fraction,
    /// The answer.
    pub with: AbortWith,
}

/// What an aborted request is answered with.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum AbortWith {
    /// An HTTP status, 200..=599.
    HttpStatus(u16),
    /// A gRPC response without messages.
    GrpcStatus(GrpcStatus),
    /// A reset of the stream, or of the connection where there are no streams.
    Http2Error(Http2Error),
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
    fn exponential_delays_have_their_mean_and_a_bound() {
        let mean = Duration::from_millis(100);
        let time = DelayTime::Exponential { mean };
        let step = u64::MAX / 100_000;
        let sum: Duration = (0..100_000_u64).map(|n| time.duration(n * step)).sum();
        let average = sum / 100_000;
        assert!((99..=101).contains(&average.as_millis()), "{average:?}");
        assert_eq!(time.duration(0), mean * MAX_EXPONENTIAL_DELAY);
        assert_eq!(time.duration(u64::MAX), Duration::ZERO);
        assert_eq!(DelayTime::Fixed(mean).duration(7), mean);
    }

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
