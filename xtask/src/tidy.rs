//! Guards the repository: what no compiler checks, said once and checked each time.
//!
//! Each rule is a file here and yields [`Fault`]s with their place. Formatting, names and function lengths are the
//! work of rustfmt and clippy; it does not look at those.

mod abi;
mod imports;
mod licences;
mod source;
mod text;

use std::{fmt, path::Path, process::ExitCode};

use anyhow::Result;

use crate::{terminal, workspace};

/// One broken rule.
#[derive(PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct Fault {
    /// Relative to the workspace's root.
    path: String,
    /// From 1; 0 for the whole file.
    line: usize,
    message: String,
}

impl Fault {
    fn new(path: &str, line: usize, message: impl Into<String>) -> Self {
        Self {
            path: path.to_owned(),
            line,
            message: message.into(),
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            0 => write!(out, "{}: {}", self.path, self.message),
            line => write!(out, "{}:{line}: {}", self.path, self.message),
        }
    }
}

/// Checks every rule; prints each fault. `bless_abi` records the present layouts first.
pub(crate) fn run(bless_abi: bool) -> Result<ExitCode> {
    let root = workspace::root();
    let sources = source::all(root)?;
    if bless_abi {
        abi::bless(root, &sources)?;
        terminal::done("abi", &"recorded in router-common/abi.lock");
    }
    let mut faults = Vec::new();
    for source in &sources {
        faults.extend(text::check(source));
        faults.extend(imports::check(source));
    }
    faults.extend(abi::check(root, &sources)?);
    faults.extend(documents(root));
    faults.extend(licences::check()?);
    faults.sort();
    for fault in &faults {
        println!("{fault}");
    }
    if faults.is_empty() {
        terminal::done("tidy", &format!("{} files", sources.len()));
        return Ok(ExitCode::SUCCESS);
    }
    terminal::failed("tidy", &format!("{} faults", faults.len()));
    Ok(ExitCode::FAILURE)
}

/// Lines of README.md.
const README_LINES: usize = 200;

/// The documents that every user looks for.
fn documents(root: &Path) -> Vec<Fault> {
    let mut faults = Vec::new();
    match std::fs::read_to_string(root.join("README.md")) {
        Ok(text) if text.lines().count() > README_LINES => {
            let message =
                format!("longer than {README_LINES} lines: move what is not for newcomers to docs/");
            faults.push(Fault::new("README.md", text.lines().count(), message));
        }
        Ok(_) => {}
        Err(error) => faults.push(Fault::new("README.md", 0, error.to_string())),
    }
    if !has_yaml(&root.join("examples")) {
        faults.push(Fault::new(
            "examples",
            0,
            "no example: a folder with a YAML file is expected",
        ));
    }
    faults
}

fn has_yaml(folder: &Path) -> bool {
    let Ok(entries) = std::fs::read_dir(folder) else {
        return false;
    };
    entries
        .filter_map(Result::ok)
        .map(|entry| entry.path())
        .any(|path| match path.is_dir() {
            true => has_yaml(&path),
            false => path.extension().is_some_and(|extension| extension == "yaml"),
        })
}
