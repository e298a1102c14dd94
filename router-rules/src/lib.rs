//! The rule engine of router: a model goes in, an immutable [`Snapshot`] comes out, and the snapshot decides.
//!
//! The engine knows no time, no randomness, no sockets, no YAML and no BPF: moments and draws are arguments.
//! Both generations of the rule language are compiled to the one [`model`], so the engine never learns which
//! language a rule was written in; every rule carries its [`Origin`](id::Origin) for explanations.
//!
//! # Order of evaluation
//!
//! The rules of a destination are tried by falling precedence, ties in the order of their object names
//! ([`model::Rank`]); how specific a condition is does not matter. The first rule that matches is executed and
//! evaluation ends. When none matches, the request goes to every instance of the service. A matching rule whose
//! instances are missing is a refusal; lower rules are not tried.
//!
//! An index leaves out rules that cannot match, so that a decision costs about the same among 10,000 rules as among
//! one, and allocates nothing. It never changes what is decided.
#![forbid(unsafe_code)]

pub mod action;
pub mod chunks;
pub mod cidr;
pub mod connection;
pub mod cors;
pub mod duration;
pub mod explain;
pub mod external;
pub mod gateway;
pub mod id;
pub mod l4_fault;
pub mod labels;
pub mod matcher;
pub mod model;
pub mod outlier;
pub mod overrides;
pub mod policy;
pub mod rewrite;
pub mod snapshot;
pub mod source;
pub mod status;
pub mod text;
pub mod weight;

mod builder;
mod follow;
mod index;

pub use follow::{EndpointChange, Membership};
pub use snapshot::Snapshot;
