//! The contract between the kernel half and the user half of router.
//!
//! Everything here is read by both sides: plain-old-data with no hidden bytes, the constants both must spell
//! the same, the numbers of verdicts and their names, and the pure arithmetic on slot tables.
//! It knows nothing of sockets, files, YAML, aya's loader or the standard library.
//!
//! # The two halves in one paragraph
//!
//! A connection's destination is looked up in [`abi::FRONTENDS`] and yields a service index. The
//! [`Service`](service::Service) at that index holds one [`RouteWord`](route::RouteWord): eight aligned bytes
//! that name an immutable block of slots. A slot names a [`Subset`](route::Subset), the subset's load balancing
//! picks one of its [`Endpoint`](endpoint::Endpoint)s. Userspace writes blocks that nothing names yet, stores
//! the word, and reuses the old block after a grace period: a reader sees the old routing or the new one.
#![no_std]
#![deny(missing_docs)]

pub mod abi;
pub mod connection;
pub mod endpoint;
pub mod flow;
pub mod limit;
pub mod net;
pub mod network;
mod pod;
pub mod reason;
pub mod route;
pub mod service;
pub mod settings;
pub mod source;

/// The layout of every map. It is part of the pin path and of [`settings::Settings`], so an agent never reads maps
/// of another layout. Raise it with every change of a type in this crate.
pub const ABI_VERSION: u32 = 6;
