//! The decision on a request or connection, from what the kernel recorded of it. `explain` asks the same question of
//! the same snapshot.
//!
//! It knows no sockets; whether anything is forwarded is not its concern.

use std::net::SocketAddr;

use router_rules::{
    Snapshot,
    connection::Connection,
    gateway::{Astray, Entered, Entrance},
    matcher::Request,
    snapshot::{Port, Route},
    source::ClassId,
};

/// Who dialled what.
#[derive(Clone, Copy, Debug)]
pub struct Call<'c> {
    /// Where the client connected to.
    pub destination: SocketAddr,
    /// The client's own address.
    pub client: SocketAddr,
    /// `namespace/name` of the calling workload; none: the registry has none.
    pub caller: Option<&'c str>,
}

impl Call<'_> {
    /// As the engine sees it.
    fn connection(&self, snapshot: &Snapshot) -> Connection {
        Connection {
            class: class(snapshot, self.caller),
            client: Some(self.client.ip()),
            dialled: Some(self.destination.ip()),
        }
    }
}

/// Where a request goes: `None` when the original destination is no service port of `snapshot`.
pub fn decide<'s>(snapshot: &'s Snapshot, call: &Call<'_>, request: &Request<'_>) -> Option<Route<'s>> {
    let port = port_at(snapshot, call.destination)?;
    Some(snapshot.route_http(port, call.connection(snapshot), request))
}

/// Where a connection goes that nobody looks into.
pub fn decide_connection<'s>(snapshot: &'s Snapshot, call: &Call<'_>) -> Option<Route<'s>> {
    let port = port_at(snapshot, call.destination)?;
    Some(snapshot.route_connection(port, call.connection(snapshot)))
}

/// Where a request goes that came in at a port of the node; what is known of its caller is an address.
///
/// # Errors
///
/// It goes nowhere.
pub fn decide_entry<'s>(
    snapshot: &'s Snapshot,
    entrance: &'s Entrance,
    call: &Call<'_>,
    request: &Request<'_>,
) -> Result<Entered<'s>, Astray<'s>> {
    snapshot.enter(entrance, call.connection(snapshot), request)
}

/// The service port at the original destination. IPv4 clients of IPv6 sockets reach the IPv4 frontend.
pub(crate) fn port_at(snapshot: &Snapshot, destination: SocketAddr) -> Option<&Port> {
    snapshot.port_at(destination.ip().to_canonical(), destination.port())
}

/// The class of a caller by the name of its workload.
pub(crate) fn class(snapshot: &Snapshot, caller: Option<&str>) -> ClassId {
    snapshot.class_of(caller.and_then(|name| snapshot.workload(name)))
}
