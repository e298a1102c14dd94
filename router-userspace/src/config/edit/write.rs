//! Files → disk, each of them whole or not at all. It knows no documents.

use std::{
    fs::{self, File, Permissions},
    io::{self, Write as _},
    os::unix::fs::{MetadataExt as _, PermissionsExt as _, fchown},
    path::{Path, PathBuf},
};

use tempfile::NamedTempFile;

/// Mode of files that are new, before the process's mask.
const NEW_FILE_MODE: u32 = 0o644;

/// Why the directory was not changed as asked.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// Renaming over it would leave what it points to as it was.
    #[error("{0} is a symbolic link; nothing was changed")]
    SymbolicLink(PathBuf),
    /// Somebody who does not lock the directory wrote it.
    #[error("{0} was changed by another program meanwhile; nothing was changed")]
    Overtaken(PathBuf),
    /// A file could not be written; no file was changed.
    #[error("{0} cannot be written; nothing was changed")]
    Prepare(PathBuf, #[source] io::Error),
    /// A file could not be put in place after others were.
    #[error("{0} cannot be put in place; files before it in the order of names were")]
    Place(PathBuf, #[source] io::Error),
    /// Everything is in place, but may be lost if the machine stops now.
    #[error("{0} cannot be synchronised")]
    Synchronise(PathBuf, #[source] io::Error),
}

/// One file to change.
#[derive(Debug)]
pub(super) struct FileChange<'t> {
    pub(super) path: &'t Path,
    /// Its bytes; none: it is not there.
    pub(super) before: Option<&'t [u8]>,
    /// The bytes it shall have; none: it shall not be there.
    pub(super) after: Option<&'t [u8]>,
}

/// Makes all changes. Every byte is on disk before the first file changes its content, so that the changes follow each
/// other as closely as the file system renames; a reader sees each file as it was or as it will be.
pub(super) fn write(directory: &Path, changes: &[FileChange<'_>]) -> Result<(), WriteError> {
    let prepared: Vec<_> = changes
        .iter()
        .map(|change| prepare(directory, change))
        .collect::<Result<_, _>>()?;
    for change in changes {
        unchanged(change)?;
    }
    let place = |change: &FileChange<'_>| {
        let path = change.path.to_owned();
        move |error| WriteError::Place(path, error)
    };
    let mut removals = Vec::new();
    for (change, file) in changes.iter().zip(prepared) {
        match file {
            // A name that came into use a moment ago is not written over.
            Some(file) if change.before.is_none() => file
                .persist_noclobber(change.path)
                .map_err(|e| place(change)(e.error))?,
            Some(file) => file.persist(change.path).map_err(|e| place(change)(e.error))?,
            None => {
                removals.push(change);
                continue;
            }
        };
    }
    // Make before break.
    for change in removals {
        fs::remove_file(change.path).map_err(place(change))?;
    }
    let synchronise = File::open(directory).and_then(|directory| directory.sync_all());
    synchronise.map_err(|error| WriteError::Synchronise(directory.to_owned(), error))
}

/// The new content in a file of its own, on disk, with the owner and mode of the file it will replace.
fn prepare(directory: &Path, change: &FileChange<'_>) -> Result<Option<NamedTempFile>, WriteError> {
    let Some(content) = change.after else {
        return Ok(None);
    };
    let failed = |error| WriteError::Prepare(change.path.to_owned(), error);
    let old = match change.before {
        Some(_) => Some(fs::symlink_metadata(change.path).map_err(failed)?),
        None => None,
    };
    // Hidden files are not read as configuration.
    let mut file = tempfile::Builder::new()
        .prefix(".router-")
        .suffix(".tmp")
        .permissions(Permissions::from_mode(NEW_FILE_MODE))
        .tempfile_in(directory)
        .map_err(failed)?;
    if let Some(old) = old {
        // Only root can give files away; anybody else owns what he writes.
        let _ = fchown(file.as_file(), Some(old.uid()), Some(old.gid()));
        let permissions = Permissions::from_mode(old.mode() & 0o7777);
        file.as_file().set_permissions(permissions).map_err(failed)?;
    }
    file.write_all(content).map_err(failed)?;
    file.as_file().sync_all().map_err(failed)?;
    Ok(Some(file))
}

/// Refuses to undo what an editor saved since the directory was read, and to put a file where a link is.
fn unchanged(change: &FileChange<'_>) -> Result<(), WriteError> {
    if change.path.is_symlink() {
        return Err(WriteError::SymbolicLink(change.path.to_owned()));
    }
    let now = match fs::read(change.path) {
        Ok(content) => Some(content),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => return Err(WriteError::Prepare(change.path.to_owned(), error)),
    };
    if now.as_deref() == change.before {
        Ok(())
    } else {
        Err(WriteError::Overtaken(change.path.to_owned()))
    }
}
