//! The lines of a document's fields, by their paths. Only what a finding speaks of is ever outlined.
//!
//! It knows no files and no values.

use std::collections::HashSet;

use saphyr_parser::{Event, Parser};

/// Line numbers of a document's nodes, counted from the document's first line.
#[derive(Debug)]
pub(super) struct Outline {
    line: u32,
    children: Children,
}

#[derive(Debug)]
enum Children {
    None,
    /// Key, its line, its value.
    Entries(Vec<(Box<str>, u32, Outline)>),
    Items(Vec<Outline>),
}

impl Outline {
    /// What the parser understands of `text`: after a syntax error, the part before it.
    pub(super) fn new(text: &str) -> Self {
        let mut builder = OutlineBuilder::default();
        for event in Parser::new_from_str(text) {
            let Ok((event, span)) = event else { break };
            let line = u32::try_from(span.start.line()).unwrap_or(u32::MAX);
            match event {
                Event::Scalar(value, ..) => builder.leaf(line, &value),
                Event::Alias(_) => builder.leaf(line, ""),
                Event::MappingStart(..) => builder.open(line, Children::Entries(Vec::new())),
                Event::SequenceStart(..) => builder.open(line, Children::Items(Vec::new())),
                Event::MappingEnd | Event::SequenceEnd => builder.close(),
                _ => {}
            }
        }
        builder.finish()
    }

    /// The line of the node at `path`, or of the deepest node on the way to it. Keys may hold dots: the longest key
    /// that fits is taken.
    pub(super) fn line_of(&self, path: &str) -> u32 {
        match &self.children {
            Children::None => self.line,
            Children::Entries(entries) => {
                let path = path.strip_prefix('.').unwrap_or(path);
                let fitting = entries
                    .iter()
                    .filter_map(|entry| Some((entry, after_key(path, &entry.0)?)));
                match fitting.max_by_key(|(entry, _)| entry.0.len()) {
                    Some(((_, line, _), "")) => *line,
                    Some(((_, line, value), rest)) if matches!(value.children, Children::None) => {
                        debug_assert!(!rest.is_empty());
                        *line
                    }
                    Some(((_, key_line, value), rest)) => value.line_below(rest).unwrap_or(*key_line),
                    None => self.line,
                }
            }
            Children::Items(items) => {
                let item = path
                    .strip_prefix('[')
                    .and_then(|rest| rest.split_once(']'))
                    .and_then(|(index, rest)| Some((items.get(index.parse::<usize>().ok()?)?, rest)));
                match item {
                    Some((item, "")) => item.line,
                    Some((item, rest)) => item.line_of(rest),
                    None => self.line,
                }
            }
        }
    }

    pub(super) fn repeated_key_line(&self) -> Option<u32> {
        match &self.children {
            Children::None => None,
            Children::Items(items) => items.iter().find_map(Self::repeated_key_line),
            Children::Entries(entries) => {
                let mut keys = HashSet::new();
                let repeated = entries.iter().find(|(key, ..)| !keys.insert(key));
                let below = || entries.iter().find_map(|(.., value)| value.repeated_key_line());
                repeated.map(|&(_, line, _)| line).or_else(below)
            }
        }
    }

    /// As [`Outline::line_of`], but nothing when not even the first step of `path` is there.
    fn line_below(&self, path: &str) -> Option<u32> {
        let found = match &self.children {
            Children::None => false,
            Children::Entries(entries) => {
                let path = path.strip_prefix('.').unwrap_or(path);
                entries.iter().any(|(key, ..)| after_key(path, key).is_some())
            }
            Children::Items(_) => path.starts_with('['),
        };
        found.then(|| self.line_of(path))
    }
}

/// What follows `key` in `path`, when `path` begins with it, in the spelling of the language or of its proto names.
fn after_key<'p>(path: &'p str, key: &str) -> Option<&'p str> {
    let rest = path.strip_prefix(key).or_else(|| {
        let end = path.find(['.', '[']).unwrap_or(path.len());
        (snake_case(&path[..end]) == key).then(|| &path[end..])
    })?;
    (rest.is_empty() || rest.starts_with(['.', '['])).then_some(rest)
}

/// A name of the language in the spelling of its proto.
pub(in crate::config) fn snake_case(camel: &str) -> String {
    let mut snake = String::with_capacity(camel.len() + 4);
    for c in camel.chars() {
        if c.is_ascii_uppercase() {
            snake.push('_');
        }
        snake.push(c.to_ascii_lowercase());
    }
    snake
}

/// A key with its line.
type Key = (Box<str>, u32);

/// Nodes that are open, each with the key that waits for its value.
#[derive(Default)]
struct OutlineBuilder {
    open: Vec<(Outline, Option<Key>)>,
    root: Option<Outline>,
}

impl OutlineBuilder {
    fn open(&mut self, line: u32, children: Children) {
        self.open.push((Outline { line, children }, None));
    }

    fn leaf(&mut self, line: u32, text: &str) {
        if let Some((parent, key @ None)) = self.open.last_mut()
            && matches!(parent.children, Children::Entries(_))
        {
            *key = Some((text.into(), line));
            return;
        }
        self.add(Outline {
            line,
            children: Children::None,
        });
    }

    fn close(&mut self) {
        if let Some((node, _)) = self.open.pop() {
            self.add(node);
        }
    }

    fn add(&mut self, node: Outline) {
        let Some((parent, key)) = self.open.last_mut() else {
            self.root.get_or_insert(node);
            return;
        };
        match (&mut parent.children, key.take()) {
            (Children::Entries(entries), Some((key, line))) => entries.push((key, line, node)),
            (Children::Items(items), _) => items.push(node),
            // A key that is a mapping or a list: the tree refuses it, so nobody asks for its line.
            (Children::Entries(_), None) => *key = Some(("".into(), node.line)),
            (Children::None, _) => {}
        }
    }

    fn finish(mut self) -> Outline {
        while !self.open.is_empty() {
            self.close();
        }
        self.root.unwrap_or(Outline {
            line: 1,
            children: Children::None,
        })
    }
}
