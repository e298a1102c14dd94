//! The proxy's addresses on `lo`, by rtnetlink. They outlive the agent; only `router uninstall` removes them.

use std::net::IpAddr;

use futures_util::TryStreamExt as _;
use netlink_packet_route::address::{AddressAttribute, AddressMessage};
use rtnetlink::Handle;

/// The address of an interface could not be asked for or changed.
#[derive(Debug, thiserror::Error)]
pub enum LoopbackError {
    /// No netlink socket.
    #[error("cannot open a netlink socket: {0}")]
    Socket(#[from] std::io::Error),
    /// There is no interface `lo`, or it could not be asked for.
    #[error("cannot find the interface lo: {0}")]
    Interface(rtnetlink::Error),
    /// The address could not be put or removed.
    #[error("cannot {action} {address} on lo: {source}")]
    Address {
        /// `put` or `remove`.
        action: &'static str,
        /// Which one.
        address: IpAddr,
        /// What the kernel said.
        source: rtnetlink::Error,
    },
}

/// Puts `address` on `lo` with a full-length prefix. One that is there already is left as it is.
///
/// # Errors
///
/// See [`LoopbackError`]; among them, IPv6 is disabled.
pub async fn put(address: IpAddr) -> Result<(), LoopbackError> {
    let lo = Lo::open().await?;
    if lo.find(address).await?.is_some() {
        return Ok(());
    }
    let request = lo
        .handle
        .address()
        .add(lo.index, address, prefix(address))
        .replace();
    request.execute().await.map_err(|source| LoopbackError::Address {
        action: "put",
        address,
        source,
    })
}

/// Removes those of `addresses` that are on `lo`; returns how many were.
///
/// # Errors
///
/// See [`LoopbackError`].
pub async fn remove(addresses: &[IpAddr]) -> Result<usize, LoopbackError> {
    let lo = Lo::open().await?;
    let mut removed = 0;
    for &address in addresses {
        if let Some(message) = lo.find(address).await? {
            let request = lo.handle.address().del(message);
            let wrong = |source| LoopbackError::Address {
                action: "remove",
                address,
                source,
            };
            request.execute().await.map_err(wrong)?;
            removed += 1;
        }
    }
    Ok(removed)
}

const fn prefix(address: IpAddr) -> u8 {
    if address.is_ipv4() { 32 } else { 128 }
}

struct Lo {
    handle: Handle,
    index: u32,
}

impl Lo {
    async fn open() -> Result<Self, LoopbackError> {
        let (connection, handle, _) = rtnetlink::new_connection()?;
        // It ends when the last handle is dropped.
        tokio::spawn(connection);
        let mut links = handle.link().get().match_name("lo".to_owned()).execute();
        let link = links.try_next().await.map_err(LoopbackError::Interface)?;
        let link = link.ok_or(LoopbackError::Interface(rtnetlink::Error::RequestFailed))?;
        Ok(Self {
            handle,
            index: link.header.index,
        })
    }

    async fn find(&self, address: IpAddr) -> Result<Option<AddressMessage>, LoopbackError> {
        let mut found = self
            .handle
            .address()
            .get()
            .set_link_index_filter(self.index)
            .execute();
        while let Some(message) = found.try_next().await.map_err(LoopbackError::Interface)? {
            let is = |a: &AddressAttribute| matches!(a, AddressAttribute::Address(ip) if *ip == address);
            if message.header.index == self.index && message.attributes.iter().any(is) {
                return Ok(Some(message));
            }
        }
        Ok(None)
    }
}
