//! The only place that asks what time it is.

use std::time::{Duration, Instant, SystemTime};

/// Monotonic time.
pub fn now() -> Instant {
    Instant::now()
}

/// Wall-clock time, for logs.
pub fn wall() -> SystemTime {
    SystemTime::now()
}

/// Wall-clock time in seconds since 1970 began.
pub fn wall_seconds() -> u64 {
    // Before 1970 no certificate is valid either.
    wall()
        .duration_since(SystemTime::UNIX_EPOCH)
        .map_or(0, |since| since.as_secs())
}

/// Time since boot without suspends: the clock of `bpf_ktime_get_ns`.
pub fn kernel() -> Duration {
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: `time` is a valid timespec for the call to fill; CLOCK_MONOTONIC always exists.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut time) };
    Duration::new(
        time.tv_sec.unsigned_abs(),
        u32::try_from(time.tv_nsec).unwrap_or(0),
    )
}
