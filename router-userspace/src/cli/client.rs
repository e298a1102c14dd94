//! Asks the admin address of the running agent. It knows nothing of what is asked.

use std::time::Duration;

use anyhow::{Context as _, anyhow};
use http::{Request, StatusCode, header};
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper_util::rt::TokioIo;
use serde::de::DeserializeOwned;
use tokio::net::TcpStream;

use super::text::hinted;

/// Admin address unless another is given.
pub(super) const DEFAULT_ADMIN: &str = "127.0.0.1:15021";
/// Time for an answer.
const TIMEOUT: Duration = Duration::from_secs(10);
/// Bytes of an answer: a snapshot of the largest configuration fits.
const MAX_ANSWER: usize = 256 << 20;

/// Where the running agent is asked.
#[derive(clap::Args, Clone, Debug)]
pub(super) struct Admin {
    /// Admin address of the running agent.
    #[arg(long, env = "ROUTER_ADMIN", default_value = DEFAULT_ADMIN, value_name = "ADDRESS:PORT")]
    pub(super) admin: String,
}

impl Admin {
    /// Gets `path` with `query` as JSON.
    pub(super) fn get<T: DeserializeOwned>(&self, path: &str, query: &[(&str, &str)]) -> anyhow::Result<T> {
        let mut uri = path.to_owned();
        if !query.is_empty() {
            let pairs = form_urlencoded::Serializer::new(String::new())
                .extend_pairs(query)
                .finish();
            uri = format!("{path}?{pairs}");
        }
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let answer = runtime.block_on(async { tokio::time::timeout(TIMEOUT, ask(&self.admin, &uri)).await });
        let (status, body) =
            answer.map_err(|_| anyhow!("{} did not answer within {TIMEOUT:?}", self.admin))??;
        if status == StatusCode::OK {
            return serde_json::from_slice(&body).context("the answer is of another version of router");
        }
        let text = String::from_utf8_lossy(&body);
        Err(anyhow!("{}", text.trim_end()))
    }
}

async fn ask(admin: &str, uri: &str) -> anyhow::Result<(StatusCode, Vec<u8>)> {
    let stream = TcpStream::connect(admin).await.map_err(|error| {
        let error = anyhow!("no agent answers at {admin}: {error}");
        hinted(
            error,
            "start one with `router agent --config DIR`, or name its address with --admin",
        )
    })?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    let driver = tokio::spawn(connection);
    let request = Request::get(uri)
        .header(header::HOST, admin)
        .body(Empty::<bytes::Bytes>::new())?;
    let response = sender.send_request(request).await?;
    let status = response.status();
    let body = Limited::new(response.into_body(), MAX_ANSWER)
        .collect()
        .await
        .map_err(anyhow::Error::from_boxed)?;
    driver.abort();
    Ok((status, body.to_bytes().into()))
}
