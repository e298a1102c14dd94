//! Figures as tables: aligned for a terminal, in Markdown for a page. Both have the same cells.

use std::fmt::Write as _;

use crate::{
    cases::{CASES, Case, Lanes, Work},
    figures::Figures,
    goals::Goal,
    run::Outcome,
    system::{Lane, System},
};

/// A table: its columns' names, and its rows.
#[derive(Debug)]
pub(crate) struct Table {
    pub(crate) title: String,
    pub(crate) columns: Vec<&'static str>,
    pub(crate) rows: Vec<Vec<String>>,
}

impl Table {
    /// Aligned with spaces; the first column to the left, the others to the right.
    pub(crate) fn plain(&self) -> String {
        let width = |index: usize| {
            let cells = self.rows.iter().map(|row| row[index].chars().count());
            cells
                .chain([self.columns[index].chars().count()])
                .max()
                .unwrap_or(0)
        };
        let widths: Vec<_> = (0..self.columns.len()).map(width).collect();
        let mut text = format!("\n{}\n", self.title);
        let header = self.columns.iter().map(ToString::to_string).collect();
        for row in [&header].into_iter().chain(&self.rows) {
            for (index, (cell, width)) in row.iter().zip(&widths).enumerate() {
                let _ = match index {
                    0 => write!(text, "  {cell:<width$}"),
                    _ => write!(text, "  {cell:>width$}"),
                };
            }
            text.truncate(text.trim_end().len());
            text.push('\n');
        }
        text
    }

    /// In Markdown.
    pub(crate) fn markdown(&self) -> String {
        let mut text = format!("**{}**\n\n| {} |\n|", self.title, self.columns.join(" | "));
        for index in 0..self.columns.len() {
            text.push_str(if index == 0 { "---|" } else { "---:|" });
        }
        text.push('\n');
        for row in &self.rows {
            let _ = writeln!(text, "| {} |", row.join(" | "));
        }
        text.push('\n');
        text
    }
}

/// One table for each case that has outcomes.
pub(crate) fn outcomes(outcomes: &[Outcome]) -> Vec<Table> {
    let of = |case: &Case| {
        let own: Vec<_> = outcomes.iter().filter(|o| o.case == case.name).collect();
        (!own.is_empty()).then(|| table(case, &own))
    };
    CASES.iter().filter_map(of).collect()
}

fn table(case: &Case, outcomes: &[&Outcome]) -> Table {
    let mut columns = vec!["system"];
    columns.push(match case.work {
        Work::Bulk => "MiB/s",
        Work::Http { body, .. } if body > 65_536 => "MiB/s",
        _ => "per s",
    });
    columns.extend(["p50 µs", "p90 µs", "p99 µs", "p99.9 µs"]);
    columns.extend(["system CPU µs each", "all CPU µs each", "idle MiB", "loaded MiB"]);
    let rows = outcomes.iter().map(|outcome| row(case, outcome, columns[1]));
    Table {
        title: format!("{} ({})", case.title, case.name),
        rows: rows.collect(),
        columns,
    }
}

fn row(case: &Case, outcome: &Outcome, unit: &str) -> Vec<String> {
    let figures = Figures::of(outcome);
    let mut row = vec![name(case.lanes, outcome.lane)];
    row.push(match unit {
        "MiB/s" => count(figures.bytes_per_second / 1_048_576.0),
        _ => count(figures.per_second),
    });
    row.extend(figures.latency_us.map(short));
    let is_direct = outcome.lane.system == System::Direct;
    let own = |value: String| if is_direct { "–".into() } else { value };
    row.push(own(short(figures.system_us)));
    row.push(short(figures.total_us));
    row.extend([outcome.idle_kib, outcome.loaded_kib].map(|kib| own(mib(kib))));
    if !outcome.faults.is_empty() {
        row[0].push_str(" (faulty)");
    }
    row
}

/// The system, with its size where that differs between lanes.
fn name(lanes: Lanes, lane: Lane) -> String {
    let size = lane.size;
    match (lanes, lane.system) {
        (Lanes::ByRules, system) => format!("{}, {} rules", system.name(), size.rules),
        (Lanes::Tcp | Lanes::Kernel, System::Router) => {
            let beside = if size.rules > 0 { " beside HTTP" } else { "" };
            format!("router, {} services{beside}", size.services)
        }
        (_, system) => system.name().into(),
    }
}

/// The goals.
pub(crate) fn goals(goals: &[Goal]) -> Table {
    let rows = goals.iter().map(|goal| {
        vec![
            goal.what.clone(),
            goal.wanted.clone(),
            goal.measured
                .map_or("–".into(), |value| format!("{value:.2} {}", goal.unit)),
            match goal.is_met {
                None if goal.measured.is_some() => "–",
                None => "not measured",
                Some(true) => "yes",
                Some(false) => "no",
            }
            .into(),
        ]
    });
    Table {
        title: "Goals (router; ratios are medians of ratios within a round)".into(),
        columns: vec!["what", "wanted", "measured", "met"],
        rows: rows.collect(),
    }
}

/// A whole number with its thousands apart.
pub(crate) fn count(value: f64) -> String {
    let digits = format!("{value:.0}");
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Three digits or so.
fn short(value: f64) -> String {
    if value >= 100.0 {
        count(value)
    } else {
        format!("{value:.1}")
    }
}

/// KiB as MiB.
pub(crate) fn mib(kib: u64) -> String {
    format!("{:.1}", crate::figures::number(kib) / 1024.0)
}
