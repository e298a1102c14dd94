//! First bytes, as clients send them and as they should not.

use super::*;

/// A ClientHello of TLS 1.2 in one record, with a server name or without.
fn client_hello(name: Option<&str>) -> Vec<u8> {
    // signature_algorithms: ecdsa_secp256r1_sha256.
    let mut extensions = vec![0, 13, 0, 4, 0, 2, 4, 3];
    if let Some(name) = name {
        let name = [&[0][..], &sized(name.as_bytes())].concat();
        extensions.extend([&[0, 0][..], &sized(&sized(&name))].concat());
    }
    let random = [7; 32];
    let no_session = [0];
    let suites = sized(&[0xc0, 0x2b]);
    let no_compression = [1, 0];
    let hello = [
        &[3, 3],
        &random[..],
        &no_session,
        &suites,
        &no_compression,
        &sized(&extensions),
    ]
    .concat();
    let message = [&[1, 0][..], &sized(&hello)].concat();
    record(&message)
}

fn record(content: &[u8]) -> Vec<u8> {
    [&[HANDSHAKE, 3, 1][..], &sized(content)].concat()
}

/// With its length in two bytes in front.
fn sized(content: &[u8]) -> Vec<u8> {
    let length = u16::try_from(content.len()).unwrap();
    [&length.to_be_bytes()[..], content].concat()
}

fn tls(name: &str) -> Option<Words> {
    Some(Words::Tls(Some(name.into())))
}

#[test]
fn server_names_are_read() {
    assert_eq!(
        read(&client_hello(Some("www.example.com"))),
        tls("www.example.com")
    );
    assert_eq!(
        read(&client_hello(Some("WWW.Example.COM"))),
        tls("www.example.com")
    );
    assert_eq!(read(&client_hello(None)), Some(Words::Tls(None)));
}

#[test]
fn a_hello_comes_in_pieces_and_in_records() {
    let whole = client_hello(Some("www.example.com"));
    for end in 1..whole.len() {
        assert_eq!(read(&whole[..end]), None, "{end} bytes");
    }
    // One record per seven bytes.
    let records: Vec<u8> = whole[5..].chunks(7).flat_map(record).collect();
    assert_eq!(read(&records), tls("www.example.com"));
    assert_eq!(read(&records[..records.len() - 1]), None);
    // What is sent behind it (early data) is not looked at.
    let early = [&whole[..], &[23, 3, 3, 0, 1, 0]].concat();
    assert_eq!(read(&early), tls("www.example.com"));
}

#[test]
fn what_is_no_hello_names_nobody() {
    let whole = client_hello(Some("www.example.com"));
    let damaged = |at: usize, byte: u8| {
        let mut hello = whole.clone();
        hello[at] = byte;
        hello
    };
    let nul = client_hello(Some("www.example.com\0.evil.test"));
    let twice = {
        let name = sized(&sized(&[&[0][..], &sized(b"a.example.com")].concat()));
        let mut hello = client_hello(Some("www.example.com"))[5..].to_vec();
        hello.extend([&[0, 0][..], &name].concat());
        record(&hello)
    };
    for (what, bytes) in [
        ("a message other than a hello", damaged(5, 2)),
        ("a longer extension than there is", damaged(52, 0xff)),
        ("a name with a NUL", nul),
        ("a second name", twice),
        ("an empty record", vec![HANDSHAKE, 3, 1, 0, 0, 0]),
    ] {
        let words = read(&bytes);
        let named = matches!(words, Some(Words::Tls(Some(_))));
        assert!(!named, "{what}: {words:?}");
    }
    assert_eq!(
        read(&[HANDSHAKE, 0xff, 0xff, 0, 5, 1, 0, 0, 1, 0]),
        Some(Words::Other)
    );
}

#[test]
fn hosts_of_requests_are_read() {
    let http1 = |host: Option<&str>| Some(Words::Http1(host.map(Box::from)));
    assert_eq!(
        read(b"GET / HTTP/1.1\r\nAccept: */*\r\nhost: a.example.com:80 \r\n\r\nrest"),
        http1(Some("a.example.com:80"))
    );
    assert_eq!(read(b"GET / HTTP/1.0\r\n\r\n"), http1(None));
    assert_eq!(read(b"GET / HTTP/1.1\r\nHost: a.exam"), None);
    assert_eq!(read(&PREFACE[..5]), None);
    assert_eq!(read(&[&PREFACE[..], b"more"].concat()), Some(Words::Http2));
    for other in [
        &b"\0\0\0\0"[..],
        b"SSH-2.0-OpenSSH_9.9\r\n",
        b"GET  / HTTP/1.1\r\n",
    ] {
        assert_eq!(read(other), Some(Words::Other), "{other:?}");
    }
    let many = format!("GET / HTTP/1.1\r\n{}\r\n", "a: b\r\n".repeat(FIELDS + 1));
    assert_eq!(read(many.as_bytes()), Some(Words::Other));
}
