//! The event loop: reads the configuration again when it changes, publishes, brings the kernel in step. The sole
//! publisher of snapshots.
//!
//! It runs on a thread of its own and blocks: neither requests nor the admin address ever wait for it. It knows
//! nothing of how maps are written ([`Reconcile`]) or of how text becomes a model
//! ([`Configuration`]).

use std::{
    collections::BTreeMap,
    path::PathBuf,
    sync::{
        Arc,
        mpsc::{Receiver, RecvTimeoutError},
    },
    time::Instant,
};

use router_rules::{EndpointChange, Snapshot, model::Model, source::ClassId};
use tracing::{debug, error, info, warn};

use crate::{
    clock,
    compile::Compiled,
    config::Suspects,
    finding::{Finding, Severity},
    live::{Live, Reload},
    metrics::{ControlMetrics, ReloadOutcome},
    readiness::BlockReady,
    registry::NodeCallers,
    resolver::Names,
    sys,
};

mod edition;
mod kernel;
mod schedule;
mod watch;

use edition::{InForce, Next, Unresolved, does_not_fit};

pub use kernel::{NotReconciled, Reconcile, Reconciled};
pub use schedule::{
    COLLECT_AFTER, CONFIG_GAP, CONFIG_QUIET, CONFIG_WAIT_AT_MOST, Due, EJECTIONS_WAIT, RECONCILE_EVERY,
    RETRY_AFTER, SCAN_EVERY, Schedule,
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

    /// The snapshot `generation` after what was read, made from `in_force`, with what is different: nothing but
    /// endpoints, and nothing else to say about it. None: it is to be compiled whole. `in_force` is made of what was
    /// compiled or followed last.
    fn follow(&mut self, in_force: &Snapshot, generation: u64) -> Option<(Snapshot, EndpointChange)> {
        let _ = (in_force, generation);
        None
    }
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
    /// How many configurations were compiled or followed.
    editions: u64,
    /// When the change was noticed that is being put in force.
    noticed: Option<Instant>,
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
            editions: 0,
            noticed: None,
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
                    Due::Reload => {
                        self.follow(|touched| touched.take_due(clock::now()));
                        if self.parts.touched.is_open() {
                            self.schedule.config_touched(clock::now());
                        }
                    }
                    Due::ReloadSettled => self.follow(Touched::take_settled),
                    Due::Ejections => self.reconcile(),
                    Due::Scan => self.scan(),
                    Due::Collect => self.collect(),
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
        if let Err(error) = self.parts.kernel.keep_handover() {
            warn!(%error, "the hand-over to the proxy is not as it should be");
        }
    }

    fn collect(&mut self) {
        match self.parts.kernel.collect() {
            Ok(false) => {}
            Ok(true) => self.schedule.collect_later(clock::now()),
            Err(error) => {
                warn!(%error, "what is not used any more cannot be cleared away");
                self.schedule.reconcile_again(clock::now());
            }
        }
    }

    /// Puts in force what was touched.
    fn follow(&mut self, take: impl FnOnce(&Touched) -> Suspects) {
        let started = clock::now();
        self.noticed = self.parts.touched.take_since();
        let suspects = take(&self.parts.touched);
        self.reload(&suspects);
        self.noticed = None;
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
            let warnings = Arc::clone(&in_force.warnings);
            self.report(warnings, ReloadOutcome::unchanged);
            return false;
        }
        if let Some((snapshot, source)) = self.follow_in_force(fingerprint) {
            self.next = Some(Next {
                snapshot,
                source,
                took: clock::now().duration_since(started),
                is_followed: true,
            });
            return true;
        }
        match self.compile() {
            Ok((model, warnings)) => {
                self.count_cgroups();
                let (snapshot, unresolved) = self.build(model);
                self.next = Some(Next {
                    snapshot,
                    source: InForce {
                        edition: self.editions,
                        unresolved,
                        fingerprint,
                        warnings: warnings.into(),
                    },
                    took: clock::now().duration_since(started),
                    is_followed: false,
                });
                true
            }
            Err(findings) => {
                self.rejected(findings);
                false
            }
        }
    }

    /// The snapshot after what is in force, when that is what was compiled last and nothing but endpoints changed.
    fn follow_in_force(&mut self, fingerprint: Option<u64>) -> Option<(Arc<Snapshot>, InForce)> {
        let before = self.in_force.as_ref()?;
        if fingerprint.is_none() || before.edition != self.editions {
            return None;
        }
        let live = self.parts.live.load();
        let generation = live.generation() + 1;
        let (snapshot, change) = self.parts.configuration.follow(&live, generation)?;
        self.editions += 1;
        let source = InForce {
            edition: self.editions,
            unresolved: before.unresolved.as_ref().map(|model| model.with(change)),
            fingerprint,
            warnings: Arc::clone(&before.warnings),
        };
        Some((Arc::new(snapshot), source))
    }

    /// The snapshot of a model with the addresses that its names have now, and the model when it has names.
    fn build(&self, mut model: Model) -> (Arc<Snapshot>, Option<Unresolved>) {
        let names: Vec<_> = model.unresolved().cloned().collect();
        let unresolved = (!names.is_empty()).then(|| Unresolved::new(&model));
        self.parts.names.follow(names);
        model.resolve(&self.parts.names.addresses());
        let generation = self.parts.live.load().generation() + 1;
        (Arc::new(Snapshot::build(model, generation)), unresolved)
    }

    /// Builds the snapshot anew, because names have other addresses, and puts it in force.
    fn resolve_again(&mut self) {
        let started = clock::now();
        let latest = self.next.as_ref().map(|next| &next.source);
        let Some(latest) = latest.or(self.in_force.as_ref()).cloned() else {
            return;
        };
        // Without a model there is nothing to resolve any more.
        let Some(model) = latest.unresolved.as_ref().map(Unresolved::now) else {
            return;
        };
        let (snapshot, unresolved) = self.build(model);
        self.next = Some(Next {
            snapshot,
            source: InForce { unresolved, ..latest },
            took: clock::now().duration_since(started),
            is_followed: false,
        });
        self.reconcile();
    }

    fn compile(&mut self) -> Result<(Model, Vec<Finding>), Vec<Finding>> {
        let compiled = self.parts.configuration.compile()?;
        // Recognising more or fewer workloads than the snapshot in force knows is harmless: the others are unknown.
        self.parts.callers.replace(&compiled.identities);
        self.editions += 1;
        let findings = compiled.findings_at(clock::wall_seconds());
        Ok((compiled.model, findings))
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
        let is_whole = next.as_ref().is_some_and(|next| !next.is_followed);
        if let Some(next) = next {
            let is_followed = next.is_followed && result.is_ok();
            if let Some(noticed) = self.noticed.filter(|_| is_followed) {
                let took = now.duration_since(noticed).as_secs_f64();
                self.parts.metrics.endpoint_change.observe(took);
            }
            self.settle(next, &result);
        }
        self.reconciled(snapshot.generation(), result, now);
        if is_whole {
            // Nobody waits for it.
            sys::give_memory_back();
        }
    }

    /// What becomes of a new configuration: published, refused by the kernel, or to be tried again.
    fn settle(&mut self, next: Next, result: &Result<Reconciled, NotReconciled>) {
        if self.parts.live.load().generation() == next.snapshot.generation() {
            self.accepted(&next);
            self.in_force = Some(next.source);
        } else if let Err(NotReconciled::DoesNotFit(what)) = result {
            let finding = does_not_fit(&self.parts.config, what);
            self.rejected(next.source.warnings.iter().cloned().chain([finding]).collect());
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
                    self.schedule.collect_later(now);
                }
            }
            // Reported as a finding; only another configuration can mend it.
            Err(NotReconciled::DoesNotFit(_)) => {}
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
        let (generation, took) = (next.snapshot.generation(), next.took);
        let warnings = Arc::clone(&next.source.warnings);
        if next.is_followed {
            // There may be hundreds in a second, and nothing is new about the warnings.
            debug!(generation, ?took, "other endpoints in force");
            self.remember(warnings, ReloadOutcome::accepted);
            return;
        }
        info!(
            generation,
            services = next.snapshot.ports().len(),
            rules = next.snapshot.rule_count(),
            warnings = warnings.len(),
            ?took,
            "configuration in force"
        );
        self.report(warnings, ReloadOutcome::accepted);
    }

    fn rejected(&self, findings: Vec<Finding>) {
        let errors = findings.iter().filter(|f| f.severity == Severity::Error).count();
        let in_force = self.parts.live.load().generation();
        error!(
            errors,
            in_force, "configuration has errors; what was in force stays in force"
        );
        self.report(findings.into(), ReloadOutcome::rejected);
    }

    /// Logs what there is to say, and remembers it for whoever asks.
    fn report(&self, findings: Arc<[Finding]>, outcome: ReloadOutcome) {
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
        self.remember(findings, outcome);
    }

    fn remember(&self, findings: Arc<[Finding]>, outcome: ReloadOutcome) {
        self.parts.metrics.reloaded(outcome);
        self.parts.live.report(Reload {
            at: clock::wall(),
            findings,
        });
    }
}

#[cfg(test)]
mod tests;
