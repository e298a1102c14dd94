//! Metrics of the log. They are read from its writer when they are asked for.

use std::fmt;

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric},
    metrics::counter::ConstCounter,
};
use tracing_appender::non_blocking::ErrorCounter;

#[derive(Debug)]
pub(super) struct LogCollector {
    dropped: ErrorCounter,
}

impl LogCollector {
    pub(super) const fn new(dropped: ErrorCounter) -> Self {
        Self { dropped }
    }
}

impl Collector for LogCollector {
    fn encode(&self, mut encoder: DescriptorEncoder) -> fmt::Result {
        let counter = ConstCounter::new(self.dropped.dropped_lines() as u64);
        let help = "Lines of the log that nobody read fast enough";
        counter.encode(encoder.encode_descriptor("log_lines_dropped", help, None, counter.metric_type())?)
    }
}
