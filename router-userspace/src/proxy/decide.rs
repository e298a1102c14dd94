//! The decision on a request or connection, from what the kernel recorded of it. `explain` asks the same question of
//! the same snapshot.
//!
//! It knows no sockets; whether anything is forwarded is not its concern.

use std::net::SocketAddr;

use router_rules::{
    Snapshot,
    matcher::Request,
    snapshot::{Port, Route},
    source::ClassId,
};

/// Where a request goes: `None` when the original destination is no service port of `snapshot`.
pub fn decide<'s>(
    snapshot: &'s Snapshot,
    destination: SocketAddr,
    caller: Option<&str>,
    request: &Request<'_>,
) -> Option<Route<'s>> {
    let port = port_at(snapshot, destination)?;
    Some(snapshot.route_http(port, class(snapshot, caller), request))
}

/// Where a connection goes, of which only the caller is known.
pub fn decide_connection<'s>(
    snapshot: &'s Snapshot,
    destination: SocketAddr,
    caller: Option<&str>,
) -> Option<Route<'s>> {
    let port = port_at(snapshot, destination)?;
    Some(snapshot.route_tcp(port, class(snapshot, caller)))
}

/// The service port at the original destination. IPv4 clients of IPv6 sockets reach the IPv4 frontend.
pub(crate) fn port_at(snapshot: &Snapshot, destination: SocketAddr) -> Option<&Port> {
    snapshot.port_at(destination.ip().to_canonical(), destination.port())
}

/// The class of a caller by the name of its workload.
pub(crate) fn class(snapshot: &Snapshot, caller: Option<&str>) -> ClassId {
    snapshot.class_of(caller.and_then(|name| snapshot.workload(name)))
}
