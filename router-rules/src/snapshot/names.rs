//! Where each caller is in the list of callers, by its name: five bytes for each, since the list has the names.

use std::hash::{BuildHasher as _, RandomState};

use hashbrown::HashTable;

use crate::{
    chunks::Chunks,
    source::{Workload, WorkloadId},
};

/// Indexes of workloads by name. It does not hold the workloads: whoever asks has them.
#[derive(Debug, Default)]
pub(crate) struct WorkloadNames {
    hasher: RandomState,
    ids: HashTable<WorkloadId>,
}

impl WorkloadNames {
    /// Of several workloads of one name, the last one counts.
    pub(crate) fn new(workloads: &Chunks<Workload>) -> Self {
        let hasher = RandomState::new();
        let mut ids = HashTable::with_capacity(workloads.len());
        let hash = |id: &WorkloadId| hasher.hash_one(&*workloads[id.0 as usize].name);
        for (workload, id) in workloads.iter().zip((0..).map(WorkloadId)) {
            let same = |known: &WorkloadId| workloads[known.0 as usize].name == workload.name;
            match ids.find_mut(hash(&id), same) {
                Some(known) => *known = id,
                None => {
                    ids.insert_unique(hash(&id), id, hash);
                }
            }
        }
        Self { hasher, ids }
    }

    /// The workload of `workloads`, which this was made from, that has this name.
    pub(crate) fn find(&self, workloads: &Chunks<Workload>, name: &str) -> Option<WorkloadId> {
        let is_it = |id: &WorkloadId| *workloads[id.0 as usize].name == *name;
        self.ids.find(self.hasher.hash_one(name), is_it).copied()
    }
}
