//! Files → documents: which files are read, in which order, and how much of them.
//!
//! It knows no kinds of documents.

use std::{
    fs,
    io::{self, Read},
    path::{Path, PathBuf},
};

use super::{Documents, text};
use crate::finding::{self, Finding, Place, codes};

/// What findings call standard input.
pub const STANDARD_INPUT: &str = "(standard input)";

/// How much is read. Beyond a limit nothing is read and a finding says so.
#[derive(Clone, Copy, Debug)]
pub struct LoadLimits {
    /// Bytes of all files together.
    pub bytes: u64,
    /// Files.
    pub files: usize,
    /// Objects of all files together.
    pub documents: usize,
}

impl Default for LoadLimits {
    fn default() -> Self {
        Self {
            bytes: 256 << 20,
            files: 10_000,
            documents: 1_000_000,
        }
    }
}

/// Reads files, directories (without descending) and, for `-`, standard input, and names files by the given paths.
/// Problems are in the documents' findings.
pub fn read<P: AsRef<Path>>(paths: impl IntoIterator<Item = P>, limits: &LoadLimits) -> Documents {
    read_named(paths, limits, |_, file| file)
}

/// Reads one configuration directory and names files relative to it. Problems are in the documents' findings.
pub fn read_directory(directory: &Path, limits: &LoadLimits) -> Documents {
    read_named([directory], limits, |root, file| {
        file.strip_prefix(root).unwrap_or(file)
    })
}

fn read_named<P: AsRef<Path>>(
    paths: impl IntoIterator<Item = P>,
    limits: &LoadLimits,
    name: for<'p> fn(&Path, &'p Path) -> &'p Path,
) -> Documents {
    let mut documents = Documents::default();
    let findings = each_text(paths, limits, name, |_, name, content| {
        text::add(&mut documents, name, content, limits);
    });
    documents.findings.extend(findings);
    if documents.is_empty() && documents.findings.is_empty() {
        documents.findings.push(nothing_found());
    }
    finding::sort(&mut documents.findings);
    documents
}

/// Passes every file to `take`: its path, its name, its text. What cannot be read is in the findings.
pub(super) fn each_text<P: AsRef<Path>>(
    paths: impl IntoIterator<Item = P>,
    limits: &LoadLimits,
    name: for<'p> fn(&Path, &'p Path) -> &'p Path,
    mut take: impl FnMut(&Path, &str, String),
) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut bytes_left = limits.bytes;
    let mut files_left = limits.files;
    for path in paths {
        let path = path.as_ref();
        let files = match list(path) {
            Ok(listed) => listed,
            Err(error) => {
                findings.push(unreadable(path, &error));
                continue;
            }
        };
        for file in files {
            let name = if file == Path::new("-") {
                STANDARD_INPUT.to_owned()
            } else {
                name(path, &file).display().to_string()
            };
            let content = match read_text(&file, bytes_left) {
                Ok(content) => content,
                Err(error) => {
                    findings.push(unreadable(Path::new(&name), &error));
                    continue;
                }
            };
            let (Some(bytes), Some(files)) = (
                bytes_left.checked_sub(content.len() as u64),
                files_left.checked_sub(1),
            ) else {
                findings.push(too_large(&name, limits));
                return findings;
            };
            (bytes_left, files_left) = (bytes, files);
            take(&file, &name, content);
        }
    }
    findings
}

/// The files that `path` stands for.
pub(super) fn list(path: &Path) -> io::Result<Vec<PathBuf>> {
    if path == Path::new("-") || !fs::metadata(path)?.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let mut files = Vec::new();
    for entry in fs::read_dir(path)? {
        let file = entry?.path();
        if is_configuration(&file) && file.is_file() {
            files.push(file);
        }
    }
    files.sort();
    Ok(files)
}

/// True when a file of this name is read.
pub(super) fn is_configuration(file: &Path) -> bool {
    let extension = file.extension().and_then(|e| e.to_str());
    // Editors leave hidden files beside those they write; Kubernetes mounts have `..data`.
    let name = file.file_name().unwrap_or_default();
    matches!(extension, Some("yaml" | "yml" | "json")) && !name.as_encoded_bytes().starts_with(b".")
}

/// The text of `file`; a little more than `limit` bytes is read when it is longer.
pub(super) fn read_text(file: &Path, limit: u64) -> io::Result<String> {
    let mut text = String::new();
    if file == Path::new("-") {
        io::stdin().lock().take(limit + 1).read_to_string(&mut text)?;
    } else {
        let file = fs::File::open(file)?;
        let length = usize::try_from(file.metadata()?.len().min(limit)).unwrap_or(0);
        text.reserve(length + 1);
        file.take(limit + 1).read_to_string(&mut text)?;
    }
    Ok(text)
}

fn whole_file(name: &str) -> Place {
    Place {
        file: name.into(),
        line: 0,
        field: String::new(),
    }
}

pub(super) fn nothing_found() -> Finding {
    let hint = "put *.yaml, *.yml or *.json files there";
    Finding::new(
        &codes::NO_CONFIGURATION,
        whole_file(""),
        "no document was found",
        hint,
    )
}

pub(super) fn unreadable(path: &Path, error: &io::Error) -> Finding {
    let place = whole_file(&path.display().to_string());
    let hint = if error.kind() == io::ErrorKind::InvalidData {
        "configuration is UTF-8 text"
    } else {
        ""
    };
    Finding::new(
        &codes::UNREADABLE_FILE,
        place,
        format!("cannot be read: {error}"),
        hint,
    )
}

pub(super) fn too_large(name: &str, limits: &LoadLimits) -> Finding {
    let message = format!(
        "the configuration is larger than {} MiB or {} files; this file and those after it were not read",
        limits.bytes >> 20,
        limits.files
    );
    Finding::new(
        &codes::TOO_LARGE,
        whole_file(name),
        message,
        "remove what is not needed here",
    )
}
