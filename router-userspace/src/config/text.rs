//! One file's text → documents. Large files are read by several threads, a part each; the result does not show it.
//!
//! It knows no kinds of documents.

use std::{num::NonZero, panic, sync::Arc, thread};

use super::{
    Documents, LoadLimits, classify,
    kubernetes::forget_shared,
    source::{self, FileText, Source},
};
use crate::finding::{Finding, Place, codes};

/// Text below this many bytes is read by one thread: starting another would take longer.
const WORTH_A_THREAD: usize = 1 << 20;

/// Threads that read one file at most.
const MAX_THREADS: usize = 8;

/// Adds every document of `text`.
pub(super) fn add(documents: &mut Documents, file: &str, text: String, limits: &LoadLimits) {
    let sources = split(&Arc::new(FileText::kept(file, text)));
    if documents.len() + sources.len() > limits.documents {
        documents.findings.push(too_many(file, limits));
    } else {
        read(documents, &sources);
    }
}

/// The documents of a file.
pub(super) fn split(file: &Arc<FileText>) -> Vec<Source> {
    source::split(file)
}

/// What is said of a file that would be too much.
pub(super) fn too_many(file: &str, limits: &LoadLimits) -> Finding {
    let place = Place {
        file: file.into(),
        line: 0,
        field: String::new(),
    };
    let message = format!(
        "the configuration has more than {} objects; this file was not read",
        limits.documents
    );
    Finding::new(
        &codes::TOO_LARGE,
        place,
        message,
        "remove what is not needed here",
    )
}

/// Adds the documents of one file.
pub(super) fn read(documents: &mut Documents, sources: &[Source]) {
    let bytes: usize = sources.iter().map(|source| source.range().len()).sum();
    let processors = thread::available_parallelism().map_or(1, NonZero::get);
    let threads = (bytes / WORTH_A_THREAD).clamp(1, processors.min(MAX_THREADS));
    let share = sources.len().div_ceil(threads).max(1);
    let (mine, others) = sources.split_at(share.min(sources.len()));
    thread::scope(|scope| {
        let readers: Vec<_> = others
            .chunks(share)
            .map(|part| scope.spawn(move || part_of(part)))
            .collect();
        documents.append(&part_of(mine));
        for reader in readers {
            match reader.join() {
                Ok(part) => documents.append(&part),
                Err(payload) => panic::resume_unwind(payload),
            }
        }
    });
}

fn part_of(sources: &[Source]) -> Documents {
    let mut documents = Documents::default();
    for source in sources {
        classify::add(&mut documents, source);
    }
    documents.shrink();
    forget_shared();
    documents
}
