//! gRPC with a client and a server that are not ours: tonic on both sides of the proxy.

mod service;

use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::{StreamExt, stream};
use router_rules::{
    action::Retries,
    model::{Model, Protocol, Rule},
};
use tokio::{sync::mpsc, time::timeout};
use tonic::{
    Code, Request, Status,
    client::Grpc,
    codegen::http::uri::PathAndQuery,
    metadata::MetadataValue,
    transport::{Channel, Endpoint},
};

use self::service::{Fate, Plain, serve};
use super::{
    bed::{Bed, SERVICE, rule, service},
    client::PATIENCE,
};

struct Peers {
    bed: Bed,
    client: Grpc<Channel>,
    fates: mpsc::Receiver<Fate>,
}

impl Peers {
    async fn start(change: impl FnOnce(&mut Model)) -> Self {
        let (sender, fates) = mpsc::channel(8);
        let address = serve(sender).await;
        let mut model = service(Protocol::Grpc, &[(address, "v1")]);
        change(&mut model);
        let bed = Bed::start(model);
        let endpoint = Endpoint::from_shared(format!("http://{}", bed.address())).unwrap();
        let endpoint = endpoint.origin(format!("http://{SERVICE}").parse().unwrap());
        let client = Grpc::new(endpoint.connect().await.unwrap());
        Self { bed, client, fates }
    }

    /// Waits for what becomes of a call that is never answered.
    async fn meets(&mut self, fate: Fate) {
        let met = timeout(PATIENCE, self.fates.recv()).await;
        assert_eq!(met.expect("nothing became of the call"), Some(fate));
    }

    async fn call(
        &mut self,
        method: &'static str,
        request: Request<Bytes>,
    ) -> Result<tonic::Response<Bytes>, Status> {
        self.client.ready().await.unwrap();
        let path = PathAndQuery::from_static(method);
        timeout(PATIENCE, self.client.unary(request, path, Plain))
            .await
            .unwrap()
    }
}

#[tokio::test]
async fn messages_metadata_and_deadlines_pass() {
    let mut peers = Peers::start(|_| {}).await;
    for size in [0, 1, 100, 1_000_000] {
        let message = Bytes::from(vec![b'm'; size]);
        let mut request = Request::new(message.clone());
        request.set_timeout(Duration::from_secs(30));
        let trace = MetadataValue::from_bytes(&[0, 1, 255]);
        request.metadata_mut().insert_bin("x-trace-bin", trace.clone());
        let response = peers.call("/test.Echo/Once", request).await.unwrap();
        assert_eq!(response.metadata().get_bin("x-saw-trace-bin"), Some(&trace));
        assert!(
            response.metadata().contains_key("x-saw-timeout"),
            "the deadline was lost"
        );
        assert_eq!(*response.get_ref(), message);
    }
    let line = &peers.bed.lines(4).await[3];
    assert_eq!(
        (line.protocol, line.status, line.reason.as_str()),
        ("HTTP/2", 200, "")
    );
}

#[tokio::test]
async fn statuses_pass_with_details_and_metadata() {
    let mut peers = Peers::start(|_| {}).await;
    let status = peers
        .call("/test.Echo/Fail", Request::new(Bytes::new()))
        .await
        .unwrap_err();
    assert_eq!(
        (status.code(), status.message()),
        (Code::FailedPrecondition, "not today: 100 % ü")
    );
    assert_eq!(status.details(), [1, 2, 255]);
    assert_eq!(status.metadata().get("x-why").unwrap(), "because");
    let status = peers
        .call("/test.Echo/Nothing", Request::new(Bytes::new()))
        .await
        .unwrap_err();
    assert_eq!(status.code(), Code::Unimplemented);
}

#[tokio::test]
async fn streams_pass_to_their_end_or_their_error() {
    let mut peers = Peers::start(|_| {}).await;
    for (most, code) in [(1000, None), (0, None), (13, Some(Code::OutOfRange))] {
        peers.client.ready().await.unwrap();
        let path = PathAndQuery::from_static("/test.Echo/Count");
        let request = Request::new(Bytes::from(most.to_string()));
        let mut numbers = peers
            .client
            .server_streaming(request, path, Plain)
            .await
            .unwrap()
            .into_inner();
        let mut seen = 0;
        let end = loop {
            match numbers.message().await {
                Ok(Some(number)) => {
                    seen += 1;
                    assert_eq!(number, seen.to_string());
                }
                Ok(None) => break None,
                Err(status) => break Some(status.code()),
            }
        };
        assert_eq!((seen, end), (most, code));
    }
}

#[tokio::test]
async fn both_sides_stream_at_once() {
    let mut peers = Peers::start(|_| {}).await;
    let (sender, receiver) = mpsc::channel::<Bytes>(1);
    let asked = stream::unfold(receiver, |mut receiver| async move {
        receiver.recv().await.map(|message| (message, receiver))
    });
    peers.client.ready().await.unwrap();
    let path = PathAndQuery::from_static("/test.Echo/Both");
    let mut answers = peers
        .client
        .streaming(Request::new(asked.boxed()), path, Plain)
        .await
        .unwrap()
        .into_inner();
    for n in 0..100 {
        let message = Bytes::from(format!("message {n}"));
        sender.send(message.clone()).await.unwrap();
        // The answer comes before the next question: nothing is held back.
        let answer = timeout(PATIENCE, answers.message()).await.unwrap().unwrap();
        assert_eq!(answer, Some(message));
    }
    drop(sender);
    assert_eq!(timeout(PATIENCE, answers.message()).await.unwrap().unwrap(), None);
}

#[tokio::test]
async fn a_client_that_goes_away_cancels_the_call() {
    let mut peers = Peers::start(|_| {}).await;
    let mut client = peers.client.clone();
    client.ready().await.unwrap();
    let mut request = Request::new(Bytes::new());
    request.set_timeout(Duration::from_millis(300));
    let path = PathAndQuery::from_static("/test.Echo/Never");
    let status = client.unary(request, path, Plain).await.unwrap_err();
    peers.meets(Fate::Begun).await;
    assert!(
        matches!(status.code(), Code::Cancelled | Code::DeadlineExceeded),
        "{status:?}"
    );
    peers.meets(Fate::GivenUp).await;

    let path = PathAndQuery::from_static("/test.Echo/Never");
    let call = tokio::spawn(async move {
        client.ready().await.unwrap();
        client.unary(Request::new(Bytes::new()), path, Plain).await
    });
    peers.meets(Fate::Begun).await;
    call.abort();
    peers.meets(Fate::GivenUp).await;
}

#[tokio::test]
async fn the_rules_timeout_is_a_status() {
    let mut peers = Peers::start(|model| {
        model.rules.push(Rule {
            timeout: Some(Duration::from_millis(300)),
            ..rule("short")
        });
    })
    .await;
    let started = Instant::now();
    let status = peers
        .call("/test.Echo/Never", Request::new(Bytes::new()))
        .await
        .unwrap_err();
    assert_eq!(
        (status.code(), status.message()),
        (Code::Unavailable, "upstream request timeout")
    );
    assert_eq!(
        status.metadata().get("x-router-reason").unwrap(),
        "request-timeout"
    );
    assert!(started.elapsed() >= Duration::from_millis(300));
    peers.meets(Fate::Begun).await;
    peers.meets(Fate::GivenUp).await;
}

#[tokio::test]
async fn retried_calls_send_their_message_again() {
    let dead = super::server::nobody();
    let mut peers = Peers::start(|model| {
        let endpoints = &mut model.services[0].ports[0].endpoints;
        let mut other = endpoints[0].clone();
        other.address = dead;
        endpoints.push(other);
        model.rules.push(Rule {
            retries: Some(Retries {
                attempts: 2,
                per_try_timeout: None,
            }),
            ..rule("retry")
        });
    })
    .await;
    for n in 0..10 {
        let message = Bytes::from(format!("message {n}"));
        let response = peers
            .call("/test.Echo/Once", Request::new(message.clone()))
            .await
            .unwrap();
        assert_eq!(*response.get_ref(), message);
    }
    let lines = peers.bed.lines(10).await;
    assert!(
        lines.iter().any(|line| line.attempts == 2),
        "no call met the dead endpoint first"
    );
}
