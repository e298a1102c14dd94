//! One reading of the configuration: what became of it, and what is needed to come back to it or to go on from it.
//!
//! It does not know how it is put in force.

use std::{path::Path, sync::Arc, time::Duration};

use router_rules::{EndpointChange, Snapshot, model::Model};

use crate::finding::{Finding, Place, codes};

/// Changes of endpoints that are remembered beside a model at most.
const MAX_CHANGES: usize = 256;

/// A configuration that is to be put in force.
pub(super) struct Next {
    pub(super) snapshot: Arc<Snapshot>,
    pub(super) source: InForce,
    /// How long reading and compiling took.
    pub(super) took: Duration,
    /// Nothing but endpoints is different, and nothing else is to be said.
    pub(super) is_followed: bool,
}

/// What was published last: to come back to it, nothing has to be done.
#[derive(Clone)]
pub(super) struct InForce {
    /// Number among those that were compiled or followed.
    pub(super) edition: u64,
    pub(super) unresolved: Option<Unresolved>,
    pub(super) fingerprint: Option<u64>,
    pub(super) warnings: Arc<[Finding]>,
}

/// What a snapshot was built from, when some of its names are to be resolved again.
#[derive(Clone)]
pub(super) struct Unresolved {
    model: Arc<Model>,
    /// What became of it since.
    changes: Vec<Arc<EndpointChange>>,
}

impl Unresolved {
    pub(super) fn new(model: &Model) -> Self {
        Self {
            model: Arc::new(model.clone()),
            changes: Vec::new(),
        }
    }

    pub(super) fn now(&self) -> Model {
        let mut model = Model::clone(&self.model);
        for change in &self.changes {
            model.change_endpoints(change);
        }
        model
    }

    pub(super) fn with(&self, change: EndpointChange) -> Self {
        let mut with = self.clone();
        with.changes.push(Arc::new(change));
        if with.changes.len() > MAX_CHANGES {
            with.model = Arc::new(with.now());
            with.changes.clear();
        }
        with
    }
}

/// What is said of one that the kernel has no room for.
pub(super) fn does_not_fit(directory: &Path, what: &str) -> Finding {
    let place = Place {
        file: directory.display().to_string().into(),
        line: 0,
        field: String::new(),
    };
    Finding {
        severity: codes::CAPACITY.severity,
        code: codes::CAPACITY.name,
        place,
        object: None,
        message: format!("the kernel's maps are too small: {what}"),
        hint: "fewer or smaller services, rules or weights".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use router_rules::{
        connection::Transport,
        external::at,
        id::ServiceName,
        model::{Port, Protocol, Service},
    };

    use super::*;

    #[test]
    fn a_model_is_what_became_of_it_however_many_changes_there_were() {
        let name = ServiceName::new("a");
        let port = Port {
            number: 80,
            name: None,
            protocol: Protocol::Tcp,
            endpoints: Vec::new(),
        };
        let service = Service {
            name: name.clone(),
            addresses: Vec::new(),
            ports: vec![port],
        };
        let mut unresolved = Unresolved::new(&Model {
            services: vec![service],
            ..Model::default()
        });
        for number in 0..2 * MAX_CHANGES as u16 {
            let endpoints = vec![at(([10, 0, 0, 1], number).into())];
            let ports = BTreeMap::from([((Transport::Tcp, 80), endpoints.clone())]);
            unresolved = unresolved.with(EndpointChange {
                endpoints: BTreeMap::from([(name.clone(), ports)]),
                ..EndpointChange::default()
            });
            assert_eq!(unresolved.now().services[0].ports[0].endpoints, endpoints);
            assert!(unresolved.changes.len() <= MAX_CHANGES);
        }
    }
}
