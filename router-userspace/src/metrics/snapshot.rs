//! Metrics of the configuration in force. They are read from the snapshot and cost nothing between scrapes.

use std::{fmt, sync::Arc};

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric},
    metrics::gauge::ConstGauge,
};

use crate::{finding::Severity, live::Live};

#[derive(Debug)]
pub(super) struct SnapshotCollector {
    live: Arc<Live>,
}

impl SnapshotCollector {
    pub(super) const fn new(live: Arc<Live>) -> Self {
        Self { live }
    }
}

impl Collector for SnapshotCollector {
    fn encode(&self, mut encoder: DescriptorEncoder) -> fmt::Result {
        let snapshot = self.live.load();
        let reload = self.live.last_reload();
        let findings = |severity| reload.as_ref().map_or(0, |r| r.count(severity)) as u64;
        let endpoints = snapshot
            .ports()
            .iter()
            .map(|p| snapshot.subset(p.unrouted()).endpoints().len());
        let gauges = [
            (
                "generation",
                "Number of the configuration that the proxy and the kernel follow",
                self.live.in_step(),
            ),
            (
                "config_errors",
                "Errors found when the configuration was last read",
                findings(Severity::Error),
            ),
            (
                "config_warnings",
                "Warnings found when the configuration was last read",
                findings(Severity::Warning),
            ),
            (
                "services",
                "Service ports in force",
                snapshot.ports().len() as u64,
            ),
            (
                "endpoints",
                "Instances of all service ports",
                endpoints.sum::<usize>() as u64,
            ),
            (
                "rules",
                "Rules in force, one for each port they apply to",
                snapshot.rule_count() as u64,
            ),
        ];
        for (name, help, value) in gauges {
            let gauge = ConstGauge::new(value);
            gauge.encode(encoder.encode_descriptor(name, help, None, gauge.metric_type())?)?;
        }
        Ok(())
    }
}
