//! Wire tests: a proxy in this process, real servers and clients on loopback, no privileges and no kernel half.
//!
//! What the kernel would say is said by a double (`wire/bed.rs`): the original destination of each listener, and
//! connection limits counted on real sockets.

#![expect(
    unreachable_pub,
    reason = "a test binary has no outside; `pub` means: for the other test modules"
)]
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod wire {
    mod bed;
    mod client;
    mod frames;
    mod server;

    mod agreement;
    mod breaker;
    mod conformance;
    mod cors;
    mod disclosure;
    mod drain;
    mod early;
    mod faults;
    mod giving_up;
    mod grpc;
    mod http2;
    mod hygiene;
    mod ingress;
    mod ingress_tls;
    mod l4_faults;
    mod mirrors;
    mod naming;
    mod outlier;
    mod overrides;
    mod pools;
    mod protocols;
    mod resending;
    mod retries;
    mod rewrites;
    mod routing;
    mod seed;
    mod slow;
    mod smuggling;
    mod streaming;
    mod tcp;
    mod upstream_http2;
    mod websocket;
}
