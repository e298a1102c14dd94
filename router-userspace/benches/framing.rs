//! What it costs to read a request's framing: nanoseconds for a head. `cargo bench -p router-userspace --bench framing`.
//!
//! It does not measure what hyper then does with the head.

use std::{hint::black_box, time::Instant};

use router_userspace::proxy::{
    framing::{Bounds, Framing},
    limits::Limits,
};

const SMALL: &str =
    "GET /productpage HTTP/1.1\r\nhost: reviews:9080\r\nuser-agent: curl/8.5.0\r\naccept: */*\r\n\r\n";

const TYPICAL: &str = "GET /api/v1/products/0/reviews?limit=10 HTTP/1.1\r\n\
    Host: reviews.default.svc.cluster.local:9080\r\nUser-Agent: python-requests/2.31.0\r\n\
    Accept-Encoding: gzip, deflate\r\nAccept: */*\r\nConnection: keep-alive\r\n\
    x-request-id: 3c4d1f1e-9f5a-4b7c-8a50-2f3a1a1d5b11\r\nx-b3-traceid: 80f198ee56343ba864fe8b2a57d3eff7\r\n\
    x-b3-spanid: e457b5a2e4d86bd1\r\nend-user: jason\r\n\r\n";

/// Scans per reading of the clock, and readings; the shortest counts, since a busy machine only ever adds.
const SCANS: u32 = 2000;
const READINGS: u32 = 2000;

fn main() {
    let limits = Limits::default();
    let bounds = Bounds {
        head_bytes: limits.head_bytes,
        fields: limits.fields,
        tolerated: limits.tolerated,
    };
    for (name, head) in [("small", SMALL), ("typical", TYPICAL)] {
        let mut framing = Framing::new(bounds);
        let reading = || {
            let started = Instant::now();
            for _ in 0..SCANS {
                let progress = framing.scan(black_box(head.as_bytes()));
                assert_eq!(progress.passed, head.len());
            }
            started.elapsed() / SCANS
        };
        let shortest = std::iter::repeat_with(reading).take(READINGS as usize).min();
        println!("{name}: {} bytes, {:?}", head.len(), shortest.unwrap_or_default());
    }
}
