//! The privileged test bed: a node with its pods, made of network namespaces and cgroups by this very binary.
//!
//! A test binary that calls [`dispatch`] first can become each of its parts: run again with a hidden first
//! argument it is a pod's process, the `router` command line, or a command inside a pod. So one static file is all
//! that a guest with nothing but a shell needs. [`bed`] is the side that a test sees, [`process`] the side that
//! runs inside a pod; they talk in [`protocol`].
//!
//! It knows nothing of the product's internals: the agent is driven through its command line and its admin address.

pub mod bed;
pub mod certificates;
pub mod cluster;
pub mod harness;
pub mod process;
pub mod protocol;
pub mod require;
pub mod sys;
pub mod wait;

pub use process::dispatch;
