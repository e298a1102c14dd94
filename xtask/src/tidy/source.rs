//! Rust files as tokens with lines, production apart from tests, and the paths they name.
//!
//! The tokens are rustc's own (proc-macro2), so comments and strings are no trap; names are not resolved beyond
//! `self`, `super` and `crate`.

use std::{fs, ops::Range, path::Path};

use anyhow::{Context, Result, anyhow};
use proc_macro2::{Delimiter, TokenStream, TokenTree};

use crate::workspace;

/// One Rust file.
pub(super) struct Source {
    /// Relative to the workspace's root, with `/`.
    pub(super) path: String,
    pub(super) text: String,
    pub(super) tokens: Vec<TokenTree>,
    /// Lines of its `#[cfg(test)]` module, from 1. All lines when the file is a test.
    tests: Range<usize>,
}

/// A path such as `tokio::time::sleep`, as written in code or spelled out from a `use`.
#[derive(PartialEq, Eq, Debug)]
pub(super) struct NamedPath {
    pub(super) segments: Vec<String>,
    pub(super) line: usize,
}

/// Every Rust file of every crate.
pub(super) fn all(root: &Path) -> Result<Vec<Source>> {
    let metadata = workspace::metadata()?;
    let packages = metadata["packages"].as_array().into_iter().flatten();
    let manifests = packages.filter_map(|package| package["manifest_path"].as_str());
    let mut sources = Vec::new();
    for manifest in manifests {
        let folder = Path::new(manifest).parent().context("a manifest has a folder")?;
        collect(root, folder, &mut sources)?;
    }
    sources.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(sources)
}

fn collect(root: &Path, folder: &Path, sources: &mut Vec<Source>) -> Result<()> {
    for entry in fs::read_dir(folder).with_context(|| folder.display().to_string())? {
        let path = entry?.path();
        if path.is_dir() {
            collect(root, &path, sources)?;
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
            let relative = path.strip_prefix(root).unwrap_or(&path).display().to_string();
            sources.push(Source::parse(relative, text)?);
        }
    }
    Ok(())
}

impl Source {
    pub(super) fn parse(path: String, text: String) -> Result<Self> {
        let tokens: TokenStream = text.parse().map_err(|error| anyhow!("{path}: {error}"))?;
        let tokens: Vec<_> = tokens.into_iter().collect();
        let lines = text.lines().count() + 1;
        let is_test = path.starts_with("tests/") || path.contains("/tests/") || path.ends_with("/tests.rs");
        let tests = if is_test {
            1..lines + 1
        } else {
            test_module(&tokens).unwrap_or(lines..lines)
        };
        Ok(Self {
            path,
            text,
            tokens,
            tests,
        })
    }

    /// Whether the line belongs to tests.
    pub(super) fn is_test(&self, line: usize) -> bool {
        self.tests.contains(&line)
    }

    /// Lines that are not tests.
    pub(super) fn production_lines(&self) -> usize {
        (1..=self.text.lines().count())
            .filter(|line| !self.is_test(*line))
            .count()
    }

    /// Whether the file is `place.rs` or below `place/`; a place with an extension is that file alone.
    pub(super) fn is_in(&self, place: &str) -> bool {
        self.path
            .strip_prefix(place)
            .is_some_and(|rest| rest.is_empty() || rest == ".rs" || rest.starts_with('/'))
    }

    /// Every path that the code names, with `self` and `super` resolved to `crate::…`.
    pub(super) fn paths(&self) -> Vec<NamedPath> {
        let mut paths = Vec::new();
        paths_of(&self.tokens, &mut paths);
        for path in &mut paths {
            self.resolve(&mut path.segments);
        }
        paths
    }

    fn resolve(&self, segments: &mut Vec<String>) {
        let supers = segments.iter().take_while(|segment| *segment == "super").count();
        let is_self = segments.first().is_some_and(|first| first == "self");
        if supers == 0 && !is_self {
            return;
        }
        let mut module = self.module();
        module.truncate(module.len().saturating_sub(supers));
        let rest = segments.split_off(supers + usize::from(is_self));
        *segments = ["crate".to_owned()]
            .into_iter()
            .chain(module)
            .chain(rest)
            .collect();
    }

    /// The module's name inside its crate: `crate/src/a/b.rs` is `a::b`.
    fn module(&self) -> Vec<String> {
        let inside = self.path.split_once("/src/").map_or("", |(_, inside)| inside);
        let inside = inside.trim_end_matches(".rs");
        inside
            .split('/')
            .filter(|part| !matches!(*part, "" | "lib" | "main"))
            .map(str::to_owned)
            .collect()
    }
}

/// Lines of `#[cfg(test)] mod … { … }`.
fn test_module(tokens: &[TokenTree]) -> Option<Range<usize>> {
    let start = tokens.windows(2).position(|pair| match pair {
        [TokenTree::Punct(hash), TokenTree::Group(attribute)] => {
            hash.as_char() == '#' && attribute.stream().to_string().replace(' ', "") == "cfg(test)"
        }
        _ => false,
    })?;
    let body = tokens[start..].iter().find_map(|token| match token {
        TokenTree::Group(group) if group.delimiter() == Delimiter::Brace => Some(group),
        _ => None,
    })?;
    Some(tokens[start].span().start().line..body.span_close().end().line + 1)
}

fn ident(token: Option<&TokenTree>) -> Option<String> {
    match token {
        Some(TokenTree::Ident(ident)) => Some(ident.to_string()),
        _ => None,
    }
}

fn is_punct(token: Option<&TokenTree>, wanted: char) -> bool {
    matches!(token, Some(TokenTree::Punct(punct)) if punct.as_char() == wanted)
}

fn is_separator(tokens: &[TokenTree], at: usize) -> bool {
    is_punct(tokens.get(at), ':') && is_punct(tokens.get(at + 1), ':')
}

fn paths_of(tokens: &[TokenTree], out: &mut Vec<NamedPath>) {
    let mut at = 0;
    while at < tokens.len() {
        match &tokens[at] {
            TokenTree::Group(group) => {
                paths_of(&group.stream().into_iter().collect::<Vec<_>>(), out);
                at += 1;
            }
            TokenTree::Ident(first) if first == "use" => {
                let end = tokens[at..].iter().position(|token| is_punct(Some(token), ';'));
                let end = end.map_or(tokens.len(), |length| at + length);
                use_tree(&tokens[at + 1..end], &[], out);
                at = end;
            }
            TokenTree::Ident(first) => at = inline_path(tokens, at, first.span().start().line, out),
            _ => at += 1,
        }
    }
}

/// Takes the path that begins at `at`, if it has more than one segment; returns where it ends.
fn inline_path(tokens: &[TokenTree], mut at: usize, line: usize, out: &mut Vec<NamedPath>) -> usize {
    let mut segments = Vec::new();
    while let Some(segment) = ident(tokens.get(at)) {
        segments.push(segment);
        at += 1;
        if !(is_separator(tokens, at) && ident(tokens.get(at + 2)).is_some()) {
            break;
        }
        at += 2;
    }
    if segments.len() > 1 {
        out.push(NamedPath { segments, line });
    }
    at
}

/// Spells out `a::{b, c::d}`.
fn use_tree(tokens: &[TokenTree], prefix: &[String], out: &mut Vec<NamedPath>) {
    for branch in tokens.split(|token| is_punct(Some(token), ',')) {
        let mut segments = prefix.to_vec();
        for token in branch {
            match token {
                TokenTree::Ident(name) if name == "as" => break,
                TokenTree::Ident(name) => segments.push(name.to_string()),
                TokenTree::Group(group) => {
                    use_tree(&group.stream().into_iter().collect::<Vec<_>>(), &segments, out);
                    segments.clear();
                }
                _ => {}
            }
        }
        if let Some(first) = branch.first().filter(|_| !segments.is_empty()) {
            let line = first.span().start().line;
            out.push(NamedPath { segments, line });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn paths(path: &str, text: &str) -> Vec<String> {
        let source = Source::parse(path.to_owned(), text.to_owned()).unwrap();
        source
            .paths()
            .iter()
            .map(|path| format!("{} {}", path.line, path.segments.join("::")))
            .collect()
    }

    #[test]
    fn uses_are_spelled_out_and_relative_paths_resolved() {
        let text = "use std::{fs, io::{self, Read}};\nuse super::b;\n// tokio::time\nfn f() { self::g(\"aya::x\") }\n";
        assert_eq!(
            paths("user/src/a/c.rs", text),
            [
                "1 std::fs",
                "1 std::io::self",
                "1 std::io::Read",
                "2 crate::a::b",
                "4 crate::a::c::g"
            ]
        );
    }

    #[test]
    fn paths_inside_macros_and_types_are_seen() {
        let text = "fn f() -> aya::Map { info!(\"x\", tokio::task::id()) }";
        assert_eq!(
            paths("user/src/lib.rs", text),
            ["1 aya::Map", "1 tokio::task::id"]
        );
    }

    #[test]
    fn the_test_module_is_told_from_production() {
        let text = "fn f() {}\n#[cfg(test)]\nmod tests {\n    fn g() {}\n}\n";
        let source = Source::parse("user/src/lib.rs".to_owned(), text.to_owned()).unwrap();
        assert_eq!(
            [1, 2, 4, 5].map(|line| source.is_test(line)),
            [false, true, true, true]
        );
        assert_eq!(source.production_lines(), 1);
        let whole = Source::parse("user/src/a/tests.rs".to_owned(), text.to_owned()).unwrap();
        assert!(whole.is_test(1));
    }
}
