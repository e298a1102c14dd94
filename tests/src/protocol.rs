//! What a test asks of a pod's process, and what comes back: one JSON object a line, over stdin and stdout.
//!
//! Requests run at the same time; an answer carries the number of its request. It knows no way to run a request.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
};

use serde::{Deserialize, Serialize};

/// How often something was seen, by name.
pub type Counts = BTreeMap<String, u64>;

/// A numbered request.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Request {
    /// Unique in the life of the process.
    pub id: u64,
    /// What to do.
    pub command: Command,
}

/// An answer.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Response {
    /// The request's number.
    pub id: u64,
    /// What came of it; an error is text for people.
    pub outcome: Result<Answer, String>,
}

/// What a pod's process can do.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Command {
    /// Brings up the loopback device of the node, with addresses, and makes it forward.
    BecomeNode,
    /// On the node: a pair of devices, one end in the namespace of another process, and the routes to it.
    Plug(Plug),
    /// In a pod: brings up the device, with addresses and a default route through the node.
    BecomePod {
        /// Own addresses.
        addresses: Vec<IpAddr>,
    },
    /// Listens on `port`, both families: sends the pod's name and a line feed, then echoes.
    ServeTcp {
        /// Port on every address.
        port: u16,
    },
    /// Listens on `port`, both families, for HTTP/1.1 and HTTP/2 with prior knowledge.
    ServeHttp {
        /// Port on every address.
        port: u16,
        /// How to answer at first.
        behaviour: Behaviour,
    },
    /// Listens on `port`, both families, for TLS: sends the pod's name and a line feed, then closes.
    ServeTls {
        /// Port on every address.
        port: u16,
        /// Its certificate, DER.
        certificate: Vec<u8>,
        /// The certificate's private key, PKCS 8.
        key: Vec<u8>,
    },
    /// Listens on `port`, both families, for datagrams: answers each with the pod's name.
    ServeUdp {
        /// Port on every address.
        port: u16,
    },
    /// Sends datagrams without connecting.
    Datagrams(Datagrams),
    /// Opens a TLS connection and reads a line.
    Tls(Tls),
    /// Changes how the HTTP server on `port` answers.
    Behave {
        /// Port of a running HTTP server.
        port: u16,
        /// How to answer from now on.
        behaviour: Behaviour,
    },
    /// What the server on `port` has seen.
    Seen {
        /// Port of a running server.
        port: u16,
    },
    /// Opens TCP connections.
    Connect(Connect),
    /// Closes connections that an earlier [`Command::Connect`] holds.
    Release {
        /// Its request's number.
        id: u64,
        /// How many to close; the rest stays open.
        count: usize,
    },
    /// Sends HTTP requests.
    Http(Http),
    /// Ends a running [`Command::Connect`] or [`Command::Http`] before its count is reached.
    Stop {
        /// Its request's number.
        id: u64,
    },
}

/// Datagrams to send, each after the answer to the one before it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Datagrams {
    /// Where to.
    pub target: SocketAddr,
    /// Sockets, one after the other.
    pub sockets: u64,
    /// Datagrams of each socket.
    pub each: u64,
    /// Send to an IPv4 target from IPv6 sockets.
    pub mapped: bool,
    /// Wait for no answers: the time of all sends is what is asked for, as `slowest_us`.
    pub unanswered: bool,
}

impl Datagrams {
    /// `each` datagrams from each of so many `sockets`.
    pub fn to(target: SocketAddr, sockets: u64, each: u64) -> Self {
        Self {
            target,
            sockets,
            each,
            mapped: false,
            unanswered: false,
        }
    }

    /// Waits for no answers.
    #[must_use]
    pub fn unanswered(self) -> Self {
        Self {
            unanswered: true,
            ..self
        }
    }

    /// Uses IPv6 sockets for an IPv4 target.
    #[must_use]
    pub fn mapped(self) -> Self {
        Self { mapped: true, ..self }
    }
}

/// A TLS connection to open.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Tls {
    /// Where to.
    pub target: SocketAddr,
    /// Name of the server, which it must prove.
    pub server_name: String,
    /// The only certificate that is trusted, DER.
    pub certificate: Vec<u8>,
}

/// A pod's link to the node.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Plug {
    /// Device name on the node, at most 15 bytes.
    pub device: String,
    /// Process in whose namespace the other end appears as `eth0`.
    pub pid: u32,
    /// The pod's addresses.
    pub addresses: Vec<IpAddr>,
}

/// How an HTTP server answers.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Behaviour {
    /// Status of an answer.
    pub status: u16,
    /// Milliseconds to wait before an answer.
    pub delay_ms: u64,
    /// So many requests are answered with 503 first.
    pub fail_first: u64,
}

impl Default for Behaviour {
    fn default() -> Self {
        Self {
            status: 200,
            delay_ms: 0,
            fail_first: 0,
        }
    }
}

/// How a client learns which pod serves it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Identify {
    /// By the peer's address after `connect` (the kernel's choice; nothing is read).
    Peer,
    /// By the name that the server sends.
    Greeting,
}

/// TCP connections to open.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Connect {
    /// Where to.
    pub target: SocketAddr,
    /// Connects to do, over all threads.
    pub count: u64,
    /// Threads that share the work.
    pub threads: u32,
    /// Connect to an IPv4 target from an IPv6 socket.
    pub mapped: bool,
    /// Keep established connections open until released; else each is reset at once.
    pub hold: bool,
    /// How to name the server.
    pub identify: Identify,
    /// Connects to repeat on the same socket after one that failed.
    pub again: u32,
    /// UDP sockets instead of TCP connections; nothing is sent on them.
    pub udp: bool,
}

impl Connect {
    /// `count` connections to `target`, one after the other, each closed at once.
    pub fn to(target: SocketAddr, count: u64) -> Self {
        Self {
            target,
            count,
            threads: 1,
            mapped: false,
            hold: false,
            identify: Identify::Greeting,
            again: 0,
            udp: false,
        }
    }

    /// `count` UDP sockets connected to `target`, whose servers are named by the peer's address.
    pub fn udp(target: SocketAddr, count: u64) -> Self {
        Self {
            udp: true,
            ..Self::to(target, count).by_peer()
        }
    }

    /// Shares the work among `threads`.
    #[must_use]
    pub fn threads(self, threads: u32) -> Self {
        Self { threads, ..self }
    }

    /// Keeps the connections open.
    #[must_use]
    pub fn hold(self) -> Self {
        Self { hold: true, ..self }
    }

    /// Uses IPv6 sockets for an IPv4 target.
    #[must_use]
    pub fn mapped(self) -> Self {
        Self { mapped: true, ..self }
    }

    /// Tries `times` more on a socket whose connect failed.
    #[must_use]
    pub fn again(self, times: u32) -> Self {
        Self { again: times, ..self }
    }

    /// Names servers by the peer's address and reads nothing.
    #[must_use]
    pub fn by_peer(self) -> Self {
        Self {
            identify: Identify::Peer,
            ..self
        }
    }
}

/// One HTTP request.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct HttpRequest {
    /// Method.
    pub method: String,
    /// Path and query.
    pub path: String,
    /// Header fields in order.
    pub headers: Vec<(String, String)>,
}

impl HttpRequest {
    /// `GET path`.
    pub fn get(path: &str) -> Self {
        Self {
            method: "GET".into(),
            path: path.into(),
            headers: Vec::new(),
        }
    }

    /// Adds a header field.
    #[must_use]
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }
}

/// HTTP requests to send.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Http {
    /// Where to connect.
    pub target: SocketAddr,
    /// `Host` or `:authority`.
    pub authority: String,
    /// Requests, sent in turn.
    pub requests: Vec<HttpRequest>,
    /// Requests to send over all connections; the list is walked again as needed.
    pub count: u64,
    /// Connections that share the work.
    pub connections: u32,
    /// Send many requests on a connection; else one.
    pub keep_alive: bool,
    /// HTTP/2 with prior knowledge.
    pub http2: bool,
    /// Milliseconds before a request counts as failed.
    pub timeout_ms: u64,
    /// Return every reply, not only the counts.
    pub trace: bool,
}

impl Http {
    /// `count` times `request` on one kept connection.
    pub fn to(target: SocketAddr, authority: &str, request: HttpRequest, count: u64) -> Self {
        Self {
            target,
            authority: authority.into(),
            requests: vec![request],
            count,
            connections: 1,
            keep_alive: true,
            http2: false,
            timeout_ms: 20_000,
            trace: false,
        }
    }

    /// Shares the work among `connections`.
    #[must_use]
    pub fn connections(self, connections: u32) -> Self {
        Self { connections, ..self }
    }

    /// Opens a connection for each request.
    #[must_use]
    pub fn no_keep_alive(self) -> Self {
        Self {
            keep_alive: false,
            ..self
        }
    }

    /// Speaks HTTP/2.
    #[must_use]
    pub fn http2(self) -> Self {
        Self { http2: true, ..self }
    }

    /// Returns every reply.
    #[must_use]
    pub fn trace(self) -> Self {
        Self { trace: true, ..self }
    }
}

/// What came of a command.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Answer {
    /// Done; nothing to tell.
    Done,
    /// Of [`Command::Connect`], and of [`Command::Datagrams`]: answers by server; errors are failed exchanges, answers from
    /// another address (`from ADDRESS`), and `moved` for each answer from another server than the one before.
    Connected(Connected),
    /// Of [`Command::Http`].
    Replies(Replies),
    /// Of [`Command::Seen`].
    Seen(Seen),
    /// Of [`Command::Tls`]: the line, or why there is none.
    Line(Result<String, String>),
}

/// What became of connects.
#[derive(Clone, Default, Debug, Serialize, Deserialize)]
pub struct Connected {
    /// Established connections, by server.
    pub served: Counts,
    /// Failed connects, by the name of the error.
    pub errors: Counts,
    /// Most connections that were open at one time (never more than really were).
    pub peak: u64,
    /// Slowest connect, established or not, in microseconds.
    pub slowest_us: u64,
}

impl Connected {
    /// Established connections to `server`.
    pub fn from(&self, server: &str) -> u64 {
        self.served.get(server).copied().unwrap_or(0)
    }

    /// Established connections.
    pub fn established(&self) -> u64 {
        self.served.values().sum()
    }

    /// Failed connects.
    pub fn failed(&self) -> u64 {
        self.errors.values().sum()
    }
}

/// One reply, or why there is none.
#[derive(Clone, Default, Debug, Serialize, Deserialize)]
pub struct Reply {
    /// Index in the list of requests.
    pub request: usize,
    /// Status; 0 without a reply.
    pub status: u16,
    /// Pod that answered; empty when no pod did.
    pub pod: String,
    /// Header fields.
    pub headers: Vec<(String, String)>,
    /// Body, lossily as text.
    pub body: String,
    /// Why there is no reply.
    pub error: Option<String>,
    /// Microseconds from the request to the end of the body.
    pub latency_us: u64,
}

impl Reply {
    /// First value of a header field.
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut fields = self.headers.iter();
        fields
            .find(|(n, _)| n.eq_ignore_ascii_case(name))
            .map(|(_, v)| v.as_str())
    }
}

/// What became of HTTP requests.
#[derive(Clone, Default, Debug, Serialize, Deserialize)]
pub struct Replies {
    /// Replies by the pod that answered; those that no pod answered under `-`.
    pub pods: Counts,
    /// Replies by status.
    pub statuses: BTreeMap<u16, u64>,
    /// Requests without a reply, by reason.
    pub errors: Counts,
    /// Fastest, median and slowest reply in microseconds.
    pub latency_us: [u64; 3],
    /// Every reply, in no order, when asked for.
    pub replies: Vec<Reply>,
}

impl Replies {
    /// Replies from `pod`.
    pub fn from(&self, pod: &str) -> u64 {
        self.pods.get(pod).copied().unwrap_or(0)
    }

    /// Replies with `status`.
    pub fn status(&self, status: u16) -> u64 {
        self.statuses.get(&status).copied().unwrap_or(0)
    }

    /// Requests without a reply.
    pub fn failed(&self) -> u64 {
        self.errors.values().sum()
    }
}

/// What a server has seen.
#[derive(Clone, Default, Debug, Serialize, Deserialize)]
pub struct Seen {
    /// Accepted connections.
    pub connections: u64,
    /// Connections open now.
    pub open: u64,
    /// Most connections that were open at one time.
    pub peak: u64,
    /// HTTP requests.
    pub requests: u64,
    /// The last HTTP requests, at most [`RECENT`], oldest first.
    pub recent: Vec<HttpRequest>,
}

/// HTTP requests that a server remembers.
pub const RECENT: usize = 64;

/// The node's IPv4 address, by which pods leave.
pub const NODE_V4: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 1);
/// The node's IPv6 address.
pub const NODE_V6: Ipv6Addr = Ipv6Addr::new(0xfd77, 0x77, 0, 0, 0, 0, 0, 1);
/// The node's link-local address on every pod's link: IPv6 asks for a gateway on the link.
pub const GATEWAY_V6: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1);
