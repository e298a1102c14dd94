//! What xtask prints about itself: aligned, coloured on a terminal, plain in a log. Everything goes to standard error,
//! so that the output of the programs it runs stays apart.

use std::{fmt::Display, io::IsTerminal, sync::OnceLock};

use owo_colors::{OwoColorize, Style};

/// Columns of the step's name.
const NAME: usize = 18;

fn coloured() -> bool {
    static COLOURED: OnceLock<bool> = OnceLock::new();
    *COLOURED.get_or_init(|| std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none())
}

/// `text` in `style` where the terminal shows it.
pub(crate) fn paint(text: &str, style: Style) -> String {
    if coloured() {
        text.style(style).to_string()
    } else {
        text.to_owned()
    }
}

fn line(mark: &str, style: Style, name: &str, what: &dyn Display) {
    eprintln!("{} {name:<NAME$} {what}", paint(mark, style));
}

/// A step that begins now and may take a while.
pub(crate) fn begin(name: &str, what: &dyn Display) {
    line("→", Style::new().cyan(), name, what);
}

/// A step that is done, or was done already.
pub(crate) fn done(name: &str, what: &dyn Display) {
    line("✓", Style::new().green(), name, what);
}

/// A heading over the steps that follow.
pub(crate) fn heading(text: &str) {
    eprintln!("\n{}", paint(text, Style::new().bold()));
}

/// Something that was left out, and why.
pub(crate) fn skipped(name: &str, why: &dyn Display) {
    line("!", Style::new().yellow().bold(), name, why);
}

/// A step that failed.
pub(crate) fn failed(name: &str, why: &dyn Display) {
    line("✗", Style::new().red().bold(), name, why);
}

/// A line from inside a virtual machine.
pub(crate) fn guest(name: &dyn Display, line: &str) {
    println!("{} {line}", paint(&format!("{name:>6} │"), Style::new().dimmed()));
}

/// The error that ends the command.
pub(crate) fn failure(text: &str) {
    eprintln!("\n{} {text}", paint("error:", Style::new().red().bold()));
}
