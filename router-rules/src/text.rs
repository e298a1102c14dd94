//! Matching one string: exact, prefix, regex.

mod ecmascript;

use std::fmt;

use regex::Regex;
use regex_syntax::hir::{Hir, HirKind, literal::Extractor};

pub use ecmascript::Difference;

/// How a header value, path, method, scheme or authority is compared. Case matters.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum TextMatch {
    /// The whole value.
    Exact(String),
    /// The beginning of the value.
    Prefix(String),
    /// A regular expression that must match the whole value. Linear time.
    Regex(WholeRegex),
    /// Any value, as long as there is one.
    Present,
}

impl TextMatch {
    /// True when `value` satisfies the comparison.
    pub fn matches(&self, value: &str) -> bool {
        match self {
            Self::Exact(text) => text == value,
            Self::Prefix(text) => value.starts_with(text),
            Self::Regex(regex) => regex.anchored.is_match(value),
            Self::Present => true,
        }
    }
}

impl fmt::Display for TextMatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exact(text) => write!(f, "exact \"{text}\""),
            Self::Prefix(text) => write!(f, "prefix \"{text}\""),
            Self::Regex(regex) => write!(f, "regex \"{}\"", regex.source),
            Self::Present => f.write_str("present"),
        }
    }
}

/// A regular expression anchored at both ends, as Envoy's full match is.
#[derive(Clone, Debug)]
pub struct WholeRegex {
    source: String,
    anchored: Regex,
}

impl WholeRegex {
    /// Compiles `source`.
    ///
    /// # Errors
    ///
    /// Syntax that the linear-time engine does not take (look-around, back-references), or a program beyond its
    /// size limit.
    pub fn new(source: &str) -> Result<Self, regex::Error> {
        // Parsed bare first, so that `a)(b` is not made valid by the group around it. Compiling costs ten times more
        // than parsing and is left to where it makes the error.
        if regex_syntax::parse(source).is_err() {
            Regex::new(source)?;
        }
        // A comment at the end, which `(?x)` allows, would swallow what follows it: then the line is ended first.
        let anchored = Regex::new(&format!(r"\A(?:{source})\z"))
            .or_else(|_| Regex::new(&format!("\\A(?:{source}\n)\\z")))?;
        Ok(Self {
            source: source.to_owned(),
            anchored,
        })
    }
}

impl WholeRegex {
    /// Compiles `source` as ECMAScript means it, which is the grammar of the 0.1 rules. What only the engine takes, it
    /// reads in its own way; the differences say so.
    ///
    /// # Errors
    ///
    /// As [`WholeRegex::new`].
    pub fn ecmascript(source: &str) -> Result<(Self, Vec<Difference>), regex::Error> {
        match ecmascript::translate(source) {
            Ok(translation) => {
                let regex = Self {
                    source: source.to_owned(),
                    ..Self::new(&translation.pattern)?
                };
                Ok((regex, translation.differences))
            }
            Err(reason) => Ok((Self::new(source)?, vec![Difference::OnlyHere(reason)])),
        }
    }

    /// True when it is certain that no value matches.
    pub fn is_impossible(&self) -> bool {
        self.syntax().is_some_and(|syntax| is_impossible(&syntax))
    }

    /// False when it is certain that no value that begins with `first` matches.
    pub fn may_begin_with(&self, first: char) -> bool {
        let Some(syntax) = self.syntax() else {
            return true;
        };
        let beginnings = Extractor::new().extract(&syntax);
        let mut encoded = [0; 4];
        let first = first.encode_utf8(&mut encoded).as_bytes();
        beginnings.literals().is_none_or(|literals| {
            let fits = |text: &[u8]| text.starts_with(first) || text.is_empty();
            literals.iter().any(|literal| fits(literal.as_bytes()))
        })
    }

    fn syntax(&self) -> Option<Hir> {
        regex_syntax::parse(self.anchored.as_str()).ok()
    }
}

/// True when an empty class stands where something must match.
fn is_impossible(syntax: &Hir) -> bool {
    match syntax.kind() {
        HirKind::Class(class) => class.is_empty(),
        HirKind::Repetition(repetition) => repetition.min > 0 && is_impossible(&repetition.sub),
        HirKind::Capture(group) => is_impossible(&group.sub),
        HirKind::Concat(parts) => parts.iter().any(is_impossible),
        HirKind::Alternation(parts) => parts.iter().all(is_impossible),
        HirKind::Empty | HirKind::Literal(_) | HirKind::Look(_) => false,
    }
}

impl PartialEq for WholeRegex {
    fn eq(&self, other: &Self) -> bool {
        self.source == other.source && self.anchored.as_str() == other.anchored.as_str()
    }
}

impl Eq for WholeRegex {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn regex_matches_the_whole_value() {
        let m = TextMatch::Regex(WholeRegex::new("^(.*?;)?(user=jason)(;.*)?$").unwrap());
        assert!(m.matches("user=jason") && m.matches("a=b;user=jason;c=d"));
        assert!(!m.matches("user=jasonx") && !m.matches("a=b; user=jason"));
        let alternatives = TextMatch::Regex(WholeRegex::new("a|b").unwrap());
        assert!(alternatives.matches("b") && !alternatives.matches("bc"));
        assert!(WholeRegex::new("a)(b").is_err());
    }

    #[test]
    fn regex_flags_stay_inside() {
        let whole = |source| TextMatch::Regex(WholeRegex::new(source).unwrap());
        assert!(whole("(?x) a b # comment").matches("ab"));
        assert!(!whole("(?x) a b # comment").matches("ab\n"));
        assert!(!whole("(?m)^a$").matches("a\nb"));
        assert!(whole("(?i)a|b").matches("B"));
        assert_eq!(whole("a"), whole("a"));
        assert_ne!(whole("a"), TextMatch::Exact("a".into()));
    }

    #[test]
    fn prefix_and_exact_mind_case() {
        assert!(TextMatch::Prefix("/api".into()).matches("/api/v1"));
        assert!(!TextMatch::Exact("Bar".into()).matches("bar"));
    }
}
