//! Metrics of the node's ports, and of when their certificates end.

use std::{collections::BTreeMap, fmt, sync::Arc};

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric},
    metrics::{MetricType, gauge::ConstGauge},
};
use router_rules::gateway::Entrance;

use crate::{
    listening::{Listening, PortState},
    live::Live,
};

#[derive(Debug)]
pub(super) struct GatewayCollector {
    live: Arc<Live>,
    listening: Arc<Listening>,
}

impl GatewayCollector {
    pub(super) const fn new(live: Arc<Live>, listening: Arc<Listening>) -> Self {
        Self { live, listening }
    }
}

impl Collector for GatewayCollector {
    fn encode(&self, mut encoder: DescriptorEncoder) -> fmt::Result {
        let snapshot = self.live.load();
        let help = "Whether the port of ingress rules is listened on";
        let mut family = encoder.encode_descriptor("ingress_open", help, None, MetricType::Gauge)?;
        for entrance in snapshot.gateways() {
            let port = entrance.port();
            let is_open = matches!(self.listening.state(port), Some(PortState::Open(_)));
            let labels = [("port", port.to_string())];
            ConstGauge::new(u64::from(is_open)).encode(family.encode_family(&labels)?)?;
        }
        let used = snapshot.gateways().iter().flat_map(Entrance::credentials);
        let ends: BTreeMap<&str, u64> = used.map(|c| (&*c.secret, c.validity.until)).collect();
        let help = "When the certificate of a Secret ends, in seconds since 1970 began";
        let name = "ingress_certificate_end_seconds";
        let mut family = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
        for (secret, end) in ends {
            ConstGauge::new(end).encode(family.encode_family(&[("secret", secret)])?)?;
        }
        Ok(())
    }
}
