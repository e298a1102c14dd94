//! The window of a measurement: what falls into it is recorded, all else only counted.

use std::{
    collections::BTreeMap,
    path::PathBuf,
    time::{Duration, Instant},
};

use anyhow::Result;
use hdrhistogram::Histogram;

use crate::{
    job::{Job, Latency, Measured},
    usage::Cpu,
};

/// Longest latency that is told apart, in nanoseconds.
const SLOWEST: u64 = 60_000_000_000;
/// Significant digits of a latency.
const DIGITS: u8 = 3;
/// A run with so many failures says all it has to say.
const FAILURES: u64 = 1_000;

/// Records one run.
pub(super) struct Recorder {
    begin: Instant,
    start: Instant,
    end: Instant,
    latency: Histogram<u64>,
    measured: Measured,
    window: Duration,
    cgroups: BTreeMap<String, PathBuf>,
    before: BTreeMap<String, Cpu>,
    opened: Option<Instant>,
    closed: Option<Instant>,
}

impl Recorder {
    /// A window that opens after the warm-up, which begins now.
    pub(super) fn new(job: &Job) -> Result<Self> {
        let begin = Instant::now();
        let start = begin + Duration::from_millis(job.warm_up_ms);
        Ok(Self {
            begin,
            start,
            end: start + Duration::from_millis(job.window_ms),
            window: Duration::from_millis(job.window_ms),
            latency: Histogram::new_with_bounds(1, SLOWEST, DIGITS)?,
            measured: Measured::default(),
            cgroups: job.cgroups.clone(),
            before: BTreeMap::new(),
            opened: None,
            closed: None,
        })
    }

    /// When the warm-up began.
    pub(super) fn begin(&self) -> Instant {
        self.begin
    }

    /// When the window opens.
    pub(super) fn start(&self) -> Instant {
        self.start
    }

    /// When it closes: nothing is sent from then on.
    pub(super) fn end(&self) -> Instant {
        self.end
    }

    /// Opens the window, now: a generator that was kept waiting opens it later, not shorter.
    pub(super) fn open(&mut self) -> Result<()> {
        self.before = self.cpu()?;
        let now = Instant::now();
        self.opened = Some(now);
        self.end = now + self.window;
        Ok(())
    }

    /// Closes it, now.
    pub(super) fn close(&mut self) -> Result<()> {
        let after = self.cpu()?;
        let now = Instant::now();
        self.closed = Some(now);
        let opened = self.opened.unwrap_or(self.start);
        self.measured.seconds = (now - opened).as_secs_f64();
        let used = after.into_iter().map(|(name, cpu)| {
            let before = self.before.get(&name).copied().unwrap_or_default();
            (name, cpu - before)
        });
        self.measured.cpu = used.collect();
        Ok(())
    }

    /// For loops without a timer of their own: opens and closes the window when its time has come; returns false
    /// when it is over.
    pub(super) fn tick(&mut self, now: Instant) -> Result<bool> {
        if self.opened.is_none() && now >= self.start {
            self.open()?;
        }
        if now >= self.end {
            self.close()?;
            return Ok(false);
        }
        Ok(true)
    }

    /// Counts one that succeeded. It belongs to the time `at`.
    pub(super) fn success(&mut self, at: Instant, latency: Duration, bytes: u64) {
        self.measured.sent += 1;
        let is_within =
            self.opened.is_some_and(|opened| at >= opened) && self.closed.is_none_or(|closed| at < closed);
        if !is_within {
            return;
        }
        let nanoseconds = u64::try_from(latency.as_nanos()).unwrap_or(SLOWEST);
        self.latency.saturating_record(nanoseconds.clamp(1, SLOWEST));
        self.measured.completed += 1;
        self.measured.bytes += bytes;
    }

    /// Counts one that failed; returns false when there is no point in going on.
    pub(super) fn failure(&mut self, reason: &str) -> bool {
        self.measured.sent += 1;
        *self.measured.failed.entry(reason.into()).or_default() += 1;
        self.measured.failed.values().sum::<u64>() < FAILURES
    }

    /// What came of it.
    pub(super) fn finish(mut self) -> Measured {
        let at = |quantile| self.latency.value_at_quantile(quantile);
        self.measured.latency = Latency {
            p50: at(0.5),
            p90: at(0.9),
            p99: at(0.99),
            p999: at(0.999),
            max: self.latency.max(),
        };
        self.measured
    }

    fn cpu(&self) -> Result<BTreeMap<String, Cpu>> {
        let named = |(name, path): (&String, &PathBuf)| Ok((name.clone(), Cpu::of(path)?));
        self.cgroups.iter().map(named).collect()
    }
}
