//! A node with its pods, as a test sees it.
//!
//! [`Node::new`](node::Node::new) makes a network namespace that forwards, and a scratch cgroup that stands for the
//! root of the cgroup tree; [`Node::pod`](node::Node::pod) adds pods; [`Agent`] runs `router agent` on
//! the node. Dropping them removes everything, and what a killed run left behind goes when the next one starts.

pub mod agent;
pub mod manifest;
pub mod node;
pub mod remote;
pub mod scratch;

pub use agent::{ADMIN, Agent, AgentOptions};
pub use manifest::{Manifest, ServicePort};
pub use node::{Node, Pod, PodSpec};
pub use remote::{Pending, Remote};
