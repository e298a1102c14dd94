//! Documents of every language → the engine's model. Pure: no files, no clock, no kernel.
//!
//! Everything that is wrong is reported at once, each with its place. What a document means is decided here and
//! nowhere else; what its text looks like is [`config`](crate::config)'s business.

mod capacity;
mod externals;
mod gateways;
mod memo;
mod names;
mod policies;
mod registry;
mod review;
mod rules;
mod secrets;

pub use memo::{Followed, Memo};

use std::{collections::HashMap, sync::Arc};

use router_rules::{id::Origin, model::Model};

pub use secrets::UsedCertificate;

use secrets::Secrets;

use crate::{
    config::{Document, Documents, Kind, Many, Position},
    finding::{self, Finding, codes},
    parallel,
    registry::Identity,
};

/// Objects below this number are compiled by one thread: starting another would take longer.
const WORTH_A_THREAD: usize = 1_000;

/// A configuration that may be put in force.
#[derive(Debug)]
pub struct Compiled {
    /// What the engine's snapshot is built from. Ordered: equal documents give equal models.
    pub model: Model,
    /// How the model's workloads are recognised on the node, in the same order.
    pub identities: Vec<Identity>,
    /// Certificates in use, for [`Compiled::findings_at`].
    pub certificates: Vec<UsedCertificate>,
    /// What does not do what it seems to say, whatever the time: warnings only.
    pub findings: Vec<Finding>,
}

/// Compiles documents.
///
/// # Errors
///
/// Every finding, when at least one of them is an error: those of the documents' text and those of their meaning.
pub fn compile(documents: &Documents) -> Result<Compiled, Vec<Finding>> {
    let findings = documents.findings.clone();
    let incomplete = findings.iter().any(Finding::is_error);
    let of_rules = |mut findings: Vec<Finding>| {
        duplicates(documents, &mut findings);
        let rules = rules::compile(&documents.route_rules, &mut findings);
        let policies = policies::compile(&documents.destination_policies, &mut findings);
        (rules, policies, findings)
    };
    let of_registry = || {
        let mut findings = Vec::new();
        let registry = registry::compile(&documents.into(), &mut findings);
        (registry, findings)
    };
    // Neither asks for anything of the other's.
    let is_large = documents.len() >= WORTH_A_THREAD;
    let ((mut rules, mut policies, mut findings), (mut registry, mut others)) =
        parallel::both(is_large, move || of_rules(findings), of_registry);
    findings.append(&mut others);
    externals::compile(&documents.egress_rules, &mut registry, &mut findings);
    externals::as_written(&registry, &mut rules, &mut policies);
    let mut secrets = Secrets::new(&documents.secrets);
    let gateways = gateways::compile(&documents.ingress_rules, &registry, &mut secrets, &mut findings);
    let certificates = secrets.finish(&mut findings);
    review::review(&registry, &rules, &policies, &mut findings);
    capacity::check(&registry, &rules, &policies, &mut findings);
    finding::sort(&mut findings);
    if incomplete {
        // What could not be read is missing everywhere else; warnings about that would mislead.
        findings.retain(Finding::is_error);
    }
    if findings.iter().any(Finding::is_error) {
        return Err(findings);
    }
    Ok(Compiled {
        model: Model {
            services: registry.services,
            workloads: registry.workloads,
            rules: rules.into_iter().map(|placed| placed.item).collect(),
            policies: policies.into_iter().map(|placed| placed.item).collect(),
            externals: registry.externals,
            gateways,
            addresses: registry.addresses,
        },
        identities: registry.identities,
        certificates,
        findings,
    })
}

/// A compiled object with the place it came from.
#[derive(Debug)]
struct Placed<'d, T> {
    item: T,
    position: &'d Position,
}

fn origin(position: &Position) -> Origin {
    Origin {
        object: position.object().cloned().unwrap_or_else(|| Arc::from("")),
        file: position.file().clone(),
        line: position.line(),
    }
}

/// Objects of one kind with one name.
fn duplicates(documents: &Documents, findings: &mut Vec<Finding>) {
    fn among<T: Kind>(documents: &Many<Document<T>>, findings: &mut Vec<Finding>) {
        let mut first: HashMap<_, &Position> = HashMap::with_capacity(documents.len());
        for document in documents {
            let position = &document.position;
            let Some(earlier) = first.insert((&document.namespace, &document.name), position) else {
                continue;
            };
            let message = format!(
                "the name is taken already, at {}:{}",
                earlier.file(),
                earlier.line()
            );
            let (code, hint) = if position.is_bare_rule() {
                let hint = "documents without a name are called after their file: rename the file, or give them `type` and `name`";
                (codes::DUPLICATE_NAME, hint)
            } else if earlier.file() == position.file() {
                (codes::DUPLICATE_NAME, "rename one of the two, or remove it")
            } else {
                (
                    codes::OBJECT_IN_TWO_FILES,
                    "keep it in one of the two files, or rename one",
                )
            };
            findings.push(document.finding(&code, "", message, hint));
        }
    }
    among(&documents.route_rules, findings);
    among(&documents.destination_policies, findings);
    among(&documents.ingress_rules, findings);
    among(&documents.egress_rules, findings);
    among(&documents.services, findings);
    among(&documents.endpoint_slices, findings);
    among(&documents.pods, findings);
    among(&documents.secrets, findings);
}

#[cfg(test)]
mod tests;
