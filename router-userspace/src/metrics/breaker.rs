//! Metrics of limits on requests, by policy.

use std::{fmt, sync::Arc};

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric},
    metrics::{MetricType, counter::ConstCounter, gauge::ConstGauge},
};

use crate::{
    enforce::breaker::{Breakers, RequestUse},
    live::Live,
};

#[derive(Debug)]
pub(super) struct BreakerCollector {
    live: Arc<Live>,
    breakers: Arc<Breakers>,
}

impl BreakerCollector {
    pub(super) const fn new(live: Arc<Live>, breakers: Arc<Breakers>) -> Self {
        Self { live, breakers }
    }
}

impl Collector for BreakerCollector {
    fn encode(&self, mut encoder: DescriptorEncoder) -> fmt::Result {
        let snapshot = self.live.load();
        let limited = snapshot.policies().iter().filter(|p| !p.http.is_empty());
        let in_use: Vec<(&str, RequestUse)> = limited
            .map(|p| &*p.origin.object)
            .map(|policy| (policy, self.breakers.usage(policy).unwrap_or_default()))
            .collect();
        let help = "What is under way under limits on requests";
        let mut family = encoder.encode_descriptor("requests_active", help, None, MetricType::Gauge)?;
        for (policy, of) in &in_use {
            for (limit, count) in [
                ("requests", of.active),
                ("pending", of.pending),
                ("retries", of.retries),
            ] {
                let labels = [("policy", *policy), ("limit", limit)];
                ConstGauge::new(u64::from(count)).encode(family.encode_family(&labels)?)?;
            }
        }
        let help = "What was refused by limits on requests";
        let mut family = encoder.encode_descriptor("requests_refused", help, None, MetricType::Counter)?;
        for (policy, of) in &in_use {
            for (limit, count) in [
                ("requests", of.refused),
                ("pending", of.refused_pending),
                ("retries", of.refused_retries),
            ] {
                let labels = [("policy", *policy), ("limit", limit)];
                ConstCounter::new(count).encode(family.encode_family(&labels)?)?;
            }
        }
        Ok(())
    }
}
