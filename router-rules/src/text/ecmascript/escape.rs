//! Escapes: what follows a backslash, inside a class and outside. It does not know what surrounds them.

use super::{Difference, Reason, Translator, push_literal};

/// Digits of ECMAScript's `\d`.
const DIGITS: &str = "0-9";
/// Characters of `\w`.
const WORD: &str = "0-9A-Za-z_";
/// White space and line ends of ECMAScript: with U+FEFF and without U+0085.
const SPACE: &str = r"\t-\r \x{a0}\x{1680}\x{2000}-\x{200a}\x{2028}\x{2029}\x{202f}\x{205f}\x{3000}\x{feff}";

/// What an escape stands for.
pub(super) enum Escape {
    /// One character.
    Char(char),
    /// A set, in the engine's syntax, that may stand inside a class.
    Set(String),
}

impl Translator<'_> {
    /// An escape outside a class. Returns whether a quantifier may follow.
    pub(super) fn escape(&mut self) -> Result<bool, Reason> {
        match self.rest.peek().copied() {
            Some('b') => self.out.pattern.push_str(r"(?-u:\b)"),
            Some('B') => self.out.pattern.push_str(r"(?-u:\B)"),
            Some('1'..='9') if self.is_back_reference() => return Err("back-references are not available"),
            Some('k') if self.rest.clone().nth(1) == Some('<') => {
                return Err("back-references are not available");
            }
            _ => {
                match self.escaped()? {
                    Escape::Char(c) => push_literal(&mut self.out.pattern, c),
                    Escape::Set(set) => self.out.pattern.push_str(&set),
                }
                return Ok(true);
            }
        }
        self.rest.next();
        Ok(false)
    }

    /// What means the same inside a class and outside.
    pub(super) fn escaped(&mut self) -> Result<Escape, Reason> {
        if self.rest.peek() == Some(&'c')
            && !self.rest.clone().nth(1).is_some_and(|c| c.is_ascii_alphabetic())
        {
            // A backslash that stands for itself; the letter is still to be read.
            return Ok(Escape::Char('\\'));
        }
        let c = self.rest.next().ok_or("it ends with a backslash")?;
        let c = match c {
            'd' => return Ok(Escape::Set(format!("[{DIGITS}]"))),
            'D' => return Ok(Escape::Set(format!("[^{DIGITS}]"))),
            'w' => return Ok(Escape::Set(format!("[{WORD}]"))),
            'W' => return Ok(Escape::Set(format!("[^{WORD}]"))),
            's' => return Ok(Escape::Set(format!("[{SPACE}]"))),
            'S' => return Ok(Escape::Set(format!("[^{SPACE}]"))),
            'p' | 'P' => return Ok(self.property(c)),
            't' => '\t',
            'n' => '\n',
            'v' => '\u{b}',
            'f' => '\u{c}',
            'r' => '\r',
            // Control characters: the letter that follows, without its upper bits.
            'c' => self.rest.next().map_or(c, |letter| char::from(letter as u8 % 32)),
            '0'..='7' => self.octal(c),
            'x' => match self.hexadecimal(2) {
                Some(code) => char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER),
                None => self.plain(c),
            },
            'u' => self.unicode()?,
            c if c.is_ascii_alphabetic() => self.plain(c),
            c => c,
        };
        Ok(Escape::Char(c))
    }

    /// A letter that means nothing behind a backslash.
    fn plain(&mut self, letter: char) -> char {
        self.differs(Difference::PlainLetter(letter));
        letter
    }

    /// Up to three octal digits, at most `\377`.
    fn octal(&mut self, first: char) -> char {
        let mut code = first.to_digit(8).unwrap_or_default();
        while let Some(digit) = self.rest.peek().and_then(|c| c.to_digit(8)) {
            if code * 8 + digit > 0o377 {
                break;
            }
            code = code * 8 + digit;
            self.rest.next();
        }
        char::from_u32(code).unwrap_or_default()
    }

    /// Exactly `count` digits; none is taken when there are fewer.
    fn hexadecimal(&mut self, count: usize) -> Option<u32> {
        let mut ahead = self.rest.clone();
        let mut code = 0;
        for _ in 0..count {
            code = code * 16 + ahead.next()?.to_digit(16)?;
        }
        self.rest = ahead;
        Some(code)
    }

    /// `\uHHHH`, a pair of them for a character beyond U+FFFF, or `\u{H…}`.
    fn unicode(&mut self) -> Result<char, Reason> {
        if self.rest.peek() == Some(&'{') {
            return self.code_point();
        }
        let Some(unit) = self.hexadecimal(4) else {
            return Ok(self.plain('u'));
        };
        if let Some(c) = char::from_u32(unit) {
            return Ok(c);
        }
        let alone = "half a surrogate pair cannot be in UTF-8";
        let mut ahead = self.rest.clone();
        if (ahead.next(), ahead.next()) != (Some('\\'), Some('u')) {
            return Err(alone);
        }
        self.rest = ahead;
        let low = self.hexadecimal(4).ok_or(alone)?;
        let pair = [unit, low].map(|unit| u16::try_from(unit).unwrap_or_default());
        let c = char::decode_utf16(pair)
            .next()
            .and_then(Result::ok)
            .ok_or(alone)?;
        self.differs(Difference::TwoUnits(c));
        Ok(c)
    }

    fn code_point(&mut self) -> Result<char, Reason> {
        let text = self.braced().ok_or("`\\u{` is not closed")?;
        let code = u32::from_str_radix(&text[1..text.len() - 1], 16).ok();
        let c = code
            .and_then(char::from_u32)
            .ok_or("`\\u{…}` names no character")?;
        self.differs(Difference::NeedsUnicodeFlag(format!("\\u{text}")));
        Ok(c)
    }

    /// `\p{…}`, which the engine knows by the same names.
    fn property(&mut self, letter: char) -> Escape {
        match self.braced() {
            Some(text) => {
                let escape = format!("\\{letter}{text}");
                self.differs(Difference::NeedsUnicodeFlag(escape.clone()));
                Escape::Set(escape)
            }
            None => Escape::Char(self.plain(letter)),
        }
    }

    /// What stands between braces here, with them.
    fn braced(&mut self) -> Option<String> {
        let mut ahead = self.rest.clone();
        ahead.next_if_eq(&'{')?;
        let mut text = String::from("{");
        loop {
            let c = ahead.next()?;
            text.push(c);
            match c {
                '}' => break,
                '{' | '\\' | '[' | ']' => return None,
                _ => {}
            }
        }
        self.rest = ahead;
        Some(text)
    }

    /// Whether the decimal number here is that of a group.
    fn is_back_reference(&self) -> bool {
        let digits = self.rest.clone().map_while(|c| c.to_digit(10));
        let number = digits.fold(0_u32, |n, digit| n.saturating_mul(10).saturating_add(digit));
        number <= self.groups
    }
}
