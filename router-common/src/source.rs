//! Who is calling: cgroups of workloads and their source classes.

use crate::pod::pod;

/// Class of callers that the kernel knows no workload for.
pub const CLASS_UNKNOWN: u32 = 0;

/// What the kernel knows of a cgroup.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct SourceEntry {
    /// Index into class tables; workloads that no rule tells apart share a class.
    pub class: u32,
    /// Zero.
    pub pad: u32,
}

pod!(SourceEntry, 8, 4);
