//! One file's text → documents. Large files are read by several threads, a part each; the result does not show it.
//!
//! It knows no kinds of documents.

use std::{num::NonZero, panic, sync::Arc, thread};

use super::{
    Documents, LoadLimits, classify,
    source::{self, Source},
};
use crate::finding::{Finding, Place, codes};

/// Text below this many bytes is read by one thread: starting another would take longer.
const WORTH_A_THREAD: usize = 1 << 20;

/// Threads that read one file at most.
const MAX_THREADS: usize = 8;

/// What some editors put in front of UTF-8 text.
pub(super) const BYTE_ORDER_MARK: char = '\u{feff}';

/// Adds every document of `text`.
pub(super) fn add(documents: &mut Documents, file: &str, mut text: String, limits: &LoadLimits) {
    if text.starts_with(BYTE_ORDER_MARK) {
        text.drain(..BYTE_ORDER_MARK.len_utf8());
    }
    let text = Arc::new(text);
    let sources: Vec<_> = (1_usize..).zip(source::split(file, &text)).collect();
    if documents.len() + sources.len() > limits.documents {
        let place = Place {
            file: file.into(),
            line: 0,
            field: String::new(),
        };
        let message = format!(
            "the configuration has more than {} objects; this file was not read",
            limits.documents
        );
        let hint = "remove what is not needed here";
        let finding = Finding::new(&codes::TOO_LARGE, place, message, hint);
        documents.findings.push(finding);
        return;
    }
    let processors = thread::available_parallelism().map_or(1, NonZero::get);
    let threads = (text.len() / WORTH_A_THREAD).clamp(1, processors.min(MAX_THREADS));
    let share = sources.len().div_ceil(threads).max(1);
    let (mine, others) = sources.split_at(share.min(sources.len()));
    thread::scope(|scope| {
        let readers: Vec<_> = others
            .chunks(share)
            .map(|part| scope.spawn(move || read(part)))
            .collect();
        documents.append(read(mine));
        for reader in readers {
            match reader.join() {
                Ok(part) => documents.append(part),
                Err(payload) => panic::resume_unwind(payload),
            }
        }
    });
}

fn read(sources: &[(usize, Arc<Source>)]) -> Documents {
    let mut documents = Documents::default();
    for (number, source) in sources {
        classify::add(&mut documents, source.clone(), *number);
    }
    documents
}
