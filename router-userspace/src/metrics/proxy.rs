//! Metrics of the proxy, summed over its workers when they are asked for.

use std::{fmt, sync::Arc};

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric},
    metrics::{MetricType, counter::ConstCounter, gauge::ConstGauge},
};

use crate::proxy::{ProxyStats, Totals};

/// Label values of the status classes, in the order of [`Totals::by_class`](crate::proxy::Totals::by_class).
const CLASSES: [&str; 6] = ["none", "1xx", "2xx", "3xx", "4xx", "5xx"];

#[derive(Debug)]
pub(super) struct ProxyCollector {
    stats: Arc<ProxyStats>,
}

impl ProxyCollector {
    pub(super) const fn new(stats: Arc<ProxyStats>) -> Self {
        Self { stats }
    }
}

impl Collector for ProxyCollector {
    fn encode(&self, mut encoder: DescriptorEncoder) -> fmt::Result {
        let totals = self.stats.totals();
        let classes = CLASSES.into_iter().zip(*totals.by_class());
        family(
            &mut encoder,
            ("proxy_requests", "Requests by class of their status", "class"),
            classes,
        )?;
        let reasons = totals.by_reason().map(|(kind, count)| (kind.name(), count));
        family(
            &mut encoder,
            (
                "proxy_refusals",
                "Requests and connections refused or broken",
                "reason",
            ),
            reasons,
        )?;
        mirrors(&mut encoder, &totals)?;
        l4_faults(&mut encoder, &totals)?;
        for (name, help, value) in counters(&totals) {
            let counter = ConstCounter::new(value);
            counter.encode(encoder.encode_descriptor(name, help, None, counter.metric_type())?)?;
        }
        let gauges = [
            (
                "proxy_downstream_active",
                "Open connections from clients",
                totals.downstream_active(),
            ),
            (
                "proxy_upstream_active",
                "Open connections to endpoints",
                totals.upstream_active(),
            ),
        ];
        for (name, help, value) in gauges {
            let gauge = ConstGauge::new(value);
            gauge.encode(encoder.encode_descriptor(name, help, None, gauge.metric_type())?)?;
        }
        Ok(())
    }
}

fn mirrors(encoder: &mut DescriptorEncoder, totals: &Totals) -> fmt::Result {
    let outcomes = [
        ("sent", totals.mirrors_sent),
        ("dropped", totals.mirrors_dropped),
        ("failed", totals.mirrors_failed),
    ];
    let help = "Copies of requests for mirrors by what became of them";
    family(encoder, ("proxy_mirrors", help, "outcome"), outcomes.into_iter())
}

fn l4_faults(encoder: &mut DescriptorEncoder, totals: &Totals) -> fmt::Result {
    let faults = [
        ("throttle", totals.connections_throttled),
        ("terminate", totals.connections_terminated),
    ];
    let help = "Connections that suffered a rule's fault";
    family(encoder, ("proxy_l4_faults", help, "fault"), faults.into_iter())
}

fn family(
    encoder: &mut DescriptorEncoder,
    (name, help, label): (&str, &str, &'static str),
    values: impl Iterator<Item = (&'static str, u64)>,
) -> fmt::Result {
    let mut family = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
    for (value, count) in values {
        ConstCounter::new(count).encode(family.encode_family(&[(label, value)])?)?;
    }
    Ok(())
}

fn counters(totals: &Totals) -> [(&'static str, &'static str, u64); 8] {
    [
        (
            "proxy_downstream_connections",
            "Connections from clients",
            totals.downstream_opened,
        ),
        (
            "proxy_upstream_connections",
            "Connections to endpoints",
            totals.upstream_opened,
        ),
        (
            "proxy_tcp_connections",
            "Connections proxied as TCP that have ended",
            totals.tcp_connections,
        ),
        ("proxy_retries", "Attempts after the first", totals.retries),
        (
            "proxy_retries_refused",
            "Retries not made because as many were under way as may be",
            totals.retries_refused,
        ),
        (
            "proxy_evictions",
            "Idle connections closed to make room under a limit",
            totals.evictions,
        ),
        (
            "proxy_received_bytes",
            "Body bytes from clients",
            totals.received_bytes,
        ),
        ("proxy_sent_bytes", "Body bytes to clients", totals.sent_bytes),
    ]
}
