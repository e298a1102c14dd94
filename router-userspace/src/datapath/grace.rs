//! Grace periods: when has every program that may still hold an old index returned?
//!
//! Programs on cgroup hooks run inside an RCU read-side section, and `membarrier(MEMBARRIER_CMD_GLOBAL)` returns
//! after an RCU grace period (kernel/sched/membarrier.c calls `synchronize_rcu`). That takes milliseconds, so a thread
//! of its own waits; requests that come meanwhile share the next period.

use std::{
    io,
    sync::{Arc, Condvar, Mutex, PoisonError},
    thread,
    time::Duration,
};

use super::store::Grace;

const MEMBARRIER_CMD_GLOBAL: libc::c_int = 1;

/// What a kernel that has no global membarrier (`nohz_full`) is given instead: a connect program runs for
/// microseconds, and even one that is preempted gets its turn again well within this.
const WITHOUT_MEMBARRIER: Duration = Duration::from_secs(2);

#[derive(Debug, Default)]
struct Shared {
    periods: Mutex<Periods>,
    changed: Condvar,
}

#[derive(Clone, Copy, Debug, Default)]
struct Periods {
    requested: u64,
    completed: u64,
    stopped: bool,
}

/// The thread that waits for grace periods.
#[derive(Debug)]
pub(super) struct GraceKeeper(Arc<Shared>);

impl GraceKeeper {
    /// Starts the thread; it ends with the value.
    pub(super) fn start() -> io::Result<Self> {
        let shared = Arc::new(Shared::default());
        let keeper = Self(Arc::clone(&shared));
        thread::Builder::new()
            .name("grace".to_owned())
            .spawn(move || keep(&shared))?;
        Ok(keeper)
    }

    /// Asks for a period that begins now.
    pub(super) fn request(&self) -> Grace {
        let mut periods = self.0.periods.lock().unwrap_or_else(PoisonError::into_inner);
        periods.requested += 1;
        self.0.changed.notify_all();
        Grace(periods.requested)
    }

    /// The latest period that is over.
    pub(super) fn completed(&self) -> Grace {
        Grace(
            self.0
                .periods
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .completed,
        )
    }

    /// Waits for a requested period.
    pub(super) fn wait(&self, grace: Grace) {
        let periods = self.0.periods.lock().unwrap_or_else(PoisonError::into_inner);
        let over = self
            .0
            .changed
            .wait_while(periods, |p| p.completed < grace.0 && !p.stopped);
        drop(over);
    }
}

impl Drop for GraceKeeper {
    fn drop(&mut self) {
        self.0
            .periods
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .stopped = true;
        self.0.changed.notify_all();
    }
}

fn keep(shared: &Shared) {
    loop {
        let periods = shared.periods.lock().unwrap_or_else(PoisonError::into_inner);
        let periods = shared
            .changed
            .wait_while(periods, |p| p.requested == p.completed && !p.stopped);
        let periods = *periods.unwrap_or_else(PoisonError::into_inner);
        if periods.stopped {
            return;
        }
        // Whatever was requested up to here is covered by a period that begins here.
        pass();
        let mut after = shared.periods.lock().unwrap_or_else(PoisonError::into_inner);
        after.completed = periods.requested;
        shared.changed.notify_all();
    }
}

fn pass() {
    // SAFETY: a system call without pointers.
    let result = unsafe { libc::syscall(libc::SYS_membarrier, MEMBARRIER_CMD_GLOBAL, 0, 0) };
    if result != 0 {
        thread::sleep(WITHOUT_MEMBARRIER);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_requested_period_ends() {
        let keeper = GraceKeeper::start().unwrap();
        let first = keeper.request();
        let second = keeper.request();
        keeper.wait(second);
        assert!(first < second && keeper.completed() >= second);
    }
}
