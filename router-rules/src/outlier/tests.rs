//! Tests of `outlier`: each rule of Envoy's by itself, then random histories.

use proptest::{collection::vec, prelude::*};

use super::*;

const fn seconds(n: u64) -> Duration {
    Duration::from_secs(n)
}

fn endpoint(number: u8) -> SocketAddr {
    SocketAddr::from(([10, 0, 0, number], 80))
}

fn endpoints(count: u8) -> Vec<SocketAddr> {
    (0..count).map(endpoint).collect()
}

const SETTINGS: OutlierDetection = OutlierDetection {
    consecutive_errors: 5,
    interval: seconds(10),
    base_ejection: seconds(30),
    max_ejection_percent: 50,
};

fn detector(settings: OutlierDetection, count: u8) -> Detector {
    let mut detector = Detector::new(settings, Duration::ZERO);
    detector.follow(settings, [&endpoints(count)]);
    detector
}

/// Sweeps every interval until `moment`; who came back when.
fn sweep_until(detector: &mut Detector, moment: Duration) -> Vec<(u64, SocketAddr)> {
    let mut back = Vec::new();
    while detector.next_sweep() <= moment {
        let now = detector.next_sweep();
        back.extend(detector.sweep(now).into_iter().map(|e| (now.as_secs(), e)));
    }
    back
}

#[test]
fn an_ejection_ends_with_the_first_sweep_after_its_time() {
    let mut detector = detector(SETTINGS, 2);
    assert_eq!(
        detector.failed(endpoint(0), seconds(3)),
        Verdict::Ejected(seconds(30))
    );
    assert_eq!(
        detector.ejected().collect::<Vec<_>>(),
        [(endpoint(0), seconds(40))]
    );
    assert_eq!(sweep_until(&mut detector, seconds(39)), []);
    assert_eq!(sweep_until(&mut detector, seconds(40)), [(40, endpoint(0))]);
    assert_eq!(detector.ejected().count(), 0);
}

#[test]
fn a_sweep_before_its_time_does_nothing() {
    let mut detector = detector(SETTINGS, 2);
    detector.failed(endpoint(0), Duration::ZERO);
    assert_eq!(detector.sweep(seconds(35)), [endpoint(0)]);
    detector.failed(endpoint(1), seconds(35));
    assert_eq!(detector.sweep(seconds(44)), []);
    assert_eq!(detector.next_sweep(), seconds(45));
}

#[test]
fn ejections_in_short_order_last_longer_up_to_a_bound() {
    let mut detector = detector(SETTINGS, 2);
    let mut now = Duration::ZERO;
    let lasted: Vec<u64> = std::iter::from_fn(|| match detector.failed(endpoint(0), now) {
        Verdict::Ejected(lasts) => {
            now = now + lasts + SETTINGS.interval;
            sweep_until(&mut detector, now);
            // Back in this sweep or in the one before: at most one quiet sweep, which takes one off.
            Some(lasts.as_secs())
        }
        _ => None,
    })
    .take(30)
    .collect();
    assert!(lasted.is_sorted(), "{lasted:?}");
    assert_eq!(lasted.first(), Some(&30));
    assert!(lasted.iter().all(|&s| s <= MAX_EJECTION.as_secs()), "{lasted:?}");
}

#[test]
fn the_number_of_ejections_decays_with_every_quiet_sweep() {
    let mut detector = detector(SETTINGS, 2);
    let mut now = Duration::ZERO;
    for expected in [30, 60, 90] {
        assert_eq!(
            detector.failed(endpoint(0), now),
            Verdict::Ejected(seconds(expected))
        );
        now += seconds(expected);
        // Back with the very sweep, and failing again before the next.
        assert_eq!(detector.sweep(now), [endpoint(0)]);
    }
    sweep_until(&mut detector, now + seconds(20));
    let Verdict::Ejected(lasts) = detector.failed(endpoint(0), now + seconds(20)) else {
        panic!("not ejected");
    };
    assert_eq!(lasts, seconds(60), "3 - 2 quiet sweeps + 1");
}

#[test]
fn a_base_beyond_the_bound_is_the_bound() {
    let long = OutlierDetection {
        base_ejection: seconds(1000),
        ..SETTINGS
    };
    let mut detector = detector(long, 2);
    for at in [0, 1000, 2000] {
        assert_eq!(
            detector.failed(endpoint(0), seconds(at)),
            Verdict::Ejected(seconds(1000))
        );
        assert_eq!(detector.sweep(seconds(at + 1000)), [endpoint(0)]);
    }
}

#[test]
fn the_share_is_never_rounded_up() {
    for (count, percent, allowed) in [
        (9, 10, 0),
        (10, 10, 1),
        (19, 10, 1),
        (3, 33, 0),
        (3, 34, 1),
        (4, 100, 4),
        (4, 0, 0),
    ] {
        let settings = OutlierDetection {
            max_ejection_percent: percent,
            ..SETTINGS
        };
        let mut detector = detector(settings, count);
        let verdicts: Vec<_> = endpoints(count)
            .into_iter()
            .map(|e| detector.failed(e, Duration::ZERO))
            .collect();
        let ejected = verdicts
            .iter()
            .filter(|v| matches!(v, Verdict::Ejected(_)))
            .count();
        let kept = verdicts.iter().filter(|v| **v == Verdict::EnoughEjected).count();
        assert_eq!(
            (ejected, kept),
            (allowed, usize::from(count) - allowed),
            "{percent} % of {count}"
        );
    }
}

#[test]
fn every_subset_keeps_its_share() {
    let all = endpoints(10);
    let mut detector = Detector::new(SETTINGS, Duration::ZERO);
    detector.follow(SETTINGS, [&all[..], &all[..1], &all[1..3]]);
    assert_eq!(
        detector.failed(endpoint(0), Duration::ZERO),
        Verdict::EnoughEjected
    );
    assert!(matches!(
        detector.failed(endpoint(1), Duration::ZERO),
        Verdict::Ejected(_)
    ));
    assert_eq!(
        detector.failed(endpoint(2), Duration::ZERO),
        Verdict::EnoughEjected
    );
    assert!(matches!(
        detector.failed(endpoint(3), Duration::ZERO),
        Verdict::Ejected(_)
    ));
}

#[test]
fn what_leaves_is_forgotten_and_what_stays_is_kept() {
    let mut detector = detector(SETTINGS, 4);
    detector.failed(endpoint(0), Duration::ZERO);
    detector.failed(endpoint(1), Duration::ZERO);
    assert_eq!(
        detector.failed(endpoint(0), Duration::ZERO),
        Verdict::AlreadyEjected
    );
    assert_eq!(detector.failed(endpoint(9), Duration::ZERO), Verdict::Unknown);
    detector.follow(SETTINGS, [&endpoints(4)[1..]]);
    assert_eq!(
        detector.ejected().map(|(e, _)| e).collect::<Vec<_>>(),
        [endpoint(1)]
    );
    // One of three is ejected; a second would be two thirds.
    assert_eq!(
        detector.failed(endpoint(2), Duration::ZERO),
        Verdict::EnoughEjected
    );
    detector.follow(SETTINGS, [&endpoints(4)]);
    assert!(
        matches!(detector.failed(endpoint(0), Duration::ZERO), Verdict::Ejected(lasts) if lasts == seconds(30))
    );
}

#[test]
fn a_shorter_window_holds_for_those_that_are_ejected_already() {
    let mut detector = detector(SETTINGS, 2);
    detector.failed(endpoint(0), Duration::ZERO);
    let shorter = OutlierDetection {
        base_ejection: seconds(10),
        ..SETTINGS
    };
    detector.follow(shorter, [&endpoints(2)]);
    assert_eq!(detector.sweep(seconds(10)), [endpoint(0)]);
}

#[test]
fn a_streak_fires_once_for_every_limit_failures_in_a_row() {
    let streak = Streak::default();
    let fired: Vec<_> = (0..7).map(|_| streak.failed(3)).collect();
    assert_eq!(fired, [false, false, true, false, false, true, false]);
    streak.end();
    assert!(!streak.failed(3) && !streak.failed(3));
    streak.end();
    assert!(!streak.failed(3), "an attempt that succeeded ends the streak");
    assert!(streak.failed(1));
}

/// What happens to a detector.
#[derive(Clone, Debug)]
enum Step {
    Fail(u8),
    Wait(u64),
    Sweep,
    /// Endpoints below the first number in one subset, from the second on in another.
    Follow(u8, u8),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0..12_u8).prop_map(Step::Fail),
        3 => (0..40_u64).prop_map(Step::Wait),
        3 => Just(Step::Sweep),
        1 => (1..12_u8, 0..12_u8).prop_map(|(a, b)| Step::Follow(a, b)),
    ]
}

/// The subsets of a detector, and what it is expected to hold: since when, and how many times the base.
struct Expected {
    settings: OutlierDetection,
    subsets: Vec<Vec<SocketAddr>>,
    endpoints: BTreeMap<SocketAddr, (Option<Duration>, u32)>,
    swept: Duration,
}

impl Expected {
    fn lasts(&self, times: u32) -> Duration {
        (self.settings.base_ejection * times).min(MAX_EJECTION)
    }

    fn ejected(&self) -> Vec<SocketAddr> {
        let ejected = self.endpoints.iter().filter(|(_, (since, _))| since.is_some());
        ejected.map(|(&e, _)| e).collect()
    }

    fn fits(&self, candidate: SocketAddr) -> bool {
        let ejected = self.ejected();
        let with = |subset: &&Vec<SocketAddr>| {
            let count = subset
                .iter()
                .filter(|e| **e == candidate || ejected.contains(e))
                .count();
            100 * count <= self.settings.max_ejection_percent as usize * subset.len()
        };
        self.subsets
            .iter()
            .filter(|s| s.contains(&candidate))
            .all(|s| with(&s))
    }

    fn fail(&mut self, candidate: SocketAddr, now: Duration) -> Verdict {
        let fits = self.fits(candidate);
        let Some(&(since, times)) = self.endpoints.get(&candidate) else {
            return Verdict::Unknown;
        };
        if since.is_some() {
            return Verdict::AlreadyEjected;
        }
        if !fits {
            return Verdict::EnoughEjected;
        }
        let grows = self.settings.base_ejection * times < MAX_EJECTION + self.settings.base_ejection;
        let times = times + u32::from(grows);
        self.endpoints.insert(candidate, (Some(now), times));
        Verdict::Ejected(self.lasts(times))
    }

    fn sweep(&mut self, now: Duration) -> Vec<SocketAddr> {
        if now < self.swept + self.settings.interval {
            return Vec::new();
        }
        self.swept = now;
        let over: Vec<_> = self
            .endpoints
            .iter()
            .filter(|(_, (since, times))| since.is_some_and(|since| now - since >= self.lasts(*times)))
            .map(|(&e, _)| e)
            .collect();
        for (address, (since, times)) in &mut self.endpoints {
            match since {
                None => *times = times.saturating_sub(1),
                Some(_) if over.contains(address) => *since = None,
                Some(_) => {}
            }
        }
        over
    }

    fn follow(&mut self, subsets: Vec<Vec<SocketAddr>>) {
        let kept = subsets.iter().flatten();
        self.endpoints = kept
            .map(|&e| (e, self.endpoints.get(&e).copied().unwrap_or_default()))
            .collect();
        self.subsets = subsets;
    }
}

proptest! {
    /// The detector does what the naive reading of the rules does, whatever happens; and no ejection ever makes more
    /// than the policy's share of any subset.
    #[test]
    fn histories_go_as_the_rules_say(percent in 0..=100_u32, base in 1..200_u64, steps in vec(step(), 0..120)) {
        let settings = OutlierDetection {
            max_ejection_percent: percent,
            base_ejection: seconds(base),
            ..SETTINGS
        };
        let mut detector = Detector::new(settings, Duration::ZERO);
        let mut expected = Expected {
            settings,
            subsets: Vec::new(),
            endpoints: BTreeMap::new(),
            swept: Duration::ZERO,
        };
        let mut now = Duration::ZERO;
        for step in [Step::Follow(10, 5)].into_iter().chain(steps) {
            match step {
                Step::Wait(time) => now += seconds(time),
                Step::Sweep => prop_assert_eq!(detector.sweep(now), expected.sweep(now)),
                Step::Fail(number) => {
                    let verdict = detector.failed(endpoint(number), now);
                    prop_assert_eq!(verdict, expected.fail(endpoint(number), now));
                    if let Verdict::Ejected(lasts) = verdict {
                        prop_assert!(expected.fits(endpoint(number)), "too large a share");
                        prop_assert!(lasts >= settings.base_ejection && lasts <= MAX_EJECTION);
                    }
                }
                Step::Follow(low, high) => {
                    let subsets = vec![endpoints(low), (high..12).map(endpoint).collect()];
                    detector.follow(settings, &subsets);
                    expected.follow(subsets);
                }
            }
            let ejected: Vec<_> = detector.ejected().collect();
            prop_assert_eq!(ejected.iter().map(|(e, _)| *e).collect::<Vec<_>>(), expected.ejected());
            prop_assert!(ejected.iter().all(|(_, back)| *back >= detector.next_sweep()));
        }
        // Left alone, everybody comes back.
        let end = now + MAX_EJECTION + 2 * settings.interval;
        sweep_until(&mut detector, end);
        prop_assert_eq!(detector.ejected().count(), 0);
    }
}
