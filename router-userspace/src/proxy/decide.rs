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
    snapshot::{Port, Route, Spoken},
    source::ClassId,
};

use super::error::{Kind, ProxyError};

/// Who dialled what.
#[derive(Clone, Copy, Debug)]
pub struct Call<'c> {
    /// Where the client connected to.
    pub destination: SocketAddr,
    /// The client's own address.
    pub client: SocketAddr,
    /// `namespace/name` of the calling workload; none: the registry has none.
    pub caller: Option<&'c str>,
    /// The caller may reach no unknown address unless the name it sends is declared.
    pub confined: bool,
    /// The name of the host that a connection means which nobody looks into, where only names tell.
    pub server_name: Option<&'c str>,
}

/// Why a request or connection goes nowhere.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum NoRoute {
    /// The original destination is no service port of the snapshot.
    #[error("no such service")]
    NoService,
    /// The client named no host that is declared, and it may reach no other.
    #[error("the destination is unknown")]
    UnknownDestination,
}

impl From<NoRoute> for ProxyError {
    fn from(none: NoRoute) -> Self {
        match none {
            NoRoute::NoService => Self::new(Kind::NoService, "no such service"),
            NoRoute::UnknownDestination => Self::new(Kind::UnknownDestination, "the destination is unknown"),
        }
    }
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

    /// The port that is meant: the one at the original destination, or of those that only names tell apart the one whose
    /// hosts `name` is one of.
    fn port<'s>(
        &self,
        snapshot: &'s Snapshot,
        (name, spoken): (Option<&str>, Spoken),
    ) -> Result<&'s Port, NoRoute> {
        let port = port_at(snapshot, self.destination).ok_or(NoRoute::NoService)?;
        if !port.is_named() {
            return Ok(port);
        }
        let below = |name| snapshot.port_below(name, self.destination.port(), spoken);
        match name.and_then(below) {
            Some(port) => Ok(port),
            None if self.confined => Err(NoRoute::UnknownDestination),
            None => snapshot.elsewhere().ok_or(NoRoute::NoService),
        }
    }
}

/// Where a request goes.
///
/// # Errors
///
/// Nowhere.
pub fn decide<'s>(
    snapshot: &'s Snapshot,
    call: &Call<'_>,
    request: &Request<'_>,
) -> Result<Route<'s>, NoRoute> {
    let port = call.port(snapshot, (Some(request.authority), Spoken::Http))?;
    Ok(snapshot.route_http(port, call.connection(snapshot), request))
}

/// Where a connection goes that nobody looks into.
///
/// # Errors
///
/// Nowhere.
pub fn decide_connection<'s>(snapshot: &'s Snapshot, call: &Call<'_>) -> Result<Route<'s>, NoRoute> {
    let port = call.port(snapshot, (call.server_name, Spoken::Tls))?;
    Ok(snapshot.route_connection(port, call.connection(snapshot)))
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
