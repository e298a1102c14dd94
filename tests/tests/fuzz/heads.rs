//! Raw bytes of HTTP/1.1 clients: how they are cut does not matter, and nothing behind a refusal passes.

use router_userspace::proxy::scan::{Scanned, scan};

pub const WORDS: &[&str] = &[
    "\r\n",
    "\n",
    "\r",
    "\r\n\r\n",
    "GET / HTTP/1.1\r\n",
    "POST /a HTTP/1.1\r\n",
    " HTTP/1.0",
    "PRI * HTTP/2.0",
    "Host: a\r\n",
    "Content-Length: 5\r\n",
    "content-length: +1\r\n",
    "Content-Length: 18446744073709551615\r\n",
    "Transfer-Encoding: chunked\r\n",
    "transfer-encoding: identity\r\n",
    "transfer-encoding:\tchunked\r\n",
    " ",
    "\t",
    ":",
    ",",
    "\u{0}",
    "5\r\nhello\r\n",
    "0\r\n\r\n",
    "ffffffffffffffff\r\n",
    "1;a=b\r\n",
    "Connection: upgrade\r\n",
    "Upgrade: websocket\r\n",
    "x: y\r\n",
    " folded\r\n",
    "hello",
    "CONNECT a:1 HTTP/1.1\r\n",
];

/// Places where bytes are cut.
const MAX_CUTS: usize = 64;

pub fn check(input: &[u8]) -> u64 {
    let whole = scan(&[input]);
    assert!(input.starts_with(&whole.passed), "other bytes passed than came");
    let cuts = input.len().div_ceil(input.len().div_ceil(MAX_CUTS).max(1));
    for step in 1..=cuts.max(1) {
        let at = (step * input.len().div_ceil(MAX_CUTS).max(1)).min(input.len());
        same(&whole, &scan(&[&input[..at], &input[at..]]), at);
    }
    let bytes: Vec<&[u8]> = input.chunks(1).collect();
    same(&whole, &scan(&bytes), 1);
    let refused = whole.refused.map_or(0, |kind| 1 + kind as u64);
    whole.heads.min(15) << 8 | refused
}

fn same(whole: &Scanned, cut: &Scanned, at: usize) {
    assert_eq!(whole.refused, cut.refused, "cut at {at}");
    assert_eq!(whole.heads, cut.heads, "cut at {at}");
    assert_eq!(whole.passed, cut.passed, "cut at {at}");
}
