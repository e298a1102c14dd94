//! What people and programs read: tables, JSON, errors with hints, what is good and what is bad. It knows no command.

use std::{
    fmt,
    io::{self, Write as _},
};

use clap::ValueEnum;
use owo_colors::Style;
use serde::Serialize;
use tabled::{
    builder::Builder,
    settings::{Padding, Style as Border},
};

use super::output::Palette;

/// How an answer is written.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, ValueEnum)]
pub(super) enum Format {
    /// For people.
    #[default]
    Text,
    /// For programs.
    Json,
    /// For people who read programs' answers.
    Yaml,
}

impl Format {
    /// Writes `value` as JSON or YAML; false for text, which the caller writes.
    pub(super) fn write(self, value: &impl Serialize) -> anyhow::Result<bool> {
        let text = match self {
            Self::Text => return Ok(false),
            Self::Json => serde_json::to_string_pretty(value)? + "\n",
            Self::Yaml => crate::config::to_yaml(value)?,
        };
        print(&text)?;
        Ok(true)
    }
}

/// Writes to standard output. That nobody reads it any more (`| head`) is no error.
pub(super) fn print(text: &str) -> io::Result<()> {
    match io::stdout().lock().write_all(text.as_bytes()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        result => result,
    }
}

/// An error with what to do about it.
#[derive(Debug)]
pub(super) struct Hinted {
    error: anyhow::Error,
    hint: String,
}

impl fmt::Display for Hinted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#}", self.error)
    }
}

impl std::error::Error for Hinted {}

/// Adds a hint to an error.
pub(super) fn hinted(error: impl Into<anyhow::Error>, hint: impl Into<String>) -> anyhow::Error {
    Hinted {
        error: error.into(),
        hint: hint.into(),
    }
    .into()
}

/// Writes an error and its hint to standard error.
pub(super) fn print_error(error: &anyhow::Error) {
    let paint = Paint::stderr();
    eprintln!("{} {error:#}", paint.bad("error:"));
    if let Some(Hinted { hint, .. }) = error.downcast_ref() {
        eprintln!("{} {hint}", paint.strong(" hint:"));
    }
}

/// What a piece of text means, shown by colour where a person looks.
#[derive(Clone, Copy, Debug)]
pub(super) struct Paint(Palette);

impl Paint {
    /// For standard output.
    pub(super) fn stdout() -> Self {
        Self(Palette::for_stdout())
    }

    /// For standard error.
    pub(super) fn stderr() -> Self {
        Self(Palette::for_stderr())
    }

    /// No colours.
    #[cfg(test)]
    pub(super) const fn plain() -> Self {
        Self(Palette::Plain)
    }

    fn paint(self, text: &str, style: Style) -> String {
        self.0.paint(text, style)
    }

    /// Something that is as it should be.
    pub(super) fn good(self, text: &str) -> String {
        self.paint(text, Style::new().green())
    }

    /// Something that is wrong.
    pub(super) fn bad(self, text: &str) -> String {
        self.paint(text, Style::new().red().bold())
    }

    /// Something that goes.
    pub(super) fn removed(self, text: &str) -> String {
        self.paint(text, Style::new().red())
    }

    /// Something to look at.
    pub(super) fn odd(self, text: &str) -> String {
        self.paint(text, Style::new().yellow())
    }

    /// A heading.
    pub(super) fn strong(self, text: &str) -> String {
        self.paint(text, Style::new().bold())
    }

    /// An aside.
    pub(super) fn faint(self, text: &str) -> String {
        self.paint(text, Style::new().dimmed())
    }
}

/// Rows under a header, in columns. Lines end where their text ends.
pub(super) struct Table<const N: usize> {
    header: [&'static str; N],
    rows: Vec<[String; N]>,
}

impl<const N: usize> Table<N> {
    pub(super) const fn new(header: [&'static str; N]) -> Self {
        Self {
            header,
            rows: Vec::new(),
        }
    }

    pub(super) fn row(&mut self, row: [String; N]) {
        self.rows.push(row);
    }

    /// The table; each line of the body is passed through `line` with its row.
    pub(super) fn render(&self, paint: Paint, line: impl Fn(&[String; N], &str) -> String) -> String {
        let mut builder = Builder::default();
        builder.push_record(self.header);
        for row in &self.rows {
            builder.push_record(row);
        }
        let mut table = builder.build();
        let table = table
            .with(Border::empty())
            .with(Padding::new(0, 2, 0, 0))
            .to_string();
        let mut lines = table.lines().map(str::trim_end);
        let header = lines.next().map(|header| paint.strong(header));
        let body = lines.zip(&self.rows).map(|(text, row)| line(row, text));
        header.into_iter().chain(body).map(|line| line + "\n").collect()
    }

    /// The table without colours but the header's.
    pub(super) fn plain(&self, paint: Paint) -> String {
        self.render(paint, |_, line| line.to_owned())
    }
}

/// A number, or a dash when it is not known.
pub(super) fn or_dash(value: Option<impl fmt::Display>) -> String {
    value.map_or_else(|| "-".to_owned(), |v| v.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_are_aligned_and_have_no_trailing_blanks() {
        let mut table = Table::new(["NAME", "N"]);
        table.row(["a".into(), "1".into()]);
        table.row(["long name".into(), "22".into()]);
        assert_eq!(
            table.plain(Paint::plain()),
            "NAME       N\na          1\nlong name  22\n"
        );
    }

    #[test]
    fn colours_are_only_used_where_wanted() {
        assert_eq!(Paint::plain().bad("x"), "x");
        assert!(Paint(Palette::Colour).bad("x").contains("\u{1b}["));
    }

    #[test]
    fn hints_stay_with_their_errors() {
        let error = hinted(anyhow::anyhow!("no"), "try this");
        assert_eq!(error.to_string(), "no");
        assert_eq!(error.downcast_ref::<Hinted>().unwrap().hint, "try this");
    }
}
