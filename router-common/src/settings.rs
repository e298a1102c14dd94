//! What the agent tells the programs at run time.

use crate::{
    net::{Addr, Be16},
    pod::pod,
};

/// The one entry of the settings map.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Settings {
    /// [`ABI_VERSION`](crate::ABI_VERSION) of the agent that created the maps.
    pub abi: u32,
    /// Port of the proxy's listeners.
    pub proxy_port: Be16,
    /// Zero.
    pub pad: u16,
    /// IPv4 address of the proxy, v4-mapped; all zero: none.
    pub proxy_v4: Addr,
    /// IPv6 address of the proxy; all zero: none.
    pub proxy_v6: Addr,
    /// Monotonic time of the proxy's last sign of life, in nanoseconds (`CLOCK_MONOTONIC`, `bpf_ktime_get_ns`).
    pub heartbeat: u64,
    /// Age in nanoseconds beyond which the heartbeat means that the proxy is down.
    pub stale_after: u64,
    /// One of the `EGRESS_` constants.
    pub egress: u32,
    /// Zero.
    pub reserved: u32,
}

/// Unknown destinations are left as they are.
pub const EGRESS_ALLOW: u32 = 0;
/// Unknown destinations are refused to confined cgroups.
pub const EGRESS_REGISTRY_ONLY: u32 = 1;

/// How often the agent renews the heartbeat, in nanoseconds.
pub const HEARTBEAT_EVERY: u64 = 100_000_000;
/// Default of [`Settings::stale_after`], in nanoseconds.
pub const HEARTBEAT_STALE_AFTER: u64 = 1_000_000_000;

pod!(Settings, 64, 8);
