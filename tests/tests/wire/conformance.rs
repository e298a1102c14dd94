//! Conformance of the HTTP/2 server, as a list of cases by section: what h2spec, the public tool, tries of RFC 7540 and
//! RFC 7541, where RFC 9113 has not taken it back. The tool itself is in none of the registries that this repository
//! builds from.

use router_rules::model::Protocol;
use tokio::time::timeout;

use super::{
    bed::{Bed, service, until},
    client::PATIENCE,
    frames::*,
    server::{Server, Speaks},
};

const PROTOCOL: &[u32] = &[1];
const REFUSED: &[u32] = &[1, 7];
// The library ends such connections with PROTOCOL_ERROR now and then. The code tells people what was wrong; programs
// do the same whatever it is.
const FLOW: &[u32] = &[3, 1];
const CLOSED: &[u32] = &[5, 1];
const SIZE: &[u32] = &[6, 1];
const COMPRESSION: &[u32] = &[9, 1];

/// What must happen.
#[derive(Clone, Copy, Debug)]
enum Must {
    /// Stream 1 is answered with this status.
    Answer(u16),
    /// Stream 1 is reset, or the connection ended, with one of these codes; or the connection is closed.
    ResetStream(&'static [u32]),
    /// The connection ends with one of these codes, or is closed.
    EndConnection(&'static [u32]),
    /// A PING behind it is answered: nothing happened.
    GoOn,
}

use Must::*;

struct Case {
    section: &'static str,
    what: &'static str,
    sends: Vec<Vec<u8>>,
    must: Must,
}

fn case(
    section: &'static str,
    what: &'static str,
    sends: impl IntoIterator<Item = Vec<u8>>,
    must: Must,
) -> Case {
    Case {
        section,
        what,
        sends: sends.into_iter().collect(),
        must,
    }
}

const HEAD: u8 = END_STREAM | END_HEADERS;

/// A ping whose answer shows that everything before it was read.
const MARK: &[u8; 8] = b"the mark";

/// Runs cases, each on a connection of its own, and says which failed.
async fn run(cases: Vec<Case>) {
    let server = Server::echo(Speaks::Http1).await;
    let bed = Bed::start(service(Protocol::Http, &[(server.address, "v1")]));
    let mut failed = Vec::new();
    for case in cases {
        let before = bed.log.count();
        let mut raw = Raw::connect(bed.address()).await;
        raw.send(&case.sends.concat()).await;
        if matches!(case.must, GoOn) {
            raw.send(&frame(PING, 0, 0, MARK)).await;
        }
        let end = raw.until(|received| match case.must {
            Answer(_) => received.kind == HEADERS && received.stream == 1,
            ResetStream(_) => matches!(received.kind, RST_STREAM | GOAWAY),
            EndConnection(_) => received.kind == GOAWAY,
            GoOn => is_mark(received) || received.kind == GOAWAY,
        });
        let Ok(end) = timeout(PATIENCE, end).await else {
            failed.push(format!("{} {}: nothing came", case.section, case.what));
            continue;
        };
        let fulfilled = match (case.must, &end) {
            (Answer(status), Some(received)) => received.status() == Some(status),
            (ResetStream(codes) | EndConnection(codes), Some(received)) => {
                received.code().is_some_and(|code| codes.contains(&code))
            }
            (ResetStream(_) | EndConnection(_), None) => true,
            (GoOn, Some(received)) => is_mark(received),
            (Answer(_) | GoOn, None) => false,
        };
        if !fulfilled {
            failed.push(format!(
                "{} {}: {:?}, not {end:?}",
                case.section, case.what, case.must
            ));
        } else if matches!(case.must, ResetStream(_) | EndConnection(_)) && end.is_some() {
            // Every refusal has its line.
            until(&format!("the line of {} {}", case.section, case.what), || {
                bed.log.count() > before
            })
            .await;
        }
    }
    assert!(failed.is_empty(), "{}", failed.join("\n"));
}

fn is_mark(received: &Received) -> bool {
    received.kind == PING && received.flags & ACK != 0 && received.payload == MARK
}

fn padded(pad: u8, payload: &[u8]) -> Vec<u8> {
    [&[pad], payload, &vec![0; usize::from(pad)]].concat()
}

/// HEADERS of stream 1 without `END_HEADERS`.
fn begun(flags: u8) -> Vec<u8> {
    frame(HEADERS, flags, 1, &block(&GET))
}

#[tokio::test]
#[rustfmt::skip] // one line each: it is a table
async fn rfc_9113_3_and_4_connections_and_frames() {
    let big = vec![0; 16_385];
    let long = "x".repeat(16_384);
    run(vec![
        case("4.1", "a frame of unknown type", [frame(0xff, 0, 0, b"12345678")], GoOn),
        case("4.1", "undefined flags", [frame(PING, 0x16, 0, b"12345678")], GoOn),
        case("4.1", "the reserved bit", [frame(PING, 0, 1 << 31, b"12345678")], GoOn),
        case("4.2", "DATA of 2^14 bytes", [open(1, &[]), frame(DATA, END_STREAM, 1, &big[1..])], Answer(200)),
        case("4.2", "DATA of more", [open(1, &[]), frame(DATA, END_STREAM, 1, &big)], ResetStream(SIZE)),
        case("4.2", "HEADERS of more", [frame(HEADERS, HEAD, 1, &block(&[&GET[..], &[("x", &long)]].concat()))], EndConnection(SIZE)),
        case("4.3", "a broken header block", [frame(HEADERS, HEAD, 1, &[0x40])], EndConnection(COMPRESSION)),
        case("4.3", "PRIORITY within a header block", [begun(END_STREAM), frame(PRIORITY, 0, 1, &[0; 5]), frame(CONTINUATION, END_HEADERS, 1, &[])], EndConnection(PROTOCOL)),
        case("4.3", "HEADERS of another stream within a header block", [begun(END_STREAM), request(3, &[])], EndConnection(PROTOCOL)),
        case("5.5", "a frame of unknown type within a header block", [begun(END_STREAM), frame(0x16, 0, 0, &[]), frame(CONTINUATION, END_HEADERS, 1, &[])], EndConnection(PROTOCOL)),
    ])
    .await;
    let server = Server::named("v1").await;
    let bed = Bed::start(service(Protocol::Http, &[(server.address, "v1")]));
    // 3.4: a preface that is none.
    let mut raw = Raw::with(bed.address(), b"PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n").await;
    raw.until(|_| false).await;
    assert_eq!(server.counts.requests(), 0);
}

#[tokio::test]
#[rustfmt::skip] // one line each: it is a table
async fn rfc_9113_5_streams() {
    let reset = frame(RST_STREAM, 0, 1, &[0, 0, 0, 8]);
    let update = frame(WINDOW_UPDATE, 0, 1, &[0, 0, 0, 1]);
    let text = frame(DATA, END_STREAM, 1, b"test");
    let more = frame(CONTINUATION, END_HEADERS, 1, &block(&[("x", "y")]));
    run(vec![
        case("5.1", "idle: DATA", [text.clone()], EndConnection(PROTOCOL)),
        case("5.1", "idle: RST_STREAM", [reset.clone()], EndConnection(PROTOCOL)),
        case("5.1", "idle: WINDOW_UPDATE", [update.clone()], EndConnection(PROTOCOL)),
        case("5.1", "idle: CONTINUATION", [more.clone()], EndConnection(PROTOCOL)),
        case("5.1", "idle: PRIORITY", [frame(PRIORITY, 0, 1, &[0; 5])], GoOn),
        case("5.1", "half-closed (remote): DATA", [request(1, &[]), text.clone()], ResetStream(CLOSED)),
        case("5.1", "half-closed (remote): HEADERS", [request(1, &[]), request(1, &[])], ResetStream(CLOSED)),
        case("5.1", "half-closed (remote): CONTINUATION", [request(1, &[]), more.clone()], EndConnection(CLOSED)),
        case("5.1", "half-closed (remote): WINDOW_UPDATE", [request(1, &[]), update.clone()], GoOn),
        case("5.1", "half-closed (remote): PRIORITY", [request(1, &[]), frame(PRIORITY, 0, 1, &[0; 5])], GoOn),
        case("5.1", "half-closed (remote): RST_STREAM", [request(1, &[]), reset.clone()], GoOn),
        case("5.1", "closed by RST_STREAM: DATA", [open(1, &[]), reset.clone(), text.clone()], ResetStream(CLOSED)),
        case("5.1", "closed by RST_STREAM: HEADERS", [open(1, &[]), reset.clone(), request(1, &[])], ResetStream(CLOSED)),
        case("5.1", "closed by RST_STREAM: CONTINUATION", [open(1, &[]), reset.clone(), more], EndConnection(CLOSED)),
        case("5.1", "closed by RST_STREAM: WINDOW_UPDATE", [open(1, &[]), reset.clone(), update], GoOn),
        case("5.1", "closed: RST_STREAM again", [open(1, &[]), reset.clone(), reset], GoOn),
        case("5.1.1", "an even number", [request(2, &[])], EndConnection(PROTOCOL)),
        case("5.1.1", "a smaller number", [request(5, &[]), request(3, &[])], EndConnection(CLOSED)),
        case("5.4.1", "a connection error ends in GOAWAY", [frame(PING, 0, 1, &[0; 8])], EndConnection(PROTOCOL)),
        case("5.5", "an unknown setting", [frame(SETTINGS, 0, 0, &setting(0xff, 1))], GoOn),
    ])
    .await;
}

#[tokio::test]
async fn rfc_9113_5_1_2_concurrency() {
    // An endpoint that never answers, so that every stream stays open.
    let server = Server::http(Speaks::Http1, |_| std::future::pending()).await;
    let limits = router_userspace::proxy::Limits {
        streams: 5,
        ..Default::default()
    };
    let bed = Bed::with(service(Protocol::Http, &[(server.address, "v1")]), 1, limits);
    let mut raw = Raw::connect(bed.address()).await;
    let streams: Vec<_> = (0..6).flat_map(|n| request(2 * n + 1, &[])).collect();
    raw.send(&streams).await;
    let end = raw.until(|received| received.code().is_some()).await.unwrap();
    assert_eq!((end.kind, end.stream), (RST_STREAM, 11));
    assert!(REFUSED.contains(&end.code().unwrap()));
    until("five requests", || server.counts.requests() == 5).await;
}

#[tokio::test]
#[rustfmt::skip] // one line each: it is a table
async fn rfc_9113_6_1_to_6_4_data_headers_priority_reset() {
    run(vec![
        case("6.1", "padded DATA", [open(1, &[]), frame(DATA, END_STREAM | PADDED, 1, &padded(5, b"x"))], Answer(200)),
        case("6.1", "DATA of stream 0", [frame(DATA, END_STREAM, 0, b"x")], EndConnection(PROTOCOL)),
        case("6.1", "padding longer than DATA", [open(1, &[]), frame(DATA, END_STREAM | PADDED, 1, &[9, 0, 0])], EndConnection(PROTOCOL)),
        case("6.2", "padded HEADERS", [frame(HEADERS, HEAD | PADDED, 1, &padded(7, &block(&GET)))], Answer(200)),
        case("6.2", "HEADERS with a priority", [frame(HEADERS, HEAD | PRIORITISED, 1, &[&[0, 0, 0, 0, 15][..], &block(&GET)].concat())], Answer(200)),
        case("6.2", "HEADERS of stream 0", [frame(HEADERS, HEAD, 0, &block(&GET))], EndConnection(PROTOCOL)),
        case("6.2", "padding longer than HEADERS", [frame(HEADERS, HEAD | PADDED, 1, &[200, 0, 0])], EndConnection(PROTOCOL)),
        case("6.3", "PRIORITY, then a request", [frame(PRIORITY, 0, 1, &[0, 0, 0, 0, 9]), request(1, &[])], Answer(200)),
        case("6.3", "PRIORITY of stream 0", [frame(PRIORITY, 0, 0, &[0, 0, 0, 1, 9])], EndConnection(PROTOCOL)),
        case("6.3", "PRIORITY of four bytes", [open(1, &[]), frame(PRIORITY, 0, 1, &[0; 4])], ResetStream(SIZE)),
        case("6.4", "RST_STREAM of stream 0", [frame(RST_STREAM, 0, 0, &[0; 4])], EndConnection(PROTOCOL)),
        case("6.4", "RST_STREAM of an idle stream", [frame(RST_STREAM, 0, 1, &[0; 4])], EndConnection(PROTOCOL)),
        case("6.4", "RST_STREAM of three bytes", [open(1, &[]), frame(RST_STREAM, 0, 1, &[0; 3])], EndConnection(SIZE)),
        case("7", "RST_STREAM with an unknown code", [open(1, &[]), frame(RST_STREAM, 0, 1, &[0xff; 4])], GoOn),
    ])
    .await;
}

#[tokio::test]
#[rustfmt::skip] // one line each: it is a table
async fn rfc_9113_6_5_to_6_8_settings_ping_goaway() {
    let with = |id, value| [frame(SETTINGS, 0, 0, &setting(id, value))];
    run(vec![
        case("6.5", "an acknowledgement with a payload", [frame(SETTINGS, ACK, 0, &[0])], EndConnection(SIZE)),
        case("6.5", "SETTINGS of a stream", [frame(SETTINGS, 0, 1, &setting(3, 1))], EndConnection(PROTOCOL)),
        case("6.5", "SETTINGS of three bytes", [frame(SETTINGS, 0, 0, &[0; 3])], EndConnection(SIZE)),
        case("6.5.2", "ENABLE_PUSH of 2", with(2, 2), EndConnection(PROTOCOL)),
        case("6.5.2", "a window above 2^31-1", with(4, 1 << 31), EndConnection(FLOW)),
        case("6.5.2", "frames below 2^14", with(5, 16_383), EndConnection(PROTOCOL)),
        case("6.5.2", "frames above 2^24-1", with(5, 1 << 24), EndConnection(PROTOCOL)),
        case("6.5.2", "a table of no bytes", [with(1, 0)[0].clone(), request(1, &[])], Answer(200)),
        case("6.5.3", "the last of two values counts", [frame(SETTINGS, 0, 0, &[setting(4, 0), setting(4, 65_535)].concat()), request(1, &[])], Answer(200)),
        case("6.7", "PING", [frame(PING, 0, 0, b"h2speced")], GoOn),
        case("6.7", "an acknowledgement nobody asked for", [frame(PING, ACK, 0, b"invalid!")], GoOn),
        case("6.7", "PING of a stream", [frame(PING, 0, 1, &[0; 8])], EndConnection(PROTOCOL)),
        case("6.7", "PING of six bytes", [frame(PING, 0, 0, &[0; 6])], EndConnection(SIZE)),
        case("6.8", "GOAWAY of a stream", [frame(GOAWAY, 0, 1, &[0; 8])], EndConnection(PROTOCOL)),
    ])
    .await;
    let server = Server::named("v1").await;
    let bed = Bed::start(service(Protocol::Http, &[(server.address, "v1")]));
    let mut raw = Raw::connect(bed.address()).await;
    raw.send(&frame(SETTINGS, 0, 0, &setting(3, 7))).await;
    let acknowledged = raw.until(|received| received.kind == SETTINGS && received.flags & ACK != 0);
    assert!(acknowledged.await.is_some(), "6.5.3: SETTINGS are acknowledged");
    // 7: the code of a GOAWAY may be unknown; the connection ends in order.
    raw.send(&frame(GOAWAY, 0, 0, &[0, 0, 0, 0, 0xff, 0, 0, 0])).await;
    raw.until(|_| false).await;
}

#[tokio::test]
#[rustfmt::skip] // one line each: it is a table
async fn rfc_9113_6_9_flow_control() {
    let window = |stream, by: u32| frame(WINDOW_UPDATE, 0, stream, &by.to_be_bytes());
    let most = (1 << 31) - 1;
    run(vec![
        case("6.9", "an increment of 0", [window(0, 0)], EndConnection(PROTOCOL)),
        case("6.9", "an increment of 0 for a stream", [open(1, &[]), window(1, 0)], ResetStream(PROTOCOL)),
        case("6.9", "three bytes", [frame(WINDOW_UPDATE, 0, 0, &[0, 0, 1])], EndConnection(SIZE)),
        case("6.9.1", "a window above 2^31-1", [window(0, most), window(0, most)], EndConnection(FLOW)),
        case("6.9.1", "a stream's above 2^31-1", [open(1, &[]), window(1, most), window(1, most)], ResetStream(FLOW)),
        case("6.9.2", "a new initial window that overflows a stream's", [open(1, &[]), window(1, most - 65_535), frame(SETTINGS, 0, 0, &setting(4, most))], EndConnection(FLOW)),
    ])
    .await;
    let server = Server::named("v1").await;
    let bed = Bed::start(service(Protocol::Http, &[(server.address, "v1")]));
    let mut raw = Raw::connect(bed.address()).await;
    // 6.9.1, 6.9.2: of two bytes, one may be sent, then the window closes beyond zero, then opens.
    raw.send(&[frame(SETTINGS, 0, 0, &setting(4, 1)), request(1, &[])].concat())
        .await;
    let data = raw.until(|received| received.kind == DATA).await.unwrap();
    assert_eq!(data.payload, b"v");
    raw.send(
        &[
            frame(SETTINGS, 0, 0, &setting(4, 0)),
            window(1, 1),
            frame(PING, 0, 0, MARK),
        ]
        .concat(),
    )
    .await;
    let early = raw
        .until(|received| received.kind == DATA || is_mark(received))
        .await
        .unwrap();
    assert!(is_mark(&early), "{early:?}");
    raw.send(&window(1, 1)).await;
    let data = raw.until(|received| received.kind == DATA).await.unwrap();
    assert_eq!(data.payload, b"1");
}

#[tokio::test]
#[rustfmt::skip] // one line each: it is a table
async fn rfc_9113_6_10_continuation() {
    let part = |flags| frame(CONTINUATION, flags, 1, &block(&[("x", "y")]));
    run(vec![
        case("6.10", "several", [begun(END_STREAM), part(0), part(0), part(END_HEADERS)], Answer(200)),
        case("6.10", "behind the end", [request(1, &[]), part(END_HEADERS)], EndConnection(CLOSED)),
        case("6.10", "of stream 0", [begun(END_STREAM), frame(CONTINUATION, END_HEADERS, 0, &[])], EndConnection(PROTOCOL)),
        case("6.10", "of another stream", [begun(END_STREAM), frame(CONTINUATION, END_HEADERS, 3, &[])], EndConnection(PROTOCOL)),
        case("6.10", "behind CONTINUATION that ended", [begun(END_STREAM), part(END_HEADERS), part(END_HEADERS)], EndConnection(CLOSED)),
        case("6.10", "behind DATA", [open(1, &[]), frame(DATA, 0, 1, b"x"), part(END_HEADERS)], EndConnection(PROTOCOL)),
    ])
    .await;
}

fn only(fields: &[(&str, &str)]) -> Vec<u8> {
    frame(HEADERS, HEAD, 1, &block(fields))
}

fn without(name: &str) -> Vec<u8> {
    let fields: Vec<_> = GET.into_iter().filter(|(n, _)| *n != name).collect();
    only(&fields)
}

#[tokio::test]
#[rustfmt::skip] // one line each: it is a table
async fn rfc_9113_8_requests() {
    let malformed = ResetStream(PROTOCOL);
    let trailers = |fields: &[(&str, &str)]| frame(HEADERS, HEAD, 1, &block(fields));
    let text = |flags| frame(DATA, flags, 1, b"test");
    run(vec![
        case("8.1", "GET", [request(1, &[])], Answer(200)),
        case("8.1", "HEAD", [only(&[&[(":method", "HEAD")], &GET[1..]].concat())], Answer(200)),
        case("8.1", "POST", [open(1, &[]), text(END_STREAM)], Answer(200)),
        case("8.1", "POST with trailers", [open(1, &[]), text(0), trailers(&[("x-test", "ok")])], Answer(200)),
        case("8.1", "a second HEADERS that does not end the stream", [open(1, &[]), text(0), frame(HEADERS, END_HEADERS, 1, &block(&[("x", "y")]))], malformed),
        case("8.2.1", "a name in upper case", [request(1, &[("X-TEST", "ok")])], malformed),
        case("8.2.2", "connection", [request(1, &[("connection", "keep-alive")])], malformed),
        case("8.2.2", "keep-alive", [request(1, &[("keep-alive", "1")])], malformed),
        case("8.2.2", "proxy-connection", [request(1, &[("proxy-connection", "1")])], malformed),
        case("8.2.2", "transfer-encoding", [request(1, &[("transfer-encoding", "chunked")])], malformed),
        case("8.2.2", "upgrade", [request(1, &[("upgrade", "x")])], malformed),
        case("8.2.2", "te", [request(1, &[("trailers", "test"), ("te", "trailers, deflate")])], malformed),
        case("8.3", "an unknown pseudo-header field", [request(1, &[(":test", "ok")])], malformed),
        case("8.3", "one of a response", [only(&[&GET[..], &[(":status", "200")]].concat())], malformed),
        case("8.3", "one behind a field", [only(&[&[("x", "y")], &GET[..]].concat())], malformed),
        // It should be malformed. The library drops it, so that no endpoint sees it.
        case("8.3", "one in trailers", [open(1, &[]), text(0), trailers(&[(":method", "GET")])], Answer(200)),
        case("8.3.1", "an empty path", [only(&[&GET[..2], &[(":path", "")], &GET[3..]].concat())], malformed),
        case("8.3.1", "no method", [without(":method")], malformed),
        case("8.3.1", "no scheme", [without(":scheme")], malformed),
        case("8.3.1", "no path", [without(":path")], malformed),
        case("8.3.1", "two methods", [request(1, &[(":method", "GET")])], malformed),
        case("8.3.1", "two schemes", [request(1, &[(":scheme", "http")])], malformed),
        case("8.3.1", "two paths", [request(1, &[(":path", "/")])], malformed),
        case("8.3.1", "two authorities", [request(1, &[(":authority", "a")])], malformed),
        case("8.1.1", "a length above", [open(1, &[("content-length", "5")]), text(END_STREAM)], malformed),
        case("8.1.1", "a length below", [open(1, &[("content-length", "1")]), text(END_STREAM)], malformed),
        case("8.1.1", "a length below in two frames", [open(1, &[("content-length", "7")]), text(0), text(END_STREAM)], malformed),
        case("8.4", "PUSH_PROMISE", [frame(PUSH_PROMISE, END_HEADERS, 1, &[&[0, 0, 0, 2][..], &block(&GET)].concat())], EndConnection(PROTOCOL)),
    ])
    .await;
}

#[tokio::test]
#[rustfmt::skip] // one line each: it is a table
async fn rfc_7541_header_compression() {
    let coded = |prefix: &[u8]| frame(HEADERS, HEAD, 1, &[prefix, &block(&GET)].concat());
    let behind = |suffix: &[u8]| frame(HEADERS, HEAD, 1, &[&block(&GET)[..], suffix].concat());
    let broken = EndConnection(COMPRESSION);
    run(vec![
        case("2.3.3", "an index beyond the tables", [behind(&[0xc6])], broken),
        case("2.3.3", "the index of a literal's name beyond them", [behind(&[0x7f, 0x20, 1, b'x'])], broken),
        case("4.2", "a table's size at the end of a block", [behind(&[0x20])], broken),
        case("5.2", "padding of more than seven bits", [behind(&[0, 1, b'x', 0x84, 0x49, 0x50, 0x9f, 0xff])], broken),
        case("5.2", "padding that is not all ones", [behind(&[0, 1, b'x', 0x81, 0x18])], broken),
        case("5.2", "the end of a string in a string", [behind(&[0, 1, b'x', 0x84, 0xff, 0xff, 0xff, 0xff])], broken),
        case("6.1", "index 0", [behind(&[0x80])], broken),
        case("6.1", "an index of the static table", [frame(HEADERS, HEAD, 1, &[&[0x82, 0x86, 0x84][..], &block(&GET[3..])].concat())], Answer(200)),
        case("6.2.1", "a literal that enters the table", [behind(&[0x40, 1, b'x', 1, b'y'])], Answer(200)),
        case("6.2.2", "a literal that does not", [behind(&[0, 1, b'x', 1, b'y'])], Answer(200)),
        case("6.2.3", "a literal that never does", [behind(&[0x10, 1, b'x', 1, b'y'])], Answer(200)),
        case("6.2", "a string in Huffman's code", [behind(&[0, 1, b'x', 0x81, 0x1f])], Answer(200)),
        case("6.3", "a table's size at the beginning", [coded(&[0x20])], Answer(200)),
        case("6.3", "a table beyond what was agreed", [coded(&[0x3f, 0xe2, 0x1f])], broken),
    ])
    .await;
}
