//! Header fields: what ends at the proxy, what it adds, what it leaves alone.

use http::Response;
use router_rules::model::Protocol;

use super::{
    bed::{Bed, SERVICE, rule, service},
    client::{Http2, empty, exchange, fetch, get, whole},
    server::{Server, Speaks, text},
};

async fn echoed(protocol: Protocol, speaks: Speaks, request: http::request::Builder) -> String {
    let server = Server::echo(speaks).await;
    let mut model = service(protocol, &[(server.address, "v1")]);
    model.rules.push(rule("all"));
    let bed = Bed::start(model);
    fetch(bed.address(), request.body(empty()).unwrap()).await.body
}

#[tokio::test]
async fn hop_by_hop_fields_do_not_reach_the_endpoint() {
    let request = get("/p?q=%20")
        .header("connection", "keep-alive, x-mine")
        .header("x-mine", "1")
        .header("keep-alive", "timeout=5")
        .header("proxy-connection", "keep-alive")
        .header("te", "deflate")
        .header("x-kept", "1")
        .header("x-request-id", "mine");
    let echo = echoed(Protocol::Http, Speaks::Http1, request).await;
    let expected = format!(
        "GET /p?q=%20 HTTP/1.1\nhost: {SERVICE}\nx-forwarded-for: 127.0.0.1\nx-forwarded-proto: http\nx-kept: 1\n\
         x-request-id: mine\n\n"
    );
    assert_eq!(echo, expected);
}

#[tokio::test]
async fn forwarding_fields_are_added_to() {
    let request = get("/")
        .header("x-forwarded-for", "10.1.2.3")
        .header("x-forwarded-proto", "https");
    let echo = echoed(Protocol::Http, Speaks::Http1, request).await;
    assert!(echo.contains("x-forwarded-for: 10.1.2.3,127.0.0.1\n"), "{echo}");
    assert!(echo.contains("x-forwarded-proto: https\n"), "{echo}");
    let id = echo
        .lines()
        .find_map(|l| l.strip_prefix("x-request-id: "))
        .unwrap();
    assert_eq!(id.len(), 36);
}

#[tokio::test]
async fn te_trailers_is_kept() {
    let echo = echoed(Protocol::Grpc, Speaks::Http2, get("/").header("te", "trailers")).await;
    assert!(echo.contains("\nte: trailers\n"), "{echo}");
}

#[tokio::test]
async fn an_http1_request_becomes_an_http2_request() {
    let request = get("/p?q")
        .header("connection", "upgrade")
        .header("upgrade", "websocket");
    let echo = echoed(Protocol::Http2, Speaks::Http2, request).await;
    assert!(
        echo.starts_with(&format!("GET http://{SERVICE}/p?q HTTP/2.0\n")),
        "{echo}"
    );
    assert!(!echo.contains("host:") && !echo.contains("upgrade"), "{echo}");
}

#[tokio::test]
async fn an_http2_request_becomes_an_http1_request() {
    let server = Server::echo(Speaks::Http1).await;
    let bed = Bed::start(service(Protocol::Http, &[(server.address, "v1")]));
    let mut client = Http2::connect(bed.address()).await;
    let request = http::Request::post(format!("http://{SERVICE}/p?q"))
        .header("cookie", "a=1")
        .header("cookie", "b=2")
        .body(text("hello"))
        .unwrap();
    let echo = whole(client.send(request).await).await.body;
    assert!(echo.starts_with("POST /p?q HTTP/1.1\n"), "{echo}");
    assert!(
        echo.contains(&format!("host: {SERVICE}\n")) && echo.contains("cookie: a=1; b=2\n"),
        "{echo}"
    );
    assert!(echo.ends_with("\n\nhello"), "{echo}");
}

#[tokio::test]
async fn hop_by_hop_fields_of_a_response_do_not_reach_the_client() {
    let server = Server::http(Speaks::Http1, |_| async {
        Response::builder()
            .header("connection", "x-mine")
            .header("x-mine", "1")
            .header("keep-alive", "timeout=5")
            .header("server", "endpoint")
            .body(text("ok"))
            .unwrap()
    })
    .await;
    let bed = Bed::start(service(Protocol::Http, &[(server.address, "v1")]));
    let answer = fetch(bed.address(), get("/").body(empty()).unwrap()).await;
    let mut names: Vec<_> = answer.headers.keys().map(http::HeaderName::as_str).collect();
    names.sort_unstable();
    assert_eq!(names, ["content-length", "date", "server"]);
    // Over HTTP/2 such fields would be an error.
    let mut client = Http2::connect(bed.address()).await;
    assert_eq!(client.get("/").await.body, "ok");
}

#[tokio::test]
async fn http_1_0_clients_are_served() {
    let server = Server::echo(Speaks::Http1).await;
    let bed = Bed::start(service(Protocol::Http, &[(server.address, "v1")]));
    let answer = exchange(bed.address(), b"GET /old HTTP/1.0\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.0 200 OK\r\n"), "{answer}");
    assert!(
        answer.contains("GET /old HTTP/1.1\nhost: 10.9.8.7:80\n"),
        "{answer}"
    );
}
