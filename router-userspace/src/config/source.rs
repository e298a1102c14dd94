//! Where things are: documents in files, fields in documents. Lines are looked up only when somebody asks.
//!
//! It knows no kinds of documents.

use std::{
    collections::BTreeMap,
    fs,
    hash::{DefaultHasher, Hash as _, Hasher as _},
    num::NonZeroU32,
    ops::Range,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, OnceLock, PoisonError},
};

use crate::finding::{Code, Finding, Place};
use arc_swap::ArcSwapOption;

mod outline;

pub(super) use outline::snake_case;

use outline::Outline;

/// What some editors put in front of UTF-8 text.
pub(super) const BYTE_ORDER_MARK: char = '\u{feff}';

/// A file's text with the places of its documents: kept, or read again when somebody asks for a line after it was
/// forgotten.
#[derive(Debug)]
pub(super) struct FileText {
    /// What findings call the file.
    name: Arc<str>,
    /// Where to read it again; none: it is never forgotten.
    path: Option<PathBuf>,
    digest: u64,
    text: ArcSwapOption<String>,
    documents: OnceLock<Box<[Span]>>,
    /// Of documents that a finding asked the line of a field of: the others pay nothing.
    outlines: Mutex<BTreeMap<u32, Arc<Outline>>>,
}

/// Where a document is in its file.
#[derive(Clone, Copy, Debug, Default)]
struct Span {
    /// First byte. Files are far smaller than 4 GiB ([`LoadLimits`](super::LoadLimits)).
    start: u32,
    /// The byte behind the last.
    end: u32,
    /// Number of its first line in the file.
    first_line: u32,
    /// Of the first line with content, from `first_line`.
    content_line: u32,
}

impl FileText {
    /// A text that is kept as long as anything refers to it.
    pub(super) fn kept(name: &str, text: String) -> Self {
        let text = without_mark(text);
        Self {
            name: name.into(),
            path: None,
            digest: 0,
            text: ArcSwapOption::from_pointee(text),
            documents: OnceLock::new(),
            outlines: Mutex::default(),
        }
    }

    /// A text without a byte order mark, with its digest, that can be read again at `path`.
    pub(super) fn of_file(name: &str, path: &Path, text: String, digest: u64) -> Self {
        Self {
            path: Some(path.to_owned()),
            digest,
            ..Self::kept(name, text)
        }
    }

    /// The text, without a byte order mark. Empty when it was forgotten and the file is another by now.
    fn text(&self) -> Arc<String> {
        if let Some(text) = self.text.load_full() {
            return text;
        }
        let path = self.path.as_deref();
        let again = path
            .and_then(|path| fs::read_to_string(path).ok())
            .map(without_mark);
        let text = Arc::new(
            again
                .filter(|text| digest(text) == self.digest)
                .unwrap_or_default(),
        );
        self.text.store(Some(Arc::clone(&text)));
        text
    }

    /// Lets go of a text that can be read again.
    pub(super) fn forget(&self) {
        if self.path.is_some() {
            self.text.store(None);
        }
    }

    fn span(&self, number: u32) -> Span {
        let spans = self.documents.get();
        spans
            .and_then(|spans| spans.get(number as usize))
            .copied()
            .unwrap_or_default()
    }
}

/// A number that texts share only when they are the same.
pub(super) fn digest(text: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    text.hash(&mut hasher);
    hasher.finish()
}

pub(super) fn without_mark(mut text: String) -> String {
    if text.starts_with(BYTE_ORDER_MARK) {
        text.drain(..BYTE_ORDER_MARK.len_utf8());
    }
    text
}

/// One document of a file.
#[derive(Clone, Debug)]
pub(super) struct Source {
    file: Arc<FileText>,
    /// Counted from 0, without those that have no content.
    number: u32,
}

/// A document's text.
#[derive(Debug)]
pub(super) struct Text {
    file: Arc<String>,
    range: Range<usize>,
}

impl std::ops::Deref for Text {
    type Target = str;

    fn deref(&self) -> &str {
        self.file.get(self.range.clone()).unwrap_or_default()
    }
}

impl Source {
    pub(super) fn text(&self) -> Text {
        Text {
            file: self.file.text(),
            range: self.range(),
        }
    }

    /// Its number in the file, from 0.
    pub(super) const fn number(&self) -> u32 {
        self.number
    }

    /// The text of the whole file, without a byte order mark.
    pub(super) fn file_text(&self) -> Arc<String> {
        self.file.text()
    }

    /// Where [`Source::text`] is in [`Source::file_text`].
    pub(super) fn range(&self) -> Range<usize> {
        let Span { start, end, .. } = self.file.span(self.number);
        start as usize..end as usize
    }

    /// Numbers of its lines in the file.
    pub(super) fn lines(&self) -> Range<u32> {
        let count = u32::try_from(self.text().lines().count()).unwrap_or(u32::MAX);
        self.first_line()..self.first_line().saturating_add(count)
    }

    pub(super) fn file(&self) -> &Arc<str> {
        &self.file.name
    }

    pub(super) fn first_line(&self) -> u32 {
        self.file.span(self.number).first_line
    }

    /// Line of the first thing that is neither blank, comment nor document marker.
    pub(super) fn content_line(&self) -> u32 {
        let span = self.file.span(self.number);
        span.first_line.saturating_add(span.content_line)
    }

    fn line_of(&self, path: &str) -> u32 {
        self.line_in_file(self.outline().line_of(path))
    }

    /// Line of the first key that its mapping has already.
    pub(super) fn repeated_key_line(&self) -> Option<u32> {
        self.outline()
            .repeated_key_line()
            .map(|line| self.line_in_file(line))
    }

    fn outline(&self) -> Arc<Outline> {
        // An outline is inserted whole.
        let known = || self.file.outlines.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(outline) = known().get(&self.number) {
            return Arc::clone(outline);
        }
        let outline = Arc::new(Outline::new(&self.text()));
        Arc::clone(known().entry(self.number).or_insert(outline))
    }

    fn line_in_file(&self, line: u32) -> u32 {
        self.first_line().saturating_add(line).saturating_sub(1)
    }
}

/// Splits a file into its documents. Those without content are left out.
///
/// A line that begins with `---` or `...` ends a document wherever it stands: YAML allows it in no value. So the
/// split needs no parser.
pub(super) fn split(file: &Arc<FileText>) -> Vec<Source> {
    let spans = file.documents.get_or_init(|| spans(&file.text()).into());
    let numbers = (0..).take(spans.len());
    numbers
        .map(|number| Source {
            file: Arc::clone(file),
            number,
        })
        .collect()
}

fn spans(text: &str) -> Vec<Span> {
    let mut spans = Vec::new();
    let mut start = (0, 1);
    let short = |place: usize| u32::try_from(place).unwrap_or(u32::MAX);
    let mut add = |(start, first_line): (usize, u32), end: usize| {
        if let Some(content_line) = content_line(&text[start..end]) {
            spans.push(Span {
                start: short(start),
                end: short(end),
                first_line,
                content_line,
            });
        }
    };
    let (mut offset, mut number) = (0, 1);
    for line in text.split_inclusive('\n') {
        if is_marker(line, "---") && offset > start.0 {
            add(start, offset);
            start = (offset, number);
        }
        offset += line.len();
        number += 1;
        if is_marker(line, "...") {
            add(start, offset - line.len());
            start = (offset, number);
        }
    }
    add(start, offset);
    spans
}

/// Lines before the first thing that is neither blank, comment nor document marker.
fn content_line(text: &str) -> Option<u32> {
    let is_content = |line: &str| {
        let line = line.strip_prefix("---").unwrap_or(line).trim();
        !(line.is_empty() || line.starts_with(['#', '%']))
    };
    let before = text.lines().position(is_content)?;
    Some(u32::try_from(before).unwrap_or(u32::MAX))
}

fn is_marker(line: &str, marker: &str) -> bool {
    line.strip_prefix(marker)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with([' ', '\t', '\r', '\n']))
}

/// The place of an object, from which places of its fields are made.
#[derive(Clone, Debug)]
pub struct Position {
    file: Arc<FileText>,
    /// Number of its document, as [`Source::number`].
    document: u32,
    /// One more than its index in a `List`.
    item: Option<NonZeroU32>,
    /// True when fields are given relative to the object's `spec`.
    pub(super) in_spec: bool,
    /// Kind and name: `route-rule reviews-default`. Objects of the registry are many: their documents know it
    /// ([`Document::object`](super::Document::object)), and here is one word for it.
    object: Option<Box<Arc<str>>>,
}

impl Position {
    /// The beginning of a document.
    pub(super) fn of(source: &Source) -> Self {
        Self {
            file: Arc::clone(&source.file),
            document: source.number,
            item: None,
            in_spec: false,
            object: None,
        }
    }

    /// Its document.
    pub(super) fn source(&self) -> Source {
        Source {
            file: Arc::clone(&self.file),
            number: self.document,
        }
    }

    /// Index in a `List`.
    pub(super) fn item(&self) -> Option<u32> {
        self.item.map(|above| above.get() - 1)
    }

    /// Makes it the position of an item of a `List`, or of the list again.
    pub(super) const fn set_item(&mut self, index: Option<u32>) {
        self.item = match index {
            Some(index) => NonZeroU32::new(index.saturating_add(1)),
            None => None,
        };
    }

    /// Kind and name of the object, when it has them and they are kept here.
    pub fn object(&self) -> Option<&Arc<str>> {
        self.object.as_deref()
    }

    /// Says what the object is called, or nothing.
    pub(super) fn set_object(&mut self, object: Option<Arc<str>>) {
        self.object = object.map(Box::new);
    }

    /// File, relative to the configuration directory.
    pub fn file(&self) -> &Arc<str> {
        &self.file.name
    }

    /// First line of the object.
    pub fn line(&self) -> u32 {
        match self.item() {
            Some(item) => self.source().line_of(&format!("items[{item}]")),
            None => self.source().content_line(),
        }
    }

    /// True when the object is a rule or policy that was written without a name.
    pub fn is_bare_rule(&self) -> bool {
        let object = self.object().map_or("", |object| object);
        !self.in_spec && (object.starts_with("route-rule ") || object.starts_with("destination-policy "))
    }

    /// The place of a field, given by its path in the object's specification (`route[1].weight`); the empty path is
    /// the object itself. A field that is not there has the place of what should contain it.
    pub fn place(&self, field: &str) -> Place {
        if field.is_empty() {
            return Place {
                file: self.file().clone(),
                line: self.line(),
                field: String::new(),
            };
        }
        let mut path = self
            .item()
            .map_or_else(String::new, |item| format!("items[{item}]."));
        if self.in_spec {
            path.push_str("spec.");
        }
        path.push_str(field);
        Place {
            file: self.file().clone(),
            line: self.source().line_of(&path),
            field: path,
        }
    }

    /// A finding about a field of the object.
    pub fn finding(
        &self,
        code: &Code,
        field: &str,
        message: impl Into<String>,
        hint: impl Into<String>,
    ) -> Finding {
        Finding::new(code, self.place(field), message, hint).about(self.object().cloned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn split(text: &str) -> Vec<Source> {
        super::split(&Arc::new(FileText::kept("f", text.to_owned())))
    }

    const FILE: &str = "# head\n---\n# one\na: 1\nspec:\n  route:\n  - tags: {app.kubernetes.io/name: x}\n    \
                        weight: 2\n  -\n    weight: 3\n  http_fault:\n    delay: 1\n...\n--- # empty\n---\nb: |\n  --- no\n";

    #[test]
    fn documents_are_split_at_markers() {
        let lines: Vec<_> = split(FILE).iter().map(|s| s.content_line()).collect();
        assert_eq!(lines, [4, 16]);
        assert_eq!(split("").len(), 0);
        assert_eq!(split("--- {a: b}\n--- {c: d}").len(), 2);
        assert_eq!(split("---x: b\n").len(), 1);
    }

    #[test]
    fn fields_have_lines() {
        let source = &split(FILE)[0];
        for (path, line) in [
            ("a", 4),
            ("spec", 5),
            ("spec.route[0].tags.app.kubernetes.io/name", 7),
            ("spec.route[0].weight", 8),
            ("spec.route[1].weight", 10),
            ("spec.route[1].tags.version", 10),
            ("spec.httpFault.delay", 12),
            ("spec.httpFault.abort", 11),
            ("spec.nothing", 5),
        ] {
            assert_eq!(source.line_of(path), line, "{path}");
        }
    }
}
