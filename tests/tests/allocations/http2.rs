//! The same for HTTP/2 on both sides: a request on a stream of its own, and a gRPC call.

use std::{net::SocketAddr, thread};

use bytes::Bytes;
use h2::{RecvStream, client, server};
use http::{HeaderMap, HeaderValue, Request, Response};
use router_rules::model::Protocol;
use tokio::net::{TcpListener, TcpStream};

use super::{BODY, SERVICE, alone, measure, start};

/// Most allocations for a request without a body, and a response with one.
const MOST: u64 = 14;
/// Most allocations for a gRPC call: bodies both ways, and trailers.
const MOST_OF_CALL: u64 = 17;

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
}

/// Answers with a body; a request that has one is a call, and gets trailers.
fn serve() -> SocketAddr {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    listener.set_nonblocking(true).unwrap();
    thread::spawn(move || {
        runtime().block_on(async {
            let listener = TcpListener::from_std(listener).unwrap();
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                tokio::spawn(async move {
                    let mut connection = server::handshake(stream).await.unwrap();
                    while let Some(Ok((request, respond))) = connection.accept().await {
                        tokio::spawn(answer(request, respond));
                    }
                });
            }
        });
    });
    address
}

async fn answer(request: Request<RecvStream>, mut respond: server::SendResponse<Bytes>) {
    let mut body = request.into_body();
    let is_call = !body.is_end_stream();
    read(&mut body).await;
    let response = Response::builder()
        .header("content-type", "text/plain")
        .body(())
        .unwrap();
    let mut stream = respond.send_response(response, false).unwrap();
    stream.send_data(vec![b'x'; BODY].into(), !is_call).unwrap();
    if is_call {
        let mut trailers = HeaderMap::new();
        trailers.insert("grpc-status", HeaderValue::from_static("0"));
        stream.send_trailers(trailers).unwrap();
    }
}

/// Reads a body and its trailers.
async fn read(body: &mut RecvStream) -> usize {
    let mut length = 0;
    while let Some(data) = body.data().await {
        length += data.as_ref().unwrap().len();
        body.flow_control().release_capacity(data.unwrap().len()).unwrap();
    }
    body.trailers().await.unwrap();
    length
}

fn request(method: &str) -> Request<()> {
    let request = Request::builder()
        .method(method)
        .uri(format!("http://{SERVICE}/reviews/1"))
        .header("user-agent", "test/1")
        .header("x-user", "guest");
    let request = match method {
        "POST" => request
            .header("content-type", "application/grpc")
            .header("te", "trailers"),
        _ => request
            .header("accept", "*/*")
            .header("cookie", "session=0f3c9a17d2"),
    };
    request.body(()).unwrap()
}

/// Asks again and again over one connection, one request at a time.
fn ask(method: &str, most: u64) {
    let _alone = alone();
    let proxy = start(serve(), Protocol::Http2);
    let runtime = runtime();
    let mut sender = runtime.block_on(async {
        let stream = TcpStream::connect(proxy.addresses()[0]).await.unwrap();
        stream.set_nodelay(true).unwrap();
        let (sender, connection) = client::handshake(stream).await.unwrap();
        tokio::spawn(connection);
        sender
    });
    let has_body = method == "POST";
    let once = || {
        runtime.block_on(async {
            let (response, mut stream) = sender.send_request(request(method), !has_body).unwrap();
            if has_body {
                stream.send_data(Bytes::from_static(&[0; BODY]), true).unwrap();
            }
            let mut body = response.await.unwrap().into_body();
            assert_eq!(read(&mut body).await, BODY);
        });
    };
    measure(once, most);
}

#[test]
fn a_stream_allocates_little() {
    ask("GET", MOST);
}

#[test]
fn a_call_allocates_little() {
    ask("POST", MOST_OF_CALL);
}
