//! Changes to the rules of a configuration directory: drafted on its texts, judged by whoever drafted them, then written.
//!
//! A draft changes one document at a time and leaves all other text as it is. It does not know what rules mean: its
//! [documents](Draft::documents) are to be compiled before it is [written](Draft::write).

mod body;
mod splice;
mod write;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::{File, TryLockError},
    io,
    path::{Path, PathBuf},
};

pub use write::WriteError;

use super::{
    Declared, Documents, LoadLimits, ObjectKey, Position, files, object::DEFAULT_NAMESPACE, source, text,
};
use crate::finding::{Finding, Place};
use splice::Below;
use write::FileChange;

/// Bytes that an object's name contributes to the name of its file at most; a file system takes 255.
const MAX_NAME_IN_FILE: usize = 200;

/// Why an object cannot be created, replaced or deleted.
#[derive(Debug, thiserror::Error)]
pub enum EditError {
    /// To be created, but there.
    #[error("{key} exists already, at {file}:{line}")]
    Exists {
        /// The object.
        key: ObjectKey,
        /// Where it is.
        file: String,
        /// Its first line.
        line: u32,
    },
    /// To be replaced or deleted, but not there.
    #[error("there is no {0}")]
    Missing(ObjectKey),
    /// In the list of another document, of which only whole documents are edited.
    #[error("{key} is an item of the list at {file}:{line}, which is not edited")]
    InList {
        /// The object.
        key: ObjectKey,
        /// File of the list.
        file: String,
        /// First line of the item.
        line: u32,
    },
    /// Its text cannot be made.
    #[error("{0} cannot be written as text")]
    Text(ObjectKey, #[source] io::Error),
}

/// The right to change a directory, until it is dropped. Only programs that ask for it respect it.
#[derive(Debug)]
pub struct Lock(#[expect(dead_code, reason = "closing the directory unlocks it")] File);

impl Lock {
    /// Locks `directory`; calls `wait` before waiting for another program.
    ///
    /// # Errors
    ///
    /// The directory cannot be opened, or its file system has no locks.
    pub fn take(directory: &Path, wait: impl FnOnce()) -> io::Result<Self> {
        let file = File::open(directory)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                wait();
                file.lock()?;
            }
            Err(TryLockError::Error(error)) => return Err(error),
        }
        Ok(Self(file))
    }
}

/// A configuration directory as it was read, with changes that are not written yet.
#[derive(Debug)]
pub struct Draft {
    directory: PathBuf,
    /// By the names that findings give them, which are their paths.
    files: BTreeMap<String, DraftFile>,
}

#[derive(Debug)]
struct DraftFile {
    path: PathBuf,
    /// As it was read; none: it was not there.
    before: Option<String>,
    /// As it shall be; none: it shall not be there.
    after: Option<String>,
    declared: Vec<Declared>,
}

impl DraftFile {
    fn is_changed(&self) -> bool {
        self.before != self.after
    }

    fn change(&self) -> FileChange<'_> {
        FileChange {
            path: &self.path,
            before: self.before.as_deref().map(str::as_bytes),
            after: self.after.as_deref().map(str::as_bytes),
        }
    }
}

impl Draft {
    /// Reads a directory as [`read`](super::read) would.
    ///
    /// # Errors
    ///
    /// What could not be read: a draft of a part would lose the rest.
    pub fn read(directory: &Path) -> Result<Self, Vec<Finding>> {
        let mut files = BTreeMap::new();
        let limits = LoadLimits::default();
        let findings = files::each_text(
            [directory],
            &limits,
            |_, file| file,
            |path, name, text| {
                let file = DraftFile {
                    path: path.to_owned(),
                    before: Some(text.clone()),
                    after: Some(text),
                    declared: Vec::new(),
                };
                files.insert(name.to_owned(), file);
            },
        );
        if !findings.is_empty() {
            return Err(findings);
        }
        let mut draft = Self {
            directory: directory.to_owned(),
            files,
        };
        for declared in &draft.documents().declared {
            if let Some(file) = draft.files.get_mut(&**declared.position.file()) {
                file.declared.push(declared.clone());
            }
        }
        Ok(draft)
    }

    /// The documents as they are with all changes made so far, named by the paths of their files.
    pub fn documents(&self) -> Documents {
        let mut documents = Documents::default();
        for (name, file) in &self.files {
            if let Some(content) = &file.after {
                text::add(&mut documents, name, content.clone(), &LoadLimits::default());
            }
        }
        documents
    }

    /// The object, when it is there.
    pub fn find(&self, key: &ObjectKey) -> Option<&Declared> {
        let mut declared = self.files.values().flat_map(|file| &file.declared);
        declared.find(|declared| declared.key == *key)
    }

    /// Where a finding about `input`, which was put into this draft, is in the text that `input` came from. None when
    /// it is about something else.
    pub fn place_in_input(&self, input: &Declared, place: &Place) -> Option<Place> {
        let there = &self.find(&input.key)?.position;
        let here = &input.position;
        if *place.file != **there.file() || !there.source().lines().contains(&place.line) {
            return None;
        }
        // Both texts have the same lines from their first, but for the envelope that unnamed objects were given.
        let (envelope, field) = if here.is_bare_rule() {
            let field = place.field.strip_prefix("spec.").unwrap_or(&place.field);
            (body::ENVELOPE_LINES, field)
        } else {
            (0, place.field.as_str())
        };
        let line = (here.line() + place.line).checked_sub(there.line() + envelope);
        // One that was put into another namespace was written anew.
        let is_as_written = here.item().is_none() && (here.is_bare_rule() || !input.is_moved());
        let line = line.filter(|line| is_as_written && here.source().lines().contains(line));
        Some(Place {
            file: here.file().clone(),
            line: line.unwrap_or_else(|| here.line()),
            field: field.to_owned(),
        })
    }

    /// Puts a new object into a file of its own.
    ///
    /// # Errors
    ///
    /// [`EditError::Exists`], [`EditError::Text`].
    pub fn create(&mut self, object: &Declared) -> Result<(), EditError> {
        if let Some(there) = self.find(&object.key) {
            return Err(EditError::Exists {
                key: object.key.clone(),
                file: there.position.file().to_string(),
                line: there.position.line(),
            });
        }
        let text = body::yaml_text(object).map_err(|e| EditError::Text(object.key.clone(), e))?;
        let path = self.path_for(&object.key);
        let name = path.display().to_string();
        let file = DraftFile {
            path,
            before: None,
            after: None,
            declared: Vec::new(),
        };
        let file = self.files.entry(name.clone()).or_insert(file);
        file.after = Some(text);
        self.reread(&name);
        Ok(())
    }

    /// Puts the object in the place of the one that has its name. Comments before it stay unless the new text brings
    /// its own.
    ///
    /// # Errors
    ///
    /// [`EditError::Missing`], [`EditError::InList`], [`EditError::Text`].
    pub fn replace(&mut self, object: &Declared) -> Result<(), EditError> {
        let position = self.whole_document(&object.key)?;
        let name = position.file().to_string();
        let is_json = Path::new(&name).extension().is_some_and(|e| e == "json");
        let text = if is_json {
            body::json_text(object)
        } else {
            body::yaml_text(object)
        };
        let text = text.map_err(|error| EditError::Text(object.key.clone(), error))?;
        let replaced = splice::replace(&position.source().file_text(), position.source().range(), &text);
        self.set(&name, replaced);
        Ok(())
    }

    /// Takes an object out. A file that holds nothing else goes with it.
    ///
    /// # Errors
    ///
    /// [`EditError::Missing`], [`EditError::InList`].
    pub fn delete(&mut self, key: &ObjectKey) -> Result<(), EditError> {
        let position = self.whole_document(key)?;
        let name = position.file().to_string();
        let below = |declared: &&Declared| {
            declared.position.is_bare_rule()
                && declared.position.source().range().start > position.source().range().start
        };
        let file = self.files.get(&name);
        let unnamed = file.is_some_and(|file| file.declared.iter().any(|d| below(&d)));
        let below = if unnamed { Below::Unnamed } else { Below::Named };
        let remains = splice::remove(&position.source().file_text(), position.source().range(), below);
        self.set(&name, remains);
        Ok(())
    }

    /// Writes what was changed, each file whole or not at all, and waits until the disk has it.
    ///
    /// # Errors
    ///
    /// [`WriteError`] says which file, and whether others were changed.
    pub fn write(&self) -> Result<(), WriteError> {
        let changed = self.files.values().filter(|file| file.is_changed());
        let changes: Vec<_> = changed.map(DraftFile::change).collect();
        if changes.is_empty() {
            return Ok(());
        }
        write::write(&self.directory, &changes)
    }

    /// A document that holds the object and nothing else.
    fn whole_document(&self, key: &ObjectKey) -> Result<Position, EditError> {
        let declared = self.find(key).ok_or_else(|| EditError::Missing(key.clone()))?;
        let position = &declared.position;
        if position.item().is_some() {
            return Err(EditError::InList {
                key: key.clone(),
                file: position.file().to_string(),
                line: position.line(),
            });
        }
        Ok(position.clone())
    }

    /// Gives a file a new text, which has no byte order mark; the file keeps its own.
    fn set(&mut self, name: &str, text: String) {
        if let Some(file) = self.files.get_mut(name) {
            let mark = file
                .after
                .as_deref()
                .filter(|text| text.starts_with(source::BYTE_ORDER_MARK));
            let mark = mark.map_or(String::new(), |_| source::BYTE_ORDER_MARK.to_string());
            file.after = (!splice::is_spent(&text)).then(|| mark + &text);
        }
        self.reread(name);
    }

    fn reread(&mut self, name: &str) {
        if let Some(file) = self.files.get_mut(name) {
            let mut documents = Documents::default();
            if let Some(content) = &file.after {
                text::add(&mut documents, name, content.clone(), &LoadLimits::default());
            }
            file.declared = documents.declared.iter().cloned().collect();
        }
    }

    /// A path for a new object that no file has.
    fn path_for(&self, key: &ObjectKey) -> PathBuf {
        let namespace = match &*key.namespace {
            DEFAULT_NAMESPACE => String::new(),
            namespace => format!("{namespace}."),
        };
        let name: String = format!("{namespace}{}", key.name)
            .chars()
            .take(MAX_NAME_IN_FILE)
            .collect();
        let stem = format!("{}-{name}", key.kind.name());
        let taken: BTreeSet<_> = self.files.values().map(|file| file.path.as_path()).collect();
        // A file that is there but is not read, such as a broken link, is not written over either.
        let free = |path: &PathBuf| !taken.contains(path.as_path()) && path.symlink_metadata().is_err();
        let first = self.directory.join(format!("{stem}.yaml"));
        let mut paths = std::iter::once(first)
            .chain((2_u64..).map(|number| self.directory.join(format!("{stem}-{number}.yaml"))));
        paths.find(free).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests;
