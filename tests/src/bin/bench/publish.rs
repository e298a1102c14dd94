//! What is left of a run: `results.json` with every round, and on request a page for people.

use std::{collections::BTreeMap, fmt::Write as _, fs, path::Path};

use anyhow::{Context, Result};
use serde::Serialize;

use crate::{
    control::Control,
    figures::median,
    goals::Goal,
    run::{Effort, Outcome},
    table::{self, Table},
};

/// A run with all that is known of it.
#[derive(Serialize)]
pub(crate) struct Report {
    pub(crate) machine: Machine,
    /// Version of each system, as it says.
    pub(crate) versions: BTreeMap<String, String>,
    pub(crate) effort: Effort,
    pub(crate) is_quick: bool,
    pub(crate) goals: Vec<Goal>,
    pub(crate) control: Control,
    pub(crate) outcomes: Vec<Outcome>,
}

/// Where it ran.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Machine {
    processor: String,
    processors: usize,
    kernel: String,
    memory_gib: u64,
    /// Runnable processes per processor before the run, from the load average of one minute.
    load_before: f64,
}

impl Machine {
    /// This machine, now.
    pub(crate) fn here() -> Result<Self> {
        let first = |path: &str, key: &str| -> Result<String> {
            let text = fs::read_to_string(path)?;
            let line = text.lines().find(|line| line.starts_with(key));
            let value = line.and_then(|line| line.split_once(':'));
            Ok(value.map_or("unknown", |(_, value)| value.trim()).to_owned())
        };
        let processors = std::thread::available_parallelism()?.get();
        let release = fs::read_to_string("/proc/sys/kernel/osrelease")?;
        let memory = first("/proc/meminfo", "MemTotal")?;
        let memory: u64 = memory.trim_end_matches("kB").trim().parse().unwrap_or(0);
        let load = fs::read_to_string("/proc/loadavg")?;
        let load: f64 = load.split(' ').next().unwrap_or_default().parse()?;
        Ok(Self {
            processor: first("/proc/cpuinfo", "model name")?,
            kernel: release.trim().split('.').take(2).collect::<Vec<_>>().join("."),
            memory_gib: memory >> 20,
            load_before: load / f64::from(u32::try_from(processors)?),
            processors,
        })
    }

    /// A machine that does other work cannot be trusted with times.
    pub(crate) fn is_noisy(&self) -> bool {
        self.load_before > 0.3
    }
}

impl Report {
    /// Every table of the run.
    pub(crate) fn tables(&self) -> Vec<Table> {
        let mut tables = table::outcomes(&self.outcomes);
        tables.extend(control(&self.control));
        tables.push(table::goals(&self.goals));
        tables
    }

    /// Writes every round as JSON.
    pub(crate) fn write_json(&self, path: &Path) -> Result<()> {
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder)?;
        }
        fs::write(path, serde_json::to_vec_pretty(self)?).with_context(|| path.display().to_string())
    }

    /// Writes the page: what stands above the mark in it stays, the rest is replaced.
    pub(crate) fn write_page(&self, path: &Path) -> Result<()> {
        let page = fs::read_to_string(path).with_context(|| path.display().to_string())?;
        let (head, _) = page
            .split_once(MARK)
            .with_context(|| format!("no line `{MARK}` in {}", path.display()))?;
        fs::write(path, format!("{head}{MARK}\n\n{}", self.markdown()))?;
        Ok(())
    }

    fn markdown(&self) -> String {
        let machine = &self.machine;
        let mut text = format!(
            "## Machine and versions\n\n{} × {}, {} GiB, Linux {}. {} rounds with a window of {} ms each{}.\n",
            machine.processors,
            machine.processor,
            machine.memory_gib,
            machine.kernel,
            self.effort.rounds,
            self.effort.window_ms,
            if self.is_quick { " (a quick run)" } else { "" },
        );
        if machine.is_noisy() {
            let _ = writeln!(
                text,
                "\n**The machine was doing other work** (load {:.1} per processor before the run): times are worse than \
                 they would be and scatter; processor time per request suffers least.",
                machine.load_before
            );
        }
        text.push('\n');
        for (name, version) in self.versions.iter().filter(|(_, version)| !version.is_empty()) {
            let _ = writeln!(text, "- {name}: {version}");
        }
        let (goals, cases): (Vec<_>, Vec<_>) = self
            .tables()
            .into_iter()
            .partition(|table| table.title.starts_with("Goals"));
        text.push_str("\n## Goals\n\n");
        goals.iter().for_each(|table| text.push_str(&table.markdown()));
        text.push_str("## Cases\n\n");
        cases.iter().for_each(|table| text.push_str(&table.markdown()));
        text.truncate(text.trim_end().len());
        text.push('\n');
        text
    }
}

/// From this line on the page is written by `--publish`.
const MARK: &str = "<!-- measured: written by `cargo xtask bench --publish` -->";

fn control(control: &Control) -> Option<Table> {
    let mut rows = Vec::new();
    let mut row = |what: &str, value: Option<String>| {
        if let Some(value) = value {
            rows.push(vec![what.to_owned(), value]);
        }
    };
    let seconds = |values: &[f64]| (!values.is_empty()).then(|| format!("{:.2} s", median(values.to_vec())));
    row("cold start until ready", seconds(&control.starts_s));
    row("processor time until ready", seconds(&control.starts_cpu_s));
    for (name, quantile) in [("p50", 0.5), ("p99", 0.99)] {
        let value = control.change_ms(quantile).map(|ms| format!("{ms:.2} ms"));
        row(
            &format!("one endpoint's change until connections follow, {name}"),
            value,
        );
    }
    for (name, quantile) in [("p50", 0.5), ("p99", 0.99)] {
        let value = control
            .agent_change_ms(quantile)
            .map(|ms| format!("at most {ms} ms"));
        row(
            &format!("the same from the moment that the agent read the file event, by its own count, {name}"),
            value,
        );
    }
    for (name, quantile) in [("p50", 0.5), ("p99", 0.99)] {
        let value = control.streamed_ms(quantile).map(|ms| format!("{ms:.2} ms"));
        row(
            &format!("the same, while other services change a thousand times in a second, {name}"),
            value,
        );
    }
    let rate = control
        .streamed_per_s
        .map(|rate| format!("{} / s", table::count(rate)));
    row("changes written in a second then", rate);
    let share = control.streamed_cpu.map(|cpu| format!("{:.0} %", cpu * 100.0));
    row("of one processor, taken by the agent then", share);
    row(
        "resident memory with that load",
        control.large_kib.map(|kib| format!("{} MiB", table::mib(kib))),
    );
    row(
        "resident memory, one service, idle",
        control.small_kib.map(|kib| format!("{} MiB", table::mib(kib))),
    );
    (!rows.is_empty()).then(|| Table {
        title: "Control plane (router): 5,000 services × 20 endpoints, 5,000 rules, 100,000 pods".into(),
        columns: vec!["what", "median"],
        rows,
    })
}
