//! Durations, percentages and statuses as text: read within their bounds, or refused.

use router_rules::{
    action::Fraction,
    duration::{self, MAX, MIN},
    status::{GrpcStatus, Http2Error},
};

pub const WORDS: &[&str] = &[
    "ns",
    "us",
    "µs",
    "ms",
    "s",
    "m",
    "h",
    ".",
    "-",
    "+",
    "0",
    "1",
    "9",
    "e",
    "E9",
    "inf",
    "nan",
    "168h",
    "1.5s",
    "999999999999",
    "UNAVAILABLE",
    "CANCEL",
    "REFUSED_STREAM",
    "100",
    "0.0001",
    " ",
    "\u{661}",
];

pub fn check(input: &[u8]) -> u64 {
    let text = String::from_utf8_lossy(input);
    let mut mark = 1;
    if let Ok(duration) = duration::from_text(&text) {
        assert!((MIN..=MAX).contains(&duration), "{text:?} is {duration:?}");
        let again = duration::from_text(&format!("{}ns", duration.as_nanos()));
        assert_eq!(again, Ok(duration), "{text:?}");
        mark |= 2;
    }
    if let Ok(number) = text.parse::<f64>() {
        if let Ok(duration) = duration::from_seconds(number) {
            assert!(
                (MIN..=MAX).contains(&duration),
                "{number} seconds are {duration:?}"
            );
            mark |= 4;
        }
        if let Some(fraction) = Fraction::from_percent(number) {
            assert!((0.0..=100.0).contains(&number), "{number} % was taken");
            assert!(
                (fraction.percent() - number).abs() < 0.001,
                "{number} % became {}",
                fraction.percent()
            );
            assert!(number > 0.0 || !fraction.takes(0), "0 % took something");
            assert!(
                number < 100.0 || fraction.takes(u64::MAX),
                "100 % left something out"
            );
            mark |= 8;
        }
    }
    if let Some(status) = GrpcStatus::parse(&text) {
        assert_eq!(GrpcStatus::parse(status.name()), Some(status));
        mark |= 16 << (status.number() % 17);
    }
    if let Some(code) = Http2Error::parse(&text) {
        assert_eq!(Http2Error::parse(code.name()), Some(code));
        mark |= 1 << (40 + code.number() % 14);
    }
    mark
}
