//! The YAML that `kubectl` and people mostly write, read fast and without copying: block and flow collections of plain
//! and quoted scalars that end on their line.
//!
//! It says what a text means or that it does not know, and then the whole parser is asked: anchors, tags, escapes,
//! folded text, floats, anything that is not printable ASCII, and everything that is wrong. It reports no faults.

mod flow;
mod node;
mod scalar;

pub(in crate::config) use node::Node;

/// Collections inside each other at most; the whole parser takes more.
const MAX_DEPTH: usize = 64;

/// Keys of one mapping at most: repeated keys are looked for by comparing each with each.
const MAX_KEYS: usize = 64;

/// The tree of `text`, when it is of the plain kind. What it returns is what the whole parser would return.
pub(super) fn parse(text: &str) -> Option<Node<'_>> {
    let mut reader = Reader {
        text,
        at: 0,
        indent: 0,
        ended: false,
        depth: 0,
    };
    reader.skip_marker()?;
    reader.next_line()?;
    if reader.ended {
        return None;
    }
    let node = reader.block(reader.indent)?;
    reader.ended.then_some(node)
}

/// Reads line by line. Between two values it stands at the first character of a line with content, after its spaces.
struct Reader<'t> {
    text: &'t str,
    at: usize,
    /// Spaces before `at` on its line; after a dash, the column of what follows it.
    indent: usize,
    ended: bool,
    depth: usize,
}

impl<'t> Reader<'t> {
    fn byte(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn byte_after(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at + 1).copied()
    }

    /// A document may begin with its marker, alone on a line.
    fn skip_marker(&mut self) -> Option<()> {
        if self.text.starts_with("---") {
            self.at = 3;
            self.end_of_line()?;
        }
        Some(())
    }

    /// Skips blanks up to the end of the line and the end itself. None when there is something else.
    fn end_of_line(&mut self) -> Option<()> {
        self.skip_spaces();
        match self.byte() {
            None => Some(()),
            Some(b'\n') => {
                self.at += 1;
                Some(())
            }
            Some(_) => None,
        }
    }

    fn skip_spaces(&mut self) {
        while self.byte() == Some(b' ') {
            self.at += 1;
        }
    }

    /// From the beginning of a line to the first character of a line with content.
    fn next_line(&mut self) -> Option<()> {
        loop {
            let start = self.at;
            self.skip_spaces();
            self.indent = self.at - start;
            match self.byte() {
                None => {
                    self.ended = true;
                    self.indent = 0;
                    return Some(());
                }
                Some(b'\n') => self.at += 1,
                Some(b'#') => self.skip_comment()?,
                // A marker or directive in the middle of a document.
                Some(b'%') => return None,
                Some(_) if self.indent == 0 && self.rest().starts_with("...") => return None,
                Some(_) if self.indent == 0 && self.rest().starts_with("---") => return None,
                Some(_) => return Some(()),
            }
        }
    }

    fn rest(&self) -> &'t str {
        &self.text[self.at..]
    }

    fn skip_comment(&mut self) -> Option<()> {
        let rest = self.rest();
        let line = rest.split_once('\n').map_or(rest, |(line, _)| line);
        self.at += line.len();
        line.bytes()
            .all(scalar::is_printable)
            .then(|| self.end_of_line())?
    }

    fn block(&mut self, indent: usize) -> Option<Node<'t>> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return None;
        }
        let node = if self.at_dash() {
            self.sequence(indent)
        } else {
            self.mapping(indent)
        };
        self.depth -= 1;
        node
    }

    fn at_dash(&self) -> bool {
        self.byte() == Some(b'-') && matches!(self.byte_after(), None | Some(b' ' | b'\n'))
    }

    fn mapping(&mut self, indent: usize) -> Option<Node<'t>> {
        let mut entries: Vec<(&'t str, Node<'t>)> = Vec::new();
        loop {
            let key = self.key()?;
            if entries.len() == MAX_KEYS || entries.iter().any(|(known, _)| *known == key) {
                return None;
            }
            let value = self.value(indent)?;
            entries.push((key, value));
            if self.ended || self.indent < indent {
                return Some(Node::Map(entries));
            }
            if self.indent > indent || self.at_dash() {
                return None;
            }
        }
    }

    /// What follows the colon of a key, up to the next line with content.
    fn value(&mut self, indent: usize) -> Option<Node<'t>> {
        self.skip_spaces();
        match self.byte() {
            None | Some(b'\n') => {
                self.end_of_line()?;
                self.next_line()?;
                if self.ended || self.indent < indent {
                    Some(Node::Null)
                } else if self.indent > indent || self.at_dash() {
                    self.block(self.indent)
                } else {
                    Some(Node::Null)
                }
            }
            Some(b'|') => self.literal(indent),
            Some(_) => self.inline(indent),
        }
    }

    /// A value that ends on its line.
    fn inline(&mut self, indent: usize) -> Option<Node<'t>> {
        let node = match self.byte()? {
            b'{' | b'[' => self.flow()?,
            _ => self.scalar(false)?,
        };
        self.end_of_line()?;
        self.next_line()?;
        // What is indented more would go on with the scalar.
        (self.ended || self.indent <= indent).then_some(node)
    }

    /// Literal text of one line, as `kubectl apply` keeps the last configuration.
    fn literal(&mut self, indent: usize) -> Option<Node<'t>> {
        self.at += 1;
        self.end_of_line()?;
        let start = self.at;
        self.skip_spaces();
        let own = self.at - start;
        let rest = self.rest();
        let (line, _) = rest.split_once('\n')?;
        let is_plain = own > indent && !line.is_empty() && line.bytes().all(scalar::is_printable);
        if !is_plain {
            return None;
        }
        let text = &rest[..=line.len()];
        self.at += text.len();
        let next = self.byte();
        self.next_line()?;
        // Blank lines, comments and more text belong to the literal, or not, by rules of their own.
        let is_over = next.is_none() || (self.indent <= indent && !matches!(next, Some(b'\n' | b'#')));
        (is_over && self.rest_of_line_begins_at(start + own + text.len())).then_some(Node::Text(text))
    }

    /// True when no line was skipped since `offset`.
    fn rest_of_line_begins_at(&self, offset: usize) -> bool {
        self.ended && self.text[offset..].is_empty() || offset + self.indent == self.at
    }

    fn sequence(&mut self, indent: usize) -> Option<Node<'t>> {
        let mut items = Vec::new();
        loop {
            self.at += 1;
            let item = self.item(indent)?;
            items.push(item);
            if self.ended || self.indent < indent || (self.indent == indent && !self.at_dash()) {
                return Some(Node::List(items));
            }
            if self.indent > indent {
                return None;
            }
        }
    }

    /// What follows a dash.
    fn item(&mut self, indent: usize) -> Option<Node<'t>> {
        let dash = self.at;
        self.skip_spaces();
        match self.byte() {
            None | Some(b'\n') => {
                self.end_of_line()?;
                self.next_line()?;
                if !self.ended && self.indent > indent {
                    self.block(self.indent)
                } else {
                    Some(Node::Null)
                }
            }
            Some(b'|') => None,
            Some(_) => {
                let column = indent + 1 + (self.at - dash);
                let start = self.at;
                let is_key = self.at_dash() || self.key().is_some();
                self.at = start;
                if is_key {
                    self.indent = column;
                    self.block(column)
                } else {
                    self.inline(indent)
                }
            }
        }
    }

    /// A key with its colon.
    fn key(&mut self) -> Option<&'t str> {
        let key = match self.byte()? {
            b'"' | b'\'' => self.quoted()?,
            _ => self.plain_key()?,
        };
        if self.byte() != Some(b':') || !matches!(self.byte_after(), None | Some(b' ' | b'\n')) {
            return None;
        }
        self.at += 1;
        Some(key)
    }
}

#[cfg(test)]
mod tests;
