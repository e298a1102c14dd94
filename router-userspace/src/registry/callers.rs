//! From a cgroup id to a workload, without a lock: what the last scan found, else the kernel is asked.
//!
//! It knows nothing of why a caller is asked for.

use std::{
    collections::{BTreeMap, HashMap},
    fs::File,
    io,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use arc_swap::ArcSwap;

use super::{Callers, Identity, Index, confined, scan};
use crate::{clock, sys};

/// Cgroups that the scan did not see and that were asked for, remembered at most.
const MAX_RESOLVED: usize = 1024;
/// How long an answer that the scan did not give is believed. A container that has just started may be moved.
const RESOLVED_FOR: Duration = Duration::from_secs(1);

/// The workloads of this node.
#[derive(Debug)]
pub struct NodeCallers {
    root: PathBuf,
    /// Path of `root` below the mount.
    prefix: PathBuf,
    /// `root`, open: cgroups are opened by their ids through it.
    opened: File,
    index: ArcSwap<Index>,
    scanned: ArcSwap<BTreeMap<u64, Arc<str>>>,
    /// This process's cgroup.
    own: Option<u64>,
    confinement: ArcSwap<BTreeMap<u64, bool>>,
    resolved: ArcSwap<HashMap<u64, Resolved>>,
}

#[derive(Clone, Debug)]
struct Resolved {
    workload: Option<Arc<str>>,
    at: Instant,
}

impl NodeCallers {
    /// Callers below `root`, a directory of the cgroup-v2 hierarchy that is mounted at `mount`. Nobody is known
    /// before [`Self::replace`].
    ///
    /// # Errors
    ///
    /// The directory cannot be opened.
    pub fn new(mount: &Path, root: &Path) -> io::Result<Self> {
        // As the kernel will name the paths of what is opened by id.
        let root = root.canonicalize()?;
        let prefix = root.strip_prefix(mount.canonicalize()?).map(Path::to_owned);
        Ok(Self {
            own: confined::own(mount),
            confinement: ArcSwap::default(),
            opened: File::open(&root)?,
            prefix: prefix.unwrap_or_default(),
            root,
            index: ArcSwap::default(),
            scanned: ArcSwap::default(),
            resolved: ArcSwap::default(),
        })
    }

    /// Puts other identities in force and scans for them.
    pub fn replace(&self, identities: &[Identity]) {
        self.index.store(Arc::new(Index::new(identities, &self.prefix)));
        self.rescan();
    }

    /// Scans again; true when the cgroups of workloads have changed. Reads directories: not for the data path.
    pub fn rescan(&self) -> bool {
        let index = self.index.load();
        let found = scan(&self.root, &index);
        let workloads = found
            .iter()
            .map(|(&cgroup, workload)| (cgroup, !index.is_on_host_network(workload)));
        let confinement = confined::confinement(&confined::pods_roots(&self.root), workloads, self.own);
        let changed = found != **self.scanned.load() || confinement != **self.confinement.load();
        if changed {
            self.scanned.store(Arc::new(found));
            self.confinement.store(Arc::new(confinement));
        }
        // Also when nothing changed: identities may have.
        self.resolved.store(Arc::default());
        changed
    }

    /// Cgroups and their workloads, as of the last scan.
    pub fn scanned(&self) -> Arc<BTreeMap<u64, Arc<str>>> {
        self.scanned.load_full()
    }

    /// Cgroups that may reach only what is known (`true`), and those below them that may reach everything (`false`), as
    /// of the last scan.
    pub fn confinement(&self) -> Arc<BTreeMap<u64, bool>> {
        self.confinement.load_full()
    }

    fn resolve(&self, cgroup: u64) -> Option<Arc<str>> {
        let directory = sys::open_cgroup(&self.opened, cgroup).ok()?;
        let path = sys::path_of(&directory).ok()?;
        self.index.load().workload_at(path.strip_prefix(&self.root).ok()?)
    }

    fn remember(&self, cgroup: u64, resolved: &Resolved) {
        self.resolved.rcu(|known| {
            let fresh = known
                .iter()
                .filter(|(_, r)| resolved.at.duration_since(r.at) < RESOLVED_FOR);
            let mut known: HashMap<_, _> = fresh
                .take(MAX_RESOLVED - 1)
                .map(|(&id, r)| (id, r.clone()))
                .collect();
            known.insert(cgroup, resolved.clone());
            known
        });
    }
}

impl Callers for NodeCallers {
    fn workload(&self, cgroup: u64) -> Option<Arc<str>> {
        if let Some(workload) = self.scanned.load().get(&cgroup) {
            return Some(workload.clone());
        }
        let now = clock::now();
        if let Some(known) = self.resolved.load().get(&cgroup)
            && now.duration_since(known.at) < RESOLVED_FOR
        {
            return known.workload.clone();
        }
        let workload = self.resolve(cgroup);
        self.remember(
            cgroup,
            &Resolved {
                workload: workload.clone(),
                at: now,
            },
        );
        workload
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::MetadataExt as _};

    use super::*;

    fn identity(uid: &str) -> Identity {
        Identity {
            workload: "default/a".into(),
            uid: Some(uid.into()),
            cgroup: None,
            host_network: false,
        }
    }

    #[test]
    fn scanned_cgroups_are_known_and_others_are_not() {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir(root.path().join("podab")).unwrap();
        let callers = NodeCallers::new(root.path(), root.path()).unwrap();
        let id = fs::metadata(root.path().join("podab")).unwrap().ino();
        assert_eq!(callers.workload(id), None);
        callers.replace(&[identity("ab")]);
        assert_eq!(callers.workload(id).as_deref(), Some("default/a"));
        assert_eq!(callers.workload(u64::MAX), None);
        assert!(!callers.rescan());
        fs::create_dir(root.path().join("podab/container")).unwrap();
        assert!(callers.rescan());
    }

    #[test]
    fn answers_to_misses_are_bounded() {
        let root = tempfile::tempdir().unwrap();
        let callers = NodeCallers::new(root.path(), root.path()).unwrap();
        for id in 0..2 * MAX_RESOLVED as u64 {
            callers.workload(u64::MAX - id);
        }
        assert!(callers.resolved.load().len() <= MAX_RESOLVED);
    }
}
