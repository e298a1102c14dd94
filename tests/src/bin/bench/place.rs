//! Where threads run. TCP cases take tens of microseconds, and whether client and server share a processor changes
//! them by half: so each has its own, for every system alike. Systems run where they like.

use std::io;

use rustix::thread::{CpuSet, sched_setaffinity};

/// Keeps this thread, and those that it starts from now on, on the first processor.
pub(crate) fn first() -> io::Result<()> {
    keep(0)
}

/// Keeps this thread, and those that it starts from now on, on the last processor.
pub(crate) fn last() -> io::Result<()> {
    keep(std::thread::available_parallelism()?.get() - 1)
}

fn keep(processor: usize) -> io::Result<()> {
    let mut set = CpuSet::new();
    set.set(processor);
    Ok(sched_setaffinity(None, &set)?)
}
