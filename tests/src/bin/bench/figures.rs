//! From rounds to figures: what is quoted is the median over the rounds, and ratios are taken within a round.

use serde::Serialize;

use crate::{
    job::Measured,
    run::Outcome,
    stage::{CLIENT, SERVER, SYSTEM},
    system::{Size, System},
    usage::Cpu,
};

/// Medians of an outcome.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Figures {
    /// Requests, connections or round trips per second.
    pub(crate) per_second: f64,
    /// Bytes per second.
    pub(crate) bytes_per_second: f64,
    /// Latency in microseconds: p50, p90, p99, p99.9.
    pub(crate) latency_us: [f64; 4],
    /// Processor microseconds (that is, seconds per million) of the system for each of them.
    pub(crate) system_us: f64,
    /// Of the system, the client and the servers together.
    pub(crate) total_us: f64,
}

/// Values of one round.
pub(crate) type Value = fn(&Measured) -> f64;

impl Figures {
    pub(crate) fn of(outcome: &Outcome) -> Self {
        let over = |value: Value| median(outcome.rounds.iter().map(value).collect());
        Self {
            per_second: over(per_second),
            bytes_per_second: over(bytes_per_second),
            latency_us: [over(p50), over(p90), over(p99), over(p999)],
            system_us: over(system_us),
            total_us: over(total_us),
        }
    }
}

pub(crate) fn per_second(round: &Measured) -> f64 {
    number(round.completed) / round.seconds
}

pub(crate) fn bytes_per_second(round: &Measured) -> f64 {
    number(round.bytes) / round.seconds
}

pub(crate) fn p50(round: &Measured) -> f64 {
    number(round.latency.p50) / 1e3
}

pub(crate) fn p90(round: &Measured) -> f64 {
    number(round.latency.p90) / 1e3
}

pub(crate) fn p99(round: &Measured) -> f64 {
    number(round.latency.p99) / 1e3
}

pub(crate) fn p999(round: &Measured) -> f64 {
    number(round.latency.p999) / 1e3
}

/// Processor microseconds of the system for each completion.
pub(crate) fn system_us(round: &Measured) -> f64 {
    each(round, cpu(round, |name| name == SYSTEM))
}

/// Processor microseconds of all that took part.
pub(crate) fn total_us(round: &Measured) -> f64 {
    each(
        round,
        cpu(round, |name| {
            name == SYSTEM || name == CLIENT || name.starts_with(SERVER)
        }),
    )
}

/// Completions per processor second of the system.
pub(crate) fn per_cpu_second(round: &Measured) -> f64 {
    1e6 / system_us(round)
}

/// Bytes per processor second of the system.
pub(crate) fn bytes_per_cpu_second(round: &Measured) -> f64 {
    number(round.bytes) / cpu(round, |name| name == SYSTEM).seconds()
}

fn cpu(round: &Measured, wanted: impl Fn(&str) -> bool) -> Cpu {
    let named = round.cpu.iter().filter(|(name, _)| wanted(name));
    named.fold(Cpu::default(), |sum, (_, cpu)| sum + *cpu)
}

fn each(round: &Measured, cpu: Cpu) -> f64 {
    cpu.seconds() * 1e6 / number(round.completed)
}

#[expect(
    clippy::cast_precision_loss,
    reason = "counts of a benchmark stay far below 2^52"
)]
pub(crate) fn number(count: u64) -> f64 {
    count as f64
}

/// The value in the middle; the mean of two.
pub(crate) fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() {
        0 => f64::NAN,
        length if length % 2 == 1 => values[middle],
        _ => f64::midpoint(values[middle - 1], values[middle]),
    }
}

/// Outcomes by case, system and size.
pub(crate) struct Results<'a>(pub(crate) &'a [Outcome]);

impl Results<'_> {
    /// The outcome of a case for a system at a size.
    pub(crate) fn find(&self, case: &str, system: System, size: Size) -> Option<&Outcome> {
        let mut outcomes = self.0.iter();
        outcomes
            .find(|o| o.case == case && o.lane.system == system && o.lane.size == size && o.faults.is_empty())
    }

    /// Median over the rounds of one system's value against another's.
    pub(crate) fn ratio(
        &self,
        case: &str,
        of: (System, Size),
        to: (System, Size),
        value: Value,
    ) -> Option<f64> {
        self.compared(case, of, to, |of, to| value(of) / value(to))
    }

    /// Median over the rounds of what one system's value has beyond another's.
    pub(crate) fn difference(
        &self,
        case: &str,
        of: (System, Size),
        to: (System, Size),
        value: Value,
    ) -> Option<f64> {
        self.compared(case, of, to, |of, to| value(of) - value(to))
    }

    fn compared(
        &self,
        case: &str,
        of: (System, Size),
        to: (System, Size),
        compare: impl Fn(&Measured, &Measured) -> f64,
    ) -> Option<f64> {
        let of = self.find(case, of.0, of.1)?;
        let to = self.find(case, to.0, to.1)?;
        let rounds = of.rounds.iter().zip(&to.rounds);
        let compared = median(rounds.map(|(of, to)| compare(of, to)).collect());
        compared.is_finite().then_some(compared)
    }
}
