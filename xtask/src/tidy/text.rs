//! Rules on single files: their first line, their length, and what tests must not do.

use proc_macro2::{TokenStream, TokenTree};

use super::{Fault, source::Source};

/// Longest production part of a file, lines.
const FILE_LINES: usize = 500;

/// The comment that says what a pause in a test waits for and why no condition can be waited for instead.
const WAITS: &str = "// waits:";

/// Every fault of one file.
pub(super) fn check(source: &Source) -> Vec<Fault> {
    let mut faults = Vec::new();
    if !source.text.starts_with("//! ") {
        faults.push(Fault::new(
            &source.path,
            1,
            "the first line says what the file is for: `//! …`",
        ));
    }
    if !source.path.contains("/tests/") && source.production_lines() > FILE_LINES {
        let message = format!(
            "{} lines, at most {FILE_LINES}: split it by concern",
            source.production_lines()
        );
        faults.push(Fault::new(&source.path, 0, message));
    }
    let ignored = ignored_tests(&source.tokens);
    let message = "no #[ignore]: a test runs, or says loudly at run time why it cannot";
    faults.extend(
        ignored
            .into_iter()
            .map(|line| Fault::new(&source.path, line, message)),
    );
    faults.extend(unexplained_sleeps(source));
    faults
}

/// Lines of `#[ignore]` and `#[ignore = "…"]`.
fn ignored_tests(tokens: &[TokenTree]) -> Vec<usize> {
    let mut lines = Vec::new();
    for (at, token) in tokens.iter().enumerate() {
        let TokenTree::Group(group) = token else { continue };
        let is_attribute =
            at > 0 && matches!(&tokens[at - 1], TokenTree::Punct(punct) if punct.as_char() == '#');
        if is_attribute && begins_with_ignore(group.stream()) {
            lines.push(group.span_open().start().line);
        }
        lines.extend(ignored_tests(&group.stream().into_iter().collect::<Vec<_>>()));
    }
    lines
}

fn begins_with_ignore(attribute: TokenStream) -> bool {
    matches!(attribute.into_iter().next(), Some(TokenTree::Ident(name)) if name == "ignore")
}

/// Pauses in tests without a comment, on the line or just above it, that says why.
fn unexplained_sleeps(source: &Source) -> Vec<Fault> {
    let lines: Vec<_> = source.text.lines().collect();
    let explained = |line: usize| {
        lines[line.saturating_sub(3)..line.min(lines.len())]
            .iter()
            .any(|text| text.contains(WAITS))
    };
    let sleeps = source.paths().into_iter().filter(|path| {
        let named = path
            .segments
            .ends_with(&["thread".to_owned(), "sleep".to_owned()])
            || path.segments.ends_with(&["time".to_owned(), "sleep".to_owned()]);
        named && source.is_test(path.line) && !explained(path.line)
    });
    let message =
        "tests wait for a condition, not for time; if it must be time, say why: `// waits: …` above";
    sleeps
        .map(|path| Fault::new(&source.path, path.line, message))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn faults(path: &str, text: &str) -> Vec<usize> {
        let source = Source::parse(path.to_owned(), text.to_owned()).unwrap();
        check(&source).iter().map(|fault| fault.line).collect()
    }

    #[test]
    fn files_begin_with_their_purpose_and_stay_short() {
        assert_eq!(faults("a/src/x.rs", "use std::fs;\n"), [1]);
        assert_eq!(
            faults(
                "a/src/x.rs",
                &format!("//! x\n{}", "fn f() {}\n".repeat(FILE_LINES))
            ),
            [0]
        );
        let long_tests = format!(
            "//! x\n#[cfg(test)]\nmod tests {{\n{}}}\n",
            "fn f() {}\n".repeat(FILE_LINES)
        );
        assert!(faults("a/src/x.rs", &long_tests).is_empty());
    }

    #[test]
    fn ignored_tests_are_found_anywhere() {
        assert_eq!(
            faults(
                "a/src/x.rs",
                "//! x\nmod tests {\n    #[ignore = \"slow\"]\n    fn f() {}\n}\n"
            ),
            [3]
        );
        assert!(
            faults(
                "a/src/x.rs",
                "//! x\n// #[ignore]\nfn f() { let _ = \"#[ignore]\"; }\n"
            )
            .is_empty()
        );
    }

    #[test]
    fn a_pause_in_a_test_is_explained() {
        let pause = "//! x\nfn f() {\n    std::thread::sleep(D);\n}\n";
        assert_eq!(faults("tests/src/x.rs", pause), [3]);
        assert!(faults("a/src/x.rs", pause).is_empty(), "production may pause");
        assert!(
            faults(
                "tests/src/x.rs",
                &pause.replace("    std", "    // waits: it is a server's delay\n    std")
            )
            .is_empty()
        );
    }
}
