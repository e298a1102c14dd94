//! Takes inputs, changes them, and keeps those that fail. It knows nothing of what is tested.

use std::{
    fs,
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    path::PathBuf,
    time::{Duration, Instant},
};

use fastrand::Rng;

/// Longest input; longer ones are cut.
const MAX_BYTES: usize = 16 * 1024;
/// Changes of one input, at most.
const MAX_CHANGES: usize = 6;
/// Inputs beside the corpus that are kept to be changed further.
const MAX_KEPT: usize = 512;

/// What is fuzzed.
pub struct Target {
    pub name: &'static str,
    /// Inputs beside those of the corpus.
    pub seeds: Vec<Vec<u8>>,
    /// What is thrown into inputs.
    pub words: &'static [&'static str],
    /// Panics when something does not hold. Returns a mark of what the input led to: inputs with a new mark are changed
    /// further.
    pub check: fn(&[u8]) -> u64,
}

fn corpus(target: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("fuzz")
        .join(target)
}

/// The corpus as it is, then changes of it until the time is over.
pub fn run(target: &Target) {
    let seconds = std::env::var("ROUTER_FUZZ_SECONDS").map_or(1, |text| text.parse().unwrap());
    let seed =
        std::env::var("ROUTER_TEST_SEED").map_or_else(|_| fastrand::u64(..), |text| text.parse().unwrap());
    let mut rng = Rng::with_seed(seed);
    let mut files: Vec<_> = fs::read_dir(corpus(target.name))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    files.sort();
    let mut inputs: Vec<Vec<u8>> = files.into_iter().map(|file| fs::read(file).unwrap()).collect();
    inputs.extend(target.seeds.iter().cloned());
    assert!(!inputs.is_empty(), "{} has no corpus", target.name);
    let mut marks: Vec<u64> = inputs.iter().map(|input| tried(target, input)).collect();
    let own = inputs.len();
    let deadline = Instant::now() + Duration::from_secs(seconds);
    let mut count = 0_u64;
    while Instant::now() < deadline {
        let input = changed(&mut rng, &inputs, target.words);
        let mark = tried(target, &input);
        count += 1;
        if !marks.contains(&mark) {
            marks.push(mark);
            // The oldest of those that were found makes room; the corpus stays.
            if inputs.len() >= own + MAX_KEPT {
                inputs.remove(own);
            }
            inputs.push(input);
        }
    }
    println!(
        "{}: seed {seed}, {count} inputs, {} outcomes",
        target.name,
        marks.len()
    );
}

fn tried(target: &Target, input: &[u8]) -> u64 {
    let outcome = catch_unwind(AssertUnwindSafe(|| (target.check)(input)));
    outcome.unwrap_or_else(|panic| {
        let hash = input.iter().fold(0xcbf2_9ce4_8422_2325_u64, |hash, &byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3)
        });
        let file = corpus(target.name).join(format!("failed-{hash:016x}"));
        fs::write(&file, input).unwrap();
        eprintln!(
            "{} fails with {}:\n{}",
            target.name,
            file.display(),
            String::from_utf8_lossy(input)
        );
        resume_unwind(panic)
    })
}

fn changed(rng: &mut Rng, inputs: &[Vec<u8>], words: &[&str]) -> Vec<u8> {
    let mut input = inputs[rng.usize(..inputs.len())].clone();
    for _ in 0..rng.usize(1..=MAX_CHANGES) {
        let at = rng.usize(..=input.len());
        let end = (at + rng.usize(..=16)).min(input.len());
        match rng.u8(..8) {
            0 if at < input.len() => input[at] ^= 1 << rng.u8(..8),
            1 => drop(input.drain(at..end)),
            2 => {
                let part = input[at..end].to_vec();
                input.splice(at..at, part);
            }
            3 => {
                let other = &inputs[rng.usize(..inputs.len())];
                let from = rng.usize(..=other.len());
                let part = other[from..(from + rng.usize(..=64)).min(other.len())].to_vec();
                input.splice(at..end, part);
            }
            4 => input.insert(at, rng.u8(..)),
            5 => input.truncate(at),
            _ => {
                let word = words[rng.usize(..words.len())];
                input.splice(at..end.min(at + word.len()), word.bytes());
            }
        }
        input.truncate(MAX_BYTES);
    }
    input
}
