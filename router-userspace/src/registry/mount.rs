//! Where cgroup v2 is mounted. It knows nothing of workloads.

use std::{fs, io, path::PathBuf};

/// Mount point of the cgroup-v2 file system: `/sys/fs/cgroup`, or `/sys/fs/cgroup/unified` on hosts that also mount
/// version 1.
///
/// # Errors
///
/// `/proc/mounts` cannot be read, or cgroup v2 is not mounted (`NotFound`).
pub fn cgroup2_mount() -> io::Result<PathBuf> {
    find(&fs::read_to_string("/proc/mounts")?)
        .ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, "cgroup v2 is not mounted"))
}

fn find(mounts: &str) -> Option<PathBuf> {
    let points = mounts.lines().filter_map(|line| {
        let mut fields = line.split_ascii_whitespace();
        let (_source, point, kind) = (fields.next()?, fields.next()?, fields.next()?);
        (kind == "cgroup2").then(|| PathBuf::from(unescape(point)))
    });
    // Container runtimes bind parts of the hierarchy elsewhere; the shortest path is the mount itself.
    points.min_by_key(|p| p.as_os_str().len())
}

/// `/proc/mounts` writes spaces, tabs, newlines and backslashes as three octal digits.
fn unescape(field: &str) -> String {
    let escapes = [("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")];
    escapes
        .iter()
        .fold(field.to_owned(), |text, (code, plain)| text.replace(code, plain))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_unified_and_hybrid_mounts() {
        let unified = "sysfs /sys sysfs rw 0 0\ncgroup2 /sys/fs/cgroup cgroup2 rw,nosuid 0 0\n";
        assert_eq!(find(unified).unwrap(), PathBuf::from("/sys/fs/cgroup"));
        let hybrid =
            "cgroup /sys/fs/cgroup/cpu cgroup rw 0 0\ncgroup2 /sys/fs/cgroup/unified cgroup2 rw 0 0\n";
        assert_eq!(find(hybrid).unwrap(), PathBuf::from("/sys/fs/cgroup/unified"));
        assert_eq!(find("proc /proc proc rw 0 0\n"), None);
    }

    #[test]
    fn the_shortest_of_several_mounts_is_taken() {
        let bound = "cgroup2 /var/lib/box/a\\040b cgroup2 rw 0 0\ncgroup2 /sys/fs/cgroup cgroup2 rw 0 0\n";
        assert_eq!(find(bound).unwrap(), PathBuf::from("/sys/fs/cgroup"));
        assert_eq!(unescape("a\\040b"), "a b");
    }
}
