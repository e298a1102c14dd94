//! The table that grows while the demo runs: what is shown, what the rules promise, what was measured.

use std::{
    io::{IsTerminal, Write},
    time::Duration,
};

const WHAT: usize = 36;
const PROMISED: usize = 40;

/// Rows so far.
#[derive(Default)]
pub(crate) struct Table {
    rows: usize,
    off: usize,
}

/// A row that is being measured.
pub(crate) struct Row<'a> {
    table: &'a mut Table,
    what: String,
    promised: String,
}

impl Table {
    /// A line between rows.
    pub(crate) fn note(&self, text: &str) {
        println!("{text}");
    }

    /// Begins a row.
    pub(crate) fn row(&mut self, what: &str, promised: &str) -> Row<'_> {
        if self.rows == 0 {
            println!("\n  {:WHAT$}  {:PROMISED$}  MEASURED", "WHAT", "THE RULES SAY");
        }
        self.rows += 1;
        let row = Row {
            table: self,
            what: what.into(),
            promised: promised.into(),
        };
        row.update("…");
        row
    }

    /// The last line; true when every row is as promised.
    pub(crate) fn finish(&self, took: Duration) -> bool {
        let Self { rows, off } = self;
        let seconds = took.as_secs_f32();
        match off {
            0 => println!("\nAll {rows} rows are as the rules say. {seconds:.1} s"),
            _ => println!("\n{off} of {rows} rows are not as the rules say. {seconds:.1} s"),
        }
        *off == 0
    }
}

impl Row<'_> {
    /// Shows what is measured so far, on a terminal.
    pub(crate) fn update(&self, measured: &str) {
        let mut out = std::io::stdout();
        if out.is_terminal() {
            // The line is written anew; a shorter one leaves nothing of a longer one.
            let _ = write!(out, "\r\x1b[K{}", self.line("·", measured)).and_then(|()| out.flush());
        }
    }

    /// Ends the row.
    pub(crate) fn end(self, as_promised: bool, measured: &str) {
        let terminal = std::io::stdout().is_terminal();
        let (mark, colour) = if as_promised { ("✓", 32) } else { ("✗", 31) };
        if terminal {
            println!(
                "\r\x1b[K{}",
                self.line(&format!("\x1b[{colour}m{mark}\x1b[0m"), measured)
            );
        } else {
            println!("{}", self.line(mark, measured));
        }
        if !as_promised {
            self.table.off += 1;
        }
    }

    fn line(&self, mark: &str, measured: &str) -> String {
        format!(
            "{mark} {:WHAT$}  {:PROMISED$}  {measured}",
            self.what, self.promised
        )
    }
}
