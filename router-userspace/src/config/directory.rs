//! A configuration directory that is read again and again: files that did not change are not parsed again.
//!
//! It knows no kinds of documents, and not what tells it that a file changed.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet},
    fs::{self, Metadata},
    hash::{DefaultHasher, Hash as _, Hasher as _},
    io,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    sync::Arc,
};

use super::{
    Documents, LoadLimits, files,
    source::{self, FileText},
    text,
};
use crate::{
    finding::{self, Finding},
    parallel,
};

/// Files that may have changed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Suspects {
    /// These and no others. They are read even if they look the same.
    Files(BTreeSet<PathBuf>),
    /// Any. Those that look the same are taken to be the same.
    All,
}

/// What is known of a directory's files.
#[derive(Debug)]
pub struct Directory {
    path: PathBuf,
    limits: LoadLimits,
    files: BTreeMap<PathBuf, File>,
    sum: Sum,
    /// Files that may hold something else than when [`Directory::settle`] was called.
    changed: BTreeSet<PathBuf>,
    /// What could not be read.
    unreadable: BTreeMap<PathBuf, Finding>,
    /// The first file beyond the limits; it and those after it are not among `files`.
    beyond: Option<PathBuf>,
    is_listed: bool,
}

/// A file that was read.
#[derive(Debug)]
struct File {
    stamp: Stamp,
    text: Arc<FileText>,
    digest: u64,
    bytes: u64,
    /// Documents in its text; of more than fit, none is read.
    sources: usize,
    objects: usize,
    documents: Arc<Documents>,
}

/// What all files are together.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
struct Sum {
    bytes: u64,
    /// At least the documents, and at least the objects.
    documents: usize,
    /// Another when a file's name or content is; the order of the files does not matter.
    fingerprint: u64,
}

impl Sum {
    fn add(&mut self, path: &Path, file: &File) {
        self.bytes += file.bytes;
        self.documents += file.sources.max(file.objects);
        self.fingerprint = self.fingerprint.wrapping_add(fingerprint(path, file));
    }

    fn subtract(&mut self, path: &Path, file: &File) {
        self.bytes -= file.bytes;
        self.documents -= file.sources.max(file.objects);
        self.fingerprint = self.fingerprint.wrapping_sub(fingerprint(path, file));
    }
}

fn fingerprint(path: &Path, file: &File) -> u64 {
    let mut hasher = DefaultHasher::new();
    (path, file.digest).hash(&mut hasher);
    hasher.finish()
}

/// A file's text as it was read.
struct Content {
    /// With a byte order mark.
    bytes: u64,
    text: String,
    digest: u64,
}

impl Content {
    fn new(content: String) -> Self {
        let bytes = content.len() as u64;
        let text = source::without_mark(content);
        let digest = source::digest(&text);
        Self { bytes, text, digest }
    }
}

/// What differs when a file was written or replaced, as far as the file system notices.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Stamp {
    file: (u64, u64),
    bytes: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl From<&Metadata> for Stamp {
    fn from(metadata: &Metadata) -> Self {
        Self {
            file: (metadata.dev(), metadata.ino()),
            bytes: metadata.len(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        }
    }
}

impl Directory {
    /// Nothing is read before [`Directory::look`].
    pub fn new(path: PathBuf, limits: LoadLimits) -> Self {
        Self {
            path,
            limits,
            files: BTreeMap::new(),
            sum: Sum::default(),
            changed: BTreeSet::new(),
            unreadable: BTreeMap::new(),
            beyond: None,
            is_listed: false,
        }
    }

    /// Reads what changed. Returns a number that is another when a file's name or content is, and none when something
    /// could not be read.
    pub fn look(&mut self, suspects: &Suspects) -> Option<u64> {
        match suspects {
            Suspects::Files(paths) if self.is_listed && paths.iter().all(|path| self.is_own(path)) => {
                for path in paths {
                    self.look_at(path, self.limits.bytes, Trust::Content);
                }
                if self.beyond.is_some() || !self.is_within_limits() {
                    self.look_around();
                }
            }
            _ => self.look_around(),
        }
        self.fingerprint()
    }

    /// What the files hold, and what there is to say about them.
    pub fn documents(&self) -> Documents {
        let mut documents = Documents::default();
        let mut objects = 0;
        for (path, file) in &self.files {
            if objects + file.sources > self.limits.documents {
                let finding = text::too_many(&self.name(path), &self.limits);
                documents.findings.push(finding);
            } else {
                documents.append(&file.documents);
                objects += file.objects;
            }
        }
        documents.findings.extend(self.unreadable.values().cloned());
        let beyond = self.beyond.iter();
        let beyond = beyond.map(|path| files::too_large(&self.name(path), &self.limits));
        documents.findings.extend(beyond);
        if objects == 0 && documents.findings.is_empty() {
            documents.findings.push(files::nothing_found());
        }
        finding::sort(&mut documents.findings);
        documents
    }

    /// What each file holds, in the order of reading.
    pub fn files(&self) -> impl Iterator<Item = (&Path, &Arc<Documents>)> {
        self.files
            .iter()
            .map(|(path, file)| (path.as_path(), &file.documents))
    }

    /// The files that may hold something else than when [`Directory::settle`] was called, with what they hold now. None
    /// when there is more to say than what files hold: one cannot be read, or there are too many.
    pub fn changed(&self) -> Option<Vec<(&Path, &Arc<Documents>)>> {
        let is_whole = self.unreadable.is_empty()
            && self.beyond.is_none()
            && self.sum.documents <= self.limits.documents;
        if !is_whole {
            return None;
        }
        let changed = self.changed.iter();
        changed
            .map(|path| Some((path.as_path(), &self.files.get(path)?.documents)))
            .collect()
    }

    /// Takes what the files hold now for known.
    pub fn settle(&mut self) {
        self.changed.clear();
    }

    /// Lets go of the texts. They are read again when somebody asks for the line of a field.
    pub fn forget_texts(&self) {
        for file in self.files.values() {
            file.text.forget();
        }
    }

    /// True when a path that was touched can only be a file of the configuration, or no longer be one.
    fn is_own(&self, path: &Path) -> bool {
        path.parent() == Some(&*self.path)
            && files::is_configuration(path)
            && fs::symlink_metadata(path).map_or_else(
                |error| error.kind() == io::ErrorKind::NotFound,
                |metadata| metadata.is_file(),
            )
    }

    fn look_around(&mut self) {
        self.unreadable.clear();
        self.beyond = None;
        self.is_listed = false;
        let paths = match files::list(&self.path) {
            Ok(paths) => paths,
            Err(error) => {
                let finding = files::unreadable(&self.path, &error);
                self.unreadable.insert(self.path.clone(), finding);
                self.remove_unless(|_| false);
                return;
            }
        };
        let there: BTreeSet<&PathBuf> = paths.iter().collect();
        self.remove_unless(|path| there.contains(path));
        self.read_ahead(&paths);
        let mut bytes_left = self.limits.bytes;
        let mut files_left = self.limits.files;
        for path in &paths {
            self.look_at(path, bytes_left, Trust::Stamp);
            let Some(file) = self.files.get(path) else {
                continue;
            };
            match (bytes_left.checked_sub(file.bytes), files_left.checked_sub(1)) {
                (Some(bytes), Some(files)) => (bytes_left, files_left) = (bytes, files),
                _ => {
                    self.remove_unless(|other| other < path);
                    self.beyond = Some(path.clone());
                    break;
                }
            }
        }
        self.is_listed = true;
    }

    /// Reads files that look different, several at once, when it is certain that all fit. What cannot be read is left to
    /// [`Directory::look_at`], which finds the others as it would have read them.
    fn read_ahead(&mut self, paths: &[PathBuf]) {
        let found: Vec<_> = paths.iter().map(fs::metadata).collect();
        let sizes = found.iter().flatten().map(Metadata::len);
        if paths.len() > self.limits.files || sizes.sum::<u64>() > self.limits.bytes {
            return;
        }
        let is_other = |path: &PathBuf, metadata: &Metadata| {
            let known = self.files.get(path);
            metadata.is_file() && known.is_none_or(|known| known.stamp != Stamp::from(metadata))
        };
        let found = paths.iter().zip(found);
        let mut wanted: Vec<_> = found
            .filter_map(|(path, metadata)| Some((path, metadata.ok()?)))
            .filter(|(path, metadata)| is_other(path, metadata))
            .collect();
        // The largest first, so that no thread is left with one alone.
        wanted.sort_by_key(|(_, metadata)| Reverse(metadata.len()));
        let limit = self.limits.bytes;
        let read = parallel::map(&wanted, |(path, metadata)| {
            let content = files::read_text(path, limit).ok()?;
            let known = self.files.get(*path).map(|known| known.digest);
            let content = Content::new(content);
            (known != Some(content.digest)).then(|| self.parse(path, metadata.into(), content, limit))
        });
        for ((path, _), file) in wanted.into_iter().zip(read) {
            if let Some(file) = file {
                self.insert(path, file);
            }
        }
    }

    /// Reads a file if it may be another than it was. `limit`: bytes that may be read.
    fn look_at(&mut self, path: &Path, limit: u64, trust: Trust) {
        self.unreadable.remove(path);
        let found = fs::metadata(path).and_then(|metadata| {
            let stamp = Stamp::from(&metadata);
            let known = self.files.get_mut(path).filter(|_| metadata.is_file());
            if known.is_some_and(|known| trust == Trust::Stamp && known.stamp == stamp) {
                return Ok(None);
            }
            Ok(Some((stamp, files::read_text(path, limit)?)))
        });
        match found {
            Ok(None) => {}
            Ok(Some((stamp, text))) => self.take(path, stamp, text, limit),
            Err(error) => {
                self.remove(path);
                if error.kind() != io::ErrorKind::NotFound || trust == Trust::Stamp {
                    let name = self.name(path);
                    let finding = files::unreadable(Path::new(&name), &error);
                    self.unreadable.insert(path.to_owned(), finding);
                }
            }
        }
    }

    fn take(&mut self, path: &Path, stamp: Stamp, content: String, limit: u64) {
        let content = Content::new(content);
        let digest = content.digest;
        if let Some(known) = self.files.get_mut(path).filter(|known| known.digest == digest) {
            known.stamp = stamp;
            return;
        }
        let file = self.parse(path, stamp, content, limit);
        self.insert(path, file);
    }

    fn parse(&self, path: &Path, stamp: Stamp, content: Content, limit: u64) -> File {
        let Content { bytes, text, digest } = content;
        let text = Arc::new(FileText::of_file(&self.name(path), path, text, digest));
        let sources = if bytes > limit {
            Vec::new()
        } else {
            text::split(&text)
        };
        let mut documents = Documents::default();
        if sources.len() <= self.limits.documents {
            text::read(&mut documents, &sources);
        }
        text.forget();
        File {
            stamp,
            text,
            digest,
            bytes,
            sources: sources.len(),
            objects: documents.len(),
            documents: Arc::new(documents),
        }
    }

    fn insert(&mut self, path: &Path, file: File) {
        self.remove(path);
        self.sum.add(path, &file);
        self.files.insert(path.to_owned(), file);
    }

    fn remove(&mut self, path: &Path) {
        self.changed.insert(path.to_owned());
        if let Some(file) = self.files.remove(path) {
            self.sum.subtract(path, &file);
        }
    }

    fn remove_unless(&mut self, stays: impl Fn(&PathBuf) -> bool) {
        let gone: Vec<_> = self.files.keys().filter(|path| !stays(path)).cloned().collect();
        for path in gone {
            self.remove(&path);
        }
    }

    fn is_within_limits(&self) -> bool {
        self.sum.bytes <= self.limits.bytes && self.files.len() <= self.limits.files
    }

    fn fingerprint(&self) -> Option<u64> {
        if !self.unreadable.is_empty() {
            return None;
        }
        let mut hasher = DefaultHasher::new();
        (self.sum.fingerprint, self.files.len(), &self.beyond).hash(&mut hasher);
        Some(hasher.finish())
    }

    /// What findings call a file.
    fn name(&self, path: &Path) -> String {
        let name = path.strip_prefix(&self.path).unwrap_or(path);
        name.display().to_string()
    }
}

/// What shows that a file is the same.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Trust {
    Stamp,
    Content,
}

#[cfg(test)]
mod tests;
