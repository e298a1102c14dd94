//! Who is calling: source conditions, workloads, and the classes that rules tell apart.

use std::{collections::BTreeSet, fmt, sync::Arc};

use crate::{id::ServiceName, labels::Labels};

/// Condition on the caller.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct SourceMatch {
    /// The caller must be an instance of this service.
    pub service: Option<ServiceName>,
    /// The caller must carry these labels.
    pub labels: Labels,
}

impl SourceMatch {
    /// True when `workload` satisfies the condition.
    pub fn matches(&self, workload: &Workload) -> bool {
        self.service
            .as_ref()
            .is_none_or(|s| workload.services.contains(s))
            && self.labels.select(&workload.labels)
    }
}

impl fmt::Display for SourceMatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.service {
            Some(service) if self.labels.is_empty() => write!(f, "{service}"),
            Some(service) => write!(f, "{service} with {}", self.labels),
            None => write!(f, "workloads with {}", self.labels),
        }
    }
}

/// A pod or process that may call.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Workload {
    /// `namespace/name`, unique.
    pub name: Arc<str>,
    /// Its labels.
    pub labels: Labels,
    /// The services it is an instance of.
    pub services: BTreeSet<ServiceName>,
}

/// Index of a distinct [`SourceMatch`] in a snapshot.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct SourceId(pub(crate) u32);

/// Index of a workload in a snapshot.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct WorkloadId(pub u32);

/// Callers that no rule tells apart share a class. Class 0 is "unknown caller", which satisfies no source condition.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct ClassId(pub u32);

impl ClassId {
    /// Callers that the registry has no workload for.
    pub const UNKNOWN: Self = Self(0);
}

/// The source conditions of a snapshot, each decided for every class once.
#[derive(Debug, Default)]
pub(crate) struct Sources {
    conditions: Vec<SourceMatch>,
    /// Per class, one flag per condition.
    satisfied: Vec<Box<[bool]>>,
    /// Per workload.
    class_of: Vec<ClassId>,
}

impl Sources {
    pub(crate) fn new(conditions: Vec<SourceMatch>, workloads: &[Workload]) -> Self {
        let unknown = vec![false; conditions.len()].into_boxed_slice();
        let mut sources = Self {
            conditions,
            satisfied: vec![unknown],
            class_of: Vec::new(),
        };
        let mut classes = std::collections::HashMap::new();
        for workload in workloads {
            let flags: Box<[bool]> = sources.conditions.iter().map(|c| c.matches(workload)).collect();
            // A known caller that satisfies nothing is told apart from an unknown one: the kernel may decide for it.
            let class = *classes.entry(flags.clone()).or_insert_with(|| {
                sources.satisfied.push(flags);
                ClassId(sources.satisfied.len() as u32 - 1)
            });
            sources.class_of.push(class);
        }
        sources
    }

    pub(crate) fn class_of(&self, workload: WorkloadId) -> ClassId {
        self.class_of
            .get(workload.0 as usize)
            .copied()
            .unwrap_or(ClassId::UNKNOWN)
    }

    pub(crate) fn satisfies(&self, class: ClassId, source: SourceId) -> bool {
        self.satisfied
            .get(class.0 as usize)
            .is_some_and(|flags| flags[source.0 as usize])
    }

    pub(crate) fn condition(&self, source: SourceId) -> &SourceMatch {
        &self.conditions[source.0 as usize]
    }

    pub(crate) fn class_count(&self) -> u32 {
        self.satisfied.len() as u32
    }
}
