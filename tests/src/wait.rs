//! Waiting for a condition with a deadline. Tests never sleep for a fixed time.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};

/// Pause between two looks at a condition.
const PAUSE: Duration = Duration::from_millis(5);

/// Waits until `look` returns a value, for at most `deadline`.
///
/// # Errors
///
/// The deadline passed; the message names `what`.
pub fn until<T>(what: &str, deadline: Duration, mut look: impl FnMut() -> Option<T>) -> Result<T> {
    let start = Instant::now();
    loop {
        if let Some(value) = look() {
            return Ok(value);
        }
        if start.elapsed() > deadline {
            bail!("waited {deadline:?} in vain for {what}");
        }
        // waits: until the next look at the condition.
        std::thread::sleep(PAUSE);
    }
}
