//! Classes: what stands between square brackets. It does not know what surrounds them.

use super::{Difference, Reason, Translator, escape::Escape, push_literal};

/// Names that may stand in `[:…:]`.
const POSIX: [&str; 14] = [
    "alnum", "alpha", "ascii", "blank", "cntrl", "digit", "graph", "lower", "print", "punct", "space",
    "upper", "word", "xdigit",
];

/// A member of a class.
enum Member {
    Char(char),
    Set(String),
}

impl Translator<'_> {
    /// A class behind its opening bracket.
    pub(super) fn class(&mut self) -> Result<(), Reason> {
        let negated = self.rest.next_if_eq(&'^').is_some();
        if self.rest.next_if_eq(&']').is_some() {
            // Nothing, or anything; the engine writes them otherwise.
            self.out
                .pattern
                .push_str(if negated { r"[\s\S]" } else { "[a&&b]" });
            return Ok(());
        }
        self.out.pattern.push_str(if negated { "[^" } else { "[" });
        while let Some(member) = self.member()? {
            let range = self.rest.peek() == Some(&'-') && self.rest.clone().nth(1) != Some(']');
            if !range {
                self.push(&member);
                continue;
            }
            self.rest.next();
            match (member, self.member()?.ok_or("a class is not closed")?) {
                (Member::Char(first), Member::Char(last)) if first <= last => {
                    self.push(&Member::Char(first));
                    self.out.pattern.push('-');
                    self.push(&Member::Char(last));
                }
                (Member::Char(_), Member::Char(_)) => return Err("a range ends before it begins"),
                // With a set on either side, the hyphen is one of three members.
                (first, last) => [first, Member::Char('-'), last].iter().for_each(|m| self.push(m)),
            }
        }
        self.out.pattern.push(']');
        Ok(())
    }

    /// The next member; none behind the closing bracket.
    fn member(&mut self) -> Result<Option<Member>, Reason> {
        let c = self.rest.next().ok_or("a class is not closed")?;
        Ok(Some(match c {
            ']' => return Ok(None),
            '[' => match self.posix() {
                Some(class) => Member::Set(class),
                None => Member::Char('['),
            },
            '\\' if self.rest.next_if_eq(&'b').is_some() => Member::Char('\u{8}'),
            '\\' => match self.escaped()? {
                Escape::Char(c) => Member::Char(c),
                Escape::Set(set) => Member::Set(set),
            },
            c => {
                if u32::from(c) > 0xffff {
                    self.differs(Difference::TwoUnits(c));
                }
                Member::Char(c)
            }
        }))
    }

    fn push(&mut self, member: &Member) {
        match member {
            Member::Char(c) => push_literal(&mut self.out.pattern, *c),
            Member::Set(set) => self.out.pattern.push_str(set),
        }
    }

    /// `[:alpha:]` behind its opening bracket; nothing is taken when it is no such class.
    fn posix(&mut self) -> Option<String> {
        let mut ahead = self.rest.clone();
        ahead.next_if_eq(&':')?;
        let mut name = String::new();
        while let Some(letter) = ahead.next_if(char::is_ascii_lowercase) {
            name.push(letter);
        }
        if (ahead.next(), ahead.next()) != (Some(':'), Some(']')) || !POSIX.contains(&name.as_str()) {
            return None;
        }
        self.rest = ahead;
        let class = format!("[:{name}:]");
        self.differs(Difference::PosixClass(class.clone()));
        Some(class)
    }
}
