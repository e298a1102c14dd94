//! A rule as it was compiled for one port: what is read of it, request by request. It does not say when it matches.

use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue};

use super::{RuleId, SubsetId};
use crate::{
    action::{Fault, Fraction, Retries},
    cors::Cors,
    id::Origin,
    l4_fault::L4Fault,
    matcher::Conditions,
    overrides::Overrides,
    rewrite::{Redirect, Rewrite},
    weight::SlotTable,
};

/// A rule compiled for one port.
#[derive(Debug)]
pub struct Rule {
    pub(crate) id: RuleId,
    pub(crate) origin: Origin,
    pub(crate) precedence: i32,
    /// Alternatives; empty: always.
    pub(crate) any_of: Box<[Conditions]>,
    /// Subset and weight of each target.
    pub(crate) targets: Box<[(SubsetId, u32)]>,
    pub(crate) table: SlotTable,
    pub(crate) timeout: Duration,
    pub(crate) retries: Option<Retries>,
    pub(crate) fault: Fault,
    pub(crate) l4_fault: L4Fault,
    pub(crate) overrides: Overrides,
    pub(crate) redirect: Option<Redirect>,
    pub(crate) rewrite: Rewrite,
    pub(crate) append_headers: Box<[(HeaderName, HeaderValue)]>,
    pub(crate) cors: Option<Cors>,
    /// Subset of each mirror with the share of requests that are copied there.
    pub(crate) mirrors: Box<[(SubsetId, Fraction)]>,
    pub(crate) refuses_upgrades: bool,
}

impl Rule {
    /// Its index; dense from 0 to [`Snapshot::rule_count`](super::Snapshot::rule_count).
    pub const fn id(&self) -> RuleId {
        self.id
    }
    /// Where it was written.
    pub const fn origin(&self) -> &Origin {
        &self.origin
    }
    /// Larger is tried first.
    pub const fn precedence(&self) -> i32 {
        self.precedence
    }
    /// Subset and weight of each target, as written.
    pub fn targets(&self) -> &[(SubsetId, u32)] {
        &self.targets
    }
    /// Which target's turn it is, by cursor.
    pub const fn table(&self) -> &SlotTable {
        &self.table
    }
    /// Limit of a whole request that does not ask for another.
    pub const fn timeout(&self) -> Duration {
        self.timeout
    }
    /// Retries of a request with these header fields.
    pub fn retries(&self, headers: &HeaderMap) -> Option<Retries> {
        self.overrides.retries(self.retries, headers)
    }
    /// Faults for a request with these header fields.
    pub fn fault(&self, headers: &HeaderMap) -> Fault {
        self.overrides.fault(self.fault, headers)
    }
    /// Answer instead of forwarding.
    pub const fn redirect(&self) -> Option<&Redirect> {
        self.redirect.as_ref()
    }
    /// Another path or host towards the endpoint.
    pub const fn rewrite(&self) -> &Rewrite {
        &self.rewrite
    }
    /// Fields added to what is forwarded, beside those of the same name.
    pub fn append_headers(&self) -> &[(HeaderName, HeaderValue)] {
        &self.append_headers
    }
    /// True when requests for another protocol are refused.
    pub const fn refuses_upgrades(&self) -> bool {
        self.refuses_upgrades
    }
    /// What pages of other origins may do.
    pub const fn cors(&self) -> Option<&Cors> {
        self.cors.as_ref()
    }
    /// Where copies of requests are sent, each with the share of requests that are copied there.
    pub fn mirrors(&self) -> &[(SubsetId, Fraction)] {
        &self.mirrors
    }
}
