//! How commands speak: formats, colour only where a person looks, findings for people.

use std::{
    env,
    fmt::{self, Write as _},
    io::{self, IsTerminal},
};

use owo_colors::{OwoColorize, Style};

use crate::finding::{Finding, Severity};

/// Whether text may be coloured.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Palette {
    /// Escape sequences are written.
    Colour,
    /// They are not.
    Plain,
}

impl Palette {
    /// For standard output: colour on a terminal, unless `NO_COLOR` says otherwise.
    pub fn for_stdout() -> Self {
        Self::when(io::stdout().is_terminal())
    }

    /// For standard error, likewise.
    pub fn for_stderr() -> Self {
        Self::when(io::stderr().is_terminal())
    }

    fn when(terminal: bool) -> Self {
        let refused = env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        if terminal && !refused {
            Self::Colour
        } else {
            Self::Plain
        }
    }

    /// `text` in `style`, where colour is wanted.
    pub fn paint<T: fmt::Display>(self, text: T, style: Style) -> String {
        match self {
            Self::Colour => text.style(style).to_string(),
            Self::Plain => text.to_string(),
        }
    }
}

/// A finding for people: place, severity and code on the first line, as compilers do, so that editors can jump to it;
/// the hint below.
pub fn finding(finding: &Finding, palette: Palette) -> String {
    let (severity, style) = match finding.severity {
        Severity::Error => ("error", Style::new().red().bold()),
        Severity::Warning => ("warning", Style::new().yellow().bold()),
    };
    let place = &finding.place;
    let file = if place.file.is_empty() {
        "(configuration)"
    } else {
        &place.file
    };
    let file = match place.line {
        0 => format!("{file}:"),
        line => format!("{file}:{line}:"),
    };
    let mut text = palette.paint(file, Style::new().bold());
    let head = palette.paint(format!("{severity}[{}]", finding.code), style);
    // Writing into a String cannot fail.
    let _ = write!(text, " {head}: {}", finding.message);
    let object = finding.object.as_deref().unwrap_or_default();
    let about = [object, &place.field].into_iter().filter(|part| !part.is_empty());
    let about: Vec<_> = about.collect();
    if !about.is_empty() {
        let _ = write!(
            text,
            "\n    {} {}",
            palette.paint("in", Style::new().dimmed()),
            about.join(", ")
        );
    }
    if !finding.hint.is_empty() {
        let _ = write!(
            text,
            "\n    {} {}",
            palette.paint("hint:", Style::new().cyan()),
            finding.hint
        );
    }
    text
}

/// `1 error, 2 warnings`; `no findings`.
pub fn tally(findings: &[Finding]) -> String {
    let errors = findings.iter().filter(|f| f.is_error()).count();
    let warnings = findings.len() - errors;
    let mut parts = Vec::new();
    if errors > 0 {
        parts.push(counted(errors, "error"));
    }
    if warnings > 0 {
        parts.push(counted(warnings, "warning"));
    }
    if parts.is_empty() {
        "no findings".to_owned()
    } else {
        parts.join(", ")
    }
}

/// `1 error`, `2 errors`, `3 policies`.
pub fn counted(count: usize, noun: &str) -> String {
    match (count, noun.strip_suffix('y')) {
        (1, _) => format!("1 {noun}"),
        (_, Some(stem)) => format!("{count} {stem}ies"),
        _ => format!("{count} {noun}s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::finding::{Place, codes};

    #[test]
    fn findings_are_plain_in_a_pipe() {
        let place = Place {
            file: "rules.yaml".into(),
            line: 12,
            field: "spec.wieght".to_owned(),
        };
        let shown = finding(
            &Finding::new(
                &codes::UNKNOWN_FIELD,
                place,
                "there is no field `wieght` here",
                "did you mean `weight`?",
            ),
            Palette::Plain,
        );
        assert_eq!(
            shown,
            "rules.yaml:12: error[unknown-field]: there is no field `wieght` here\n    in spec.wieght\n    hint: did \
             you mean `weight`?"
        );
        assert_eq!(counted(3, "policy"), "3 policies");
        assert_eq!(tally(&[]), "no findings");
    }
}
