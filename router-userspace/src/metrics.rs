//! Names and registration of every metric. What the kernel counts is read when metrics are asked for.
//!
//! | metric | kind | labels | meaning |
//! |---|---|---|---|
//! | `router_build_info` | info | version | the agent |
//! | `router_generation` | gauge | | number of the configuration that the proxy and the kernel follow |
//! | `router_config_errors` | gauge | | errors found when the configuration was last read |
//! | `router_config_warnings` | gauge | | warnings found then |
//! | `router_config_findings` | gauge | code, severity | the same by code; those that were not found are left out |
//! | `router_config_reloads_total` | counter | outcome | `accepted`, `rejected`, `unchanged` |
//! | `router_services` | gauge | | service ports in force |
//! | `router_endpoints` | gauge | | instances of all service ports |
//! | `router_rules` | gauge | | rules in force, one for each port they apply to |
//! | `router_workload_cgroups` | gauge | | cgroups of this node that belong to a known workload |
//! | `router_kernel_connections_total` | counter | verdict | connections by the kernel's verdict |
//! | `router_service_connections_total` | counter | service, port, transport, outcome | `routed`, `proxied`, `refused` by the kernel |
//! | `router_limit_max` | gauge | policy | connections that may be open at once |
//! | `router_limit_active` | gauge | policy | connections that are open now |
//! | `router_limit_refused_total` | counter | policy | connections refused by the limit |
//! | `router_endpoint_active` | gauge | address | open connections of endpoints that ever had one |
//! | `router_endpoint_connections_total` | counter | address | connections of endpoints that ever had one |
//! | `router_hook_attached` | gauge | hook, program | 1 when the kernel runs the program, 0 when it does not although it is needed: `sock_ops` is left out while no connection is sent to the proxy |
//! | `router_reconcile_operations_total` | counter | | changes written to maps |
//! | `router_reconcile_failures_total` | counter | | attempts that failed; each is repeated |
//! | `router_reconcile_duration_seconds` | histogram | | time to bring the maps in step |
//! | `router_endpoint_change_seconds` | histogram | | from the moment that other endpoints were noticed until proxy and kernel follow, when nothing else changed |
//! | `router_log_lines_dropped_total` | counter | | lines of the log that nobody read fast enough |
//! | `router_proxy_requests_total` | counter | class | requests by class of their status; `none`: no response |
//! | `router_proxy_refusals_total` | counter | reason | requests and connections refused or broken |
//! | `router_proxy_downstream_connections_total` | counter | | connections from clients |
//! | `router_proxy_downstream_active` | gauge | | those that are open now |
//! | `router_proxy_upstream_connections_total` | counter | | connections to endpoints |
//! | `router_proxy_upstream_active` | gauge | | those that are open now |
//! | `router_proxy_tcp_connections_total` | counter | | connections proxied as TCP that have ended |
//! | `router_proxy_retries_total` | counter | | attempts after the first |
//! | `router_proxy_mirrors_total` | counter | outcome | copies of requests: `sent` and answered, `dropped` at a bound, `failed` |
//! | `router_proxy_l4_faults_total` | counter | fault | connections that suffered a rule's fault: `throttle`, `terminate` |
//! | `router_proxy_retries_refused_total` | counter | | retries not made: as many were under way as a policy or the retry budget allows |
//! | `router_proxy_evictions_total` | counter | | idle connections closed to make room under a limit |
//! | `router_requests_active` | gauge | policy, limit | under policies with limits on requests: `requests` with endpoints, `pending` ones, `retries` |
//! | `router_requests_refused_total` | counter | policy, limit | what those limits refused |
//! | `router_outlier_ejections_total` | counter | policy | endpoints ejected for their failures |
//! | `router_outlier_kept_total` | counter | policy | endpoints that failed as often and stayed because of the policy's share |
//! | `router_outlier_ejected` | gauge | policy | endpoints that are ejected now |
//! | `router_proxy_received_bytes_total` | counter | | body bytes from clients |
//! | `router_proxy_sent_bytes_total` | counter | | body bytes to clients |

use std::sync::{Arc, atomic::AtomicU64};

use prometheus_client::{
    encoding::{EncodeLabelSet, EncodeLabelValue},
    metrics::{
        counter::Counter,
        family::Family,
        gauge::Gauge,
        histogram::{Histogram, exponential_buckets},
        info::Info,
    },
    registry::Registry,
};
use tracing_appender::non_blocking::ErrorCounter;

use crate::{
    enforce::{breaker::Breakers, outlier::Outliers},
    listening::Listening,
    live::Live,
    observe::Observed,
    proxy::ProxyStats,
};

mod breaker;
mod gateways;
mod kernel;
mod log;
mod outlier;
mod proxy;
mod snapshot;

/// Every metric of an agent.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    /// What control counts.
    pub control: ControlMetrics,
}

/// In seconds; two milliseconds are what is wanted of 99 in 100.
const ENDPOINT_CHANGE_BUCKETS: [f64; 12] = [
    0.000_1, 0.000_2, 0.000_5, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.5, 2.0,
];

/// What control counts.
#[derive(Clone, Debug)]
pub struct ControlMetrics {
    /// Readings of the configuration.
    pub reloads: Family<ReloadLabels, Counter>,
    /// Cgroups that belong to a known workload.
    pub workload_cgroups: Gauge<u64, AtomicU64>,
    /// Changes written to maps.
    pub reconcile_operations: Counter,
    /// Attempts that failed.
    pub reconcile_failures: Counter,
    /// Time to bring the maps in step, in seconds.
    pub reconcile_duration: Histogram,
    /// From the moment that other endpoints were noticed until proxy and kernel follow, when nothing else changed, in
    /// seconds.
    pub endpoint_change: Histogram,
}

/// Label of a reading.
#[derive(Clone, PartialEq, Eq, Hash, Debug, EncodeLabelSet)]
pub struct ReloadLabels {
    /// What became of it.
    pub outcome: ReloadOutcome,
}

/// What became of a reading of the configuration.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, EncodeLabelValue)]
#[allow(non_camel_case_types, reason = "the variants' names are the labels' values")]
pub enum ReloadOutcome {
    /// It was put in force.
    accepted,
    /// It has errors.
    rejected,
    /// It is what is in force.
    unchanged,
}

impl Metrics {
    /// Registers everything.
    pub fn new(live: Arc<Live>, observed: Option<Arc<dyn Observed>>) -> Self {
        let mut registry = Registry::with_prefix("router");
        let version = [("version", env!("CARGO_PKG_VERSION"))];
        registry.register("build", "The agent", Info::new(version));
        registry.register_collector(Box::new(snapshot::SnapshotCollector::new(live.clone())));
        if let Some(observed) = observed {
            registry.register_collector(Box::new(kernel::KernelCollector::new(live, observed)));
        }
        let control = ControlMetrics::register(&mut registry);
        Self { registry, control }
    }

    /// Adds the counters of a proxy.
    pub fn proxy(&mut self, stats: Arc<ProxyStats>) {
        self.registry
            .register_collector(Box::new(proxy::ProxyCollector::new(stats)));
    }

    /// Adds what is under way under limits on requests.
    pub fn breakers(&mut self, live: Arc<Live>, breakers: Arc<Breakers>) {
        self.registry
            .register_collector(Box::new(breaker::BreakerCollector::new(live, breakers)));
    }

    /// Adds which ports of ingress rules are open, and when their certificates end.
    pub fn gateways(&mut self, live: Arc<Live>, listening: Arc<Listening>) {
        self.registry
            .register_collector(Box::new(gateways::GatewayCollector::new(live, listening)));
    }

    /// Adds what outlier detection does.
    pub fn outliers(&mut self, outliers: Arc<Outliers>) {
        self.registry
            .register_collector(Box::new(outlier::OutlierCollector::new(outliers)));
    }

    /// Adds the count of lines that the log dropped.
    pub fn log(&mut self, dropped: ErrorCounter) {
        self.registry
            .register_collector(Box::new(log::LogCollector::new(dropped)));
    }

    /// Every metric in the OpenMetrics text format.
    pub fn encode(&self) -> String {
        let mut text = String::new();
        // Writing to a string does not fail.
        let _ = prometheus_client::encoding::text::encode(&mut text, &self.registry);
        text
    }
}

impl ControlMetrics {
    fn register(registry: &mut Registry) -> Self {
        let new = Self {
            reloads: Family::default(),
            workload_cgroups: Gauge::default(),
            reconcile_operations: Counter::default(),
            reconcile_failures: Counter::default(),
            // 100 µs to 3.3 s.
            reconcile_duration: Histogram::new(exponential_buckets(0.0001, 2.0, 16)),
            endpoint_change: Histogram::new(ENDPOINT_CHANGE_BUCKETS),
        };
        let Self {
            reloads,
            workload_cgroups,
            reconcile_operations,
            reconcile_failures,
            reconcile_duration,
            endpoint_change,
        } = new.clone();
        registry.register(
            "config_reloads",
            "Readings of the configuration by outcome",
            reloads,
        );
        registry.register(
            "workload_cgroups",
            "Cgroups that belong to a known workload",
            workload_cgroups,
        );
        registry.register(
            "reconcile_operations",
            "Changes written to maps",
            reconcile_operations,
        );
        registry.register(
            "reconcile_failures",
            "Attempts to change maps that failed",
            reconcile_failures,
        );
        registry.register(
            "reconcile_duration_seconds",
            "Time to bring the maps in step",
            reconcile_duration,
        );
        registry.register(
            "endpoint_change_seconds",
            "From the moment that other endpoints were noticed until proxy and kernel follow",
            endpoint_change,
        );
        new
    }

    /// Counts a reading.
    pub fn reloaded(&self, outcome: ReloadOutcome) {
        self.reloads.get_or_create(&ReloadLabels { outcome }).inc();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_as_documented() {
        let metrics = Metrics::new(Arc::new(Live::default()), None);
        metrics.control.reloaded(ReloadOutcome::accepted);
        let text = metrics.encode();
        for line in [
            "router_generation 0",
            "router_config_errors 0",
            "router_config_reloads_total{outcome=\"accepted\"} 1",
            "router_reconcile_operations_total 0",
            "router_services 0",
            concat!("router_build_info{version=\"", env!("CARGO_PKG_VERSION"), "\"} 1"),
        ] {
            assert!(text.lines().any(|l| l == line), "{line} is not in\n{text}");
        }
    }

    #[test]
    fn findings_are_counted_by_code() {
        use crate::{
            finding::{Finding, Place, codes},
            live::Reload,
        };
        let live = Arc::new(Live::default());
        let metrics = Metrics::new(live.clone(), None);
        let place = |line| Place {
            file: "rules.yaml".into(),
            line,
            field: String::new(),
        };
        let finding = |code, line| Finding::new(code, place(line), "m", "");
        let findings = [
            finding(&codes::WEIGHTS_SUM, 1),
            finding(&codes::WEIGHTS_SUM, 2),
            finding(&codes::UNKNOWN_FIELD, 3),
        ];
        live.report(Reload {
            at: std::time::SystemTime::UNIX_EPOCH,
            findings: findings.into(),
        });
        let text = metrics.encode();
        for line in [
            "router_config_findings{code=\"weights-sum\",severity=\"warning\"} 2",
            "router_config_findings{code=\"unknown-field\",severity=\"error\"} 1",
        ] {
            assert!(text.lines().any(|l| l == line), "{line} is not in\n{text}");
        }
    }
}
