//! A directory of files as control's configuration: compiled whole, or followed when only endpoints changed.
//!
//! It does not know when the directory is looked at, nor what becomes of a snapshot.

use router_rules::{EndpointChange, Snapshot};

use crate::{
    compile::{self, Compiled, Memo},
    config::{Directory, Suspects},
    control::Configuration,
    finding::Finding,
};

/// The directory, and what was compiled last.
pub(super) struct Files {
    directory: Directory,
    memo: Option<Memo>,
}

impl Files {
    pub(super) const fn new(directory: Directory) -> Self {
        Self {
            directory,
            memo: None,
        }
    }
}

impl Configuration for Files {
    fn look(&mut self, suspects: &Suspects) -> Option<u64> {
        self.directory.look(suspects)
    }

    fn compile(&mut self) -> Result<Compiled, Vec<Finding>> {
        let compiled = compile::compile(&self.directory.documents());
        self.directory.forget_texts();
        // With errors, what was compiled last is still what changes are compared with.
        if let Ok(compiled) = &compiled {
            self.memo = Some(Memo::new(self.directory.files(), compiled));
            self.directory.settle();
        }
        compiled
    }

    fn follow(&mut self, in_force: &Snapshot, generation: u64) -> Option<(Snapshot, EndpointChange)> {
        let memo = self.memo.as_mut()?;
        let followed = memo.follow(&self.directory.changed()?)?;
        let snapshot = in_force.with_endpoints(&followed.change, generation)?;
        let change = memo.advance(followed);
        self.directory.settle();
        Some((snapshot, change))
    }
}
