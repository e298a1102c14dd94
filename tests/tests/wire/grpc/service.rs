//! A gRPC service and its client, as a generator would write them, in a library's terms. Messages are plain bytes.

use std::{convert::Infallible, net::SocketAddr, time::Duration};

use bytes::{Buf, BufMut, Bytes};
use futures_util::{StreamExt, future::BoxFuture, stream::BoxStream};
use tokio::sync::mpsc;
use tonic::{
    Code, Request, Response, Status, Streaming,
    body::Body,
    codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder},
    codegen::{Context, Poll, Service, http},
    metadata::MetadataValue,
    server::{Grpc, NamedService, ServerStreamingService, StreamingService, UnaryService},
    transport::{Server, server::TcpIncoming},
};

/// Messages as they are.
#[derive(Clone, Copy, Default)]
pub struct Plain;

impl Codec for Plain {
    type Encode = Bytes;
    type Decode = Bytes;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        *self
    }

    fn decoder(&mut self) -> Self {
        *self
    }
}

impl Encoder for Plain {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, item: Bytes, into: &mut EncodeBuf<'_>) -> Result<(), Status> {
        into.put(item);
        Ok(())
    }
}

impl Decoder for Plain {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, from: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        Ok(Some(from.copy_to_bytes(from.remaining())))
    }
}

/// What becomes of a call that is never answered.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fate {
    Begun,
    GivenUp,
}

/// The service. It tells the fates of calls that it never answers.
#[derive(Clone)]
pub struct Echo {
    pub fates: mpsc::Sender<Fate>,
}

impl NamedService for Echo {
    const NAME: &'static str = "test.Echo";
}

impl Service<http::Request<Body>> for Echo {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let echo = self.clone();
        Box::pin(async move {
            let mut grpc = Grpc::new(Plain);
            Ok(match request.uri().path() {
                "/test.Echo/Once" => grpc.unary(Once, request).await,
                "/test.Echo/Fail" => grpc.unary(Fail, request).await,
                "/test.Echo/Never" => grpc.unary(Never(echo), request).await,
                "/test.Echo/Count" => grpc.server_streaming(Count, request).await,
                "/test.Echo/Both" => grpc.streaming(Both, request).await,
                _ => Status::unimplemented("no such method").into_http(),
            })
        })
    }
}

/// Answers with the same, and with what it knows of the call.
struct Once;

impl UnaryService<Bytes> for Once {
    type Response = Bytes;
    type Future = BoxFuture<'static, Result<Response<Bytes>, Status>>;

    fn call(&mut self, request: Request<Bytes>) -> Self::Future {
        Box::pin(async move {
            let metadata = request.metadata();
            let deadline = metadata.get("grpc-timeout").cloned();
            let binary = metadata.get_bin("x-trace-bin").cloned();
            let mut response = Response::new(request.into_inner());
            if let Some(deadline) = deadline {
                response.metadata_mut().insert("x-saw-timeout", deadline);
            }
            if let Some(binary) = binary {
                response.metadata_mut().insert_bin("x-saw-trace-bin", binary);
            }
            Ok(response)
        })
    }
}

/// Fails with everything that a status can carry.
struct Fail;

impl UnaryService<Bytes> for Fail {
    type Response = Bytes;
    type Future = BoxFuture<'static, Result<Response<Bytes>, Status>>;

    fn call(&mut self, _: Request<Bytes>) -> Self::Future {
        Box::pin(async {
            let mut status = Status::with_details(
                Code::FailedPrecondition,
                "not today: 100 % ü",
                Bytes::from_static(&[1, 2, 255]),
            );
            status
                .metadata_mut()
                .insert("x-why", MetadataValue::from_static("because"));
            Err(status)
        })
    }
}

/// Never answers.
struct Never(Echo);

impl UnaryService<Bytes> for Never {
    type Response = Bytes;
    type Future = BoxFuture<'static, Result<Response<Bytes>, Status>>;

    fn call(&mut self, _: Request<Bytes>) -> Self::Future {
        let fates = self.0.fates.clone();
        Box::pin(async move {
            let _ = fates.try_send(Fate::Begun);
            let _guard = GivenUp(fates);
            std::future::pending().await
        })
    }
}

struct GivenUp(mpsc::Sender<Fate>);

impl Drop for GivenUp {
    fn drop(&mut self) {
        let _ = self.0.try_send(Fate::GivenUp);
    }
}

/// Counts up to the number it is given, and fails when that is 13.
struct Count;

impl ServerStreamingService<Bytes> for Count {
    type Response = Bytes;
    type ResponseStream = BoxStream<'static, Result<Bytes, Status>>;
    type Future = BoxFuture<'static, Result<Response<Self::ResponseStream>, Status>>;

    fn call(&mut self, request: Request<Bytes>) -> Self::Future {
        Box::pin(async move {
            let most: u32 = String::from_utf8_lossy(request.get_ref()).parse().unwrap_or(0);
            let last = (most == 13).then(|| Err(Status::out_of_range("unlucky")));
            let numbers = (1..=most).map(|n| Ok(Bytes::from(n.to_string()))).chain(last);
            Ok(Response::new(futures_util::stream::iter(numbers).boxed()))
        })
    }
}

/// Answers each message while the client goes on sending.
struct Both;

impl StreamingService<Bytes> for Both {
    type Response = Bytes;
    type ResponseStream = BoxStream<'static, Result<Bytes, Status>>;
    type Future = BoxFuture<'static, Result<Response<Self::ResponseStream>, Status>>;

    fn call(&mut self, request: Request<Streaming<Bytes>>) -> Self::Future {
        Box::pin(async move { Ok(Response::new(request.into_inner().boxed())) })
    }
}

/// Serves it until the test ends.
pub async fn serve(fates: mpsc::Sender<Fate>) -> SocketAddr {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let service = Server::builder()
        .timeout(Duration::from_secs(60))
        .add_service(Echo { fates });
    tokio::spawn(service.serve_with_incoming(TcpIncoming::from(listener)));
    address
}
