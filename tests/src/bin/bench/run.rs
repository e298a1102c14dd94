//! Runs cases: starts the systems that they need, measures them in turn, checks what was served.
//!
//! One round measures every lane once; rounds follow each other, so what the machine does besides hits all alike.

use std::{path::Path, time::Duration};

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};

use crate::{
    cases::{Case, Lanes, Work},
    job::{Job, Measured, Served, Until},
    stage::{Generator, Stage},
    system::{Lane, Programs, Running, System, WEIGHTS},
};

/// Share of the versions may differ so much from the weights: systems that pick by chance.
const SHARE_TOLERANCE: f64 = 0.03;
/// Requests from which on the shares are looked at.
const SHARE_REQUESTS: u64 = 5_000;
/// A system is left alone for so long before its idle memory is taken.
pub(crate) const SETTLE: Duration = Duration::from_millis(300);

/// How long and how often.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct Effort {
    pub(crate) rounds: usize,
    pub(crate) warm_up_ms: u64,
    pub(crate) window_ms: u64,
}

/// What came of a case in one lane.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Outcome {
    pub(crate) case: String,
    pub(crate) lane: Lane,
    /// One for each round.
    pub(crate) rounds: Vec<Measured>,
    /// Resident memory of the system before any load, in KiB.
    pub(crate) idle_kib: u64,
    /// And in the middle of the last window.
    pub(crate) loaded_kib: u64,
    /// What does not add up; empty when all does.
    pub(crate) faults: Vec<String>,
}

/// Runs the cases; systems that several of them share are started once.
pub(crate) fn cases(
    cases: &[Case],
    systems: &[System],
    programs: &Programs,
    effort: Effort,
) -> Result<Vec<Outcome>> {
    let mut outcomes = Vec::new();
    let mut rest = cases;
    while let Some(first) = rest.first() {
        let length = rest.iter().take_while(|case| case.lanes == first.lanes).count();
        let (group, later) = rest.split_at(length);
        outcomes.extend(run_group(group, systems, programs, effort)?);
        rest = later;
    }
    Ok(outcomes)
}

/// Cases with the same lanes.
fn run_group(
    cases: &[Case],
    systems: &[System],
    programs: &Programs,
    effort: Effort,
) -> Result<Vec<Outcome>> {
    let mut lanes: Vec<Lane> = cases.iter().flat_map(|case| case.lanes(systems)).collect();
    lanes.sort_unstable();
    lanes.dedup();
    let mut stages = Vec::new();
    for _ in &lanes {
        stages.push(Stage::new()?);
    }
    let mut stands = Vec::new();
    for (&lane, stage) in lanes.iter().zip(&stages) {
        stands.push(Stand::new(lane, stage, programs)?);
    }
    let mut outcomes = Vec::new();
    for case in cases {
        let wanted = case.lanes(systems);
        let taking: Vec<_> = stands.iter().filter(|s| wanted.contains(&s.lane)).collect();
        outcomes.extend(run_case(case, &taking, effort.of(case))?);
    }
    Ok(outcomes)
}

/// A system on its stage.
struct Stand<'a> {
    lane: Lane,
    stage: &'a Stage,
    running: Running<'a>,
    idle_kib: u64,
}

impl<'a> Stand<'a> {
    fn new(lane: Lane, stage: &'a Stage, programs: &Programs) -> Result<Self> {
        eprintln!(
            "  start {:8} {} rules, {} services",
            lane.to_string(),
            lane.size.rules,
            lane.size.services
        );
        let running = lane
            .system
            .start(stage, lane.size, programs)
            .with_context(|| format!("starting {lane}"))?;
        // waits: for what a system does right after its start.
        std::thread::sleep(SETTLE);
        let idle_kib = memory(&running.cgroup, lane)?;
        Ok(Self {
            lane,
            stage,
            running,
            idle_kib,
        })
    }

    /// One round. Memory is looked at, which takes the system's time, in the last one only.
    fn measure(
        &self,
        generator: &mut Generator,
        (work, effort): (Work, Effort),
        is_last: bool,
    ) -> Result<(Measured, u64)> {
        let job = Job {
            load: work.load(&self.running.entry),
            warm_up_ms: effort.warm_up_ms,
            window_ms: effort.window_ms,
            cgroups: self.stage.cgroups(&self.running.cgroup),
        };
        let mut loaded = 0;
        let measured = generator.perform(&job, || {
            if is_last {
                loaded = memory(&self.running.cgroup, self.lane)?;
            }
            Ok(())
        });
        Ok((measured.with_context(|| self.lane.to_string())?, loaded))
    }
}

fn memory(cgroup: &Path, lane: Lane) -> Result<u64> {
    if lane.system == System::Direct {
        return Ok(0);
    }
    crate::usage::memory_kib(cgroup)
}

fn run_case(case: &Case, stands: &[&Stand], effort: Effort) -> Result<Vec<Outcome>> {
    eprintln!("  {:16} {}", case.name, case.title);
    let mut lanes = Vec::new();
    for stand in stands {
        lanes.push((stand, stand.stage.generator()?, Outcome::of(case, stand)));
    }
    let before: Vec<_> = stands
        .iter()
        .map(|stand| stand.stage.served())
        .collect::<Result<_>>()?;
    for round in 1..=effort.rounds {
        for (stand, generator, outcome) in &mut lanes {
            let (measured, loaded_kib) =
                stand.measure(generator, (case.work, effort), round == effort.rounds)?;
            outcome.rounds.push(measured);
            outcome.loaded_kib = loaded_kib;
        }
        // There and back (A B C C B A …): what a system leaves behind does not always meet the same neighbour.
        lanes.reverse();
    }
    lanes.sort_unstable_by_key(|(stand, ..)| stand.lane);
    let mut outcomes = Vec::new();
    for ((stand, _, mut outcome), before) in lanes.into_iter().zip(before) {
        let served = difference(&stand.stage.served()?, &before);
        outcome.faults = faults(case.work, &outcome, &served);
        for fault in &outcome.faults {
            eprintln!("    {}: {fault}", stand.lane);
        }
        outcomes.push(outcome);
    }
    Ok(outcomes)
}

impl Outcome {
    /// Before the first round.
    fn of(case: &Case, stand: &Stand) -> Self {
        Self {
            case: case.name.into(),
            lane: stand.lane,
            rounds: Vec::new(),
            idle_kib: stand.idle_kib,
            loaded_kib: 0,
            faults: Vec::new(),
        }
    }
}

fn difference(after: &[Served], before: &[Served]) -> Vec<Served> {
    let pairs = after.iter().zip(before);
    pairs
        .map(|(after, before)| Served {
            requests: after.requests - before.requests,
            connections: after.connections - before.connections,
        })
        .collect()
}

/// What does not add up: failures, requests that never reached a server or reached it twice, shares.
fn faults(work: Work, outcome: &Outcome, served: &[Served]) -> Vec<String> {
    let mut faults = Vec::new();
    for round in &outcome.rounds {
        for (reason, count) in &round.failed {
            faults.push(format!("{count} failed: {reason}"));
        }
        if round.completed == 0 {
            faults.push("nothing completed".into());
        }
    }
    let sent: u64 = outcome.rounds.iter().map(|round| round.sent).sum();
    let (counts, what): (Vec<u64>, _) = match work {
        Work::Http { .. } => (served.iter().map(|s| s.requests).collect(), "requests"),
        Work::Connect(Until::FirstByte) => (served.iter().map(|s| s.connections).collect(), "connections"),
        _ => return faults,
    };
    let total: u64 = counts.iter().sum();
    if total != sent && faults.is_empty() {
        faults.push(format!("{sent} {what} sent, {total} served"));
    }
    if outcome.lane.system.splits() && total >= SHARE_REQUESTS {
        let share = ratio(counts[0], total);
        let wanted = ratio(WEIGHTS[0], WEIGHTS.iter().sum());
        if (share - wanted).abs() > SHARE_TOLERANCE {
            faults.push(format!(
                "v1 served {share:.3} of the {what} instead of {wanted:.3}"
            ));
        }
    }
    faults
}

#[expect(
    clippy::cast_precision_loss,
    reason = "counts of a benchmark stay far below 2^52"
)]
fn ratio(part: u64, whole: u64) -> f64 {
    part as f64 / whole as f64
}

/// Fails when a system did not do its work.
pub(crate) fn verify(outcomes: &[Outcome]) -> Result<()> {
    let faulty: Vec<_> = outcomes
        .iter()
        .filter(|outcome| !outcome.faults.is_empty())
        .map(|outcome| format!("{} {}: {}", outcome.case, outcome.lane, outcome.faults.join("; ")))
        .collect();
    if !faulty.is_empty() {
        bail!("these numbers do not count:\n  {}", faulty.join("\n  "));
    }
    Ok(())
}

impl Effort {
    /// Many short rounds for TCP, where a few percent are asked for: a system and its neighbour in the table are measured
    /// within a tenth of a second of each other, so that what the machine does besides hits both.
    fn of(self, case: &Case) -> Self {
        let (rounds, warm_up_ms, window_ms) = match case.lanes {
            Lanes::Kernel => (24 * self.rounds, 10, 50),
            Lanes::Tcp => (6 * self.rounds, 20, 100),
            Lanes::All | Lanes::ByRules => return self,
        };
        Self {
            rounds,
            warm_up_ms,
            window_ms,
        }
    }

    /// Enough to see that everything works, and roughly how fast.
    pub(crate) const QUICK: Self = Self {
        rounds: 2,
        warm_up_ms: 150,
        window_ms: 400,
    };
    /// Enough for medians.
    pub(crate) const FULL: Self = Self {
        rounds: 5,
        warm_up_ms: 250,
        window_ms: 1_000,
    };
}
