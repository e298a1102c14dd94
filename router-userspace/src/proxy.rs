//! The HTTP and TCP proxy: the data plane in userspace.
//!
//! [`start`] opens the listeners and the worker threads. A connection is accepted by one worker and stays with it
//! ([`listener`] → [`connection`] → `downstream` or `tcp`; `naming` in between where only a name tells who is meant). A request is one plain function (`pipeline`): sanitise →
//! snapshot → [`mod@decide`] → fault → pick → forward → stream. Upstream connections come from `upstream`, whose pools
//! belong to a worker; only destinations with a connection limit share one pool, so that no worker starves another.
//! Errors are [`error::ProxyError`]s, which carry their side, and `respond` alone turns them into responses.
//!
//! It does not know configuration files, kernel maps or how an access line is written.

pub mod access;
pub mod decide;
pub mod disclosure;
pub mod error;
pub mod limits;
pub mod scan;
pub mod stats;

mod admission;
mod balance;
mod body;
mod connection;
mod downstream;
mod drain;
mod exchange;
mod forward;
mod gateways;
mod headers;
mod l4_fault;
mod listener;
mod mirror;
mod naming;
mod outlier;
mod pipeline;
mod respond;
mod retry;
mod tcp;
mod tls;
mod transport;
mod upgrade;
mod upstream;
mod view;
mod worker;

// For its benchmark.
pub use access::{AccessRecord, AccessSink};
pub use decide::{NoRoute, decide, decide_connection};
pub use disclosure::Disclosure;
#[doc(hidden)]
pub use downstream::framing;
pub use limits::Limits;
pub use stats::{ProxyStats, Totals};
pub use worker::{Proxy, ProxyConfig, Stopped, start};
