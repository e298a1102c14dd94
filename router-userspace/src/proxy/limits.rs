//! Every bound of the proxy in one place, with its default.
//!
//! It knows no rules: a rule's timeout or a policy's limit is not here.

use std::time::Duration;

/// How often something may happen.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Rate {
    /// Times a second in the long run.
    pub per_second: u32,
    /// Times at once; at least 1.
    pub burst: u32,
}

/// What clients are forgiven. The default is nothing.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Tolerated {
    /// Bytes of UTF-8 in a request's target that should have been percent-encoded.
    pub non_ascii_target: bool,
    /// `Content-Length` beside `Transfer-Encoding: chunked` (RFC 9112, 6.1 leaves it to the server). The length is
    /// dropped, and the connection closed after the response, so that nothing can be smuggled behind the body.
    pub length_beside_chunked: bool,
}

/// Bounds of the proxy. The defaults are safe for untrusted clients.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Bytes of an HTTP/1.1 request head, an HTTP/2 header list (RFC 9113, 6.5.2) or a trailer section (Envoy: 60
    /// KiB).
    pub head_bytes: usize,
    /// Fields of a request head or trailer section (Envoy, hyper: 100).
    pub fields: usize,
    /// A client that has begun a request head must end it within this time; enforced within twice the value. A
    /// client that sends nothing at all on a new connection has as long, and so has a TLS handshake.
    pub head_timeout: Duration,
    /// Bytes in which the name of the host is looked for that a connection to an unknown address means (Envoy's TLS
    /// inspector: 16 KiB).
    pub name_bytes: usize,
    /// How long a client that may reach every unknown address is waited for to name one. Its server may be the one to
    /// speak first.
    pub silence: Duration,
    /// A client that has begun a request's body may keep it waiting this long. Every `1 / body_rate` of a second that
    /// it has spent is given back by a byte. Not for gRPC requests, whose streams may be silent, and not for tunnels.
    /// Zero: for ever. (nginx: 60 s between two reads.)
    pub body_timeout: Duration,
    /// Bytes a second that a body must come with on average, once `body_timeout` is used up (Kestrel: 240).
    pub body_rate: u32,
    /// A downstream connection without a request for this long is closed (Envoy: 1 hour).
    pub downstream_idle: Duration,
    /// Downstream connections of one worker; beyond it connections wait in the listener's queue.
    pub connections_per_worker: usize,
    /// TLS handshakes under way at once, per worker; further ones wait, and their time runs.
    pub handshakes: usize,
    /// Connections that wait to be accepted, per listener.
    pub backlog: i32,
    /// Concurrent streams of a downstream HTTP/2 connection.
    pub streams: u32,
    /// Streams that a client reset before they were accepted; more is an attack (rapid reset), and the connection is
    /// closed.
    pub pending_resets: usize,
    /// Streams that were reset for a client's protocol errors before its connection is closed.
    pub error_resets: usize,
    /// Streams that a client may reset, whether they were accepted or not (rapid reset; nghttp2: 33 a second, burst
    /// 1,000).
    pub resets: Rate,
    /// Frames without content that a client may send: PING, SETTINGS, PRIORITY, empty DATA and such. Every frame with
    /// content, in both directions, buys another.
    pub control_frames: Rate,
    /// What is not refused, though it should be.
    pub tolerated: Tolerated,
    /// HTTP/2 flow-control window of a stream, in bytes: what one stalled stream may hold in memory.
    pub stream_window: u32,
    /// HTTP/2 flow-control window of a connection, in bytes.
    pub connection_window: u32,
    /// Bytes of an HTTP/1.1 connection's read buffer, and of what is buffered towards a slow peer. At least 8 KiB.
    pub http1_buffer: usize,
    /// Bytes of each direction's buffer of a TCP connection or tunnel.
    pub tunnel_buffer: usize,
    /// Silence after which the other side of a connection is probed, and the interval of the probes; after the usual
    /// number of probes without an answer (9) the connection is dead.
    pub keepalive: Duration,
    /// Time for an upstream connection. Two repeated SYNs (after 1 s and 3 s) fit, and so does another attempt within
    /// the default timeout of a request. Envoy: 5 s; Istio: 10 s.
    pub connect_timeout: Duration,
    /// Idle HTTP/1.1 connections kept per endpoint and pool; the one used longest ago goes first. Fewer than clients use at
    /// once would be opened and closed for each of their requests (Envoy, HAProxy: no bound).
    pub idle_per_endpoint: usize,
    /// Idle upstream connections are closed after this time.
    pub upstream_idle: Duration,
    /// Streams on one upstream HTTP/2 connection before another is opened (the usual limit of servers is 100).
    pub streams_per_connection: usize,
    /// Bytes of a request's body that are kept so that it can be sent again. A request with a longer body is not
    /// retried once more than this has been sent.
    pub replay_bytes: usize,
    /// Copies of requests on their way to mirrors, per worker; further ones are not made.
    pub mirrors: usize,
    /// Bytes of a request's body that may wait for its mirror; a copy that falls further behind is lost.
    pub mirror_bytes: usize,
    /// First interval of the back-off between attempts; it doubles up to ten times the value, and the wait is drawn
    /// from it uniformly (Envoy: 25 ms).
    pub backoff: Duration,
    /// How long a draining proxy waits for idle clients to send a request, which it then answers with
    /// `connection: close`, before it closes their connections.
    pub drain_idle: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            head_bytes: 60 * 1024,
            fields: 100,
            head_timeout: Duration::from_secs(10),
            name_bytes: 16 * 1024,
            silence: Duration::from_secs(1),
            body_timeout: Duration::from_secs(60),
            body_rate: 240,
            downstream_idle: Duration::from_secs(3600),
            connections_per_worker: 16_384,
            handshakes: 1024,
            backlog: 4096,
            streams: 256,
            pending_resets: 20,
            error_resets: 256,
            resets: Rate {
                per_second: 33,
                burst: 1000,
            },
            control_frames: Rate {
                per_second: 1000,
                burst: 10_000,
            },
            tolerated: Tolerated::default(),
            stream_window: 256 * 1024,
            connection_window: 1024 * 1024,
            http1_buffer: 128 * 1024,
            tunnel_buffer: 32 * 1024,
            keepalive: Duration::from_secs(60),
            connect_timeout: Duration::from_secs(5),
            idle_per_endpoint: 1024,
            upstream_idle: Duration::from_secs(30),
            streams_per_connection: 100,
            replay_bytes: 64 * 1024,
            mirrors: 256,
            mirror_bytes: 256 * 1024,
            backoff: Duration::from_millis(25),
            drain_idle: Duration::from_secs(2),
        }
    }
}
