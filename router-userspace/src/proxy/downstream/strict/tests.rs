//! Tests of `strict`: what a server reads in place of a refused request, however the bytes come.

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::*;
use crate::proxy::limits::Tolerated;

const BOUNDS: Bounds = Bounds {
    head_bytes: 1000,
    fields: 8,
    tolerated: Tolerated {
        non_ascii_target: false,
        length_beside_chunked: false,
    },
};

/// What is read when a client sends parts and then nothing; true: reading failed in the end.
fn reads(parts: &[&[u8]], room: usize) -> (String, bool, Arc<Activity>) {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async {
        let (mut client, server) = tokio::io::duplex(1 << 16);
        let activity = Arc::new(Activity::default());
        let mut stream = Strict::new(server, BOUNDS, activity.clone());
        let mut read = Vec::new();
        let mut failed = false;
        for part in parts {
            client.write_all(part).await.unwrap();
            let mut bytes = vec![0; room];
            loop {
                let reading = stream.read(&mut bytes);
                // Whatever can be read is there already.
                match futures_util::FutureExt::now_or_never(reading) {
                    Some(Ok(n)) if n > 0 => read.extend_from_slice(&bytes[..n]),
                    Some(Err(_)) => {
                        failed = true;
                        break;
                    }
                    _ => break,
                }
            }
        }
        (String::from_utf8(read).unwrap(), failed, activity)
    })
}

#[test]
fn a_refused_request_is_read_as_its_first_line_alone() {
    let first = "GET /1 HTTP/1.1\r\nhost: a\r\n\r\n";
    for (head, seen) in [
        (
            "GET /2 HTTP/1.1\r\ncontent-length: 1\r\nx : 1\r\n\r\n",
            "GET /2 HTTP/1.1\r\n\r\n",
        ),
        ("GET /2 HTTP/9\r\n\r\n", "- * HTTP/1.1\r\n\r\n"),
        ("\0\r\n", "- * HTTP/1.1\r\n\r\n"),
        ("CONNECT a:1 HTTP/1.1\r\nx\r\n\r\n", "- * HTTP/1.1\r\n\r\n"),
    ] {
        let expected = format!("{first}{seen}");
        let bytes = format!("{first}{head}GET /3 HTTP/1.1\r\n\r\n");
        let whole = reads(&[bytes.as_bytes()], 4096);
        assert_eq!(
            (whole.0.as_str(), whole.1),
            (expected.as_str(), false),
            "{head:?}"
        );
        let single: Vec<&[u8]> = bytes.as_bytes().chunks(1).collect();
        for room in [1, 5, 4096] {
            let (read, failed, activity) = reads(&single, room);
            assert_eq!((read.as_str(), failed), (expected.as_str(), false), "{head:?}");
            assert!(activity.refuses() && activity.refusal().is_none());
            activity.request_begins();
            activity.request_ends();
            activity.request_begins();
            assert!(activity.refusal().is_some());
        }
    }
}

#[test]
fn a_refused_body_breaks_off() {
    let head = "POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n1\r\na\r\n";
    let bytes = format!("{head}x\r\n");
    let single: Vec<&[u8]> = bytes.as_bytes().chunks(1).collect();
    for parts in [vec![bytes.as_bytes()], single] {
        let (read, failed, activity) = reads(&parts, 4096);
        assert_eq!((read.as_str(), failed), (head, true));
        assert_eq!(
            activity.broken_off().map(|error| error.kind),
            Some(Kind::BadFraming)
        );
    }
}

#[test]
fn an_overdue_head_is_refused() {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async {
        let (mut client, server) = tokio::io::duplex(4096);
        let activity = Arc::new(Activity::default());
        let mut stream = Strict::new(server, BOUNDS, activity.clone());
        client.write_all(b"GET /slow HTTP/1.1\r\nho").await.unwrap();
        let mut bytes = [0; 100];
        assert!(futures_util::FutureExt::now_or_never(stream.read(&mut bytes)).is_none());
        activity.head_is_overdue();
        let read = stream.read(&mut bytes).await.unwrap();
        assert_eq!(&bytes[..read], b"GET /slow HTTP/1.1\r\n\r\n");
        activity.request_begins();
        assert_eq!(
            activity.refusal().map(|error| error.kind),
            Some(Kind::HeadTimeout)
        );
    });
}
