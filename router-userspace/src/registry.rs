//! Who runs where on this node: workloads, their cgroups, and the way back from a cgroup id to a workload.
//!
//! It knows nothing of rules' matches, maps or HTTP.

use std::sync::Arc;

mod callers;
mod confined;
mod mount;
mod tree;

pub use callers::NodeCallers;
pub use mount::cgroup2_mount;
pub use tree::{Index, MAX_CGROUPS, scan};

/// How a workload is recognised on the node.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Identity {
    /// `namespace/name`, as in the snapshot's workloads.
    pub workload: Arc<str>,
    /// Pod uid; the pod's cgroup directory carries it in its name (with `-` or `_`).
    pub uid: Option<Arc<str>>,
    /// Cgroup path below the cgroup-v2 root, from the annotation `router/cgroup`; wins over the uid.
    pub cgroup: Option<Arc<str>>,
    /// True when it shares the node's network, and may reach what the node may.
    pub host_network: bool,
}

/// From a cgroup id, as the kernel recorded it at `connect`, to the caller's workload.
pub trait Callers: Send + Sync {
    /// `namespace/name` of the workload that the cgroup belongs to; `None` when it belongs to none.
    fn workload(&self, cgroup: u64) -> Option<Arc<str>>;
}
