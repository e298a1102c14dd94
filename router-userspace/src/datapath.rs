//! The kernel half from userspace: desired state, plan, maps, programs. The sole writer of maps.
//!
//! A [`Snapshot`](router_rules::Snapshot) becomes [`desired::Desired`] (pure), that is compared with
//! [`state::State`] and becomes a [`plan::Plan`] (pure), and [`reconcile`] applies the plan to a
//! [`store::MapStore`]. Nothing here knows the proxy, HTTP or the configuration's text.

pub mod arena;
mod bpf;
pub mod desired;
mod enforcement;
#[cfg(test)]
mod fixture;
mod grace;
pub mod ids;
mod kernel;
mod log;
mod mapped;
mod maps;
pub mod mirror;
mod observer;
pub mod plan;
pub mod reconcile;
pub mod state;
pub mod store;
mod upstream_ids;

pub use enforcement::KernelEnforcement;
pub use kernel::{
    HandoverHook, Hook, HookState, Kernel, KernelConfig, KernelError, heartbeat, hooks, proxy_goes_down,
    uninstall,
};
pub use log::KernelLog;
pub use maps::{KernelMaps, Maps};
pub use observer::{KernelObserver, observed_hooks};
pub use upstream_ids::{EndpointIds, UpstreamIds};
