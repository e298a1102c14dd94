//! Tests of `breaker`: limits, the budget, and the order of those that wait.

use std::{
    sync::atomic::{AtomicBool, AtomicUsize},
    thread,
    time::{Duration, Instant},
};

use futures_util::FutureExt as _;

use super::*;

fn breaker() -> Arc<Breaker> {
    Arc::default()
}

#[test]
fn a_limit_is_exact_however_many_ask_at_once() {
    let breaker = breaker();
    let (inside, peak) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let served = AtomicUsize::new(0);
    thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                for _ in 0..5_000 {
                    let Some(place) = breaker.begin(Some(3)) else {
                        continue;
                    };
                    let now = inside.fetch_add(1, Relaxed) + 1;
                    peak.fetch_max(now, Relaxed);
                    served.fetch_add(1, Relaxed);
                    inside.fetch_sub(1, Relaxed);
                    drop(place);
                }
            });
        }
    });
    assert!(peak.load(Relaxed) <= 3 && served.load(Relaxed) > 0);
    assert_eq!(breaker.usage(), RequestUse::default());
}

#[test]
fn what_is_refused_is_counted() {
    let breaker = breaker();
    let held = breaker.retry(1);
    assert!(held.is_some() && breaker.retry(1).is_none());
    let waiting = breaker.line_up(1);
    assert!(waiting.is_some() && breaker.line_up(1).is_none() && breaker.line_up(0).is_none());
    let usage = breaker.usage();
    assert_eq!((usage.retries, usage.refused_retries), (1, 1));
    assert_eq!((usage.pending, usage.refused_pending), (1, 2));
    drop((held, waiting));
    assert_eq!((breaker.usage().retries, breaker.usage().pending), (0, 0));
}

#[test]
fn a_budget_is_a_share_of_what_is_under_way_and_never_below_its_minimum() {
    let retries = |requests: usize| {
        let budget = Arc::new(RetryBudget::default());
        let requests: Vec<_> = (0..requests).map(|_| budget.begin()).collect();
        let retries: Vec<_> = requests.iter().map_while(Budgeted::retry).collect();
        retries.len()
    };
    assert_eq!([1, 2, 3, 15].map(retries), [1, 2, 3, 3]);
    assert_eq!([20, 100, 1_000].map(retries), [4, 20, 200]);
}

#[test]
fn places_of_a_budget_are_given_back() {
    let budget = Arc::new(RetryBudget::default());
    let request = budget.begin();
    for _ in 0..10 {
        let retries: Vec<_> = std::iter::repeat_with(|| request.retry()).take(4).collect();
        assert_eq!(retries.iter().flatten().count(), BUDGET_MIN as usize);
    }
}

#[test]
fn counts_outlive_a_snapshot_without_the_policy_while_anything_is_under_way() {
    let breakers = Breakers::default();
    let name: Arc<str> = "destination-policy a".into();
    let place = breakers.of(&name).begin(Some(1));
    let empty = Snapshot::default();
    breakers.forget_absent(&empty);
    assert_eq!(breakers.usage(&name).map(|usage| usage.active), Some(1));
    assert!(breakers.of(&name).begin(Some(1)).is_none());
    drop(place);
    breakers.forget_absent(&empty);
    assert_eq!(breakers.usage(&name), None);
}

/// True when the future is ready at once.
fn is_ready(future: impl Future<Output = ()>) -> bool {
    future.now_or_never().is_some()
}

#[test]
fn turns_come_in_the_order_of_arrival() {
    let breaker = breaker();
    let [a, b, c] = [(); 3].map(|()| breaker.line_up(3).unwrap());
    assert!(is_ready(a.first()) && !is_ready(b.first()) && !is_ready(c.first()));
    // One in the middle gives up: nobody overtakes.
    drop(b);
    assert!(!is_ready(c.first()));
    drop(a);
    assert!(is_ready(c.first()) && breaker.is_waited_for());
    drop(c);
    assert!(!breaker.is_waited_for());
}

#[tokio::test]
async fn whoever_is_next_wakes_when_the_first_leaves() {
    let breaker = breaker();
    let [a, b] = [(); 2].map(|()| breaker.line_up(2).unwrap());
    let waiting = tokio::spawn(async move { b.first().await });
    tokio::task::yield_now().await;
    drop(a);
    waiting.await.unwrap();
    assert!(!breaker.is_waited_for());
}

#[tokio::test]
async fn what_was_vacated_before_the_first_looked_is_not_lost() {
    let breaker = breaker();
    let turn = breaker.line_up(1).unwrap();
    assert!(!is_ready(turn.vacancy(|| true)));
    breaker.vacated();
    assert!(is_ready(turn.vacancy(|| false)));
    let place = breaker.begin(Some(1)).unwrap();
    assert!(!is_ready(turn.vacancy(|| false)));
    drop(place);
    assert!(is_ready(turn.vacancy(|| false)));
}

#[tokio::test]
async fn room_that_nobody_speaks_of_is_found() {
    let breaker = breaker();
    let turn = breaker.line_up(1).unwrap();
    let room = AtomicBool::new(false);
    let begun = Instant::now();
    turn.vacancy(|| room.swap(true, Relaxed)).await;
    assert!(begun.elapsed() >= Duration::from_millis(20), "two looks");
}
