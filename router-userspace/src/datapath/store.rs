//! The maps as reconciliation sees them: a small typed trait, so that the same plan runs against the kernel, against
//! a fake that checks every reference, and against one that fails at random.
//!
//! It does not decide what is written or in which order ([`plan`](super::plan)), and does not remember what was
//! ([`state`](super::state)).

use std::io;

use router_common::{
    endpoint::{Endpoint, EndpointState},
    limit::Limit,
    net::{Addr, Be16},
    route::{RouteWord, Subset},
    service::{FrontendKey, Service},
};

mod egress;
#[cfg(test)]
mod fake;
#[cfg(test)]
mod faulty;

pub use egress::EgressStore;
#[cfg(test)]
pub(crate) use fake::{FakeMaps, Meaning, Verdict};
#[cfg(test)]
pub(crate) use faulty::FaultyMaps;

/// A map could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// An index lies beyond the map.
    #[error("{map}: index {index} is beyond the map")]
    OutOfRange {
        /// Name of the map, one of [`router_common::abi`].
        map: &'static str,
        /// The index, or the end of the range.
        index: u32,
    },
    /// The hand-over of connections to the proxy could not be begun or ended.
    #[error("handing connections over: {0}")]
    Handover(#[source] io::Error),
    /// The kernel refused.
    #[error("{map}: {source}")]
    Kernel {
        /// Name of the map.
        map: &'static str,
        /// What the kernel said.
        source: io::Error,
    },
}

/// Result of a store operation.
pub type Result<T, E = StoreError> = std::result::Result<T, E>;

/// A point in time after which a [grace period](MapStore::request_grace) was asked for; later ones are larger.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Grace(pub u64);

/// The maps that userspace owns, and the counters in them that the kernel owns.
///
/// An operation that returns an error has done nothing that a reader could see: single elements are replaced
/// atomically, and blocks of more than one element are written only while nothing names them.
/// Reads of arrays cannot fail; beyond the map they yield zeros.
pub trait MapStore: EgressStore {
    /// Writes endpoint entries that nothing names yet.
    fn write_endpoints(&mut self, base: u32, endpoints: &[Endpoint]) -> Result<()>;

    /// Writes a subset that nothing names yet, its cursor included.
    fn write_subset(&mut self, index: u32, subset: &Subset) -> Result<()>;

    /// Writes cells of the slot arena that nothing names yet.
    fn write_slots(&mut self, base: u32, cells: &[u64]) -> Result<()>;

    /// Sets the name and the maximum of a limit; its counters stay. A maximum may change while the limit is in use.
    fn write_limit(&mut self, id: u32, name: u64, max: u64) -> Result<()>;

    /// Zeroes a limit that nothing names any more and that counts no open connection.
    fn clear_limit(&mut self, id: u32) -> Result<()>;

    /// Sets address and port of an endpoint's state; its counters stay.
    fn write_endpoint_state(&mut self, id: u32, addr: Addr, port: Be16) -> Result<()>;

    /// Zeroes the state of an endpoint that nothing names any more and that counts no open connection.
    fn clear_endpoint_state(&mut self, id: u32) -> Result<()>;

    /// Writes a service that no frontend names yet: name, word, and zero in every counter.
    fn create_service(&mut self, index: u32, name: u64, word: RouteWord) -> Result<()>;

    /// Stores a service's route word, with release ordering: whoever reads the word sees the block it names.
    fn publish(&mut self, index: u32, word: RouteWord) -> Result<()>;

    /// Zeroes the name of a service that no frontend names any more. Its word stays for readers that are on their
    /// way; it is cleared with [`publish`](MapStore::publish) after a grace period.
    fn forget_service(&mut self, index: u32) -> Result<()>;

    /// Inserts or replaces a frontend.
    fn insert_frontend(&mut self, key: FrontendKey, service: u32) -> Result<()>;

    /// Removes a frontend; one that is absent is no error.
    fn remove_frontend(&mut self, key: FrontendKey) -> Result<()>;

    /// Inserts or replaces the class of a cgroup.
    fn insert_source(&mut self, cgroup: u64, class: u32) -> Result<()>;

    /// Removes a cgroup; one that is absent is no error.
    fn remove_source(&mut self, cgroup: u64) -> Result<()>;

    /// A cell of the slot arena: a cursor, a slot or a class word.
    fn slot(&self, cell: u32) -> u64;

    /// A subset with its cursor.
    fn subset(&self, index: u32) -> Subset;

    /// An endpoint entry.
    fn endpoint(&self, index: u32) -> Endpoint;

    /// A service with its counters.
    fn service(&self, index: u32) -> Service;

    /// A limit with its counters.
    fn limit(&self, id: u32) -> Limit;

    /// An endpoint's state with its counters.
    fn endpoint_state(&self, id: u32) -> EndpointState;

    /// Every frontend, in any order.
    ///
    /// # Errors
    ///
    /// The map could not be walked.
    fn frontends(&self) -> Result<Vec<(FrontendKey, u32)>>;

    /// Every cgroup with its class, in any order.
    ///
    /// # Errors
    ///
    /// The map could not be walked.
    fn sources(&self) -> Result<Vec<(u64, u32)>>;

    /// Makes sure that connections which are sent to the proxy are handed over to it. Called before the first word that
    /// sends any there is written, and often when that is long done.
    fn begin_handover(&mut self) -> Result<()>;

    /// Looks after the hand-over, from time to time: where it is needed and somebody took it away it begins anew, and where
    /// it has not been needed for long it ends. `is_needed` says whether any word sends connections to the proxy.
    fn keep_handover(&mut self, is_needed: bool) -> Result<()>;

    /// Asks for a grace period that begins now, without waiting for it: it is over when every program that runs now
    /// has returned. A store may wait all the same and return a period that is over already.
    fn request_grace(&mut self) -> Result<Grace>;

    /// The latest grace period that is over.
    fn completed_grace(&mut self) -> Grace;

    /// Waits until a requested grace period is over. Only used when a change finds no room otherwise.
    fn await_grace(&mut self, grace: Grace) -> Result<()>;
}
