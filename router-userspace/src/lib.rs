//! The router agent and its command line, as a library.
//!
//! Data flows one way: [`config`] reads text into documents, [`compile`] turns documents into the engine's model
//! and the [`router_rules::Snapshot`], [`control`] publishes the snapshot in [`live`] and has [`datapath`] bring
//! the kernel's maps in step; [`proxy`] decides requests by the snapshot. `proxy` and `datapath` do not know each
//! other: they meet in the snapshot and in the [`enforce`] trait.

pub mod admin;
pub mod app;
pub mod cli;
pub mod clock;
pub mod compile;
pub mod config;
pub mod control;
pub mod datapath;
pub mod enforce;
pub mod finding;
pub mod listening;
pub mod live;
pub mod metrics;
pub mod observe;
mod parallel;
pub mod proxy;
pub mod readiness;
pub mod registry;
pub mod resolver;
pub mod sys;
pub mod telemetry;
