//! Fuzz targets: bytes that nobody would write, and what must hold of them.
//!
//! Each target takes inputs of its corpus, and changes of them, for as many seconds as `ROUTER_FUZZ_SECONDS` says (one,
//! if it says nothing). An input that fails is written to `tests/fuzz/TARGET/`, where every later run begins with it;
//! once mended, it is kept there as a test. `cargo xtask fuzz TARGET --seconds N` runs one for longer.

#![expect(
    unreachable_pub,
    reason = "a test binary has no outside; `pub` means: for the other test modules"
)]
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod boundaries;
mod compile;
mod engine;
mod heads;
mod matching;
mod values;

use engine::Target;

#[test]
fn compile() {
    engine::run(&Target {
        name: "compile",
        seeds: compile::seeds(),
        words: compile::WORDS,
        check: compile::check,
    });
}

#[test]
fn matching() {
    engine::run(&Target {
        name: "matching",
        seeds: Vec::new(),
        words: matching::WORDS,
        check: matching::check,
    });
}

#[test]
fn values() {
    engine::run(&Target {
        name: "values",
        seeds: Vec::new(),
        words: values::WORDS,
        check: values::check,
    });
}

#[test]
fn heads() {
    engine::run(&Target {
        name: "heads",
        seeds: Vec::new(),
        words: heads::WORDS,
        check: heads::check,
    });
}

#[test]
fn boundaries() {
    engine::run(&Target {
        name: "boundaries",
        seeds: Vec::new(),
        words: boundaries::WORDS,
        check: boundaries::check,
    });
}
