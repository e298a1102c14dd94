//! Reloads with a kernel that only writes down what it is told.

use std::{
    collections::VecDeque,
    fs,
    sync::mpsc::{self, sync_channel},
    thread,
    time::Duration,
};

use router_rules::{
    id::ServiceName,
    model::{self, Model},
};

use super::*;
use crate::{
    config::{Directory, LoadLimits},
    finding::Place,
    metrics::Metrics,
    readiness::Readiness,
};

fn compiled(services: usize) -> Compiled {
    let service = |n| model::Service {
        name: ServiceName::new(&format!("s{n}.default.svc.cluster.local")),
        addresses: vec![[10, 0, 0, n as u8].into()],
        ports: vec![model::Port {
            number: 80,
            name: None,
            protocol: model::Protocol::Tcp,
            endpoints: Vec::new(),
        }],
    };
    let model = Model {
        services: (0..services).map(service).collect(),
        ..Model::default()
    };
    Compiled {
        model,
        identities: Vec::new(),
        certificates: Vec::new(),
        findings: Vec::new(),
    }
}

fn broken() -> Vec<Finding> {
    vec![Finding {
        severity: Severity::Error,
        code: "unknown-field",
        place: Place {
            file: "rules.yaml".into(),
            line: 3,
            field: "spec.wieght".into(),
        },
        object: None,
        message: "unknown field".into(),
        hint: "did you mean weight?".into(),
    }]
}

/// Services that fit in the maps.
const FIT: usize = 2;

/// Sends the generation of every reconciliation.
struct Kernel {
    reconciled: mpsc::Sender<u64>,
    failures: usize,
}

impl Reconcile for Kernel {
    fn reconcile(
        &mut self,
        snapshot: &Snapshot,
        _sources: &BTreeMap<u64, ClassId>,
        counted: &mut dyn FnMut(),
    ) -> Result<Reconciled, NotReconciled> {
        if self.failures > 0 {
            self.failures -= 1;
            return Err(NotReconciled::Failed("no memory".into()));
        }
        if snapshot.ports().len() > FIT {
            return Err(NotReconciled::DoesNotFit("3 services are needed, 2 fit".into()));
        }
        counted();
        self.reconciled.send(snapshot.generation()).unwrap();
        Ok(Reconciled {
            operations: 1,
            leftovers: false,
            followed: false,
        })
    }

    fn collect(&mut self) -> Result<bool, NotReconciled> {
        Ok(false)
    }

    fn refresh(&mut self) -> Result<usize, NotReconciled> {
        Ok(0)
    }

    fn keep_handover(&mut self) -> Result<(), NotReconciled> {
        Ok(())
    }
}

/// A directory whose texts mean what the test says.
struct Scripted {
    directory: Directory,
    outcomes: VecDeque<Result<Compiled, Vec<Finding>>>,
}

impl Configuration for Scripted {
    fn look(&mut self, suspects: &Suspects) -> Option<u64> {
        self.directory.look(suspects)
    }

    fn compile(&mut self) -> Result<Compiled, Vec<Finding>> {
        self.outcomes.pop_front().unwrap()
    }
}

struct Bed {
    control: Control,
    live: Arc<Live>,
    readiness: Readiness,
    reconciled: mpsc::Receiver<u64>,
    directory: tempfile::TempDir,
}

fn bed(outcomes: impl IntoIterator<Item = Result<Compiled, Vec<Finding>>>, failures: usize) -> Bed {
    let directory = tempfile::tempdir().unwrap();
    let live = Arc::new(Live::default());
    let readiness = Readiness::default();
    let (sender, reconciled) = mpsc::channel();
    let control = Control::new(Parts {
        config: directory.path().to_owned(),
        configuration: Box::new(Scripted {
            directory: Directory::new(directory.path().to_owned(), LoadLimits::default()),
            outcomes: outcomes.into_iter().collect(),
        }),
        touched: Arc::default(),
        live: live.clone(),
        callers: Arc::new(NodeCallers::new(directory.path(), directory.path()).unwrap()),
        kernel: Box::new(Kernel {
            reconciled: sender,
            failures,
        }),
        names: Arc::default(),
        metrics: Metrics::new(live.clone(), None).control,
        not_ready: vec![readiness.block("configuration")],
    });
    Bed {
        control,
        live,
        readiness,
        reconciled,
        directory,
    }
}

impl Bed {
    fn change(&mut self, text: &str) {
        fs::write(self.directory.path().join("rules.yaml"), text).unwrap();
        self.control.reload(&Suspects::All);
    }
}

#[test]
fn a_good_configuration_is_put_in_force() {
    let mut bed = bed([Ok(compiled(1))], 0);
    assert_eq!(bed.readiness.blockers(), ["configuration"]);
    bed.change("one");
    assert_eq!(bed.live.load().generation(), 1);
    assert_eq!(bed.reconciled.try_recv(), Ok(1));
    assert!(bed.readiness.is_ready());
    assert!(bed.live.last_reload().unwrap().accepted());
    assert_eq!(bed.live.in_step(), 1);
}

#[test]
fn a_broken_configuration_changes_nothing_and_says_so() {
    let mut bed = bed([Ok(compiled(1)), Err(broken()), Ok(compiled(2))], 0);
    bed.change("one");
    bed.change("broken");
    assert_eq!(
        (bed.live.load().generation(), bed.live.load().ports().len()),
        (1, 1)
    );
    let reload = bed.live.last_reload().unwrap();
    assert_eq!((reload.accepted(), reload.count(Severity::Error)), (false, 1));
    assert!(bed.readiness.is_ready());
    bed.change("two");
    assert_eq!(
        (bed.live.load().generation(), bed.live.load().ports().len()),
        (2, 2)
    );
    assert_eq!(bed.reconciled.try_iter().collect::<Vec<_>>(), [1, 2]);
}

#[test]
fn what_does_not_fit_in_the_kernel_is_not_put_in_force_in_the_proxy_either() {
    let mut bed = bed([Ok(compiled(1)), Ok(compiled(FIT + 1)), Ok(compiled(2))], 0);
    bed.change("one");
    bed.change("too large");
    assert_eq!(bed.live.load().generation(), 1);
    let reload = bed.live.last_reload().unwrap();
    assert_eq!(reload.findings[0].code, "capacity");
    bed.change("two");
    assert_eq!(bed.live.load().ports().len(), 2);
}

#[test]
fn a_kernel_that_fails_is_tried_again_with_the_new_configuration() {
    let mut bed = bed([Ok(compiled(1))], 1);
    bed.change("one");
    assert_eq!(bed.live.load().generation(), 0);
    bed.control.reconcile();
    assert_eq!((bed.live.load().generation(), bed.live.in_step()), (1, 1));
}

#[test]
fn unchanged_files_are_not_read_again() {
    let mut bed = bed([Ok(compiled(1))], 0);
    bed.change("one");
    bed.change("one");
    assert_eq!(bed.live.load().generation(), 1);
    assert_eq!(
        bed.control
            .parts
            .metrics
            .reloads
            .get_or_create(&crate::metrics::ReloadLabels {
                outcome: ReloadOutcome::unchanged
            })
            .get(),
        1
    );
}

#[test]
fn taking_a_mistake_back_makes_no_new_generation() {
    let mut bed = bed([Ok(compiled(1)), Err(broken())], 0);
    bed.change("one");
    bed.change("broken");
    bed.change("one");
    assert_eq!(bed.live.load().generation(), 1);
    assert!(bed.live.last_reload().unwrap().accepted());
    assert_eq!(bed.reconciled.try_iter().collect::<Vec<_>>(), [1]);
}

#[test]
fn a_broken_first_configuration_leaves_the_kernel_alone() {
    let mut bed = bed([Err(broken()), Ok(compiled(1))], 0);
    bed.change("broken");
    bed.control.reconcile();
    assert!(bed.reconciled.try_recv().is_err());
    assert!(!bed.readiness.is_ready());
    bed.change("fixed");
    assert_eq!(bed.reconciled.try_recv(), Ok(1));
    assert!(bed.readiness.is_ready());
}

#[test]
fn the_loop_follows_the_directory_and_retries_the_kernel() {
    let Bed {
        control,
        live,
        readiness,
        reconciled,
        directory,
    } = bed([Ok(compiled(1)), Ok(compiled(2))], 1);
    let (sender, events) = sync_channel(MAX_EVENTS);
    let touched = control.parts.touched.clone();
    let watch = watch(directory.path(), touched, sender.clone()).unwrap();
    let running = thread::spawn(move || control.run(&events));
    let deadline = Duration::from_secs(20);
    fs::write(directory.path().join("rules.yaml"), "one").unwrap();
    // The first attempt fails; the next comes by itself.
    assert_eq!(reconciled.recv_timeout(deadline), Ok(1));
    fs::write(directory.path().join("rules.yaml"), "two").unwrap();
    assert_eq!(reconciled.recv_timeout(deadline), Ok(2));
    assert!(readiness.is_ready());
    assert_eq!(live.load().ports().len(), 2);
    sender.send(Event::Shutdown).unwrap();
    running.join().unwrap();
    drop(watch);
}

#[test]
fn ejections_bring_the_kernel_in_step() {
    let mut bed = bed([Ok(compiled(1))], 0);
    bed.change("one");
    assert_eq!(bed.reconciled.try_recv(), Ok(1));
    let Bed {
        control, reconciled, ..
    } = bed;
    let (sender, events) = sync_channel(MAX_EVENTS);
    let running = thread::spawn(move || control.run(&events));
    for _ in 0..5 {
        sender.send(Event::EjectionsChanged).unwrap();
    }
    // Long before it would be done by itself (`RECONCILE_EVERY`), and once for all.
    assert_eq!(reconciled.recv_timeout(Duration::from_secs(20)), Ok(1));
    sender.send(Event::Shutdown).unwrap();
    running.join().unwrap();
    assert!(reconciled.try_recv().is_err());
}
