//! A timer that is exact to microseconds; the runtime's own counts in milliseconds.

use std::{
    os::fd::OwnedFd,
    time::{Duration, Instant},
};

use anyhow::Result;
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create, timerfd_settime,
};
use tokio::io::{Interest, unix::AsyncFd};

/// One timer of the kernel.
pub(super) struct Timer(AsyncFd<OwnedFd>);

impl Timer {
    /// A timer of the current runtime.
    pub(super) fn new() -> Result<Self> {
        let fd = timerfd_create(
            TimerfdClockId::Monotonic,
            TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC,
        )?;
        #[expect(
            deprecated,
            reason = "sound for a descriptor that is owned, as this one is; the successor is unsafe"
        )]
        let timer = AsyncFd::with_interest(fd, Interest::READABLE)?;
        Ok(Self(timer))
    }

    /// Returns at `time`; at once when it has passed.
    pub(super) async fn until(&self, time: Instant) -> Result<()> {
        let rest = time.saturating_duration_since(Instant::now());
        if rest.is_zero() {
            return Ok(());
        }
        let once = Itimerspec {
            it_interval: timespec(Duration::ZERO),
            it_value: timespec(rest),
        };
        timerfd_settime(&self.0, TimerfdTimerFlags::empty(), &once)?;
        let expired = self.0.async_io(Interest::READABLE, |fd| {
            let mut count = [0; 8];
            Ok(rustix::io::read(fd, &mut count)?)
        });
        expired.await?;
        Ok(())
    }
}

fn timespec(duration: Duration) -> Timespec {
    Timespec {
        tv_sec: i64::try_from(duration.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: i64::from(duration.subsec_nanos()),
    }
}
