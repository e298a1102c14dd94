//! Times and sizes on the command line: `500ms`, `10s`, `1h`; `4096`, `60KiB`, `1MiB`.
//!
//! It knows no flag.

use std::time::Duration;

/// Units of time in milliseconds, longest names first where one ends like another.
const TIMES: [(&str, u64); 4] = [("ms", 1), ("s", 1000), ("m", 60_000), ("h", 3_600_000)];

/// Units of size in bytes.
const SIZES: [(&str, usize); 3] = [("KiB", 1 << 10), ("MiB", 1 << 20), ("B", 1)];

/// Reads a time.
pub(super) fn time(text: &str) -> Result<Duration, String> {
    let wrong = || "a time has a unit: 500ms, 10s, 5m, 1h".to_owned();
    if text == "0" {
        return Ok(Duration::ZERO);
    }
    TIMES
        .iter()
        .find_map(|(unit, milliseconds)| {
            let number: u64 = text.strip_suffix(unit)?.parse().ok()?;
            number.checked_mul(*milliseconds)
        })
        .map(Duration::from_millis)
        .ok_or_else(wrong)
}

/// Reads a size.
pub(super) fn size(text: &str) -> Result<usize, String> {
    let wrong = || "a size is a number of bytes, or has a unit: 4096, 60KiB, 1MiB".to_owned();
    let with_unit = SIZES.iter().find_map(|(unit, bytes)| {
        let number: usize = text.strip_suffix(unit)?.parse().ok()?;
        number.checked_mul(*bytes)
    });
    with_unit.or_else(|| text.parse().ok()).ok_or_else(wrong)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_units() {
        for (text, milliseconds) in [
            ("500ms", 500),
            ("10s", 10_000),
            ("5m", 300_000),
            ("1h", 3_600_000),
            ("0", 0),
        ] {
            assert_eq!(time(text), Ok(Duration::from_millis(milliseconds)), "{text}");
        }
        for text in [
            "",
            "10",
            "s",
            "-1s",
            "1.5s",
            "10 s",
            "99999999999999999999s",
            "18446744073709551615h",
        ] {
            assert!(time(text).is_err(), "{text}");
        }
    }

    #[test]
    fn sizes_may_have_units() {
        for (text, bytes) in [("4096", 4096), ("60KiB", 61_440), ("1MiB", 1 << 20), ("7B", 7)] {
            assert_eq!(size(text), Ok(bytes), "{text}");
        }
        for text in [
            "",
            "KiB",
            "-1",
            "1kb",
            "1.5MiB",
            "99999999999999999999",
            "18446744073709551615MiB",
        ] {
            assert!(size(text).is_err(), "{text}");
        }
    }
}
