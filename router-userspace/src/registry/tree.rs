//! Walks the cgroup tree and names the workload of every cgroup. A pod's containers belong to the pod.
//!
//! It knows the two ways in which a workload is recognised ([`Identity`]) and nothing of who asks.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    fs,
    os::unix::fs::MetadataExt as _,
    path::{Component, Path},
    sync::Arc,
};

use router_common::abi::{MAX_CGROUP_DEPTH, MAX_SOURCES};

use super::Identity;

/// Cgroups of workloads that are remembered; the kernel's map holds no more.
pub const MAX_CGROUPS: usize = MAX_SOURCES as usize;

/// Workloads by what they are recognised by.
#[derive(Debug, Default)]
pub struct Index {
    by_uid: HashMap<String, Arc<str>>,
    by_path: HashMap<String, Arc<str>>,
    on_host_network: HashSet<Arc<str>>,
}

impl Index {
    /// Indexes identities. An identity with a cgroup path is recognised by that alone; the path counts from the
    /// scanned root, and `prefix`, the root's own path below the mount, may stand in front of it.
    pub fn new<'i>(identities: impl IntoIterator<Item = &'i Identity>, prefix: &Path) -> Self {
        let mut index = Self::default();
        for identity in identities {
            let workload = identity.workload.clone();
            if identity.host_network {
                index.on_host_network.insert(workload.clone());
            }
            if let Some(path) = &identity.cgroup {
                let path = Path::new(path.trim_matches('/'));
                let path = path.strip_prefix(prefix).unwrap_or(path);
                index
                    .by_path
                    .insert(path.to_string_lossy().into_owned(), workload);
            } else if let Some(uid) = &identity.uid {
                index.by_uid.insert(dashed(uid), workload);
            }
        }
        index
    }

    /// True when no workload can be recognised.
    pub fn is_empty(&self) -> bool {
        self.by_uid.is_empty() && self.by_path.is_empty()
    }

    /// True for a workload that shares the node's network.
    pub fn is_on_host_network(&self, workload: &str) -> bool {
        self.on_host_network.contains(workload)
    }

    /// The workload that a path below the root belongs to: the nearest ancestor's.
    pub fn workload_at(&self, below_root: &Path) -> Option<Arc<str>> {
        let mut path = String::new();
        let mut found = None;
        for component in below_root.components() {
            let Component::Normal(name) = component else {
                continue;
            };
            let name = name.to_string_lossy();
            push(&mut path, &name);
            found = self.named(&path, &name).or(found);
        }
        found
    }

    /// The workload whose own cgroup is `path`, ending in `name`.
    fn named(&self, path: &str, name: &str) -> Option<Arc<str>> {
        self.by_path.get(path).or_else(|| self.by_pod_name(name)).cloned()
    }

    /// `pod<uid>` (cgroupfs driver) or `kubepods-burstable-pod<uid with _>.slice` (systemd driver).
    fn by_pod_name(&self, name: &str) -> Option<&Arc<str>> {
        if self.by_uid.is_empty() {
            return None;
        }
        let name = name.strip_suffix(".slice").unwrap_or(name);
        let mut candidates = name
            .match_indices("pod")
            .map(|(at, word)| &name[at + word.len()..]);
        candidates.find_map(|uid| self.by_uid.get(&dashed(uid)))
    }
}

fn dashed(uid: &str) -> String {
    uid.replace('_', "-")
}

fn push(path: &mut String, name: &str) {
    if !path.is_empty() {
        path.push('/');
    }
    path.push_str(name);
}

/// Every cgroup below `root` that belongs to a workload, by its id (the inode number of its directory).
///
/// Directories that vanish meanwhile are skipped. At most [`MAX_CGROUPS`] are returned, and the tree is followed no
/// deeper than the kernel half walks it.
pub fn scan(root: &Path, index: &Index) -> BTreeMap<u64, Arc<str>> {
    let mut found = BTreeMap::new();
    if !index.is_empty() {
        descend(
            root,
            &mut String::new(),
            None,
            &mut Walk {
                index,
                found: &mut found,
                depth: 0,
            },
        );
    }
    found
}

struct Walk<'w> {
    index: &'w Index,
    found: &'w mut BTreeMap<u64, Arc<str>>,
    depth: i32,
}

fn descend(directory: &Path, path: &mut String, inherited: Option<&Arc<str>>, walk: &mut Walk<'_>) {
    let Ok(entries) = fs::read_dir(directory) else {
        return;
    };
    if walk.depth >= MAX_CGROUP_DEPTH {
        return;
    }
    walk.depth += 1;
    for entry in entries.flatten() {
        if walk.found.len() >= MAX_CGROUPS || !entry.file_type().is_ok_and(|t| t.is_dir()) {
            continue;
        }
        let parent = path.len();
        let name = entry.file_name();
        push(path, &name.to_string_lossy());
        let own = walk.index.named(path, &name.to_string_lossy());
        let workload = own.as_ref().or(inherited);
        if let (Some(workload), Ok(metadata)) = (workload, entry.metadata()) {
            walk.found.insert(metadata.ino(), workload.clone());
        }
        descend(&entry.path(), path, workload, walk);
        path.truncate(parent);
    }
    walk.depth -= 1;
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identity(workload: &str, uid: Option<&str>, cgroup: Option<&str>) -> Identity {
        Identity {
            workload: workload.into(),
            uid: uid.map(Into::into),
            cgroup: cgroup.map(Into::into),
            host_network: false,
        }
    }

    fn inode(root: &Path, below: &str) -> u64 {
        fs::metadata(root.join(below)).unwrap().ino()
    }

    #[test]
    fn pods_are_found_by_uid_under_both_drivers_with_their_containers() {
        let root = tempfile::tempdir().unwrap();
        let systemd = "kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod1111_aa.slice";
        for path in [
            &format!("{systemd}/cri-containerd-1.scope"),
            "kubepods/besteffort/pod2222-bb/c1",
            "system.slice",
        ] {
            fs::create_dir_all(root.path().join(path)).unwrap();
        }
        let identities = [
            identity("default/a", Some("1111-aa"), None),
            identity("default/b", Some("2222-bb"), None),
        ];
        let found = scan(root.path(), &Index::new(&identities, Path::new("")));
        let expected: BTreeMap<u64, Arc<str>> = [
            (systemd.to_owned(), "default/a"),
            (format!("{systemd}/cri-containerd-1.scope"), "default/a"),
            ("kubepods/besteffort/pod2222-bb".to_owned(), "default/b"),
            ("kubepods/besteffort/pod2222-bb/c1".to_owned(), "default/b"),
        ]
        .into_iter()
        .map(|(path, workload)| (inode(root.path(), &path), workload.into()))
        .collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn an_annotated_path_wins_and_nested_workloads_keep_their_own() {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir_all(root.path().join("node/podcafe/inner")).unwrap();
        let identities = [
            identity("default/outer", Some("cafe"), None),
            identity("default/inner", Some("beef"), Some("/node/podcafe/inner/")),
        ];
        let index = Index::new(&identities, Path::new(""));
        let found = scan(root.path(), &index);
        assert_eq!(
            found[&inode(root.path(), "node/podcafe")].as_ref(),
            "default/outer"
        );
        assert_eq!(
            found[&inode(root.path(), "node/podcafe/inner")].as_ref(),
            "default/inner"
        );
        assert_eq!(
            index.workload_at(Path::new("node/podcafe/inner/x")).as_deref(),
            Some("default/inner")
        );
        assert_eq!(
            index.workload_at(Path::new("node/podcafe/other")).as_deref(),
            Some("default/outer")
        );
        assert_eq!(index.workload_at(Path::new("node")), None);
    }

    #[test]
    fn a_path_may_count_from_the_mount() {
        let identities = [
            identity("n/a", None, Some("box/pods/a")),
            identity("n/b", None, Some("pods/b")),
        ];
        let index = Index::new(&identities, Path::new("box"));
        assert_eq!(index.workload_at(Path::new("pods/a")).as_deref(), Some("n/a"));
        assert_eq!(index.workload_at(Path::new("pods/b")).as_deref(), Some("n/b"));
    }

    #[test]
    fn nothing_is_found_without_identities_or_without_a_tree() {
        let identities = [identity("default/a", Some("1"), None)];
        assert!(
            scan(
                Path::new("/nowhere/at/all"),
                &Index::new(&identities, Path::new(""))
            )
            .is_empty()
        );
        assert!(scan(Path::new("/"), &Index::default()).is_empty());
    }

    #[test]
    fn depth_is_bounded() {
        let root = tempfile::tempdir().unwrap();
        let deep = ["d"; MAX_CGROUP_DEPTH as usize + 1].join("/");
        fs::create_dir_all(root.path().join(&deep).join("podaa")).unwrap();
        assert!(
            scan(
                root.path(),
                &Index::new(&[identity("n/a", Some("aa"), None)], Path::new(""))
            )
            .is_empty()
        );
    }
}
