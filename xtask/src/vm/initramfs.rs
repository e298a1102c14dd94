//! Writes an initial RAM disk: a cpio archive in the "newc" format of the kernel's
//! Documentation/driver-api/early-userspace/buffer-format.rst. It does not compress and does not read archives.

use std::{
    fs,
    io::{self, Write},
    path::Path,
};

use anyhow::{Context, Result};

/// The archive's last entry.
const TRAILER: &str = "TRAILER!!!";

const DIRECTORY: u32 = 0o040_000;
const REGULAR: u32 = 0o100_000;
const SYMLINK: u32 = 0o120_000;
const CHARACTER: u32 = 0o020_000;

#[derive(Default)]
struct Entry {
    path: String,
    /// Type and permissions.
    mode: u32,
    bytes: Vec<u8>,
    /// Major and minor number, of device files.
    device: (u32, u32),
}

/// A file system to be.
#[derive(Default)]
pub(super) struct Initramfs(Vec<Entry>);

impl Initramfs {
    /// Folders come before what is in them.
    pub(super) fn folder(&mut self, path: &str) {
        self.push(Entry {
            path: path.to_owned(),
            mode: DIRECTORY | 0o755,
            ..Entry::default()
        });
    }

    pub(super) fn file(&mut self, path: &str, permissions: u32, bytes: Vec<u8>) {
        self.push(Entry {
            path: path.to_owned(),
            mode: REGULAR | permissions,
            bytes,
            ..Entry::default()
        });
    }

    /// An executable copy of a file of the host.
    pub(super) fn program(&mut self, path: &str, host: &Path) -> Result<()> {
        let bytes = fs::read(host).with_context(|| host.display().to_string())?;
        self.file(path, 0o755, bytes);
        Ok(())
    }

    pub(super) fn link(&mut self, path: &str, to: &str) {
        let bytes = to.as_bytes().to_vec();
        self.push(Entry {
            path: path.to_owned(),
            mode: SYMLINK | 0o777,
            bytes,
            ..Entry::default()
        });
    }

    pub(super) fn character_device(&mut self, path: &str, major: u32, minor: u32) {
        let device = (major, minor);
        self.push(Entry {
            path: path.to_owned(),
            mode: CHARACTER | 0o600,
            device,
            ..Entry::default()
        });
    }

    fn push(&mut self, entry: Entry) {
        self.0.push(entry);
    }

    /// Writes the archive to `path`.
    pub(super) fn write(&self, path: &Path) -> io::Result<()> {
        let mut out = io::BufWriter::new(fs::File::create(path)?);
        for (inode, entry) in (1..).zip(&self.0) {
            write_entry(&mut out, inode, entry)?;
        }
        write_entry(
            &mut out,
            0,
            &Entry {
                path: TRAILER.to_owned(),
                ..Entry::default()
            },
        )?;
        out.flush()
    }
}

/// One header of thirteen numbers, the name, the contents; name and contents end on a multiple of four.
fn write_entry(out: &mut impl Write, inode: u32, entry: &Entry) -> io::Result<()> {
    let size = u32::try_from(entry.bytes.len()).map_err(io::Error::other)?;
    let name = u32::try_from(entry.path.len() + 1).map_err(io::Error::other)?;
    let (major, minor) = entry.device;
    let (owner, links, time) = (0, 1, 0);
    write!(out, "070701")?;
    for field in [
        inode, entry.mode, owner, owner, links, time, size, 0, 0, major, minor, name, 0,
    ] {
        write!(out, "{field:08x}")?;
    }
    out.write_all(entry.path.as_bytes())?;
    out.write_all(&[0])?;
    pad(out, 110 + entry.path.len() + 1)?;
    out.write_all(&entry.bytes)?;
    pad(out, entry.bytes.len())
}

fn pad(out: &mut impl Write, written: usize) -> io::Result<()> {
    out.write_all(&[0; 3][..written.next_multiple_of(4) - written])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_are_aligned_and_sized() {
        let mut out = Vec::new();
        let entry = Entry {
            path: "init".into(),
            mode: REGULAR | 0o755,
            bytes: b"hello".to_vec(),
            device: (0, 0),
        };
        write_entry(&mut out, 1, &entry).unwrap();
        assert_eq!(
            out.len(),
            (110 + 5 + 1) + 8,
            "header and name are padded, and so are the contents"
        );
        assert_eq!(&out[..6], b"070701");
        assert_eq!(&out[6 + 8..6 + 16], b"000081ed", "mode");
        assert_eq!(&out[6 + 6 * 8..6 + 7 * 8], b"00000005", "size");
        assert_eq!(&out[110..115], b"init\0");
        assert_eq!(&out[116..121], b"hello");
    }
}
