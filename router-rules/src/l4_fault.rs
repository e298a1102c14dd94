//! Faults of connections: a throttle and a reset, each for a share of the connections that a rule decides.
//!
//! It knows no bytes and no clock: it says what a connection is to suffer, and when, counted from its establishment.

use std::{num::NonZeroU64, time::Duration};

use crate::action::Fraction;

/// Faults of connections. Both draw independently, once for each connection; a throttle is in force until the reset.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub struct L4Fault {
    /// Connections that are slowed down.
    pub throttle: Option<Throttle>,
    /// Connections that are reset.
    pub terminate: Option<Terminate>,
}

/// Connections whose bytes take their time.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Throttle {
    /// Share of connections.
    pub fraction: Fraction,
    /// How each of them is slowed down.
    pub shape: Shape,
}

/// How a connection is slowed down.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Shape {
    /// Bits per second towards the client; none: no limit.
    pub to_client: Option<NonZeroU64>,
    /// Bits per second towards the endpoint; none: no limit.
    pub to_endpoint: Option<NonZeroU64>,
    /// When it begins.
    pub start: Start,
    /// How long it is in force from then on; none: for the connection's life.
    pub duration: Option<Duration>,
}

/// When a throttle begins.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Start {
    /// So long after the connection was established.
    After(Duration),
    /// When so many bytes have gone towards the endpoint (the 0.1 API: "transferred to upstream").
    AfterBytes(u64),
}

impl Start {
    /// With the connection.
    pub const AT_ONCE: Self = Self::After(Duration::ZERO);
}

/// Connections that are reset on both sides.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Terminate {
    /// Share of connections.
    pub fraction: Fraction,
    /// How long after they were established.
    pub after: Duration,
}

/// What one connection suffers.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Injected {
    /// It is slowed down.
    pub throttle: Option<Shape>,
    /// It is reset so long after it was established.
    pub terminate_after: Option<Duration>,
}

impl L4Fault {
    /// True when no connection suffers anything.
    pub const fn is_empty(&self) -> bool {
        self.throttle.is_none() && self.terminate.is_none()
    }

    /// What a connection suffers; `draw` gives uniformly distributed numbers.
    pub fn inject(&self, mut draw: impl FnMut() -> u64) -> Injected {
        let throttle = self.throttle.filter(|t| t.fraction.takes(draw()));
        let terminate = self.terminate.filter(|t| t.fraction.takes(draw()));
        Injected {
            throttle: throttle.map(|t| t.shape),
            terminate_after: terminate.map(|t| t.after),
        }
    }

    /// True when every connection is reset before its throttle could begin.
    pub fn never_throttles(&self) -> bool {
        let (Some(throttle), Some(terminate)) = (self.throttle, self.terminate) else {
            return false;
        };
        let Start::After(start) = throttle.shape.start else {
            return false;
        };
        terminate.fraction == Fraction::ALL && terminate.after <= start
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fault(throttled: f64, terminated: f64) -> L4Fault {
        L4Fault {
            throttle: Some(Throttle {
                fraction: Fraction::from_percent(throttled).unwrap(),
                shape: Shape {
                    to_client: NonZeroU64::new(8000),
                    to_endpoint: None,
                    start: Start::AT_ONCE,
                    duration: None,
                },
            }),
            terminate: Some(Terminate {
                fraction: Fraction::from_percent(terminated).unwrap(),
                after: Duration::from_secs(1),
            }),
        }
    }

    #[test]
    fn both_draw_for_themselves() {
        let fault = fault(50.0, 12.5);
        // Every pair of a coarse grid of draws: shares of pairs show whether the draws are independent.
        let grid = || (0..64_u64).map(|n| n << 58);
        let mut seen = [0; 4];
        for first in grid() {
            for second in grid() {
                let mut draws = [first, second].into_iter();
                let injected = fault.inject(|| draws.next().unwrap());
                let throttled = usize::from(injected.throttle.is_some());
                seen[throttled * 2 + usize::from(injected.terminate_after.is_some())] += 1;
            }
        }
        assert_eq!(seen, [32 * 56, 32 * 8, 32 * 56, 32 * 8]);
    }

    #[test]
    fn nothing_and_everything() {
        assert_eq!(fault(0.0, 0.0).inject(|| 0), Injected::default());
        let all = fault(100.0, 100.0).inject(|| u64::MAX);
        assert!(all.throttle.is_some() && all.terminate_after == Some(Duration::from_secs(1)));
        assert!(L4Fault::default().is_empty() && !fault(0.0, 0.0).is_empty());
    }

    #[test]
    fn a_reset_may_leave_no_time_to_throttle() {
        let mut fault = fault(100.0, 100.0);
        assert!(!fault.never_throttles());
        let shape = &mut fault.throttle.as_mut().unwrap().shape;
        shape.start = Start::After(Duration::from_secs(1));
        assert!(fault.never_throttles());
        fault.terminate.as_mut().unwrap().fraction = Fraction::from_percent(99.0).unwrap();
        assert!(!fault.never_throttles());
    }
}
