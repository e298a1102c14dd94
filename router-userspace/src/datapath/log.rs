//! The programs' own log (aya-log), forwarded to `tracing` with the target `kernel`.

use std::{
    fmt,
    os::fd::{AsFd, BorrowedFd},
};

use aya::Ebpf;
use aya_log::EbpfLogger;

/// Records that the programs wrote since the last [`KernelLog::flush`].
pub struct KernelLog(EbpfLogger<ToTracing>);

impl KernelLog {
    /// `None` when the object holds no log map.
    pub(super) fn new(ebpf: &mut Ebpf) -> Option<Self> {
        EbpfLogger::init_with_logger(ebpf, ToTracing).ok().map(Self)
    }

    /// Forwards what has been written. Call it when the descriptor is readable.
    pub fn flush(&mut self) {
        self.0.flush();
    }
}

impl AsFd for KernelLog {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl fmt::Debug for KernelLog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KernelLog")
    }
}

struct ToTracing;

impl log::Log for ToTracing {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &log::Record<'_>) {
        tracing::debug!(target: "kernel", "{}", record.args());
    }

    fn flush(&self) {}
}
