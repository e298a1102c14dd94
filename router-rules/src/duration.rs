//! Durations in both spellings: text in the syntax of Go, and numbers of seconds.

use std::time::Duration;

/// Longest duration that a rule may ask for: a week.
pub const MAX: Duration = Duration::from_secs(7 * 24 * 3600);

/// Shortest one: what the 0.1 validator took.
pub const MIN: Duration = Duration::from_millis(1);

/// Why something is no duration for a rule.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum DurationFault {
    /// Not in the syntax.
    #[error("`{0}` is no duration")]
    Syntax(String),
    /// Below [`MIN`]; zero and negative ones too.
    #[error("`{0}` is shorter than 1ms")]
    TooShort(String),
    /// Above [`MAX`].
    #[error("`{0}` is longer than a week")]
    TooLong(String),
}

/// Units of Go's `time.ParseDuration` with their seconds, longer names first.
const UNITS: [(&str, f64); 8] = [
    ("ns", 1e-9),
    ("us", 1e-6),
    ("µs", 1e-6),
    ("μs", 1e-6),
    ("ms", 1e-3),
    ("s", 1.0),
    ("m", 60.0),
    ("h", 3600.0),
];

/// Parses `10s`, `1.5s`, `1h30m`, `15500ms`.
///
/// # Errors
///
/// It is not in the syntax, or out of range.
pub fn from_text(text: &str) -> Result<Duration, DurationFault> {
    within(seconds_of(text)?, text)
}

/// As [`from_text`], but zero is taken too.
///
/// # Errors
///
/// It is not in the syntax, or out of range.
pub fn from_text_or_zero(text: &str) -> Result<Duration, DurationFault> {
    zero_or_within(seconds_of(text)?, text)
}

fn seconds_of(text: &str) -> Result<f64, DurationFault> {
    let syntax = || DurationFault::Syntax(text.to_owned());
    let (negative, mut rest) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    if rest.is_empty() {
        return Err(syntax());
    }
    let mut seconds = 0.0;
    while !rest.is_empty() {
        // Go takes a lone "0" without a unit.
        if rest == "0" && seconds == 0.0 {
            break;
        }
        let digits = rest
            .find(|c: char| !c.is_ascii_digit() && c != '.')
            .ok_or_else(syntax)?;
        let number: f64 = rest[..digits].parse().map_err(|_| syntax())?;
        rest = &rest[digits..];
        let (unit, scale) = *UNITS
            .iter()
            .find(|(unit, _)| rest.starts_with(unit))
            .ok_or_else(syntax)?;
        seconds += number * scale;
        rest = &rest[unit.len()..];
    }
    Ok(if negative { -seconds } else { seconds })
}

/// From a number of seconds.
///
/// # Errors
///
/// It is not a number, or out of range.
pub fn from_seconds(seconds: f64) -> Result<Duration, DurationFault> {
    within(seconds, &seconds.to_string())
}

/// As [`from_seconds`], but zero is taken too.
///
/// # Errors
///
/// It is not a number, or out of range.
pub fn from_seconds_or_zero(seconds: f64) -> Result<Duration, DurationFault> {
    zero_or_within(seconds, &seconds.to_string())
}

fn zero_or_within(seconds: f64, written: &str) -> Result<Duration, DurationFault> {
    if seconds == 0.0 {
        return Ok(Duration::ZERO);
    }
    within(seconds, written)
}

fn within(seconds: f64, written: &str) -> Result<Duration, DurationFault> {
    if seconds.is_nan() {
        return Err(DurationFault::Syntax(written.to_owned()));
    }
    if seconds > MAX.as_secs_f64() {
        return Err(DurationFault::TooLong(written.to_owned()));
    }
    // To whole microseconds, which hides that 0.3 and the like are not exact in binary.
    let rounded = Duration::try_from_secs_f64(seconds)
        .map(|d| Duration::from_micros(u64::try_from((d.as_nanos() + 500) / 1000).unwrap_or(u64::MAX)));
    rounded
        .ok()
        .filter(|&duration| duration >= MIN)
        .ok_or_else(|| DurationFault::TooShort(written.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn go_syntax() {
        for (text, millis) in [
            ("10s", 10_000),
            ("1.5s", 1500),
            ("1h30m", 5_400_000),
            ("15500ms", 15_500),
            ("+2s", 2000),
            ("0.3s", 300),
            ("1m.5s", 60_500),
            ("2000us", 2),
            ("1000000ns", 1),
        ] {
            assert_eq!(from_text(text), Ok(Duration::from_millis(millis)), "{text}");
        }
    }

    #[test]
    fn refusals() {
        for text in [
            "",
            "10",
            "s",
            "10x",
            "1.2.3s",
            "-",
            "ten seconds",
            "10 s",
            "1s 2s",
        ] {
            assert!(matches!(from_text(text), Err(DurationFault::Syntax(_))), "{text}");
        }
        for text in ["0", "0s", "-1s", "999us"] {
            assert!(
                matches!(from_text(text), Err(DurationFault::TooShort(_))),
                "{text}"
            );
        }
        assert!(matches!(from_text("9999999h"), Err(DurationFault::TooLong(_))));
        assert!(matches!(
            from_text(&"9".repeat(400)),
            Err(DurationFault::Syntax(_))
        ));
        assert!(from_seconds(f64::NAN).is_err() && from_seconds(0.0).is_err() && from_seconds(-1.0).is_err());
        assert_eq!(from_text_or_zero("0s"), Ok(Duration::ZERO));
        assert_eq!(from_seconds_or_zero(0.0), Ok(Duration::ZERO));
        assert!(from_text_or_zero("1us").is_err() && from_text_or_zero("-1s").is_err());
        assert_eq!(from_seconds(0.25), Ok(Duration::from_millis(250)));
    }
}
