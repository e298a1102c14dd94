//! Tests of `outlier` on a clock that is set by hand.

use std::{collections::BTreeSet, sync::atomic::AtomicUsize, thread};

use router_rules::{
    id::{Origin, ServiceName},
    model::{Endpoint as Instance, Model, Port, Protocol, Service},
    policy::Policy as Written,
};

use super::*;

const POLICY: &str = "destination-policy reviews";

fn address(number: u8) -> SocketAddr {
    SocketAddr::from(([10, 0, 0, number], 80))
}

fn settings() -> OutlierDetection {
    OutlierDetection {
        consecutive_errors: 3,
        interval: Duration::from_secs(1),
        base_ejection: Duration::from_secs(10),
        max_ejection_percent: 50,
    }
}

fn with_port(mut instance: Instance, port: u16) -> Instance {
    instance.address.set_port(port);
    instance
}

fn snapshot(endpoints: u8, outlier_detection: Option<OutlierDetection>) -> Snapshot {
    let name = ServiceName::new("reviews");
    let origin = Origin {
        object: POLICY.into(),
        file: "a.yaml".into(),
        line: 1,
    };
    let instance = |number| Instance {
        address: address(number),
        labels: Arc::default(),
        workload: None,
    };
    let model = Model {
        services: vec![Service {
            name: name.clone(),
            addresses: Vec::new(),
            ports: vec![
                Port {
                    number: 80,
                    name: None,
                    protocol: Protocol::Http,
                    endpoints: (0..endpoints).map(instance).collect(),
                },
                Port {
                    number: 7000,
                    name: None,
                    protocol: Protocol::Tcp,
                    endpoints: (0..endpoints).map(|n| with_port(instance(n), 7000)).collect(),
                },
            ],
        }],
        policies: vec![Written {
            outlier_detection,
            ..Written::new(origin, name)
        }],
        ..Model::default()
    };
    Snapshot::build(model, 1)
}

struct Bed {
    outliers: Arc<Outliers>,
    seconds: Arc<AtomicU64>,
    told: Arc<AtomicUsize>,
    /// Whether somebody listens.
    listening: Arc<AtomicBool>,
    snapshot: Snapshot,
}

fn bed(endpoints: u8) -> Bed {
    let seconds = Arc::new(AtomicU64::new(1000));
    let told = Arc::new(AtomicUsize::new(0));
    let listening = Arc::new(AtomicBool::new(true));
    let now = seconds.clone();
    let (tell, listens) = (told.clone(), listening.clone());
    let changed = move || {
        tell.fetch_add(1, Relaxed);
        listens.load(Relaxed)
    };
    let outliers = Arc::new(Outliers::new(
        move || Duration::from_secs(now.load(Relaxed)),
        changed,
    ));
    let snapshot = snapshot(endpoints, Some(settings()));
    outliers.follow(&snapshot);
    Bed {
        outliers,
        seconds,
        told,
        listening,
        snapshot,
    }
}

impl Bed {
    fn watch(&self) -> Watch {
        let subset = &self.snapshot.subsets()[0];
        self.outliers.watch(&self.snapshot, subset, PolicyId(0)).unwrap()
    }

    fn follow(&mut self, endpoints: u8, settings: Option<OutlierDetection>) {
        self.snapshot = snapshot(endpoints, settings);
        self.outliers.follow(&self.snapshot);
    }

    fn pass(&self, seconds: u64) {
        self.seconds.fetch_add(seconds, Relaxed);
        self.outliers.sweep();
    }

    fn ejected(&self) -> BTreeSet<SocketAddr> {
        self.outliers.ejected().0.into_values().flatten().collect()
    }
}

fn fail(watch: &Watch, index: usize, times: usize) {
    for _ in 0..times {
        watch.failed(index);
    }
}

#[test]
fn failures_in_a_row_eject_and_a_success_between_them_does_not() {
    let bed = bed(4);
    let watch = bed.watch();
    fail(&watch, 1, 2);
    watch.succeeded(1);
    fail(&watch, 1, 2);
    assert!(!watch.has_ejected());
    watch.failed(1);
    assert!(watch.has_ejected() && watch.is_ejected(1) && !watch.is_ejected(0));
    assert_eq!(bed.ejected(), [address(1)].into());
    assert_eq!(bed.told.load(Relaxed), 1);
    bed.pass(9);
    assert!(watch.is_ejected(1));
    bed.pass(1);
    assert!(!watch.is_ejected(1) && !watch.has_ejected() && bed.ejected().is_empty());
    assert_eq!(bed.told.load(Relaxed), 2);
}

#[test]
fn failures_under_way_when_it_was_ejected_do_not_count_afterwards() {
    let bed = bed(4);
    let watch = bed.watch();
    fail(&watch, 1, 5);
    bed.pass(10);
    fail(&watch, 1, 2);
    assert!(!watch.is_ejected(1));
    watch.failed(1);
    assert!(watch.is_ejected(1));
    // The second in short order lasts twice as long.
    bed.pass(10);
    assert!(watch.is_ejected(1));
    bed.pass(10);
    assert!(!watch.is_ejected(1));
}

#[test]
fn the_policy_keeps_its_share_and_says_so() {
    let bed = bed(4);
    let watch = bed.watch();
    for index in 0..4 {
        fail(&watch, index, 3);
    }
    let report = &bed.outliers.report()[0];
    assert_eq!((report.ejections, report.kept), (2, 2));
    let expected = [0, 1].map(|n| (address(n), Duration::from_secs(10)));
    assert_eq!(report.ejected, expected);
}

#[test]
fn what_is_known_survives_another_snapshot() {
    let mut bed = bed(4);
    let old = bed.watch();
    fail(&old, 3, 3);
    fail(&old, 0, 2);
    bed.follow(5, Some(settings()));
    let watch = bed.watch();
    assert!(watch.is_ejected(3));
    // The streak goes on, whichever snapshot's request brings the next failure.
    old.failed(0);
    assert!(watch.is_ejected(0));
    bed.follow(3, Some(settings()));
    assert_eq!(bed.ejected(), [address(0)].into(), "the other is gone");
    // An endpoint that the snapshot no longer has can be reported, but not ejected.
    fail(&watch, 4, 3);
    assert_eq!(bed.ejected(), [address(0)].into());
    bed.follow(3, None);
    assert!(bed.ejected().is_empty());
    let subset = &bed.snapshot.subsets()[0];
    assert!(bed.outliers.watch(&bed.snapshot, subset, PolicyId(0)).is_none());
    bed.follow(3, Some(settings()));
    assert!(bed.ejected().is_empty(), "a policy that comes back knows nothing");
}

#[test]
fn a_change_that_nobody_took_is_told_again() {
    let bed = bed(4);
    bed.listening.store(false, Relaxed);
    fail(&bed.watch(), 0, 3);
    bed.pass(1);
    assert_eq!(bed.told.load(Relaxed), 2);
    bed.listening.store(true, Relaxed);
    bed.pass(1);
    bed.pass(1);
    assert_eq!(bed.told.load(Relaxed), 3);
}

#[test]
fn many_threads_eject_once() {
    let bed = bed(4);
    let watch = bed.watch();
    thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| fail(&watch, 2, 3000));
        }
    });
    let report = &bed.outliers.report()[0];
    assert_eq!((report.ejections, report.kept, bed.told.load(Relaxed)), (1, 0, 1));
}

#[test]
fn an_instance_is_avoided_on_its_tcp_port_too() {
    let mut bed = bed(4);
    let avoided = |bed: &Bed, subset: usize| {
        let subset = &bed.snapshot.subsets()[subset];
        bed.outliers.avoided(&bed.snapshot, subset, subset.policy())
    };
    assert_eq!(avoided(&bed, 1), []);
    fail(&bed.watch(), 2, 3);
    let tcp = SocketAddr::new(address(2).ip(), 7000);
    assert_eq!(
        (avoided(&bed, 0), avoided(&bed, 1)),
        (vec![address(2)], vec![tcp])
    );
    bed.follow(4, None);
    assert_eq!(avoided(&bed, 1), []);
}
