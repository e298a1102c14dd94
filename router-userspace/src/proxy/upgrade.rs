//! Connections that stop being HTTP: bytes both ways until both sides are done.
//!
//! It does not know which protocol follows.

use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::{io::copy_bidirectional_with_sizes, net::TcpStream};

use super::{
    error::{Kind, ProxyError},
    exchange::Exchange,
    forward::UnderWay,
    l4_fault::{TERMINATED, before, reset_on_close},
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
        let copy = copy_bidirectional_with_sizes(&mut client, &mut upstream, size, size);
        match before(exchange.session().end, copy).await {
            Some(Ok((received, sent))) => exchange.tunnelled(received, sent),
            Some(Err(error)) => {
                tracing::debug!(%error, "tunnel broke off");
                exchange.fail(&ProxyError::new(Kind::UpstreamReset, "tunnel broke off"));
            }
            None => {
                exchange.session().terminate();
                exchange.fail(&TERMINATED);
                if let Ok(upstream) = upstream.into_inner().downcast::<TokioIo<TcpStream>>() {
                    reset_on_close(upstream.io.inner());
                }
            }
        }
        drop(under_way);
    });
}
