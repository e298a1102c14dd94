//! Whether the files of a directory are what they were. It knows nothing of what they mean.

use std::{
    ffi::OsStr,
    fs::{self, File},
    hash::{DefaultHasher, Hash as _, Hasher as _},
    io::Read as _,
    path::{Path, PathBuf},
};

/// Extensions of files that are read as configuration.
const EXTENSIONS: [&str; 3] = ["yaml", "yml", "json"];
/// Bytes of a file that are looked at per read.
const CHUNK: usize = 64 * 1024;

/// A number that changes when a configuration file's name or content does; none when something could not be read.
pub fn fingerprint(directory: &Path) -> Option<u64> {
    let mut files: Vec<PathBuf> = fs::read_dir(directory)
        .ok()?
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| {
            path.extension()
                .and_then(OsStr::to_str)
                .is_some_and(|e| EXTENSIONS.contains(&e))
        })
        .collect();
    files.sort_unstable();
    let mut hasher = DefaultHasher::new();
    let mut chunk = vec![0; CHUNK];
    for path in files.iter().filter(|path| path.is_file()) {
        path.hash(&mut hasher);
        let mut file = File::open(path).ok()?;
        let mut length = 0;
        loop {
            let read = file.read(&mut chunk).ok()?;
            if read == 0 {
                break;
            }
            hasher.write(&chunk[..read]);
            length += read;
        }
        length.hash(&mut hasher);
    }
    Some(hasher.finish())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_contents_count_and_nothing_else() {
        let directory = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| fs::write(directory.path().join(name), text).unwrap();
        write("a.yaml", "one");
        let first = fingerprint(directory.path());
        assert!(first.is_some());
        write("a.yaml", "one");
        write("notes.txt", "not read");
        assert_eq!(fingerprint(directory.path()), first);
        write("a.yaml", "two");
        let second = fingerprint(directory.path());
        assert_ne!(second, first);
        write("b.yaml", "");
        assert_ne!(fingerprint(directory.path()), second);
        assert_eq!(fingerprint(Path::new("/nowhere/at/all")), None);
    }
}
