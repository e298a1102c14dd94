//! The translation against an engine of ECMAScript, and case by case where that engine is not asked.

use proptest::prelude::*;

use super::{super::WholeRegex, Difference};

fn whole(source: &str) -> (WholeRegex, Vec<Difference>) {
    WholeRegex::ecmascript(source).unwrap_or_else(|error| panic!("{source}: {error}"))
}

fn matches(source: &str, value: &str) -> bool {
    whole(source).0.anchored.is_match(value)
}

/// What an engine of ECMAScript says of the whole value.
fn in_ecmascript(source: &str, value: &str) -> Option<bool> {
    let regex = regress::Regex::new(&format!("^(?:{source})$")).ok()?;
    // The pattern must be valid alone, so that `a)(b` is not mended by the group.
    regress::Regex::new(source).ok()?;
    Some(regex.find(value).is_some())
}

#[test]
fn what_both_know_means_what_ecmascript_says() {
    let cases = [
        (r"\d+", "٣", false),
        (r"\d+", "42", true),
        (r"\w", "é", false),
        (r"\W", "é", true),
        (r"\s", "\u{feff}", true),
        (r"\s", "\u{85}", false),
        (r"\bé", "é", false),
        (r"a\b.*", "a-b", true),
        (r"a\Bb", "ab", true),
        (".", "\r", false),
        (".", "\u{2028}", false),
        ("[^]", "\n", true),
        ("a[]?", "a", true),
        ("[]", "a", false),
        (r"\/a\-b", "/a-b", true),
        (r"[a&&b]", "&", true),
        (r"[a--b]", "-", false),
        (r"[[]", "[", true),
        (r"]}", "]}", true),
        ("a{,2}", "a{,2}", true),
        ("{", "{", true),
        (r"\x41\u0042\u{43}\103\cJ", "ABCC\n", true),
        (r"\ud83d\ude00", "😀", true),
        (r"(?<name>a)(b)", "ab", true),
        (r"a*?b+?", "aab", true),
        (r"\0", "\0", true),
        (r"\8", "8", true),
        (r"[\b]", "\u{8}", true),
        (r"\c!", r"\c!", true),
        (r"[\d-x]", "-", true),
        (r"a$", "a\n", false),
        ("^(.*?;)?(user=jason)(;.*)?$", "a=b;user=jason", true),
    ];
    for (source, value, wanted) in cases {
        assert_eq!(matches(source, value), wanted, "{source} on {value:?}");
    }
}

#[test]
fn what_differs_is_said() {
    let said = |source| {
        let differences = whole(source).1;
        differences
            .iter()
            .map(ToString::to_string)
            .collect::<Vec<_>>()
            .join("; ")
    };
    assert_eq!(said(r"^a[\d.]+\.b$"), "");
    assert!(said("(?i)a").starts_with("ECMAScript would refuse this"));
    assert!(said("a++").contains("nothing that a quantifier"));
    assert!(said("(?P<n>a)").contains("neither `:` nor a name"));
    assert!(said("[[:alpha:]]").contains("single characters"));
    assert!(said(r"\p{L}").contains("flag u"));
    assert!(said(r"\Aa\z").contains("is the letter A"));
    assert!(said("😀").contains("two in ECMAScript"));
    assert!(matches("(?i)a", "A") && matches("[[:alpha:]]", "x") && matches(r"\p{L}", "é"));
    assert!(matches(r"\Aa\z", "Aaz"));
}

#[test]
fn look_around_and_references_are_refused() {
    for source in [
        r"(?=a)b",
        r"(?<!a)b",
        r"(a)\1",
        r"(?<n>a)\k<n>",
        "a(b",
        "a)b",
        "a)(b",
        r"\",
        r"\ud800",
        "[b-a]",
    ] {
        assert!(WholeRegex::ecmascript(source).is_err(), "{source}");
    }
}

#[test]
fn impossible_patterns_are_seen() {
    assert!(whole("a[]").0.is_impossible() && !whole("a[]?").0.is_impossible());
    assert!(!whole("reviews.*").0.may_begin_with('/'));
    for source in ["/a", "(/a|b)", ".*", "", "^/", "[^a]b", r"\/x", "(a?/)?"] {
        assert!(whole(source).0.may_begin_with('/'), "{source}");
    }
}

/// Patterns of what both engines know, sometimes broken.
fn pattern() -> impl Strategy<Value = String> {
    let atom = prop_oneof![
        6 => "[abAB0_ -]",
        1 => Just(".".to_owned()),
        3 => proptest::sample::select(vec![
            r"\d", r"\D", r"\w", r"\W", r"\s", r"\S", r"\b", r"\B", r"\/", r"\.", r"\x61", r"\u0062", r"\t", r"\cJ",
            r"\0", r"\101", r"\8", "^", "$", "]", "}", "{", "{a", "a{2}", "b{1,2}", "a{,2}", "é", "[^]", "[]", "|",
        ]).prop_map(str::to_owned),
        3 => r"\[\^?(\\d|\\W|\\b|\[|&&|--|a|b-c|é|_|-|\\-|\\\]){1,4}\]",
    ];
    let leaf = (atom, "(\\*|\\+|\\?|\\*\\?|\\{0,2\\}|)?").prop_map(|(atom, times)| atom + &times);
    leaf.prop_recursive(3, 24, 4, |inner| {
        let group = (proptest::sample::select(vec!["(", "(?:", "(?<n>"]), inner.clone())
            .prop_map(|(open, inner)| format!("{open}{inner})"));
        prop_oneof![
            2 => proptest::collection::vec(inner.clone(), 1..4).prop_map(|parts| parts.concat()),
            1 => (inner.clone(), inner).prop_map(|(a, b)| format!("{a}|{b}")),
            1 => group,
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn both_engines_agree(source in pattern(), values in proptest::collection::vec("[abAB0_ é\\-\\]\\[{}&/.\n\t\u{2028}\u{85}]{0,5}", 8)) {
        let Ok((regex, differences)) = WholeRegex::ecmascript(&source) else {
            return Ok(());
        };
        // The other engine repeats `\b` and `^`, which ECMAScript does not allow.
        if matches!(differences.as_slice(), [Difference::OnlyHere(_)]) {
            return Ok(());
        }
        for value in values {
            match in_ecmascript(&source, &value) {
                Some(wanted) => {
                    prop_assert!(differences.is_empty(), "{} {:?}", source, differences);
                    prop_assert_eq!(regex.anchored.is_match(&value), wanted, "{} on {:?}", source, value);
                }
                None => prop_assert!(!differences.is_empty(), "{} is refused by ECMAScript", source),
            }
        }
    }
}
