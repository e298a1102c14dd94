//! WebSockets with a client and a server that are not ours: tungstenite on both sides of the proxy.

use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use http::HeaderValue;
use router_rules::model::{Protocol, Rule};
use tokio::{net::TcpStream, time::timeout};
use tokio_tungstenite::{
    WebSocketStream, accept_hdr_async, client_async,
    tungstenite::{
        Error, Message,
        client::IntoClientRequest,
        handshake::server::{ErrorResponse, Request, Response},
        protocol::{CloseFrame, frame::coding::CloseCode},
    },
};

use super::{
    bed::{Bed, SERVICE, rule, service, target},
    client::PATIENCE,
    server::Server,
};

/// Takes the first subprotocol that it is offered.
#[expect(clippy::result_large_err, reason = "the library's type")]
fn choose(request: &Request, mut response: Response) -> Result<Response, ErrorResponse> {
    if request.uri().path() == "/refused" {
        return Err(http::Response::builder()
            .status(403)
            .body(Some("no".to_owned()))
            .unwrap());
    }
    let offered = request.headers().get("sec-websocket-protocol");
    if let Some(first) = offered.and_then(|offered| offered.to_str().ok()?.split(',').next()) {
        let first = HeaderValue::from_str(first.trim()).unwrap();
        response.headers_mut().insert("sec-websocket-protocol", first);
    }
    Ok(response)
}

/// Sends back what it gets, with its own ping before each text; pongs are the library's business.
async fn echo() -> Server {
    Server::raw(|stream: TcpStream, _| async move {
        let Ok(mut socket) = accept_hdr_async(stream, choose).await else {
            return;
        };
        while let Some(Ok(message)) = socket.next().await {
            let sent = match message {
                Message::Text(_) => {
                    let ping = socket.send(Message::Ping("are you there".into())).await;
                    ping.and(socket.send(message).await)
                }
                Message::Binary(_) => socket.send(message).await,
                _ => Ok(()),
            };
            if sent.is_err() {
                return;
            }
        }
    })
    .await
}

async fn open(
    bed: &Bed,
    path: &str,
) -> Result<(WebSocketStream<TcpStream>, http::Response<Option<Vec<u8>>>), Error> {
    let stream = TcpStream::connect(bed.address()).await.unwrap();
    let mut request = format!("ws://{SERVICE}{path}").into_client_request()?;
    let protocols = HeaderValue::from_static("chat, superchat");
    request.headers_mut().insert("sec-websocket-protocol", protocols);
    timeout(PATIENCE, client_async(request, stream)).await.unwrap()
}

async fn next(socket: &mut WebSocketStream<TcpStream>) -> Message {
    timeout(PATIENCE, socket.next()).await.unwrap().unwrap().unwrap()
}

#[tokio::test]
async fn messages_pings_and_large_frames_pass() {
    let server = echo().await;
    let bed = Bed::start(service(Protocol::Http, &[(server.address, "v1")]));
    let (mut socket, response) = open(&bed, "/chat").await.unwrap();
    assert_eq!(response.headers()["sec-websocket-protocol"], "chat");
    socket.send(Message::text("hello")).await.unwrap();
    assert_eq!(next(&mut socket).await, Message::Ping("are you there".into()));
    assert_eq!(next(&mut socket).await, Message::text("hello"));
    socket.send(Message::Ping("and you".into())).await.unwrap();
    assert_eq!(next(&mut socket).await, Message::Pong("and you".into()));
    for size in [0, 125, 126, 65_535, 65_536, 4 << 20] {
        let payload: Vec<u8> = (0..size).map(|n: usize| (n % 251) as u8).collect();
        socket.send(Message::binary(payload.clone())).await.unwrap();
        assert!(
            next(&mut socket).await.into_data() == payload,
            "{size} bytes came back changed"
        );
    }
}

#[tokio::test]
async fn either_side_may_close_with_a_code() {
    let server = echo().await;
    let bed = Bed::start(service(Protocol::Http, &[(server.address, "v1")]));
    let (mut socket, _) = open(&bed, "/chat").await.unwrap();
    let frame = CloseFrame {
        code: CloseCode::Away,
        reason: "bye".into(),
    };
    socket.close(Some(frame.clone())).await.unwrap();
    let answer = next(&mut socket).await;
    assert!(
        matches!(&answer, Message::Close(Some(close)) if close.code == CloseCode::Away),
        "{answer:?}"
    );
    assert!(
        timeout(PATIENCE, socket.next()).await.unwrap().is_none(),
        "the connection stayed open"
    );
    drop(socket);
    let line = &bed.lines(1).await[0];
    assert_eq!((line.status, line.reason.as_str()), (101, ""));
    assert!(line.received > 0 && line.sent > 0);
}

#[tokio::test]
async fn a_refused_upgrade_is_the_servers_answer() {
    let server = echo().await;
    let bed = Bed::start(service(Protocol::Http, &[(server.address, "v1")]));
    match open(&bed, "/refused").await {
        Err(Error::Http(response)) => assert_eq!(response.status(), 403),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_rule_may_refuse_upgrades() {
    let server = echo().await;
    let mut model = service(Protocol::Http, &[(server.address, "v1")]);
    model.rules.push(Rule {
        refuses_upgrades: true,
        ..rule("plain")
    });
    let bed = Bed::start(model);
    match open(&bed, "/chat").await {
        Err(Error::Http(response)) => {
            assert_eq!(response.status(), 403);
            assert_eq!(response.headers()["x-router-reason"], "upgrade-not-allowed");
            assert_eq!(response.headers()["connection"], "close");
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_tunnel_outlives_the_rules_timeout() {
    let server = echo().await;
    let mut model = service(Protocol::Http, &[(server.address, "v1")]);
    let limit = Duration::from_millis(200);
    model.rules.push(Rule {
        timeout: Some(limit),
        targets: vec![target("v1", 100)],
        ..rule("short")
    });
    let bed = Bed::start(model);
    let (mut socket, _) = open(&bed, "/chat").await.unwrap();
    // waits: that the time passes which ends requests is the test.
    tokio::time::sleep(limit * 3).await;
    socket.send(Message::binary("still here")).await.unwrap();
    assert_eq!(next(&mut socket).await, Message::binary("still here"));
    assert_eq!(bed.lines(0).await.len(), 0);
}
