//! The kernel ABI and its number: a change of a layout in router-common needs another `ABI_VERSION`, else an agent
//! would adopt maps of its predecessor and misread them.
//!
//! `router-common/abi.lock` records the number with a hash of every type and of every map's name and capacity.

use std::{fs, path::Path};

use anyhow::{Context, Result, bail};
use proc_macro2::{Delimiter, TokenTree};

use super::{Fault, source::Source};

const LOCK: &str = "router-common/abi.lock";
const TYPES: &str = "router-common/src";
/// Names and capacities; their constants are part of the layout, those of other files are not.
const NAMES: &str = "router-common/src/abi";

/// A version with the layouts it stands for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Abi {
    version: u64,
    layout: u64,
}

/// The fault, if the layouts and the recorded ones differ.
pub(super) fn check(root: &Path, sources: &[Source]) -> Result<Option<Fault>> {
    let present = present(sources)?;
    let recorded = fs::read_to_string(root.join(LOCK))
        .ok()
        .as_deref()
        .and_then(parse);
    Ok(verdict(present, recorded).map(|message| Fault::new(LOCK, 0, message)))
}

/// Records the present layouts.
///
/// # Errors
///
/// They changed and the version did not.
pub(super) fn bless(root: &Path, sources: &[Source]) -> Result<()> {
    let present = present(sources)?;
    let path = root.join(LOCK);
    let recorded = fs::read_to_string(&path).ok().as_deref().and_then(parse);
    if recorded
        .is_some_and(|recorded| recorded.version == present.version && recorded.layout != present.layout)
    {
        bail!(
            "the layouts in {TYPES} changed, but ABI_VERSION is still {}: raise it in lib.rs first",
            present.version
        );
    }
    let text = format!(
        "# What ABI_VERSION stands for; written by `cargo xtask tidy --bless-abi`.\nversion = {}\nlayout = {:016x}\n",
        present.version, present.layout
    );
    fs::write(&path, text).with_context(|| path.display().to_string())
}

fn verdict(present: Abi, recorded: Option<Abi>) -> Option<String> {
    let bless = "record it with `cargo xtask tidy --bless-abi`";
    match recorded {
        None => Some(format!("missing or unreadable: {bless}")),
        Some(recorded) if recorded == present => None,
        Some(recorded) if recorded.version == present.version => Some(format!(
            "a layout in {TYPES} changed, but ABI_VERSION is still {}: raise it in lib.rs, then {bless}",
            present.version
        )),
        Some(recorded) => Some(format!(
            "records ABI_VERSION {}, the code says {}: {bless}",
            recorded.version, present.version
        )),
    }
}

fn parse(lock: &str) -> Option<Abi> {
    let field = |name: &str| {
        lock.lines()
            .find_map(|line| line.strip_prefix(name)?.trim().strip_prefix('=').map(str::trim))
    };
    Some(Abi {
        version: field("version")?.parse().ok()?,
        layout: u64::from_str_radix(field("layout")?, 16).ok()?,
    })
}

fn present(sources: &[Source]) -> Result<Abi> {
    let types: Vec<_> = sources.iter().filter(|source| source.is_in(TYPES)).collect();
    let version = types
        .iter()
        .find_map(|source| version(&source.tokens))
        .context("no ABI_VERSION in router-common")?;
    // Sorted, so that moving a type to another file is no change.
    let mut items: Vec<String> = types.iter().flat_map(|source| items(source)).collect();
    items.sort();
    Ok(Abi {
        version,
        layout: fnv1a(items.join("\n").as_bytes()),
    })
}

/// `const ABI_VERSION: u32 = N;`
fn version(tokens: &[TokenTree]) -> Option<u64> {
    let at = tokens
        .iter()
        .position(|token| token.to_string() == "ABI_VERSION")?;
    let value = tokens[at..].iter().find_map(|token| match token {
        TokenTree::Literal(literal) => Some(literal.to_string()),
        _ => None,
    })?;
    value.parse().ok()
}

/// Types with their fields and representation, and the constants of `abi.rs`, without comments and attributes of
/// other kinds.
fn items(source: &Source) -> Vec<String> {
    let mut items = Vec::new();
    let mut representation = String::new();
    let mut at = 0;
    while let Some(token) = source.tokens.get(at) {
        match token {
            TokenTree::Group(group) if group.stream().to_string().starts_with("repr") => {
                representation = group.stream().to_string();
            }
            TokenTree::Ident(word) if is_item(&word.to_string(), source) => {
                let end = at + item_length(&source.tokens[at..]);
                items.push(format!("{representation} {}", spelled(&source.tokens[at..end])));
                representation.clear();
                at = end;
                continue;
            }
            _ => {}
        }
        at += 1;
    }
    items
}

fn is_item(word: &str, source: &Source) -> bool {
    matches!(word, "struct" | "enum" | "union") || (word == "const" && source.is_in(NAMES))
}

/// Up to a semicolon, or to the braces of a type.
fn item_length(tokens: &[TokenTree]) -> usize {
    let end = tokens.iter().position(|token| match token {
        TokenTree::Punct(punct) => punct.as_char() == ';',
        TokenTree::Group(group) => group.delimiter() == Delimiter::Brace,
        _ => false,
    });
    end.map_or(tokens.len(), |end| end + 1)
}

/// The tokens with one space between them, without attributes and documentation.
fn spelled(tokens: &[TokenTree]) -> String {
    let mut words = Vec::new();
    let mut after_hash = false;
    for token in tokens {
        match token {
            TokenTree::Punct(punct) if punct.as_char() == '#' => after_hash = true,
            TokenTree::Group(_) if after_hash => after_hash = false,
            TokenTree::Group(group) => {
                let inside: Vec<_> = group.stream().into_iter().collect();
                words.push(format!("( {} )", spelled(&inside)));
            }
            other => words.push(other.to_string()),
        }
    }
    words.join(" ")
}

/// FNV-1a, 64 bits: stable across machines and versions, and nobody attacks it.
fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIB: &str = "//! x\npub const ABI_VERSION: u32 = 3;\n";
    const TYPE: &str = "/// A limit.\n#[repr(C)]\n#[derive(Clone)]\npub struct Limit {\n    /// Most.\n    pub max: u64,\n}\n";

    fn abi(text: &str) -> Abi {
        let parse = |path: &str, text: &str| Source::parse(path.to_owned(), text.to_owned()).unwrap();
        present(&[
            parse("router-common/src/lib.rs", LIB),
            parse("router-common/src/limit.rs", text),
        ])
        .unwrap()
    }

    #[test]
    fn fields_and_representation_count_comments_and_functions_do_not() {
        let before = abi(TYPE);
        assert_eq!(before.version, 3);
        assert_eq!(abi(&TYPE.replace("Most.", "Other words.")), before);
        assert_eq!(abi(&format!("{TYPE}impl Limit {{ fn f() {{}} }}")), before);
        assert_ne!(abi(&TYPE.replace("u64", "u32")), before);
        assert_ne!(abi(&TYPE.replace("repr(C)", "repr(C, packed)")), before);
    }

    #[test]
    fn a_change_asks_for_another_version() {
        let recorded = Abi {
            version: 1,
            layout: 7,
        };
        assert_eq!(verdict(recorded, Some(recorded)), None);
        assert!(
            verdict(
                Abi {
                    layout: 8,
                    ..recorded
                },
                Some(recorded)
            )
            .unwrap()
            .contains("raise it")
        );
        assert!(
            verdict(
                Abi {
                    version: 2,
                    layout: 8
                },
                Some(recorded)
            )
            .unwrap()
            .contains("--bless-abi")
        );
        assert_eq!(
            parse("# x\nversion = 1\nlayout = 0000000000000007\n"),
            Some(recorded)
        );
    }
}
