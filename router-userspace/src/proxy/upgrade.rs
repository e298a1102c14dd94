//! Connections that stop being HTTP: bytes both ways until both sides are done.
//!
//! It does not know which protocol follows.

use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::io::copy_bidirectional_with_sizes;

use super::{
    error::{Kind, ProxyError},
    exchange::Exchange,
    forward::UnderWay,
};

/// Connects the two sides as soon as both have switched. The exchange ends with the tunnel.
pub(crate) fn splice(client: OnUpgrade, upstream: OnUpgrade, under_way: UnderWay, mut exchange: Exchange) {
    let worker = exchange.session().worker.clone();
    let size = worker.limits().tunnel_buffer;
    worker.tunnels.spawn(async move {
        let (client, upstream) = match futures_util::future::try_join(client, upstream).await {
            Ok(sides) => sides,
            Err(error) => {
                tracing::debug!(%error, "a side did not switch protocols");
                return exchange.fail(&ProxyError::new(Kind::UpstreamReset, "upgrade failed"));
            }
        };
        let (mut client, mut upstream) = (TokioIo::new(client), TokioIo::new(upstream));
        match copy_bidirectional_with_sizes(&mut client, &mut upstream, size, size).await {
            Ok((received, sent)) => exchange.tunnelled(received, sent),
            Err(error) => {
                tracing::debug!(%error, "tunnel broke off");
                exchange.fail(&ProxyError::new(Kind::UpstreamReset, "tunnel broke off"));
            }
        }
        drop(under_way);
    });
}
