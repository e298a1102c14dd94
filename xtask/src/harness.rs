//! Runs test binaries and counts what they report.
//!
//! It understands the closing line of Rust's test harness (`test result: …`), which libtest-mimic prints too, and
//! nothing else of their output.

use std::{
    io::{BufRead, BufReader, Read},
    ops::AddAssign,
    process::{Command, Stdio},
    sync::mpsc::{self, RecvTimeoutError},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};

use crate::workspace;

/// Tests by outcome.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Counts {
    pub(crate) passed: u64,
    pub(crate) failed: u64,
    pub(crate) skipped: u64,
}

impl AddAssign for Counts {
    fn add_assign(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.skipped += other.skipped;
    }
}

/// Adds up the closing lines of the harnesses in a stream of output.
#[derive(Default)]
pub(crate) struct Counter(Counts);

impl Counter {
    /// Takes one line of output.
    pub(crate) fn read(&mut self, line: &str) {
        let line = without_colour(line);
        let Some(result) = line.trim_start().strip_prefix("test result:") else {
            return;
        };
        self.0 += Counts {
            passed: number_before(result, " passed"),
            failed: number_before(result, " failed"),
            skipped: number_before(result, " ignored"),
        };
    }

    /// The sum. A process that failed without naming a failed test (it did not compile, it was killed) is one failure.
    pub(crate) fn finish(self, success: bool) -> Counts {
        let mut counts = self.0;
        if !success && counts.failed == 0 {
            counts.failed = 1;
        }
        counts
    }
}

/// Lines of a process that nobody has read yet.
const UNREAD_LINES: usize = 1024;

/// Runs `command` to its end, shows its output as it comes, and counts.
pub(crate) fn run(command: &mut Command, limit: Duration) -> Result<Counts> {
    let name = workspace::shown(command);
    let mut counter = Counter::default();
    let success = follow(command, limit, |line| {
        println!("{line}");
        counter.read(line);
    });
    Ok(counter.finish(success.with_context(|| name)?))
}

/// Runs `command` to its end and hands over each line of its standard output; returns whether it ended well.
///
/// # Errors
///
/// It does not start, or it is not done after `limit`; then it is killed.
pub(crate) fn follow(command: &mut Command, limit: Duration, mut take: impl FnMut(&str)) -> Result<bool> {
    let deadline = Instant::now() + limit;
    let started = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn();
    let mut child = started.with_context(|| format!("cannot start {}", command.get_program().display()))?;
    let lines = lines_of(child.stdout.take().context("no standard output")?);
    loop {
        match lines.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
            Ok(line) => take(&line),
            Err(RecvTimeoutError::Disconnected) => return Ok(child.wait()?.success()),
            Err(RecvTimeoutError::Timeout) => {
                child.kill()?;
                child.wait()?;
                bail!("not done after {} s, stopped", limit.as_secs());
            }
        }
    }
}

/// Lines as they come. Bytes that are not UTF-8 are replaced, the carriage returns of serial consoles dropped.
fn lines_of(output: impl Read + Send + 'static) -> mpsc::Receiver<String> {
    let (sender, receiver) = mpsc::sync_channel(UNREAD_LINES);
    std::thread::spawn(move || {
        for line in BufReader::new(output).split(b'\n').map_while(Result::ok) {
            if sender
                .send(String::from_utf8_lossy(&line).replace('\r', ""))
                .is_err()
            {
                return;
            }
        }
    });
    receiver
}

/// The last number in front of `word`; 0 where there is none.
fn number_before(text: &str, word: &str) -> u64 {
    text.find(word)
        .map(|end| &text[..end])
        .and_then(|front| front.rsplit(|c: char| !c.is_ascii_digit()).next())
        .and_then(|digits| digits.parse().ok())
        .unwrap_or(0)
}

/// `line` without the escape sequences of terminals (`ESC [ … letter`, `ESC ( B`).
fn without_colour(line: &str) -> String {
    let mut plain = String::with_capacity(line.len());
    let mut rest = line.chars();
    while let Some(c) = rest.next() {
        if c != '\u{1b}' {
            plain.push(c);
        } else if rest.next() == Some('(') {
            rest.next();
        } else {
            rest.by_ref().find(char::is_ascii_alphabetic);
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn closing_lines_are_added_up() {
        let mut counter = Counter::default();
        counter.read("test a::b ... ok");
        counter.read(
            "test result: ok. 12 passed; 0 failed; 1 ignored; 0 measured; 3 filtered out; finished in 0.01s",
        );
        counter
            .read("test result: \u{1b}[31mFAILED\u{1b}(B\u{1b}[m. 2 passed; 1 failed; 0 ignored; 0 measured");
        assert_eq!(
            counter.finish(false),
            Counts {
                passed: 14,
                failed: 1,
                skipped: 1
            }
        );
    }

    #[test]
    fn a_crash_is_a_failure() {
        assert_eq!(Counter::default().finish(false).failed, 1);
        assert_eq!(Counter::default().finish(true), Counts::default());
    }
}
