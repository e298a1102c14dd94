//! Metrics of the configuration in force. They are read from the snapshot and cost nothing between scrapes.

use std::{collections::BTreeMap, fmt, sync::Arc};

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric},
    metrics::{MetricType, gauge::ConstGauge},
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
        self.findings(&mut encoder)
    }
}

impl SnapshotCollector {
    /// How often each code was found when the configuration was last read.
    fn findings(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let mut counts: BTreeMap<(&str, &str), u64> = BTreeMap::new();
        let reload = self.live.last_reload();
        for finding in reload.iter().flat_map(|reload| reload.findings.iter()) {
            *counts.entry((finding.code, finding.severity.name())).or_default() += 1;
        }
        let help = "Findings of the last reading of the configuration";
        let mut metric = encoder.encode_descriptor("config_findings", help, None, MetricType::Gauge)?;
        for ((code, severity), count) in counts {
            let labels = [("code", code), ("severity", severity)];
            ConstGauge::new(count).encode(metric.encode_family(&labels)?)?;
        }
        Ok(())
    }
}
