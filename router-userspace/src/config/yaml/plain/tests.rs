//! The plain reader against the parser that knows all of YAML.

use proptest::prelude::*;
use serde_json::Value;

use super::parse;
use crate::config::yaml;

/// What is understood is what the whole parser understands.
fn agrees(text: &str) -> bool {
    let Some(node) = parse(text) else {
        return false;
    };
    let whole = yaml::whole(text, 1).unwrap_or_else(|fault| panic!("{text:?}: {fault}"));
    assert_eq!(Value::from(&node), whole, "{text:?}");
    true
}

#[test]
fn what_kubectl_prints_is_understood() {
    let texts = [
        "---\napiVersion: v1\nkind: Pod\nmetadata:\n  labels: {app: a, version: \"1\"}\n  name: a-0\nspec:\n  \
         containers:\n  - name: c\n    ports:\n    - containerPort: 80\n      name: http\n  hostNetwork: false\n\
         status:\n  podIP: 10.0.0.1\n  podIPs: [{ip: 10.0.0.1}, {ip: 'fd00::1'}]\n",
        "a:\n- b\n- c: d\n  e:\n  - f\n-\n  g: h\n- - i\n  - 1\n-\nj:\nk: ~\n",
        "# why\na: b # c\n".split_at(6).1.trim_end_matches(" # c\n"),
        "a: 2024-01-01T00:00:00Z\nb: 1.2.3\nc: v1.2\nd: http://x:80/y\ne: some words here\n",
        "metadata:\n  annotations:\n    last: |\n      {\"a\": \"b\"}\n    x: y\n  z: 1\n",
        "a: {}\nb: []\nc: [1, two, true, null]\n",
        "\"a b\": 'c: d'\n",
    ];
    for text in texts {
        assert!(agrees(text), "{text}");
    }
}

#[test]
fn what_takes_more_thought_is_left_alone() {
    let texts = [
        "a: &x b\nc: *x\n",
        "a: !t b\n",
        "a: 1.5\n",
        "a: 1e3\n",
        "a: 0x10\n",
        "a: 007\n",
        "a: +1\n",
        "a: -1\n",
        "a: .5\n",
        "a: \"\\n\"\n",
        "a: 'b''c'\n",
        "a: >\n  b\n",
        "a: |\n  b\n\nc: d\n",
        "a: b\n  c\n",
        "a: b: c\n",
        "a: b\na: c\n",
        "1: b\n",
        "true: b\n",
        "? a\n: b\n",
        "- a\n b: c\n",
        "a:\tb\n",
        "a: b\r\n",
        "ä: b\n",
        "text",
        "",
        "a: {b: c\n  }\n",
        "a: [b,]\n",
        "a: {b}\n",
        "a: }\n",
        "--- a: b\n",
        "a: b\n...\n",
        "a:b\n",
    ];
    for text in texts {
        assert_eq!(parse(text), None, "{text}");
    }
    assert_eq!(parse(&"- ".repeat(1000)), None);
    assert_eq!(parse(&"[".repeat(1000)), None);
}

/// What is rarer.
const MORE: &[&str] = &[
    "|\n",
    "|-\n",
    "|+\n",
    "|2\n",
    "|\n    text\n",
    "|\n      {\"a\": \"b\"}\n",
    ">\n",
    "# c\n",
    " # c",
    "#c",
    "\r\n",
    "\t",
    "&x ",
    "*x",
    "<<: *x",
    "!t ",
    "!!str ",
    "0o17",
    "0b1",
    "1_000",
    ".inf",
    "-.INF",
    ".nan",
    "2024-01-01",
    "2024-01-01T00:00:00Z",
    "12:30",
    "12:30:45",
    "yes",
    "off",
    "null: ",
    "\"a\": ",
    "'b': ",
    "\"\": ",
    "é",
    "\u{85}",
    "\u{2028}",
    "\u{feff}",
    "%Y",
    "...\n",
    "... ",
    "\\",
    "1e400",
    "99999999999999999999",
    "123456789012345678",
    "-0",
    "+.5",
    "a:b",
    "a :",
    "[]",
    "{}",
    ": ",
    "- - ",
    "-\n",
    "? ",
    "@",
    "`",
    "a.b/c-d: ",
    "c:\n",
    "c:\n- ",
    "c:\n  - ",
    "  ",
    "   ",
    "\n\n",
    "\n \n",
    "\"a\\nb\"",
    "'it''s'",
    "\"\"",
    "''",
    "{a: b, c: [d, e]}",
    "[a, 'b', \"c\"]",
    "[1, {a: 2}]",
    "{\"a\":1}",
    "{a: }",
    "[,]",
    "::",
    "a::b",
    "http://x",
    "x:",
    "--",
    "---",
    "--- ",
    "---x",
    "~x",
    "Null",
    "TRUE",
    "nulls",
    "0x",
    "0xg",
    "00",
    "1.",
    "1.e",
    ".1",
    "1.2.3",
    "1e",
    "e1",
    "1e5x",
    "0.0.0.0/0",
    "_",
    "/",
    "kkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkk",
];

/// Text made of what matters to the reader, with more sense than chance would give it.
fn pieces() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        4 => Just("a: "), 4 => Just("b:"), 3 => Just("\n"), 3 => Just("\n  "), 2 => Just("\n    "), 3 => Just("- "),
        2 => Just("-"), 2 => Just(" "), 2 => Just("{"), 2 => Just("}"), 2 => Just("["), 2 => Just("]"),
        2 => Just(", "), 1 => Just(","), 1 => Just(":"), 2 => Just("x"), 1 => Just("1"), 1 => Just("0"),
        1 => Just("1.5"), 1 => Just("10.0.0.1"), 1 => Just("fd00::1"), 1 => Just("~"), 1 => Just("null"),
        1 => Just("true"), 1 => Just("'q'"), 1 => Just("\"q\""), 1 => Just("|"), 1 => Just("#"), 1 => Just("c/d.e-f"),
        1 => Just("1e5"), 1 => Just("="), 1 => Just("two words"), 1 => Just("---\n"), 1 => Just("inf"), 1 => Just("?"),
        3 => proptest::sample::select(MORE),
    ];
    proptest::collection::vec(piece, 1..40).prop_map(|pieces| pieces.concat())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4_000))]
    #[test]
    fn whatever_is_understood_is_understood_right(text in pieces()) {
        agrees(&text);
    }
}
