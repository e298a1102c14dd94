//! What is wrong, or has no effect, in a configuration: a stable code, a place, and what to do.

pub mod codes;

use std::{fmt, sync::Arc};

pub use codes::Code;

/// How bad a finding is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// The configuration is not put in force.
    Error,
    /// It is put in force, but a part of it does not do what it seems to say.
    Warning,
}

impl Severity {
    /// `error` or `warning`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warning => "warning",
        }
    }
}

/// Where a finding is.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, serde::Serialize)]
pub struct Place {
    /// File, relative to the configuration directory.
    pub file: Arc<str>,
    /// Line, counted from 1; 0 when the whole file is meant.
    pub line: u32,
    /// Path of the field: `spec.route[1].weight`; empty when the whole object is meant.
    pub field: String,
}

/// Something to tell the author of a configuration.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, serde::Serialize)]
pub struct Finding {
    /// How bad it is.
    pub severity: Severity,
    /// Stable name in kebab-case: `unknown-field`, `not-supported-yet`, `weights-sum`.
    pub code: &'static str,
    /// Where.
    pub place: Place,
    /// Kind and name of the object, when known: `route-rule reviews-default`.
    pub object: Option<Arc<str>>,
    /// What is wrong, in one sentence without a full stop.
    pub message: String,
    /// What to do about it.
    pub hint: String,
}

impl fmt::Display for Finding {
    /// `rules.yaml:12: error[unknown-field] spec.wieght: unknown field (did you mean "weight"?)`
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Place { file, line, field } = &self.place;
        write!(f, "{file}:{line}: {}[{}]", self.severity.name(), self.code)?;
        if !field.is_empty() {
            write!(f, " {field}")?;
        }
        write!(f, ": {}", self.message)?;
        if !self.hint.is_empty() {
            write!(f, " ({})", self.hint)?;
        }
        Ok(())
    }
}

impl Finding {
    /// A finding of `code`, with the severity that the code has.
    pub fn new(code: &Code, place: Place, message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self {
            severity: code.severity,
            code: code.name,
            place,
            object: None,
            message: message.into(),
            hint: hint.into(),
        }
    }

    /// The same finding, about `object`.
    #[must_use]
    pub fn about(self, object: Option<Arc<str>>) -> Self {
        Self { object, ..self }
    }

    /// True when it keeps the configuration from being put in force.
    pub fn is_error(&self) -> bool {
        self.severity == Severity::Error
    }
}

/// Puts findings in the order in which people read files: by file, line and field. Repetitions are dropped.
pub fn sort(findings: &mut Vec<Finding>) {
    findings.sort_by(|a, b| {
        (&a.place.file, a.place.line, &a.place.field, a).cmp(&(
            &b.place.file,
            b.place.line,
            &b.place.field,
            b,
        ))
    });
    findings.dedup();
}
