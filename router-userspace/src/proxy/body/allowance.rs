//! How long a client may keep a request's body waiting: a store of time that waiting empties and bytes fill.
//!
//! Time that an endpoint takes to read does not count. It knows no clock but the runtime's, and asks for it only when
//! there is something to wait for.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use tokio::time::{Instant, Sleep, sleep_until};

use crate::proxy::limits::Limits;

/// A client's allowance of time for one body.
#[derive(Debug)]
pub(crate) struct Allowance {
    /// Most that can be left; zero: there is no bound.
    full: Duration,
    left: Duration,
    /// Time that a byte gives back.
    byte: Duration,
    waiting: Option<Instant>,
    /// Made when the body is first waited for: most come with their heads.
    timer: Option<Pin<Box<Sleep>>>,
}

impl Allowance {
    /// As the limits say.
    pub(crate) fn new(limits: &Limits) -> Self {
        Self {
            full: limits.body_timeout,
            left: limits.body_timeout,
            byte: Duration::from_secs(1) / limits.body_rate.max(1),
            waiting: None,
            timer: None,
        }
    }

    /// Without a bound: for streams whose silence means nothing.
    pub(crate) const fn unbounded() -> Self {
        Self {
            full: Duration::ZERO,
            left: Duration::ZERO,
            byte: Duration::ZERO,
            waiting: None,
            timer: None,
        }
    }

    /// Bytes came.
    pub(super) fn receives(&mut self, bytes: usize) {
        if let Some(since) = self.waiting.take() {
            self.left = self.left.saturating_sub(since.elapsed());
            let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
            self.left = (self.left + self.byte.saturating_mul(bytes)).min(self.full);
        }
    }

    /// Nothing came yet. Ready: it is too late.
    pub(super) fn poll_used_up(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.full.is_zero() {
            return Poll::Pending;
        }
        let since = *self.waiting.get_or_insert_with(Instant::now);
        let until = since + self.left;
        let timer = self.timer.get_or_insert_with(|| Box::pin(sleep_until(until)));
        // It is not wound at each reading, but when it rings too early.
        while timer.as_mut().poll(cx).is_ready() {
            if timer.deadline() >= until {
                return Poll::Ready(());
            }
            timer.as_mut().reset(until);
        }
        Poll::Pending
    }
}

#[cfg(test)]
mod tests {
    use std::{future::poll_fn, time::Duration};

    use super::*;

    fn limits(milliseconds: u64, body_rate: u32) -> Limits {
        Limits {
            body_timeout: Duration::from_millis(milliseconds),
            body_rate,
            ..Limits::default()
        }
    }

    fn run<T>(test: impl Future<Output = T>) -> T {
        tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build()
            .unwrap()
            .block_on(test)
    }

    #[test]
    fn silence_uses_it_up() {
        run(async {
            let started = Instant::now();
            let mut allowance = Allowance::new(&limits(20, 240));
            poll_fn(|cx| allowance.poll_used_up(cx)).await;
            assert!(started.elapsed() >= Duration::from_millis(20));
        });
    }

    #[test]
    fn bytes_give_time_back_but_never_more_than_there_was() {
        run(async {
            let mut allowance = Allowance::new(&limits(1000, 1000));
            let empty = |cx: &mut Context<'_>| Poll::Ready(allowance.poll_used_up(cx).is_pending());
            assert!(poll_fn(empty).await);
            allowance.left = Duration::from_millis(500);
            allowance.waiting = Some(Instant::now());
            allowance.receives(100);
            let about = Duration::from_millis(500)..=Duration::from_millis(600);
            assert!(about.contains(&allowance.left), "{:?}", allowance.left);
            allowance.waiting = Some(Instant::now());
            allowance.receives(1_000_000);
            assert_eq!(allowance.left, Duration::from_secs(1));
        });
    }

    #[test]
    fn without_a_bound_it_lasts() {
        run(async {
            let mut allowance = Allowance::unbounded();
            let pending = poll_fn(|cx| Poll::Ready(allowance.poll_used_up(cx).is_pending())).await;
            assert!(pending && allowance.timer.is_none());
        });
    }
}
