//! Which cgroups may reach only what is known, when the agent is told so: those of workloads, never those of the host.
//!
//! It knows nothing of destinations.

use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

/// Levels below the root at which the cgroup of all pods is looked for; kubelet's `--cgroup-root` may add some.
const PODS_ROOT_DEPTH: usize = 4;

/// Cgroups below which every process is a pod's, known or not: `kubepods` (cgroupfs driver) and `kubepods.slice`
/// (systemd driver), also below other cgroups (`kubelet-kubepods.slice`).
pub(super) fn pods_roots(root: &Path) -> Vec<u64> {
    let mut found = Vec::new();
    look(root, PODS_ROOT_DEPTH, &mut found);
    found
}

fn look(directory: &Path, depth: usize, found: &mut Vec<u64>) {
    let Ok(entries) = fs::read_dir(directory) else {
        return;
    };
    for entry in entries
        .flatten()
        .filter(|e| e.file_type().is_ok_and(|t| t.is_dir()))
    {
        let name = entry.file_name();
        let name = name.to_string_lossy();
        let is_root = name == "kubepods" || name == "kubepods.slice" || name.ends_with("-kubepods.slice");
        match entry.metadata() {
            Ok(metadata) if is_root => found.push(metadata.ino()),
            Ok(_) if depth > 1 => look(&entry.path(), depth - 1, found),
            _ => {}
        }
    }
}

/// The cgroup of this process below `mount`, which is never confined.
pub(super) fn own(mount: &Path) -> Option<u64> {
    let text = fs::read_to_string("/proc/self/cgroup").ok()?;
    let path = text.lines().find_map(|line| line.strip_prefix("0::"))?;
    let directory: PathBuf = mount.join(path.trim_start_matches('/'));
    // The root's own directory would exempt everybody.
    (path != "/")
        .then(|| fs::metadata(directory).ok())?
        .map(|metadata| metadata.ino())
}

/// What is said of cgroups: pods' roots and workloads are confined (`true`), workloads on the host's network and this
/// process are not.
pub(super) fn confinement(
    roots: &[u64],
    workloads: impl Iterator<Item = (u64, bool)>,
    own: Option<u64>,
) -> BTreeMap<u64, bool> {
    let roots = roots.iter().map(|&cgroup| (cgroup, true));
    let own = own.map(|cgroup| (cgroup, false));
    roots.chain(workloads).chain(own).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pods_are_below_kubepods_under_both_drivers() {
        let root = tempfile::tempdir().unwrap();
        for path in [
            "kubepods/burstable",
            "kubepods.slice",
            "kubelet.slice/kubelet-kubepods.slice",
            "system.slice/kubelet.service",
            "a/b/c/d/kubepods",
        ] {
            fs::create_dir_all(root.path().join(path)).unwrap();
        }
        let inode = |path: &str| fs::metadata(root.path().join(path)).unwrap().ino();
        let mut expected = [
            "kubepods",
            "kubepods.slice",
            "kubelet.slice/kubelet-kubepods.slice",
        ]
        .map(inode);
        let mut found = pods_roots(root.path());
        found.sort_unstable();
        expected.sort_unstable();
        assert_eq!(found, expected);
    }

    #[test]
    fn the_host_and_this_process_are_exempt() {
        let said = confinement(&[1], [(2, true), (3, false), (4, true)].into_iter(), Some(4));
        assert_eq!(
            said,
            BTreeMap::from([(1, true), (2, true), (3, false), (4, false)])
        );
    }
}
