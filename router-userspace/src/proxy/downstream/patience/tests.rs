//! Tests of `patience`: who is slow, who is idle.

use std::time::Duration;

use super::*;
use crate::proxy::connection::{Activity, Part};

fn patience() -> Patience {
    Patience::new(&Limits {
        head_timeout: Duration::from_secs(10),
        downstream_idle: Duration::from_secs(30),
        ..Limits::default()
    })
}

#[test]
fn a_head_that_takes_longer_than_a_look_is_slow() {
    let activity = Activity::default();
    let mut patience = patience();
    activity.receives(Part::Head);
    assert_eq!(patience.look(activity.look()), Judgement::Fine);
    activity.receives(Part::Head);
    assert_eq!(patience.look(activity.look()), Judgement::Slow);
}

#[test]
fn a_request_ends_the_wait_for_its_head() {
    let activity = Activity::default();
    let mut patience = patience();
    activity.receives(Part::Head);
    assert_eq!(patience.look(activity.look()), Judgement::Fine);
    activity.request_begins();
    for _ in 0..10 {
        // Its body and its response may take any time.
        activity.receives(Part::Body);
        assert_eq!(patience.look(activity.look()), Judgement::Fine);
    }
    activity.request_ends();
    activity.receives(Part::Head);
    assert_eq!(patience.look(activity.look()), Judgement::Fine);
}

#[test]
fn the_rest_of_a_request_that_has_its_answer_is_no_head() {
    let activity = Activity::default();
    let mut patience = patience();
    activity.receives(Part::Body);
    activity.request_begins();
    activity.request_ends();
    activity.receives(Part::Body);
    assert!(activity.is_unfinished());
    patience.look(activity.look());
    activity.receives(Part::End);
    assert!(!activity.is_unfinished());
    let judged: Vec<_> = (0..2).map(|_| patience.look(activity.look())).collect();
    assert_eq!(judged, [Judgement::Fine, Judgement::Fine]);
}

#[test]
fn silence_is_idle_after_its_time() {
    let activity = Activity::default();
    let mut patience = patience();
    activity.request_begins();
    activity.request_ends();
    let judged: Vec<_> = (0..4).map(|_| patience.look(activity.look())).collect();
    assert_eq!(
        judged,
        [Judgement::Fine, Judgement::Fine, Judgement::Fine, Judgement::Idle]
    );
}

#[test]
fn a_refused_connection_that_its_client_keeps_open_is_over() {
    let activity = Activity::default();
    let mut patience = patience();
    activity.receives(Part::Head);
    activity.request_begins();
    activity.refuse();
    assert_eq!(patience.look(activity.look()), Judgement::Fine);
    activity.request_ends();
    assert_eq!(patience.look(activity.look()), Judgement::Fine);
    assert_eq!(patience.look(activity.look()), Judgement::Over);
}

#[test]
fn what_comes_whole_on_an_http2_connection_is_not_slow() {
    let activity = Activity::default();
    let mut patience = patience();
    for (rest, judged) in [
        (false, Judgement::Fine),
        (true, Judgement::Fine),
        (true, Judgement::Slow),
    ] {
        activity.awaits_rest(rest);
        assert_eq!(patience.look(activity.look()), judged);
    }
}
