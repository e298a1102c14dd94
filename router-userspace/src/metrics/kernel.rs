//! Metrics of the kernel half, read from its maps when they are asked for.

use std::{collections::BTreeMap, fmt, net::SocketAddr, sync::Arc};

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric},
    metrics::{MetricType, counter::ConstCounter, gauge::ConstGauge},
};
use router_rules::Snapshot;

use crate::{live::Live, observe::Observed};

pub(super) struct KernelCollector {
    live: Arc<Live>,
    observed: Arc<dyn Observed>,
}

impl KernelCollector {
    pub(super) fn new(live: Arc<Live>, observed: Arc<dyn Observed>) -> Self {
        Self { live, observed }
    }
}

impl fmt::Debug for KernelCollector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KernelCollector").finish_non_exhaustive()
    }
}

type Labels<const N: usize> = [(&'static str, String); N];

/// A family of one kind with its values.
struct Values<const N: usize> {
    name: &'static str,
    help: &'static str,
    kind: MetricType,
    values: Vec<(Labels<N>, u64)>,
}

impl<const N: usize> Values<N> {
    fn encode(&self, encoder: &mut DescriptorEncoder) -> fmt::Result {
        let mut family = encoder.encode_descriptor(self.name, self.help, None, self.kind)?;
        for (labels, value) in &self.values {
            let metric = family.encode_family(labels)?;
            match self.kind {
                MetricType::Counter => ConstCounter::new(*value).encode(metric)?,
                _ => ConstGauge::new(*value).encode(metric)?,
            }
        }
        Ok(())
    }
}

impl Collector for KernelCollector {
    fn encode(&self, mut encoder: DescriptorEncoder) -> fmt::Result {
        let snapshot = self.live.load();
        self.verdicts().encode(&mut encoder)?;
        self.hooks().encode(&mut encoder)?;
        self.services(&snapshot).encode(&mut encoder)?;
        for values in self.limits(&snapshot) {
            values.encode(&mut encoder)?;
        }
        for values in self.endpoints(&snapshot) {
            values.encode(&mut encoder)?;
        }
        Ok(())
    }
}

impl KernelCollector {
    fn verdicts(&self) -> Values<1> {
        let value = |(verdict, count): (router_common::reason::Reason, u64)| {
            ([("verdict", verdict.name().to_owned())], count)
        };
        Values {
            name: "kernel_connections",
            help: "Connections by the kernel's verdict",
            kind: MetricType::Counter,
            values: self.observed.verdicts().into_iter().map(value).collect(),
        }
    }

    fn hooks(&self) -> Values<2> {
        let hooks = self.observed.hooks().unwrap_or_default().into_iter();
        // 0 is what alerts are for.
        let missed_or_attached = hooks.filter(|hook| hook.attached() || !hook.is_idle);
        let value = |hook: crate::observe::Hook| {
            let attached = u64::from(hook.attached());
            ([("hook", hook.hook), ("program", hook.program)], attached)
        };
        Values {
            name: "hook_attached",
            help: "1 when the kernel runs the program, 0 when it does not although it is needed",
            kind: MetricType::Gauge,
            values: missed_or_attached.map(value).collect(),
        }
    }

    fn services(&self, snapshot: &Snapshot) -> Values<4> {
        let mut values = Vec::new();
        for port in snapshot.ports() {
            let Some(counted) = self.observed.service(port) else {
                continue;
            };
            let by_outcome = [
                ("routed", counted.routed),
                ("proxied", counted.proxied),
                ("refused", counted.refused),
            ];
            values.extend(by_outcome.map(|(outcome, count)| {
                let service = port.service().to_string();
                let labels = [
                    ("service", service),
                    ("port", port.number().to_string()),
                    ("transport", port.protocol().transport().to_string()),
                    ("outcome", outcome.to_owned()),
                ];
                (labels, count)
            }));
        }
        Values {
            name: "service_connections",
            help: "Connections to a service port by what the kernel did",
            kind: MetricType::Counter,
            values,
        }
    }

    fn limits(&self, snapshot: &Snapshot) -> [Values<1>; 3] {
        let limited = snapshot.policies().iter().filter(|p| p.max_connections.is_some());
        let in_use: Vec<_> = limited
            .filter_map(|p| {
                Some((
                    p.origin.object.to_string(),
                    self.observed.limit(&p.origin.object)?,
                ))
            })
            .collect();
        let values = |of: fn(&crate::observe::LimitUse) -> u64| {
            in_use
                .iter()
                .map(|(policy, limit)| ([("policy", policy.clone())], of(limit)))
                .collect()
        };
        let (gauge, counter) = (MetricType::Gauge, MetricType::Counter);
        let family = |name, help, kind, values| Values {
            name,
            help,
            kind,
            values,
        };
        [
            family(
                "limit_max",
                "Connections that may be open at once",
                gauge,
                values(|l| l.max),
            ),
            family(
                "limit_active",
                "Connections that are open now",
                gauge,
                values(|l| l.active),
            ),
            family(
                "limit_refused",
                "Connections refused by the limit",
                counter,
                values(|l| l.refused),
            ),
        ]
    }

    fn endpoints(&self, snapshot: &Snapshot) -> [Values<1>; 2] {
        // Whether anybody acts on the number of open connections, so that the kernel counts them.
        let mut counted: BTreeMap<SocketAddr, bool> = BTreeMap::new();
        for subset in snapshot.subsets() {
            // The proxy's connections to them are always counted.
            let open = snapshot.acts_on_connections(subset) || subset.protocol().is_http();
            for endpoint in subset.endpoints() {
                *counted.entry(endpoint.address).or_default() |= open;
            }
        }
        let in_use: Vec<_> = counted
            .into_iter()
            .filter_map(|(address, open)| Some((address, open, self.observed.endpoint(address)?)))
            .filter(|(_, _, seen)| seen.connects > 0)
            .collect();
        let label = |address: &SocketAddr| [("address", address.to_string())];
        let open = in_use.iter().filter(|(_, open, _)| *open);
        [
            Values {
                name: "endpoint_active",
                help: "Open connections of endpoints that ever had one, where a limit, LEAST_CONN or HTTP has them counted",
                kind: MetricType::Gauge,
                values: open
                    .map(|(address, _, seen)| (label(address), seen.active))
                    .collect(),
            },
            Values {
                name: "endpoint_connections",
                help: "Connections of endpoints that ever had one",
                kind: MetricType::Counter,
                values: in_use
                    .iter()
                    .map(|(address, _, seen)| (label(address), seen.connects))
                    .collect(),
            },
        ]
    }
}
