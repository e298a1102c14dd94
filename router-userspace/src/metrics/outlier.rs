//! Metrics of outlier detection, by policy.

use std::{fmt, sync::Arc};

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric},
    metrics::{MetricType, counter::ConstCounter, gauge::ConstGauge},
};

use crate::enforce::outlier::Outliers;

#[derive(Debug)]
pub(super) struct OutlierCollector {
    outliers: Arc<Outliers>,
}

impl OutlierCollector {
    pub(super) const fn new(outliers: Arc<Outliers>) -> Self {
        Self { outliers }
    }
}

impl Collector for OutlierCollector {
    fn encode(&self, mut encoder: DescriptorEncoder) -> fmt::Result {
        let policies = self.outliers.report();
        let counters = [
            ("outlier_ejections", "Endpoints ejected for their failures"),
            (
                "outlier_kept",
                "Endpoints that failed as often and stayed because of the policy's share",
            ),
        ];
        for (index, (name, help)) in counters.into_iter().enumerate() {
            let mut family = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
            for policy in &policies {
                let labels = [("policy", &*policy.policy)];
                let count = [policy.ejections, policy.kept][index];
                ConstCounter::new(count).encode(family.encode_family(&labels)?)?;
            }
        }
        let help = "Endpoints that are ejected now";
        let mut family = encoder.encode_descriptor("outlier_ejected", help, None, MetricType::Gauge)?;
        for policy in &policies {
            let labels = [("policy", &*policy.policy)];
            ConstGauge::new(policy.ejected.len() as u64).encode(family.encode_family(&labels)?)?;
        }
        Ok(())
    }
}
