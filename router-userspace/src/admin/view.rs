//! All that the admin address may look at, and how it becomes what it answers. It cannot change anything.

use std::{collections::BTreeMap, path::PathBuf, sync::Arc};

use router_rules::Snapshot;
use serde_json::Value;

use super::dump::{
    ConfigStatus, EjectedEndpoint, HookStatus, LimitStatus, MapDump, OutlierStatus, Problem,
    RequestLimitsDump, RequestStatus, ServiceStatus, Status, VerdictCount,
};
use super::{ejections, explain::words::routed_by, gateways};
use crate::{
    enforce::{breaker::Breakers, outlier::Outliers},
    finding::Finding,
    listening::Listening,
    live::Live,
    metrics::Metrics,
    observe::{MapContents, Observed},
    readiness::Readiness,
};

/// What there is to see of an agent.
#[derive(Clone)]
pub struct View {
    /// The configuration in force.
    pub live: Arc<Live>,
    /// The kernel half; none while it could not be loaded.
    pub observed: Option<Arc<dyn Observed>>,
    /// Outlier detection.
    pub outliers: Arc<Outliers>,
    /// What is under way under limits on requests.
    pub breakers: Arc<Breakers>,
    /// Which ports of ingress rules are listened on.
    pub listening: Arc<Listening>,
    /// Whether it is ready.
    pub readiness: Readiness,
    /// Every metric.
    pub metrics: Arc<Metrics>,
    /// Directory of the configuration.
    pub config: PathBuf,
}

impl View {
    /// How the agent is.
    pub fn status(&self) -> Status {
        let snapshot = self.live.load();
        let (hooks, hooks_error) = match self.observed.as_ref().map(|o| o.hooks()) {
            Some(Ok(hooks)) => (hooks, None),
            Some(Err(error)) => (Vec::new(), Some(error.to_string())),
            None => (Vec::new(), Some("the kernel half is not loaded".to_owned())),
        };
        Status {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            pid: std::process::id(),
            waiting_for: self.readiness.blockers().into_iter().map(str::to_owned).collect(),
            config: self.config_status(),
            hooks: hooks.into_iter().map(HookStatus::from).collect(),
            hooks_error,
            gateways: gateways::status(&snapshot, &self.listening),
            services: self.services(&snapshot),
            limits: self.limits(&snapshot),
            requests: self.requests(&snapshot),
            outliers: self.outliers(&snapshot),
            verdicts: self.verdicts(),
        }
    }

    /// Every map's contents.
    ///
    /// # Errors
    ///
    /// A map could not be read, or the kernel half is not loaded.
    pub fn maps(&self) -> std::io::Result<Vec<MapDump>> {
        let observed = self
            .observed
            .as_ref()
            .ok_or_else(|| std::io::Error::other("the kernel half is not loaded"))?;
        Ok(observed.maps()?.into_iter().map(map_dump).collect())
    }

    fn config_status(&self) -> ConfigStatus {
        let reload = self.live.last_reload();
        let read_at = reload.as_ref().and_then(|r| jiff::Timestamp::try_from(r.at).ok());
        ConfigStatus {
            directory: self.config.display().to_string(),
            generation: self.live.in_step(),
            read_at: read_at.map(|t| t.to_string()),
            accepted: reload.as_ref().is_some_and(|r| r.accepted()),
            findings: reload
                .iter()
                .flat_map(|r| r.findings.iter().map(problem))
                .collect(),
        }
    }

    fn services(&self, snapshot: &Snapshot) -> Vec<ServiceStatus> {
        let status = |port: &router_rules::snapshot::Port| {
            let counted = self.observed.as_ref().and_then(|o| o.service(port));
            ServiceStatus {
                service: port.service().to_string(),
                port: port.number(),
                protocol: port.protocol().name().to_owned(),
                routed_by: routed_by(port).to_owned(),
                rules: port.rules().len(),
                endpoints: snapshot.subset(port.unrouted()).endpoints().len(),
                routed: counted.map(|c| c.routed),
                proxied: counted.map(|c| c.proxied),
                refused: counted.map(|c| c.refused),
            }
        };
        snapshot.ports().iter().map(status).collect()
    }

    fn limits(&self, snapshot: &Snapshot) -> Vec<LimitStatus> {
        let status = |policy: &router_rules::policy::Policy| {
            let limit = self
                .observed
                .as_ref()
                .and_then(|o| o.limit(&policy.origin.object));
            Some(LimitStatus {
                policy: policy.origin.object.to_string(),
                service: policy.destination.to_string(),
                labels: policy.labels.to_string(),
                max_connections: policy.max_connections?,
                limit: limit.map(Into::into),
            })
        };
        snapshot.policies().iter().filter_map(status).collect()
    }

    fn requests(&self, snapshot: &Snapshot) -> Vec<RequestStatus> {
        let limited = snapshot.policies().iter().filter(|p| !p.http.is_empty());
        let status = |policy: &router_rules::policy::Policy| RequestStatus {
            policy: policy.origin.object.to_string(),
            service: policy.destination.to_string(),
            labels: policy.labels.to_string(),
            limits: RequestLimitsDump::new(&policy.http, self.breakers.usage(&policy.origin.object)),
        };
        limited.map(status).collect()
    }

    fn outliers(&self, snapshot: &Snapshot) -> Vec<OutlierStatus> {
        let mut known: BTreeMap<_, _> = self
            .outliers
            .report()
            .into_iter()
            .map(|of| (of.policy.clone(), of))
            .collect();
        let status = |policy: &router_rules::policy::Policy| {
            policy.outlier_detection?;
            let of = known.remove(&policy.origin.object)?;
            let ejected = ejections::returns(&of).into_iter();
            Some(OutlierStatus {
                policy: policy.origin.object.to_string(),
                service: policy.destination.to_string(),
                labels: policy.labels.to_string(),
                ejections: of.ejections,
                kept: of.kept,
                ejected: ejected
                    .map(|(address, until)| EjectedEndpoint { address, until })
                    .collect(),
            })
        };
        snapshot.policies().iter().filter_map(status).collect()
    }

    fn verdicts(&self) -> Vec<VerdictCount> {
        let counts = self.observed.iter().flat_map(|o| o.verdicts());
        let happened = counts.filter(|&(_, connections)| connections > 0);
        happened
            .map(|(verdict, connections)| VerdictCount {
                verdict: verdict.name().to_owned(),
                connections,
            })
            .collect()
    }
}

fn problem(finding: &Finding) -> Problem {
    Problem {
        severity: finding.severity.name().to_owned(),
        code: finding.code.to_owned(),
        text: finding.to_string(),
    }
}

fn map_dump(map: MapContents) -> MapDump {
    let value = |text: String| text.parse::<u64>().map_or(Value::String(text), Value::from);
    let fields = |fields: Vec<(&'static str, String)>| {
        let named = fields
            .into_iter()
            .map(|(name, text)| (name.to_owned(), value(text)));
        named.collect()
    };
    let entries = map.entries.into_iter().map(|e| (e.key, fields(e.fields)));
    MapDump {
        map: map.map.to_owned(),
        capacity: map.capacity,
        entries: entries.collect(),
    }
}
