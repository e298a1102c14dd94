//! The engine from outside: its decisions against a naive reading of the language, its order of evaluation, and the
//! examples of the rules language.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod allocation;
mod decisions;
mod generate;
mod l4_faults;
mod naive;
mod named;
mod policies;
mod precedence;
mod seed;
mod world;
