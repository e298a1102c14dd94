//! The cases of the data plane: what is sent, through which systems, how large.
//!
//! It knows nothing of how a case is run or what its numbers should be.

use crate::{
    job::{HttpLoad, Load, Pace, Protocol, Until},
    system::{Entry, Lane, Size, System},
};

/// A service with a hundred rules: the size of most cases.
pub(crate) const USUAL: Size = Size {
    rules: 100,
    services: 1,
};
pub(crate) const ONE_RULE: Size = Size { rules: 1, ..USUAL };
pub(crate) const MANY_RULES: Size = Size {
    rules: 10_000,
    ..USUAL
};
/// TCP among no other services, and no HTTP.
pub(crate) const ALONE: Size = Size {
    rules: 0,
    services: 1,
};
pub(crate) const SOME_SERVICES: Size = Size {
    services: 1_000,
    ..ALONE
};
pub(crate) const MANY_SERVICES: Size = Size {
    services: 10_000,
    ..ALONE
};
/// TCP among as many, on a node where HTTP is proxied as well.
pub(crate) const BESIDE_HTTP: Size = Size {
    rules: 1,
    ..MANY_SERVICES
};

/// The case that is compared with the floor.
pub(crate) const FLOORED: &str = "h1-c64";

/// A case.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Case {
    /// Name for `--case` and in the results.
    pub(crate) name: &'static str,
    /// What it is, for people.
    pub(crate) title: &'static str,
    /// What is sent.
    pub(crate) work: Work,
    /// Which systems take part.
    pub(crate) lanes: Lanes,
    /// True for a case that a quick run has too.
    pub(crate) is_quick: bool,
}

/// What is sent.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Work {
    Http {
        protocol: Protocol,
        connections: usize,
        streams: usize,
        body: usize,
        pace: Pace,
    },
    Connect(Until),
    PingPong(usize),
    Bulk,
}

/// Which systems take part in a case, at which size.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Lanes {
    /// All, with a hundred rules.
    All,
    /// All proxies, with one rule and with ten thousand.
    ByRules,
    /// All; the router with one service and with ten thousand.
    Tcp,
    /// Nothing and the router, with one service, a thousand, ten thousand, and as many beside HTTP that is proxied.
    Kernel,
}

const KIB: usize = 1024;
const MIB: usize = 1024 * KIB;

/// HTTP/1.1 in a closed loop.
const fn http1(connections: usize, body: usize) -> Work {
    http(Protocol::Http1, connections, 1, body)
}

const fn http(protocol: Protocol, connections: usize, streams: usize, body: usize) -> Work {
    Work::Http {
        protocol,
        connections,
        streams,
        body,
        pace: Pace::Closed,
    }
}

const fn rate(per_second: u32) -> Work {
    Work::Http {
        protocol: Protocol::Http1,
        connections: 64,
        streams: 1,
        body: 64,
        pace: Pace::PerSecond(per_second),
    }
}

const fn case(name: &'static str, title: &'static str, work: Work, lanes: Lanes) -> Case {
    Case {
        name,
        title,
        work,
        lanes,
        is_quick: true,
    }
}

/// As [`case`], left out of quick runs.
const fn long(name: &'static str, title: &'static str, work: Work, lanes: Lanes) -> Case {
    Case {
        is_quick: false,
        ..case(name, title, work, lanes)
    }
}

/// Every case, in the order of the run.
#[rustfmt::skip] // one line each: it is a table
pub(crate) const CASES: [Case; 16] = [
    case("h1-c64", "HTTP/1.1, 64 connections, 64 B, 100 rules", http1(64, 64), Lanes::All),
    case("h1-c1", "HTTP/1.1, 1 connection, 64 B, 100 rules", http1(1, 64), Lanes::All),
    long("h1-c1000", "HTTP/1.1, 1,000 connections, 64 B, 100 rules", http1(1000, 64), Lanes::All),
    case("h1-4k", "HTTP/1.1, 64 connections, 4 KiB, 100 rules", http1(64, 4 * KIB), Lanes::All),
    case("h1-1m", "HTTP/1.1, 64 connections, 1 MiB, 100 rules", http1(64, MIB), Lanes::All),
    long("h1-close", "HTTP/1.1, a connection for each request, 16 at a time, 64 B", http(Protocol::Http1Close, 16, 1, 64), Lanes::All),
    case("h2", "HTTP/2, 4 connections of 100 streams, 64 B, 100 rules", http(Protocol::Http2, 4, 100, 64), Lanes::All),
    case("grpc", "gRPC unary, 4 connections of 100 streams, 64 B, 100 rules", http(Protocol::Grpc, 4, 100, 64), Lanes::All),
    case("rate-1000", "HTTP/1.1, 1,000 requests/s, open loop, 64 B, 100 rules", rate(1_000), Lanes::All),
    case("rate-5000", "HTTP/1.1, 5,000 requests/s, open loop, 64 B, 100 rules", rate(5_000), Lanes::All),
    case("rules", "HTTP/1.1, 64 connections, 64 B, by number of rules", http1(64, 64), Lanes::ByRules),
    case("tcp-connect", "connect() alone, one after the other", Work::Connect(Until::Connected), Lanes::Kernel),
    case("tcp-connection", "TCP connection until its first byte, closed, one after the other", Work::Connect(Until::FirstByte), Lanes::Tcp),
    case("tcp-1", "TCP, 1 B there and back", Work::PingPong(1), Lanes::Tcp),
    case("tcp-64k", "TCP, 64 KiB there and back", Work::PingPong(64 * KIB), Lanes::Tcp),
    case("tcp-bulk", "TCP, bulk data on one connection", Work::Bulk, Lanes::Tcp),
];

impl Work {
    /// The generator's part of it.
    pub(crate) fn load(self, entry: &Entry) -> Load {
        match self {
            Self::Http {
                protocol,
                connections,
                streams,
                body,
                pace,
            } => Load::Http(HttpLoad {
                target: match protocol {
                    Protocol::Http1 | Protocol::Http1Close => entry.http1,
                    Protocol::Http2 | Protocol::Grpc => entry.http2,
                },
                protocol,
                connections,
                streams,
                body,
                pace,
            }),
            Self::Connect(until) => Load::Connect {
                target: entry.greet,
                until,
            },
            Self::PingPong(bytes) => Load::PingPong {
                target: entry.echo,
                bytes,
            },
            Self::Bulk => Load::Bulk { target: entry.sink },
        }
    }
}

impl Case {
    /// The lanes, of the systems that are there.
    pub(crate) fn lanes(&self, systems: &[System]) -> Vec<Lane> {
        let lane = |system| move |size| Lane { system, size };
        let of = |system: System| -> Vec<Lane> {
            let sizes: &[Size] = match (self.lanes, system) {
                (_, System::Floor) if self.name != FLOORED => &[],
                (Lanes::All, _) => &[USUAL],
                (Lanes::ByRules, System::Direct) => &[],
                (Lanes::ByRules, _) => &[ONE_RULE, MANY_RULES],
                (Lanes::Tcp, System::Router) => &[ALONE, MANY_SERVICES],
                (Lanes::Kernel, System::Router) => &[ALONE, SOME_SERVICES, MANY_SERVICES, BESIDE_HTTP],
                (Lanes::Kernel, peer) if peer.is_peer() => &[],
                (Lanes::Tcp | Lanes::Kernel, _) => &[ALONE],
            };
            // nginx has no gRPC and no HTTP/2 to its servers in an ordinary `proxy_pass`.
            let is_grpc = matches!(
                self.work,
                Work::Http {
                    protocol: Protocol::Grpc,
                    ..
                }
            );
            if is_grpc && system == System::Nginx {
                return Vec::new();
            }
            sizes.iter().copied().map(lane(system)).collect()
        };
        systems.iter().copied().flat_map(of).collect()
    }
}
