//! Regular expressions as ECMAScript writes them → the syntax of the linear-time engine, with the same meaning.
//!
//! What it reads is the grammar of ECMAScript without flags, including what Annex B adds for old programs. Characters
//! are code points here, while without the flag `u` they are UTF-16 units there. It compiles nothing and matches
//! nothing.

mod class;
mod escape;

use std::{fmt, iter::Peekable, str::Chars};

/// The characters that `.` does not match in ECMAScript, in the engine's syntax.
const LINE_ENDS: &str = r"\n\r\x{2028}\x{2029}";

/// Where a pattern does not mean what ECMAScript without flags makes of it, or what others make of it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Difference {
    /// ECMAScript refuses the pattern, the engine takes it. Holds the reason of the former.
    OnlyHere(&'static str),
    /// `[:alpha:]` inside a class; ECMAScript sees single characters.
    PosixClass(String),
    /// An escape that needs ECMAScript's flag `u`: `\p{…}` or `\u{…}`.
    NeedsUnicodeFlag(String),
    /// An escaped letter without a meaning in ECMAScript, but with one elsewhere: it stands for itself.
    PlainLetter(char),
    /// A character that is two UTF-16 units: one character here.
    TwoUnits(char),
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OnlyHere(reason) => write!(f, "ECMAScript would refuse this: {reason}"),
            Self::PosixClass(class) => {
                write!(
                    f,
                    "`{class}` is a class here, and single characters in ECMAScript"
                )
            }
            Self::NeedsUnicodeFlag(escape) => {
                write!(f, "`{escape}` is read as ECMAScript does only with the flag u")
            }
            Self::PlainLetter(letter) => {
                write!(
                    f,
                    "`\\{letter}` is the letter {letter}, as in ECMAScript, and no special escape"
                )
            }
            Self::TwoUnits(c) => write!(f, "`{c}` is one character here, and two in ECMAScript"),
        }
    }
}

/// A pattern in the engine's syntax.
#[derive(Debug, Default)]
pub(super) struct Translation {
    pub(super) pattern: String,
    pub(super) differences: Vec<Difference>,
}

/// Why ECMAScript would not take a pattern, or the engine could not have it.
pub(super) type Reason = &'static str;

/// Translates `source`.
///
/// # Errors
///
/// ECMAScript would refuse it, or it needs look-around or back-references.
pub(super) fn translate(source: &str) -> Result<Translation, Reason> {
    let mut translator = Translator {
        rest: source.chars().peekable(),
        groups: count_groups(source),
        names: Vec::new(),
        out: Translation::default(),
    };
    translator.run()?;
    Ok(translator.out)
}

struct Translator<'s> {
    rest: Peekable<Chars<'s>>,
    /// Capturing groups of the whole pattern: a back-reference to another is an octal escape.
    groups: u32,
    /// Names of groups so far.
    names: Vec<String>,
    out: Translation,
}

impl Translator<'_> {
    fn run(&mut self) -> Result<(), Reason> {
        let mut open = 0_usize;
        // True behind what a quantifier may follow.
        let mut repeatable = false;
        while let Some(c) = self.rest.next() {
            repeatable = match c {
                '(' => {
                    self.group()?;
                    open += 1;
                    false
                }
                ')' => {
                    open = open.checked_sub(1).ok_or("a group is closed that is not open")?;
                    self.out.pattern.push(')');
                    true
                }
                '|' | '^' | '$' => {
                    self.out.pattern.push(c);
                    false
                }
                '*' | '+' | '?' => {
                    self.quantifier(&c.to_string(), repeatable)?;
                    false
                }
                '{' => match self.counted() {
                    Some(count) => {
                        self.quantifier(&count, repeatable)?;
                        false
                    }
                    None => {
                        self.literal(c);
                        true
                    }
                },
                '.' => {
                    self.out.pattern.push_str(&format!("[^{LINE_ENDS}]"));
                    true
                }
                '[' => {
                    self.class()?;
                    true
                }
                '\\' => self.escape()?,
                _ => {
                    self.literal(c);
                    true
                }
            };
        }
        if open > 0 {
            return Err("a group is not closed");
        }
        Ok(())
    }

    /// The beginning of a group, behind its parenthesis. What a group captures is never asked for.
    fn group(&mut self) -> Result<(), Reason> {
        if self.rest.next_if_eq(&'?').is_some() {
            match self.rest.next() {
                Some(':') => {}
                Some('<') if !matches!(self.rest.peek(), Some('=' | '!')) => self.group_name()?,
                Some('=' | '!' | '<') => return Err("look-around is not available"),
                _ => return Err("a group begins with `(?` and neither `:` nor a name in angle brackets"),
            }
        }
        self.out.pattern.push_str("(?:");
        Ok(())
    }

    fn group_name(&mut self) -> Result<(), Reason> {
        let mut name = String::new();
        loop {
            match self.rest.next() {
                Some('>') if !name.is_empty() => break,
                Some(c) if c.is_alphabetic() || matches!(c, '_' | '$') => name.push(c),
                Some(c) if c.is_alphanumeric() && !name.is_empty() => name.push(c),
                _ => return Err("a group has no valid name"),
            }
        }
        if self.names.contains(&name) {
            return Err("two groups have one name");
        }
        self.names.push(name);
        Ok(())
    }

    /// A quantifier; whether it is greedy makes no difference to whether the whole value matches.
    fn quantifier(&mut self, quantifier: &str, repeatable: bool) -> Result<(), Reason> {
        if !repeatable {
            return Err("there is nothing that a quantifier could repeat");
        }
        self.out.pattern.push_str(quantifier);
        self.rest.next_if_eq(&'?');
        Ok(())
    }

    /// `{n}`, `{n,}` or `{n,m}` behind its opening brace; nothing is taken when it is none of them.
    fn counted(&mut self) -> Option<String> {
        let mut ahead = self.rest.clone();
        let digits = |ahead: &mut Peekable<Chars<'_>>| {
            let mut text = String::new();
            while let Some(digit) = ahead.next_if(char::is_ascii_digit) {
                text.push(digit);
            }
            text
        };
        let least = digits(&mut ahead);
        if least.is_empty() {
            return None;
        }
        let count = match ahead.next()? {
            '}' => format!("{{{least}}}"),
            ',' => {
                let most = digits(&mut ahead);
                ahead.next_if_eq(&'}')?;
                format!("{{{least},{most}}}")
            }
            _ => return None,
        };
        self.rest = ahead;
        Some(count)
    }

    /// A character that stands for itself.
    fn literal(&mut self, c: char) {
        if u32::from(c) > 0xffff {
            self.differs(Difference::TwoUnits(c));
        }
        push_literal(&mut self.out.pattern, c);
    }

    fn differs(&mut self, difference: Difference) {
        if !self.out.differences.contains(&difference) {
            self.out.differences.push(difference);
        }
    }
}

/// Writes `c` so that it stands for itself, inside a class and outside.
fn push_literal(pattern: &mut String, c: char) {
    if regex_syntax::is_meta_character(c) {
        pattern.push('\\');
    }
    pattern.push(c);
}

/// Capturing groups of a pattern: parentheses that are neither escaped, nor in a class, nor followed by `?` without
/// a name.
fn count_groups(source: &str) -> u32 {
    let mut count = 0;
    let mut in_class = false;
    let mut rest = source.chars().peekable();
    while let Some(c) = rest.next() {
        match c {
            '\\' => drop(rest.next()),
            '[' => in_class = true,
            ']' => in_class = false,
            '(' if !in_class => {
                let mut ahead = rest.clone();
                let captures = ahead.next() != Some('?')
                    || ahead.next() == Some('<') && !matches!(ahead.next(), Some('=' | '!'));
                count += u32::from(captures);
            }
            _ => {}
        }
    }
    count
}

#[cfg(test)]
mod tests;
