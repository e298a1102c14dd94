//! The throttle of one connection: how many bytes may go which way now, and how long to wait for more.
//!
//! It has no clock and no sockets: times are counted from the connection's establishment by whoever asks.

use std::{num::NonZeroU64, time::Duration};

use router_rules::l4_fault::{Shape, Start};

/// Bytes that may go at once after a pause, as the time in which the limit earns them. What a waker that comes late would
/// lose is saved here; a sender that stops and goes gets no more than this ahead of its limit.
const BURST: Duration = Duration::from_millis(100);

/// Bytes that are waited for, as the time in which the limit earns them: so that a fast limit is not handed out byte by
/// byte, and a slow one does not stutter.
const PORTION: Duration = Duration::from_millis(10);

/// Which way bytes go.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Direction {
    /// From the endpoint.
    ToClient,
    /// From the client.
    ToEndpoint,
}

/// What a throttle says to whoever has bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Allowance {
    /// At most so many may go now; never 0. `usize::MAX` is no limit.
    Bytes(usize),
    /// None may go before this time is over.
    Wait(Duration),
}

/// A connection's throttle.
#[derive(Clone, Debug)]
pub struct Throttle {
    start: Start,
    duration: Option<Duration>,
    /// When it began; none: it has not, or begins by the clock.
    begun: Option<Duration>,
    /// Bytes towards the endpoint before it began.
    passed: u64,
    to_client: Option<Bucket>,
    to_endpoint: Option<Bucket>,
}

impl Throttle {
    /// The throttle of a connection that is being established.
    pub fn new(shape: &Shape) -> Self {
        Self {
            start: shape.start,
            duration: shape.duration,
            begun: None,
            passed: 0,
            to_client: shape.to_client.map(Bucket::new),
            to_endpoint: shape.to_endpoint.map(Bucket::new),
        }
    }

    /// How many bytes may go in a direction, so long after the establishment.
    pub fn allowance(&mut self, direction: Direction, now: Duration) -> Allowance {
        const UNLIMITED: Allowance = Allowance::Bytes(usize::MAX);
        let Some(begun) = self.begin(now) else {
            return match (self.start, direction) {
                (Start::AfterBytes(bytes), Direction::ToEndpoint) => {
                    Allowance::Bytes(whole(u128::from(bytes.saturating_sub(self.passed))))
                }
                _ => UNLIMITED,
            };
        };
        let end = self.duration.map(|duration| begun.saturating_add(duration));
        if end.is_some_and(|end| now >= end) {
            return UNLIMITED;
        }
        let Some(bucket) = self.bucket(direction) else {
            return UNLIMITED;
        };
        match (bucket.allowance(begun, now), end) {
            (Allowance::Wait(wait), Some(end)) => Allowance::Wait(wait.min(end - now)),
            (allowance, _) => allowance,
        }
    }

    /// Notes that bytes went, no more than were allowed.
    pub fn passed(&mut self, direction: Direction, bytes: usize, now: Duration) {
        if self.begin(now).is_some() {
            if let Some(bucket) = self.bucket(direction) {
                bucket.take(bytes);
            }
        } else if direction == Direction::ToEndpoint {
            self.passed = self.passed.saturating_add(bytes as u64);
            self.begin(now);
        }
    }

    /// When it began, if it has.
    fn begin(&mut self, now: Duration) -> Option<Duration> {
        if self.begun.is_none() {
            self.begun = match self.start {
                Start::After(after) => (now >= after).then_some(after),
                Start::AfterBytes(bytes) => (self.passed >= bytes).then_some(now),
            };
        }
        self.begun
    }

    const fn bucket(&mut self, direction: Direction) -> Option<&mut Bucket> {
        match direction {
            Direction::ToClient => self.to_client.as_mut(),
            Direction::ToEndpoint => self.to_endpoint.as_mut(),
        }
    }
}

/// What a byte costs in bits times nanoseconds: a limit of b bits per second earns b of these in a nanosecond, so that
/// no limit and no time is ever rounded.
const BYTE: u128 = 8 * 1_000_000_000;

/// What a limit has earned and nobody has used.
#[derive(Clone, Debug)]
struct Bucket {
    bits_per_second: u128,
    credit: u128,
    /// When the credit was what it says; none: it is as large as it gets.
    at: Option<Duration>,
}

impl Bucket {
    fn new(limit: NonZeroU64) -> Self {
        let bits_per_second = u128::from(limit.get());
        let mut bucket = Self {
            bits_per_second,
            credit: 0,
            at: None,
        };
        bucket.credit = bucket.capacity();
        bucket
    }

    fn allowance(&mut self, begun: Duration, now: Duration) -> Allowance {
        let at = self.at.unwrap_or(begun);
        let earned = self.earned(now.saturating_sub(at));
        self.credit = self.credit.saturating_add(earned).min(self.capacity());
        self.at = Some(at.max(now));
        let portion = self.earned(PORTION).max(BYTE) / BYTE * BYTE;
        match portion.checked_sub(self.credit).filter(|missing| *missing > 0) {
            None => Allowance::Bytes(whole(self.credit / BYTE)),
            Some(missing) => {
                let nanos = missing.div_ceil(self.bits_per_second);
                Allowance::Wait(Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX)))
            }
        }
    }

    fn take(&mut self, bytes: usize) {
        self.credit = self.credit.saturating_sub((bytes as u128).saturating_mul(BYTE));
    }

    fn earned(&self, time: Duration) -> u128 {
        time.as_nanos().saturating_mul(self.bits_per_second)
    }

    fn capacity(&self) -> u128 {
        self.earned(BURST).max(BYTE)
    }
}

fn whole(bytes: u128) -> usize {
    usize::try_from(bytes).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests;
