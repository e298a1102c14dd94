//! Replacing and removing one document of a file's text. What is not part of the document stays byte for byte.
//!
//! It knows comments and document markers, but no kinds of documents.

use std::ops::Range;

/// What remains of a removed document where unnamed documents follow it: they are named by their numbers.
const PLACEHOLDER: &str =
    "null # was removed; the unnamed documents below keep their numbers, which name them\n";

/// What follows a removed document in its file.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Below {
    /// Documents that are named after their numbers, perhaps among others.
    Unnamed,
    /// Nothing, or documents that have names.
    Named,
}

/// The text of one document in its parts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Parts<'t> {
    /// The line `---` with its comment, or nothing.
    pub(super) marker: &'t str,
    /// Comments before the content that a blank line sets apart from it: they speak of the file.
    pub(super) heading: &'t str,
    /// Comments directly before the content: they speak of the object.
    pub(super) comment: &'t str,
    /// From the first line of the content to the end.
    pub(super) content: &'t str,
}

impl<'t> Parts<'t> {
    /// Takes a document apart. Content on the line of the marker begins the content.
    pub(super) fn of(document: &'t str) -> Self {
        let (marker, rest) = match document.strip_prefix("---") {
            Some(after) => {
                let line_end = document.find('\n').map_or(document.len(), |end| end + 1);
                let on_line = document[3..line_end].trim();
                if on_line.is_empty() || on_line.starts_with('#') {
                    document.split_at(line_end)
                } else {
                    ("", after.trim_start_matches([' ', '\t']))
                }
            }
            None => ("", document),
        };
        let (mut comment_start, mut content_start) = (0, 0);
        for line in rest.split_inclusive('\n') {
            let trimmed = line.trim();
            if !(trimmed.is_empty() || trimmed.starts_with('#')) {
                break;
            }
            content_start += line.len();
            if trimmed.is_empty() {
                comment_start = content_start;
            }
        }
        Self {
            marker,
            heading: &rest[..comment_start],
            comment: &rest[comment_start..content_start],
            content: &rest[content_start..],
        }
    }
}

/// `file` with the document at `range` replaced by `body`, which may begin with comments; if it has none, those of the
/// old document stay.
pub(super) fn replace(file: &str, range: Range<usize>, body: &str) -> String {
    let document = &file[range.clone()];
    let old = Parts::of(document);
    let new = Parts::of(body);
    let comment = if new.comment.is_empty() {
        old.comment
    } else {
        new.comment
    };
    // A marker that had content beside it.
    let marker = if old.marker.is_empty() && document.starts_with("---") {
        "---\n"
    } else {
        old.marker
    };
    let end = if new.content.ends_with('\n') { "" } else { "\n" };
    let text = [marker, old.heading, comment, new.content, end].concat();
    let text = if document.contains("\r\n") {
        text.replace("\r\n", "\n").replace('\n', "\r\n")
    } else {
        text
    };
    [&file[..range.start], &text, &file[range.end..]].concat()
}

/// `file` without the document at `range` and the comments that speak of it.
pub(super) fn remove(file: &str, range: Range<usize>, below: Below) -> String {
    let document = &file[range.clone()];
    let heading = if range.start == 0 {
        Parts::of(document).heading
    } else {
        ""
    };
    let marker = if document.starts_with("---") { "--- " } else { "" };
    let rest = &file[range.end..];
    match below {
        Below::Unnamed => [&file[..range.start], heading, marker, PLACEHOLDER, rest].concat(),
        Below::Named => {
            let mut text = [&file[..range.start], heading].concat();
            if rest.is_empty() {
                while let Some(without) = text.strip_suffix(&format!("--- {PLACEHOLDER}")) {
                    text.truncate(without.len());
                }
            }
            text + rest
        }
    }
}

/// True when nothing of `file` is worth keeping: no comment and no content but what [`remove`] left.
pub(super) fn is_spent(file: &str) -> bool {
    file.split_inclusive('\n').all(|line| {
        let line = line.strip_prefix("---").unwrap_or(line).trim_start();
        line.is_empty() || line == PLACEHOLDER
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str =
        "# the file\n\n# one\na: 1\n---\n# two\n\nb: 2 # kept\n--- {c: 3}\n---  # four\nd: |\n  x\n";

    fn range(from: &str, to: &str) -> Range<usize> {
        FILE.find(from).unwrap()..FILE.find(to).unwrap_or(FILE.len())
    }

    #[test]
    fn documents_have_parts() {
        let parts = Parts::of("--- # m\n# file\n\n# one\na: 1\n# end\n");
        assert_eq!(
            [parts.marker, parts.heading, parts.comment, parts.content],
            ["--- # m\n", "# file\n\n", "# one\n", "a: 1\n# end\n"]
        );
        assert_eq!(Parts::of("--- {a: 1}\n").content, "{a: 1}\n");
        assert_eq!(Parts::of("---").marker, "---");
    }

    #[test]
    fn a_replaced_document_leaves_the_others_alone() {
        let text = replace(FILE, range("---\n# two", "--- {c"), "x: 1\n");
        assert_eq!(text, FILE.replace("# two\n\nb: 2 # kept\n", "# two\n\nx: 1\n"));
        let text = replace(FILE, 0..FILE.find("---").unwrap(), "# new\nx: 1");
        assert_eq!(text, FILE.replace("# one\na: 1\n", "# new\nx: 1\n"));
        let text = replace(FILE, range("--- {c", "---  #"), "x: 1\n");
        assert_eq!(text, FILE.replace("--- {c: 3}\n", "---\nx: 1\n"));
        assert_eq!(replace("a: 1\r\n", 0..6, "x: 1\ny: 2\n"), "x: 1\r\ny: 2\r\n");
    }

    #[test]
    fn a_removed_document_takes_its_comments_along() {
        let text = remove(FILE, 0..FILE.find("---").unwrap(), Below::Named);
        assert_eq!(text, FILE.replace("# one\na: 1\n", ""));
        let text = remove(FILE, range("---\n# two", "--- {c"), Below::Named);
        assert_eq!(text, FILE.replace("---\n# two\n\nb: 2 # kept\n", ""));
    }

    #[test]
    fn placeholders_go_when_nothing_follows_them() {
        let two = range("---\n# two", "--- {c");
        let text = remove(FILE, two.clone(), Below::Unnamed);
        assert_eq!(
            text,
            FILE.replace("---\n# two\n\nb: 2 # kept\n", &format!("--- {PLACEHOLDER}"))
        );
        let mut text = FILE[..range("--- {c", "").start].to_owned();
        text = remove(&text, two.clone(), Below::Unnamed) + "---\nc: 3\n";
        let last = text.rfind("---").unwrap();
        assert_eq!(remove(&text, last..text.len(), Below::Named), FILE[..two.start]);
    }

    #[test]
    fn only_comments_are_worth_keeping() {
        assert!(
            is_spent("") && is_spent("---\n\n") && is_spent(&format!("--- {PLACEHOLDER}---\n{PLACEHOLDER}"))
        );
        assert!(!is_spent("# head\n") && !is_spent("a: 1\n"));
    }
}
