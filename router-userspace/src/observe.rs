//! What status, metrics and explanations ask of the kernel half, as a trait. Everything here is read now, from the
//! kernel, and never remembered. [`datapath`](crate::datapath) implements it.
//!
//! It knows nothing of how maps are laid out, and cannot change anything.

use std::{io, net::SocketAddr};

use router_common::reason::Reason;
use router_rules::{connection::Transport, snapshot::Port};

/// A program on a hook.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Hook {
    /// Name of the program: `router_connect4`.
    pub program: String,
    /// Where it attaches: `cgroup/connect4`.
    pub hook: String,
    /// Kernel's id of the program; none: it is not attached.
    pub program_id: Option<u32>,
    /// Kernel's id of the link; none: it is not attached.
    pub link_id: Option<u32>,
    /// It is attached only while something needs it, and nothing does: it is no fault when it is not.
    pub is_idle: bool,
}

impl Hook {
    /// True when the kernel runs the program.
    pub const fn attached(&self) -> bool {
        self.program_id.is_some()
    }
}

/// A connection limit and its use.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct LimitUse {
    /// Connections that may be open at once.
    pub max: u64,
    /// Connections that are open now.
    pub active: u64,
    /// Connections refused so far.
    pub refused: u64,
}

/// An endpoint's connections from this node.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct EndpointUse {
    /// Open now.
    pub active: u64,
    /// Made so far.
    pub connects: u64,
}

/// What the kernel does with connections.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Routing {
    /// Leaves them as they are.
    Untouched,
    /// Picks a subset by weight, then an endpoint.
    Weighted,
    /// Sends them to the proxy; when the proxy is down, to the default route.
    Proxy,
    /// Sends them to the proxy; when the proxy is down, refuses them.
    ProxyOrRefuse,
    /// Refuses them.
    Refuse(Option<Reason>),
}

impl Routing {
    /// Stable name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Untouched => "untouched",
            Self::Weighted => "weighted",
            Self::Proxy => "proxy",
            Self::ProxyOrRefuse => "proxy-or-refuse",
            Self::Refuse(_) => "refuse",
        }
    }
}

/// Connections to a service port that the kernel decided.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct ServiceUse {
    /// Sent to an endpoint.
    pub routed: u64,
    /// Sent to the proxy.
    pub proxied: u64,
    /// Refused.
    pub refused: u64,
}

/// What the kernel holds for connections to a frontend by a class of callers.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Held {
    /// What it does with them.
    pub routing: Routing,
    /// Connections that have taken a slot of the table so far; the next takes slot `cursor % slots`.
    pub cursor: u64,
    /// Subsets in the order of their first slots; for [`Routing::Proxy`], the default route's.
    pub subsets: Vec<HeldSubset>,
}

/// A subset as the kernel holds it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct HeldSubset {
    /// Slots of the table that name it.
    pub slots: u32,
    /// How it picks an endpoint: `ROUND_ROBIN`, `RANDOM`, `LEAST_CONN`.
    pub balance: &'static str,
    /// The limit its connections count in.
    pub limit: Option<LimitUse>,
    /// Whether its open connections are counted.
    pub counted: bool,
    /// Its endpoints with their connections.
    pub endpoints: Vec<(SocketAddr, EndpointUse)>,
}

/// A map's contents, for people and programs that look for a defect.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct MapContents {
    /// Name of the map.
    pub map: &'static str,
    /// Entries that fit.
    pub capacity: u32,
    /// Entries that are in use, in the order of their keys.
    pub entries: Vec<MapEntry>,
}

/// An entry of a map.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct MapEntry {
    /// The key: an index, or an address and port.
    pub key: String,
    /// Names and values of the fields.
    pub fields: Vec<(&'static str, String)>,
}

/// The kernel half, read only.
pub trait Observed: Send + Sync {
    /// Programs and whether the kernel runs them.
    ///
    /// # Errors
    ///
    /// The kernel refused to say.
    fn hooks(&self) -> io::Result<Vec<Hook>>;

    /// True when workloads' connections to unknown destinations are refused.
    fn refuses_unknown(&self) -> bool {
        false
    }

    /// Connections by verdict since the maps were made.
    fn verdicts(&self) -> Vec<(Reason, u64)>;

    /// Connections to a service port; none when the kernel does not know it.
    fn service(&self, port: &Port) -> Option<ServiceUse>;

    /// The limit of the policy with this object name; none when the kernel does not know it.
    fn limit(&self, policy: &str) -> Option<LimitUse>;

    /// An endpoint's connections; none when the kernel does not know it.
    fn endpoint(&self, address: SocketAddr) -> Option<EndpointUse>;

    /// What the kernel holds for a frontend and a calling workload (`namespace/name`; none: an unknown caller); none
    /// when it is no frontend.
    fn held(&self, transport: Transport, frontend: SocketAddr, caller: Option<&str>) -> Option<Held>;

    /// Every map's contents.
    ///
    /// # Errors
    ///
    /// A map could not be read.
    fn maps(&self) -> io::Result<Vec<MapContents>>;
}
