//! Licences of everything that is linked: each dependency offers one that we may use.
//!
//! deny.toml holds the same list for cargo-deny, which also knows advisories.

use std::process::Command;

use anyhow::{Context, Result};
use serde_json::Value;

use super::Fault;
use crate::workspace;

/// SPDX names of licences that go with Apache-2.0.
const ALLOWED: [&str; 10] = [
    "Apache-2.0",
    "Apache-2.0 WITH LLVM-exception",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "CC0-1.0",
    "ISC",
    "MIT",
    "Unicode-3.0",
    "Unlicense",
    "Zlib",
];

/// Dependencies, as Cargo.lock resolves them for Linux, that offer none.
pub(super) fn check() -> Result<Vec<Fault>> {
    let mut metadata: Command = workspace::cargo();
    metadata.args([
        "metadata",
        "--format-version",
        "1",
        "--locked",
        "--filter-platform",
        "x86_64-unknown-linux-gnu",
    ]);
    let metadata: Value =
        serde_json::from_str(&workspace::output(&mut metadata)?).context("cargo metadata")?;
    let packages = metadata["packages"].as_array().into_iter().flatten();
    let foreign = packages.filter(|package| !package["source"].is_null());
    Ok(foreign.filter_map(fault).collect())
}

fn fault(package: &Value) -> Option<Fault> {
    let licence = package["license"].as_str().unwrap_or("");
    let name = package["name"].as_str().unwrap_or("?");
    let message = format!(
        "dependency {name} is licensed `{licence}`, which is not on the list in xtask/src/tidy/licences.rs"
    );
    (!allowed(licence)).then(|| Fault::new("Cargo.lock", 0, message))
}

/// Whether an SPDX expression can be met from the list. `/` is how old crates spell OR.
fn allowed(expression: &str) -> bool {
    let spaced = expression
        .replace('/', " OR ")
        .replace('(', " ( ")
        .replace(')', " ) ");
    let mut words: Vec<_> = spaced.split_whitespace().rev().collect();
    any(&mut words) && words.is_empty()
}

/// `ALL OR ALL …`. The words are a stack; the next one is last.
fn any(words: &mut Vec<&str>) -> bool {
    let mut met = every(words);
    while words.last() == Some(&"OR") {
        words.pop();
        met |= every(words);
    }
    met
}

/// `ONE AND ONE …`
fn every(words: &mut Vec<&str>) -> bool {
    let mut met = one(words);
    while words.last() == Some(&"AND") {
        words.pop();
        met &= one(words);
    }
    met
}

/// A licence, with its exception, or an expression in parentheses.
fn one(words: &mut Vec<&str>) -> bool {
    match words.pop() {
        Some("(") => {
            let met = any(words);
            words.pop() == Some(")") && met
        }
        Some(licence) if words.last() == Some(&"WITH") => {
            words.pop();
            let exception = words.pop().unwrap_or("");
            ALLOWED.contains(&format!("{licence} WITH {exception}").as_str())
        }
        Some(licence) => ALLOWED.contains(&licence),
        None => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expressions_are_met_from_the_list() {
        for expression in [
            "MIT",
            "MIT OR GPL-3.0",
            "GPL-2.0/MIT",
            "(MIT OR Apache-2.0) AND Unicode-3.0",
        ] {
            assert!(allowed(expression), "{expression}");
        }
        assert!(allowed("Apache-2.0 WITH LLVM-exception OR GPL-2.0"));
        for expression in ["", "GPL-3.0", "MIT AND GPL-3.0", "(MIT", "MIT WITH Something"] {
            assert!(!allowed(expression), "{expression}");
        }
    }
}
