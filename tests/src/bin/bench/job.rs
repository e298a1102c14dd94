//! What the load generator is told, and what it tells: one JSON object each way.
//!
//! It knows no way to do it, and nothing of systems and cases.

use std::{collections::BTreeMap, net::SocketAddr, path::PathBuf};

use serde::{Deserialize, Serialize};

use crate::usage::Cpu;

/// One measurement by one generator.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Job {
    /// What to do.
    pub(crate) load: Load,
    /// Milliseconds of the same load before the window.
    pub(crate) warm_up_ms: u64,
    /// Length of the window in milliseconds.
    pub(crate) window_ms: u64,
    /// Cgroups whose processor time is taken at both ends of the window, by name.
    pub(crate) cgroups: BTreeMap<String, PathBuf>,
}

/// What a generator does.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum Load {
    /// HTTP requests.
    Http(HttpLoad),
    /// TCP connections, one after the other, each closed by a reset.
    Connect {
        /// Where to.
        target: SocketAddr,
        /// What ends the time that is measured.
        until: Until,
    },
    /// `bytes` there and back on one connection, again and again.
    PingPong {
        /// An echo server.
        target: SocketAddr,
        /// Length of a message.
        bytes: usize,
    },
    /// One connection, written as fast as it takes it.
    Bulk {
        /// A server that reads and forgets.
        target: SocketAddr,
    },
}

/// What ends the time of a connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) enum Until {
    /// `connect` has returned: what the caller of a kernel datapath waits for. A proxy has then accepted and not yet
    /// connected.
    Connected,
    /// The server's first byte has come: the connection is usable.
    FirstByte,
}

/// HTTP requests.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct HttpLoad {
    /// Where to connect.
    pub(crate) target: SocketAddr,
    /// How to speak.
    pub(crate) protocol: Protocol,
    /// Connections.
    pub(crate) connections: usize,
    /// Requests at the same time on each connection; 1 for HTTP/1.1.
    pub(crate) streams: usize,
    /// Bytes of an answer's body.
    pub(crate) body: usize,
    /// When the next request is sent.
    pub(crate) pace: Pace,
}

/// How the client speaks.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) enum Protocol {
    /// HTTP/1.1, connections kept.
    Http1,
    /// HTTP/1.1, a connection for each request.
    Http1Close,
    /// HTTP/2 with prior knowledge.
    Http2,
    /// gRPC unary calls over HTTP/2.
    Grpc,
}

/// When the next request is sent.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) enum Pace {
    /// When the answer to the last one is there (closed loop): measures throughput.
    Closed,
    /// At fixed times, so many a second, whatever the answers do (open loop). Latency counts from the time at which
    /// the request was due, so a system that stalls cannot hide the requests it kept from being sent.
    PerSecond(u32),
}

/// What came of a [`Job`].
#[derive(Clone, Default, Debug, Serialize, Deserialize)]
pub(crate) struct Measured {
    /// Requests, connections or round trips of the window.
    pub(crate) completed: u64,
    /// Requests or connections in all, before, in and after the window.
    pub(crate) sent: u64,
    /// Those that failed, in all, by reason.
    pub(crate) failed: BTreeMap<String, u64>,
    /// Bytes of the window.
    pub(crate) bytes: u64,
    /// Length of the window as it was.
    pub(crate) seconds: f64,
    /// Latency in the window.
    pub(crate) latency: Latency,
    /// Processor time in the window, by name of the cgroup.
    pub(crate) cpu: BTreeMap<String, Cpu>,
}

/// Latency in nanoseconds.
#[derive(Clone, Copy, Default, Debug, Serialize, Deserialize)]
pub(crate) struct Latency {
    pub(crate) p50: u64,
    pub(crate) p90: u64,
    pub(crate) p99: u64,
    pub(crate) p999: u64,
    pub(crate) max: u64,
}

/// What servers count, so that a case can be checked.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) struct Served {
    /// HTTP requests.
    pub(crate) requests: u64,
    /// Connections of the greeting port.
    pub(crate) connections: u64,
}
