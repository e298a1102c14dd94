//! Devices, addresses and routes, through netlink.
//!
//! Pods hang on the node as on a Kubernetes node with a routed network: each on its own link, each with host routes
//! on the node, and with a default route to it. No bridge, so a guest kernel needs no module but veth.

use std::{fs, net::IpAddr};

use anyhow::{Context, Result};
use futures_util::TryStreamExt;
use netlink_packet_route::{
    address::{AddressAttribute, AddressFlags},
    link::{InfoData, InfoVeth},
    route::{RouteMessage, RouteScope},
};
use rtnetlink::{Handle, LinkUnspec, LinkVeth, RouteMessageBuilder, new_connection};
use std::net::{Ipv4Addr, Ipv6Addr};

use crate::protocol::{GATEWAY_V6, NODE_V4, NODE_V6, Plug};

/// Settings of a namespace that carries many short connections.
const SYSCTLS: [(&str, &str); 5] = [
    ("ipv4/ip_local_port_range", "2048 65535"),
    ("ipv4/tcp_tw_reuse", "1"),
    ("core/somaxconn", "4096"),
    ("ipv4/tcp_max_syn_backlog", "4096"),
    ("ipv6/conf/default/accept_dad", "0"),
];

/// Makes this namespace the node's.
pub(super) fn become_node() -> Result<()> {
    sysctl("ipv4/ip_forward", "1")?;
    sysctl("ipv6/conf/all/forwarding", "1")?;
    configure(async |handle| {
        let lo = up(&handle, "lo").await?;
        address(&handle, lo, NODE_V4.into()).await?;
        address(&handle, lo, NODE_V6.into()).await
    })
}

/// Connects a pod's namespace to this one, the node's.
pub(super) fn plug(plug: &Plug) -> Result<()> {
    configure(async |handle| {
        let peer = LinkUnspec::new_with_name("eth0").setns_by_pid(plug.pid).build();
        let pair = LinkVeth::new(&plug.device, "eth0").set_info_data(InfoData::Veth(InfoVeth::Peer(peer)));
        handle
            .link()
            .add(pair.build())
            .execute()
            .await
            .context("adding the pair of devices")?;
        let device = up(&handle, &plug.device).await?;
        address(&handle, device, GATEWAY_V6.into()).await?;
        for pod in &plug.addresses {
            let message = match *pod {
                IpAddr::V4(pod) => RouteMessageBuilder::<Ipv4Addr>::new()
                    .destination_prefix(pod, 32)
                    .pref_source(NODE_V4)
                    .scope(RouteScope::Link)
                    .output_interface(device)
                    .build(),
                IpAddr::V6(pod) => RouteMessageBuilder::<Ipv6Addr>::new()
                    .destination_prefix(pod, 128)
                    .pref_source(NODE_V6)
                    .output_interface(device)
                    .build(),
            };
            route(&handle, message).await?;
        }
        Ok(())
    })
}

/// Makes this namespace a pod's, once its device is there.
pub(super) fn become_pod(addresses: &[IpAddr]) -> Result<()> {
    for (name, value) in SYSCTLS {
        sysctl(name, value)?;
    }
    configure(async |handle| {
        up(&handle, "lo").await?;
        let device = up(&handle, "eth0").await?;
        for &ip in addresses {
            address(&handle, device, ip).await?;
        }
        if addresses.iter().any(IpAddr::is_ipv4) {
            let message = RouteMessageBuilder::<Ipv4Addr>::new().gateway(NODE_V4);
            route(&handle, message.output_interface(device).onlink().build()).await?;
        }
        let message = RouteMessageBuilder::<Ipv6Addr>::new().gateway(GATEWAY_V6);
        route(&handle, message.output_interface(device).onlink().build()).await
    })
}

/// Runs `change` with a netlink connection of this thread's namespace.
fn configure(change: impl AsyncFnOnce(Handle) -> Result<()>) -> Result<()> {
    super::runtime()?.block_on(async {
        let (connection, handle, _) = new_connection()?;
        tokio::spawn(connection);
        change(handle).await
    })
}

/// Brings a device up and tells its index.
async fn up(handle: &Handle, name: &str) -> Result<u32> {
    let mut links = handle.link().get().match_name(name.into()).execute();
    let link = links
        .try_next()
        .await
        .with_context(|| format!("finding {name}"))?;
    let index = link.with_context(|| format!("no device {name}"))?.header.index;
    let message = LinkUnspec::new_with_index(index).up().build();
    handle
        .link()
        .set(message)
        .execute()
        .await
        .with_context(|| format!("bringing up {name}"))?;
    Ok(index)
}

async fn address(handle: &Handle, device: u32, ip: IpAddr) -> Result<()> {
    let prefix = match ip {
        IpAddr::V4(_) => 32,
        IpAddr::V6(ip) if ip == GATEWAY_V6 => 64,
        IpAddr::V6(_) => 128,
    };
    let mut request = handle.address().add(device, ip, prefix);
    if ip.is_ipv6() {
        // Usable at once: nobody else can have it, and tests do not wait for the search for duplicates.
        let flags = AddressAttribute::Flags(AddressFlags::Nodad);
        request.message_mut().attributes.push(flags);
    }
    request.execute().await.with_context(|| format!("adding {ip}"))
}

async fn route(handle: &Handle, message: RouteMessage) -> Result<()> {
    handle
        .route()
        .add(message)
        .execute()
        .await
        .context("adding a route")
}

fn sysctl(name: &str, value: &str) -> Result<()> {
    fs::write(format!("/proc/sys/net/{name}"), value).with_context(|| format!("setting net/{name}"))
}
