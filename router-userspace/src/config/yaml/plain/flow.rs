//! Flow collections on one line: `{a: b, c: [d, e]}`.

use super::{MAX_DEPTH, MAX_KEYS, Node, Reader};

impl<'t> Reader<'t> {
    /// A collection, from its opening bracket to behind its closing one.
    pub(super) fn flow(&mut self) -> Option<Node<'t>> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return None;
        }
        let node = match self.byte()? {
            b'{' => self.flow_mapping(),
            _ => self.flow_sequence(),
        };
        self.depth -= 1;
        node
    }

    fn flow_mapping(&mut self) -> Option<Node<'t>> {
        let mut entries: Vec<(&'t str, Node<'t>)> = Vec::new();
        self.open();
        if self.close(b'}') {
            return Some(Node::Map(entries));
        }
        loop {
            self.skip_spaces();
            let key = self.key()?;
            if entries.len() == MAX_KEYS || entries.iter().any(|(known, _)| *known == key) {
                return None;
            }
            let value = self.flow_value()?;
            entries.push((key, value));
            if self.close(b'}') {
                return Some(Node::Map(entries));
            }
            self.comma()?;
        }
    }

    fn flow_sequence(&mut self) -> Option<Node<'t>> {
        let mut items = Vec::new();
        self.open();
        if self.close(b']') {
            return Some(Node::List(items));
        }
        loop {
            let item = self.flow_value()?;
            items.push(item);
            if self.close(b']') {
                return Some(Node::List(items));
            }
            self.comma()?;
        }
    }

    fn flow_value(&mut self) -> Option<Node<'t>> {
        self.skip_spaces();
        match self.byte()? {
            b'{' | b'[' => self.flow(),
            _ => self.scalar(true),
        }
    }

    fn open(&mut self) {
        self.at += 1;
        self.skip_spaces();
    }

    fn close(&mut self, closing: u8) -> bool {
        self.skip_spaces();
        let closes = self.byte() == Some(closing);
        self.at += usize::from(closes);
        closes
    }

    fn comma(&mut self) -> Option<()> {
        let is_comma = self.byte() == Some(b',');
        self.at += usize::from(is_comma);
        is_comma.then_some(())
    }
}
