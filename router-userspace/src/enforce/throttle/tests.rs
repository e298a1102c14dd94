//! The throttle on a clock that the tests turn.

use proptest::prelude::*;

use super::*;

fn shape(to_client: u64, to_endpoint: u64) -> Shape {
    Shape {
        to_client: NonZeroU64::new(to_client),
        to_endpoint: NonZeroU64::new(to_endpoint),
        start: Start::AT_ONCE,
        duration: None,
    }
}

const fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// Sends as much as it may from `from` to `until`, at most `most` bytes at a time, and says how much that was.
fn pump(
    throttle: &mut Throttle,
    direction: Direction,
    (from, until): (Duration, Duration),
    most: usize,
) -> u64 {
    let (mut now, mut sent) = (from, 0);
    while now < until {
        match throttle.allowance(direction, now) {
            Allowance::Bytes(usize::MAX) => panic!("there is no limit at {now:?}"),
            Allowance::Bytes(bytes) => {
                assert!(bytes > 0);
                throttle.passed(direction, bytes.min(most), now);
                sent += bytes.min(most) as u64;
            }
            Allowance::Wait(wait) => {
                assert!(wait > Duration::ZERO);
                now += wait;
            }
        }
    }
    sent
}

use Direction::{ToClient, ToEndpoint};
const UNLIMITED: Allowance = Allowance::Bytes(usize::MAX);

#[test]
fn limits_are_kept_exactly_each_its_own() {
    let mut throttle = Throttle::new(&shape(8_000_000, 80_000));
    // 1 MB and 10 kB a second, and what a tenth of a second earns at once. The last portion is still on its way.
    let window = (Duration::ZERO, ms(10_000));
    let sent = pump(&mut throttle, ToClient, window, usize::MAX);
    assert_eq!(sent, 9_990_000 + 100_000);
    let sent = pump(&mut throttle, ToEndpoint, window, usize::MAX);
    assert_eq!(sent, 99_900 + 1_000);
}

#[test]
fn the_slowest_limit_lets_a_byte_through_now_and_then() {
    let mut throttle = Throttle::new(&shape(1, 0));
    assert_eq!(throttle.allowance(ToClient, Duration::ZERO), Allowance::Bytes(1));
    throttle.passed(ToClient, 1, Duration::ZERO);
    assert_eq!(throttle.allowance(ToClient, ms(1000)), Allowance::Wait(ms(7000)));
    assert_eq!(throttle.allowance(ToClient, ms(8000)), Allowance::Bytes(1));
    assert_eq!(throttle.allowance(ToEndpoint, ms(1)), UNLIMITED);
}

#[test]
fn a_pause_saves_up_no_more_than_a_burst() {
    let mut throttle = Throttle::new(&shape(8_000_000, 0));
    pump(&mut throttle, ToClient, (Duration::ZERO, ms(10)), usize::MAX);
    assert_eq!(
        throttle.allowance(ToClient, ms(3_600_000)),
        Allowance::Bytes(100_000)
    );
}

#[test]
fn it_begins_and_ends_by_the_clock() {
    let mut throttle = Throttle::new(&Shape {
        start: Start::After(ms(500)),
        duration: Some(ms(1000)),
        ..shape(8000, 0)
    });
    assert_eq!(throttle.allowance(ToClient, ms(499)), UNLIMITED);
    throttle.passed(ToClient, 1_000_000, ms(499));
    // A kilobyte a second: what went before does not count.
    assert_eq!(throttle.allowance(ToClient, ms(500)), Allowance::Bytes(100));
    throttle.passed(ToClient, 100, ms(500));
    assert_eq!(throttle.allowance(ToClient, ms(500)), Allowance::Wait(ms(10)));
    assert_eq!(throttle.allowance(ToClient, ms(1499)), Allowance::Bytes(100));
    throttle.passed(ToClient, 100, ms(1499));
    // Nobody waits beyond the end.
    assert_eq!(throttle.allowance(ToClient, ms(1499)), Allowance::Wait(ms(1)));
    assert_eq!(throttle.allowance(ToClient, ms(1500)), UNLIMITED);
}

#[test]
fn it_begins_when_enough_has_gone_to_the_endpoint() {
    let mut throttle = Throttle::new(&Shape {
        start: Start::AfterBytes(1000),
        duration: Some(ms(2000)),
        ..shape(8000, 8000)
    });
    throttle.passed(ToClient, 5000, ms(1));
    assert_eq!(throttle.allowance(ToClient, ms(1)), UNLIMITED);
    assert_eq!(throttle.allowance(ToEndpoint, ms(1)), Allowance::Bytes(1000));
    throttle.passed(ToEndpoint, 999, ms(2));
    assert_eq!(throttle.allowance(ToClient, ms(2)), UNLIMITED);
    assert_eq!(throttle.allowance(ToEndpoint, ms(2)), Allowance::Bytes(1));
    throttle.passed(ToEndpoint, 1, ms(700));
    for direction in [ToClient, ToEndpoint] {
        assert_eq!(throttle.allowance(direction, ms(700)), Allowance::Bytes(100));
    }
    // Its time runs from there.
    assert_ne!(throttle.allowance(ToClient, ms(2699)), UNLIMITED);
    assert_eq!(throttle.allowance(ToClient, ms(2700)), UNLIMITED);
}

#[test]
fn no_bytes_to_wait_for_is_at_once() {
    let mut throttle = Throttle::new(&Shape {
        start: Start::AfterBytes(0),
        ..shape(8000, 0)
    });
    assert_eq!(throttle.allowance(ToClient, ms(3)), Allowance::Bytes(100));
}

proptest! {
    /// Never more than the limit and a burst, whatever the portions; and nearly that much when nobody holds back.
    #[test]
    fn what_goes_is_what_the_limit_says(limit in 8_u64..100_000_000_000, most in 1_usize..1_000_000, millis in 200_u64..2000) {
        let mut throttle = Throttle::new(&shape(limit, 0));
        // A small portion of a fast limit would take too many rounds.
        let most = most.max((limit / 8 / 1000) as usize);
        let sent = pump(&mut throttle, ToClient, (Duration::ZERO, ms(millis)), most);
        let earned = |millis: u64| u128::from(limit) * u128::from(millis) / 8000;
        prop_assert!(u128::from(sent) <= (earned(millis + 100) + 1).max(1 + earned(millis)), "{sent}");
        // Two portions may be on their way.
        prop_assert!(u128::from(sent) + 2 >= earned(millis.saturating_sub(20)), "{sent}");
    }

    #[test]
    fn extreme_numbers_do_no_harm(limit in any::<u64>(), at in any::<u64>(), bytes in any::<usize>()) {
        let mut throttle = Throttle::new(&Shape { start: Start::AfterBytes(at), ..shape(limit, limit) });
        for now in [Duration::ZERO, Duration::from_nanos(at), Duration::MAX] {
            for direction in [ToClient, ToEndpoint] {
                throttle.allowance(direction, now);
                throttle.passed(direction, bytes, now);
            }
        }
    }
}
