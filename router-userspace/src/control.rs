//! The event loop: reads the configuration again when it changes, publishes, brings the kernel in step. The sole
//! publisher of snapshots.
//!
//! It runs on a thread of its own and blocks: neither requests nor the admin address ever wait for it. It knows
//! nothing of how maps are written ([`Reconcile`]) or of how text becomes a model
//! ([`Configuration`]).

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::{
        Arc,
        mpsc::{Receiver, RecvTimeoutError},
    },
    time::{Duration, Instant},
};

use router_rules::{Snapshot, model::Model, source::ClassId};
use tracing::{debug, error, info, warn};

use crate::{
    clock,
    compile::Compiled,
    config::Suspects,
    finding::{Finding, Place, Severity, codes},
    live::{Live, Reload},
    metrics::{ControlMetrics, ReloadOutcome},
    readiness::BlockReady,
    registry::NodeCallers,
    resolver::Names,
};

mod schedule;
mod watch;

pub use schedule::{
    CONFIG_GAP, CONFIG_QUIET, CONFIG_WAIT_AT_MOST, Due, EJECTIONS_WAIT, RECONCILE_EVERY, RETRY_AFTER,
    SCAN_EVERY, Schedule,
};
pub use watch::{Touched, Watch, WatchError, watch};

/// Findings of one reading that are logged; the admin address has them all.
const MAX_LOGGED_FINDINGS: usize = 20;

/// Events that may wait for the loop.
pub const MAX_EVENTS: usize = 64;

/// What happens to control.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Event {
    /// Something in the configuration directory was touched.
    ConfigTouched,
    /// Endpoints were ejected, or came back.
    EjectionsChanged,
    /// Names of external services have other addresses.
    NamesResolved,
    /// The agent stops.
    Shutdown,
}

/// The configuration directory as control sees it.
pub trait Configuration: Send {
    /// Reads what changed. Returns a number that is another when a file's name or content is, and none when something
    /// could not be read.
    fn look(&mut self, suspects: &Suspects) -> Option<u64>;

    /// Compiles what was read.
    ///
    /// # Errors
    ///
    /// Every finding, when at least one of them is an error.
    fn compile(&mut self) -> Result<Compiled, Vec<Finding>>;
}

/// What was done to bring the kernel in step.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Reconciled {
    /// Changes written.
    pub operations: usize,
    /// True when something is left that can only be cleared away later.
    pub leftovers: bool,
}

/// Why the kernel is not in step.
#[derive(Debug, thiserror::Error)]
pub enum NotReconciled {
    /// The configuration needs more room than the maps have. Nothing was changed.
    #[error("{0}")]
    DoesNotFit(String),
    /// A map could not be written. What was routed before still is, by the old rules or by the new ones.
    #[error("{0}")]
    Failed(String),
}

/// The kernel half as control sees it.
pub trait Reconcile: Send {
    /// Brings the maps in step. It may be repeated at any time.
    ///
    /// It calls `counted` when connections can be counted under every limit of the snapshot, and before any is routed
    /// otherwise than before: that is the moment for the proxy to follow.
    ///
    /// # Errors
    ///
    /// See [`NotReconciled`]; `counted` may have been called or not.
    fn reconcile(
        &mut self,
        snapshot: &Snapshot,
        sources: &BTreeMap<u64, ClassId>,
        counted: &mut dyn FnMut(),
    ) -> Result<Reconciled, NotReconciled>;

    /// Looks whether somebody else wrote to the maps, for the next [`Reconcile::reconcile`] to put right. Returns how
    /// many entries differed.
    ///
    /// # Errors
    ///
    /// A map could not be read.
    fn refresh(&mut self) -> Result<usize, NotReconciled>;
}

/// What control works with.
pub struct Parts {
    /// Directory of the configuration.
    pub config: PathBuf,
    /// Reads and compiles it.
    pub configuration: Box<dyn Configuration>,
    /// What was touched there, as [`watch()`] tells.
    pub touched: Arc<Touched>,
    /// Where snapshots are published.
    pub live: Arc<Live>,
    /// Workloads of this node.
    pub callers: Arc<NodeCallers>,
    /// The kernel half.
    pub kernel: Box<dyn Reconcile>,
    /// What is counted.
    pub metrics: ControlMetrics,
    /// Addresses of external services that have names.
    pub names: Arc<Names>,
    /// Dropped when the first configuration is in force in the proxy and in the kernel.
    pub not_ready: Vec<BlockReady>,
}

/// The event loop.
pub struct Control {
    parts: Parts,
    schedule: Schedule,
    /// Of the files that were read last, whatever became of them.
    seen: Option<u64>,
    /// Compiled, and on its way to be put in force.
    next: Option<Next>,
    in_force: Option<InForce>,
}

/// A configuration that is to be put in force.
struct Next {
    snapshot: Arc<Snapshot>,
    /// What it was built from, when some of its names are to be resolved again.
    unresolved: Option<Arc<Model>>,
    fingerprint: Option<u64>,
    warnings: Vec<Finding>,
    /// How long reading and compiling took.
    took: Duration,
}

/// What was published last: to come back to it, nothing has to be done.
struct InForce {
    unresolved: Option<Arc<Model>>,
    fingerprint: Option<u64>,
    warnings: Vec<Finding>,
}

impl Control {
    /// Nothing is read before [`Control::reload`].
    pub fn new(parts: Parts) -> Self {
        Self {
            parts,
            schedule: Schedule::new(clock::now()),
            seen: None,
            next: None,
            in_force: None,
        }
    }

    /// Runs until [`Event::Shutdown`], or until nobody can send events any more. The kernel keeps what it has.
    pub fn run(mut self, events: &Receiver<Event>) {
        loop {
            let wait = self.schedule.deadline().saturating_duration_since(clock::now());
            match events.recv_timeout(wait) {
                Ok(Event::ConfigTouched) if self.parts.touched.is_settled() => {
                    self.schedule.config_settled(clock::now());
                }
                Ok(Event::ConfigTouched) => self.schedule.config_touched(clock::now()),
                Ok(Event::EjectionsChanged) => self.schedule.ejections_changed(clock::now()),
                Ok(Event::NamesResolved) => self.resolve_again(),
                Ok(Event::Shutdown) | Err(RecvTimeoutError::Disconnected) => return,
                Err(RecvTimeoutError::Timeout) => {}
            }
            while let Some(due) = self.schedule.due(clock::now()) {
                match due {
                    Due::Reload => self.follow(Touched::take_all),
                    Due::ReloadSettled => self.follow(Touched::take_settled),
                    Due::Ejections => self.reconcile(),
                    Due::Scan => self.scan(),
                    Due::Reconcile => {
                        self.look_again();
                        self.reconcile();
                    }
                }
            }
        }
    }

    /// Reads the configuration when its files are not what was read, although nobody said so: a watch sees nothing of
    /// a directory that took the other's place, nor of what changes on another machine. The maps are looked at too.
    fn look_again(&mut self) {
        if self.parts.configuration.look(&Suspects::All) != self.seen {
            self.read(&Suspects::All);
        }
        match self.parts.kernel.refresh() {
            Ok(0) => {}
            Ok(entries) => warn!(entries, "somebody else wrote to the maps; they are put right"),
            Err(error) => warn!(%error, "the maps cannot be looked at"),
        }
    }

    /// Puts in force what was touched.
    fn follow(&mut self, take: fn(&Touched) -> Suspects) {
        let started = clock::now();
        let suspects = take(&self.parts.touched);
        self.reload(&suspects);
        let finished = clock::now();
        self.schedule.reloaded(finished, finished.duration_since(started));
    }

    /// Reads the configuration and puts it in force.
    pub fn reload(&mut self, suspects: &Suspects) {
        if self.read(suspects) {
            self.reconcile();
        }
    }

    /// Reads and compiles the configuration for the next [`Control::reconcile`]; true when there is something to put
    /// in force. One with errors changes nothing and is reported; one whose files are as they were is not even
    /// compiled.
    pub fn read(&mut self, suspects: &Suspects) -> bool {
        let started = clock::now();
        let fingerprint = self.parts.configuration.look(suspects);
        if fingerprint.is_some() && fingerprint == self.seen {
            debug!("configuration touched, but unchanged");
            self.parts.metrics.reloaded(ReloadOutcome::unchanged);
            return false;
        }
        self.seen = fingerprint;
        self.next = None;
        if fingerprint.is_some()
            && let Some(in_force) = self.in_force.as_ref().filter(|f| f.fingerprint == fingerprint)
        {
            info!("configuration is again what is in force");
            self.report(in_force.warnings.clone(), ReloadOutcome::unchanged);
            return false;
        }
        match self.compile() {
            Ok((model, warnings)) => {
                self.count_cgroups();
                let (snapshot, unresolved) = self.build(model);
                self.next = Some(Next {
                    snapshot,
                    unresolved,
                    fingerprint,
                    warnings,
                    took: clock::now().duration_since(started),
                });
                true
            }
            Err(findings) => {
                self.rejected(findings);
                false
            }
        }
    }

    /// The snapshot of a model with the addresses that its names have now, and the model when it has names.
    fn build(&self, mut model: Model) -> (Arc<Snapshot>, Option<Arc<Model>>) {
        let names: Vec<_> = model.unresolved().cloned().collect();
        let unresolved = (!names.is_empty()).then(|| Arc::new(model.clone()));
        self.parts.names.follow(names);
        model.resolve(&self.parts.names.addresses());
        let generation = self.parts.live.load().generation() + 1;
        (Arc::new(Snapshot::build(model, generation)), unresolved)
    }

    /// Builds the snapshot anew, because names have other addresses, and puts it in force.
    fn resolve_again(&mut self) {
        let started = clock::now();
        let model = match (&self.next, &self.in_force) {
            (Some(next), _) => next.unresolved.clone(),
            (None, Some(in_force)) => in_force.unresolved.clone(),
            (None, None) => None,
        };
        // Without a model there is nothing to resolve any more.
        let Some(model) = model else { return };
        let (snapshot, unresolved) = self.build(Arc::unwrap_or_clone(model));
        let (fingerprint, warnings) = match (&self.next, &self.in_force) {
            (Some(next), _) => (next.fingerprint, next.warnings.clone()),
            (None, Some(in_force)) => (in_force.fingerprint, in_force.warnings.clone()),
            (None, None) => return,
        };
        self.next = Some(Next {
            snapshot,
            unresolved,
            fingerprint,
            warnings,
            took: clock::now().duration_since(started),
        });
        self.reconcile();
    }

    fn compile(&mut self) -> Result<(Model, Vec<Finding>), Vec<Finding>> {
        let compiled = self.parts.configuration.compile()?;
        // Recognising more or fewer workloads than the snapshot in force knows is harmless: the others are unknown.
        self.parts.callers.replace(&compiled.identities);
        Ok((compiled.model, compiled.findings))
    }

    fn scan(&mut self) {
        if self.parts.callers.rescan() {
            self.count_cgroups();
            self.reconcile();
        }
    }

    fn count_cgroups(&self) {
        self.parts
            .metrics
            .workload_cgroups
            .set(self.parts.callers.scanned().len() as u64);
    }

    /// Puts what was read last in force, in the proxy and in the kernel, or brings the kernel in step with what is in
    /// force already. A failure is logged and repeated soon.
    pub fn reconcile(&mut self) {
        let next = self.next.take();
        let snapshot = match &next {
            Some(next) => Arc::clone(&next.snapshot),
            None => self.parts.live.load(),
        };
        if snapshot.generation() == 0 {
            // No configuration was good yet: what an earlier agent left stays in force.
            self.schedule.reconciled(clock::now());
            return;
        }
        let sources = self.sources(&snapshot);
        let live = Arc::clone(&self.parts.live);
        let started = clock::now();
        let mut publish = || live.publish(Arc::clone(&snapshot));
        let result = self.parts.kernel.reconcile(&snapshot, &sources, &mut publish);
        let now = clock::now();
        let took = now.duration_since(started).as_secs_f64();
        self.parts.metrics.reconcile_duration.observe(took);
        if let Some(next) = next {
            self.settle(next, &result);
        }
        self.reconciled(snapshot.generation(), result, now);
    }

    /// What becomes of a new configuration: published, refused by the kernel, or to be tried again.
    fn settle(&mut self, next: Next, result: &Result<Reconciled, NotReconciled>) {
        if self.parts.live.load().generation() == next.snapshot.generation() {
            self.accepted(&next);
            self.report(next.warnings.clone(), ReloadOutcome::accepted);
            self.in_force = Some(InForce {
                unresolved: next.unresolved,
                fingerprint: next.fingerprint,
                warnings: next.warnings,
            });
        } else if let Err(NotReconciled::DoesNotFit(what)) = result {
            let finding = does_not_fit(&self.parts.config, what);
            self.rejected(next.warnings.into_iter().chain([finding]).collect());
        } else {
            self.next = Some(next);
        }
    }

    fn reconciled(&mut self, generation: u64, result: Result<Reconciled, NotReconciled>, now: Instant) {
        match result {
            Ok(done) => {
                let written = done.operations as u64;
                self.parts.metrics.reconcile_operations.inc_by(written);
                self.parts.live.kernel_in_step(generation);
                self.parts.not_ready.clear();
                if done.leftovers {
                    self.schedule.reconcile_again(now);
                } else {
                    self.schedule.reconciled(now);
                }
            }
            // Reported as a finding; only another configuration can mend it.
            Err(NotReconciled::DoesNotFit(_)) => self.schedule.reconciled(now),
            Err(error) => {
                error!(%error, retry_after = ?RETRY_AFTER, "kernel maps are not in step");
                self.parts.metrics.reconcile_failures.inc();
                self.schedule.reconcile_again(now);
            }
        }
    }

    /// Class of every cgroup whose workload the snapshot knows.
    fn sources(&self, snapshot: &Snapshot) -> BTreeMap<u64, ClassId> {
        let class = |(&cgroup, workload): (&u64, &Arc<str>)| {
            let workload = snapshot.workload(workload)?;
            Some((cgroup, snapshot.class_of(Some(workload))))
        };
        self.parts.callers.scanned().iter().filter_map(class).collect()
    }

    fn accepted(&self, next: &Next) {
        info!(
            generation = next.snapshot.generation(),
            services = next.snapshot.ports().len(),
            rules = next.snapshot.rule_count(),
            warnings = next.warnings.len(),
            took = ?next.took,
            "configuration in force"
        );
    }

    fn rejected(&self, findings: Vec<Finding>) {
        let errors = findings.iter().filter(|f| f.severity == Severity::Error).count();
        let in_force = self.parts.live.load().generation();
        error!(
            errors,
            in_force, "configuration has errors; what was in force stays in force"
        );
        self.report(findings, ReloadOutcome::rejected);
    }

    fn report(&self, findings: Vec<Finding>, outcome: ReloadOutcome) {
        self.parts.metrics.reloaded(outcome);
        for finding in findings.iter().take(MAX_LOGGED_FINDINGS) {
            match finding.severity {
                Severity::Error => error!(code = finding.code, "{finding}"),
                Severity::Warning => warn!(code = finding.code, "{finding}"),
            }
        }
        if findings.len() > MAX_LOGGED_FINDINGS {
            warn!(
                more = findings.len() - MAX_LOGGED_FINDINGS,
                "further findings: see `router status`"
            );
        }
        self.parts.live.report(Reload {
            at: clock::wall(),
            findings: findings.into(),
        });
    }
}

fn does_not_fit(directory: &Path, what: &str) -> Finding {
    let place = Place {
        file: directory.display().to_string().into(),
        line: 0,
        field: String::new(),
    };
    Finding {
        severity: codes::CAPACITY.severity,
        code: codes::CAPACITY.name,
        place,
        object: None,
        message: format!("the kernel's maps are too small: {what}"),
        hint: "fewer or smaller services, rules or weights".to_owned(),
    }
}

#[cfg(test)]
mod tests;
