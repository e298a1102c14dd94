//! Tests of `failed`.

use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt, duplex};

use super::*;

/// What becomes of a request whose connection is dropped, unlike one that ends, after its head was sent.
async fn of_dropped_connection() -> Failed {
    let (near, mut endpoint) = duplex(1024);
    let (mut sender, connection) = http1::handshake(TokioIo::new(near)).await.unwrap();
    let connection = tokio::spawn(connection);
    let request = Request::get("/").header("host", "a");
    let response = sender.try_send_request(request.body(RequestBody::Empty).unwrap());
    endpoint.read_u8().await.unwrap();
    connection.abort();
    Failed::http1(response.await.unwrap_err())
}

#[tokio::test]
async fn a_connection_that_nobody_drives_is_not_blamed_on_the_client() {
    let failed = of_dropped_connection().await;
    assert_eq!(
        (failed.error.kind, failed.error.detail),
        (Kind::UpstreamReset, "connection termination")
    );
    assert!(failed.unsent.is_none());
}
