//! `connect` of TCP and UDP sockets: leave alone, send to an endpoint, send to the proxy, or refuse.
//!
//! A connected UDP socket sends all its datagrams to one endpoint and holds its place until it is closed, or connected
//! again.

use aya_ebpf::helpers::generated::bpf_ktime_get_ns;
use aya_log_ebpf::debug;
use core::ptr::read_volatile;
use router_common::{
    connection::{
        CONFINED_CALLER, Connection, Origin, STATE_IDLE, STATE_OWN, STATE_OWN_REFUSED, STATE_OWN_ROUTED,
        STATE_PROXIED, STATE_ROUTED, Tuple,
    },
    net::Addr,
    reason::Reason,
    route::{RouteKind, RouteWord},
    settings::Settings,
};

use crate::{
    egress,
    hooks::release::give_back,
    limit,
    lookup::{self, Found},
    maps::{SETTINGS, connection, connection_or, fetch_add},
    rewrite::Destination,
    select::{self, Choice},
    source,
    verdict::Verdict,
};

/// Decides one `connect`.
#[inline(always)]
pub(crate) fn connect(destination: &impl Destination) -> Verdict {
    let Some(protocol) = destination.protocol() else {
        return egress::unknown(destination);
    };
    // SAFETY: the socket of the context, here and below.
    if let Some(connection) = unsafe { connection(destination.socket()) } {
        if is_own(connection.state) {
            return own(connection);
        }
        // The socket was connected before (and failed, or was dissolved with AF_UNSPEC): what it held is free again.
        give_back(connection);
    }
    let Some(found) = lookup::service(protocol, destination.addr(), destination.port()) else {
        return egress::unknown(destination);
    };
    let verdict = route(destination, found);
    count(found, verdict);
    verdict
}

/// Acts on the service's route word.
#[inline(always)]
fn route(destination: &impl Destination, found: Found) -> Verdict {
    let word = lookup::route(found);
    let kind = word.kind();
    if kind == RouteKind::Weighted as u8 {
        return to_endpoint(destination, word).map(|()| Reason::Routed);
    }
    if kind == RouteKind::Proxy as u8 || kind == RouteKind::ProxyOrRefuse as u8 {
        return to_proxy_or(destination, found, word);
    }
    if kind == RouteKind::Refuse as u8 {
        return Err(refusal(word));
    }
    Ok(Reason::NotAService)
}

#[inline(always)]
pub(crate) fn refusal(word: RouteWord) -> Reason {
    match word.detail() {
        n if n == Reason::NoEndpoints as u8 => Reason::NoEndpoints,
        n if n == Reason::NoWeight as u8 => Reason::NoWeight,
        n if n == Reason::UnknownCaller as u8 => Reason::UnknownCaller,
        _ => Reason::Inconsistent,
    }
}

/// Sends the connection to the proxy, or does what the service wants while the proxy is down.
#[inline(always)]
fn to_proxy_or(destination: &impl Destination, found: Found, word: RouteWord) -> Verdict {
    let settings = SETTINGS.get(0).ok_or(Reason::Inconsistent)?;
    let confined = found.named && egress::confines_caller(settings);
    if is_alive(settings) {
        let flags = if confined { CONFINED_CALLER } else { 0 };
        return to_proxy(destination, (found, flags), settings).map(|()| Reason::Proxied);
    }
    if found.named {
        // The default route is for hosts of the service, and nobody is there to say whether this is one.
        return if confined {
            Err(Reason::ProxyDown)
        } else {
            Ok(Reason::ProxyDownDirect)
        };
    }
    if word.kind() == RouteKind::ProxyOrRefuse as u8 {
        return Err(Reason::ProxyDown);
    }
    to_endpoint(destination, word).map(|()| Reason::ProxyDownDirect)
}

#[inline(always)]
fn is_alive(settings: &Settings) -> bool {
    let heartbeat = unsafe { read_volatile(&raw const settings.heartbeat) };
    let now = unsafe { bpf_ktime_get_ns() };
    now.saturating_sub(heartbeat) <= settings.stale_after
}

/// Picks an endpoint, reserves, remembers, rewrites; in an order in which every failure can be undone.
#[inline(always)]
fn to_endpoint(destination: &impl Destination, table: RouteWord) -> Result<(), Reason> {
    let choice = select::choose(table)?;
    if !destination.reaches(&choice.endpoint.addr) {
        return Err(Reason::FamilyMismatch);
    }
    if choice.counted {
        hold(destination, &choice)?;
    }
    limit::count_connect(choice.endpoint.id);
    if !choice.endpoint.is_original() {
        destination.set_addr(&choice.endpoint.addr);
        destination.set_port(choice.endpoint.port);
    }
    debug!(destination.context(), "routed to endpoint {}", choice.endpoint.id);
    Ok(())
}

/// Takes a place under the limit and counts the connection as open, until the socket gives both back.
#[inline(always)]
fn hold(destination: &impl Destination, choice: &Choice) -> Result<(), Reason> {
    limit::reserve(choice.limit)?;
    let mut fresh = Connection {
        state: STATE_ROUTED,
        limit: choice.limit,
        endpoint: choice.endpoint.id,
        ..IDLE
    };
    if let Err(reason) = remember(destination, &mut fresh) {
        limit::unreserve(choice.limit);
        return Err(reason);
    }
    limit::count_open(choice.endpoint.id);
    Ok(())
}

/// Remembers the origin for the hand-over and rewrites to the proxy.
#[inline(always)]
fn to_proxy(
    destination: &impl Destination,
    (found, flags): (Found, u16),
    settings: &Settings,
) -> Result<(), Reason> {
    let (addr, port) = (destination.addr(), destination.port());
    let proxy = if addr.is_v4() {
        settings.proxy_v4
    } else {
        settings.proxy_v6
    };
    if proxy == Addr([0; 4]) || !destination.reaches(&proxy) {
        return Err(Reason::FamilyMismatch);
    }
    let mut fresh = Connection {
        state: STATE_PROXIED,
        origin: Origin {
            addr,
            port,
            flags,
            service: found.index,
            cgroup: source::cgroup(),
        },
        tuple: Tuple {
            client: Addr([0; 4]),
            proxy,
            client_port: IDLE.tuple.client_port,
            proxy_port: settings.proxy_port,
        },
        ..IDLE
    };
    remember(destination, &mut fresh)?;
    destination.set_addr(&proxy);
    destination.set_port(settings.proxy_port);
    debug!(destination.context(), "service {} to the proxy", found.index);
    Ok(())
}

/// A connection that holds nothing.
pub(crate) const IDLE: Connection = Connection {
    state: STATE_IDLE,
    limit: 0,
    endpoint: 0,
    handed_over: 0,
    origin: Origin {
        addr: Addr([0; 4]),
        port: router_common::net::Be16(0),
        flags: 0,
        service: 0,
        cgroup: 0,
    },
    tuple: Tuple {
        client: Addr([0; 4]),
        proxy: Addr([0; 4]),
        client_port: router_common::net::Be16(0),
        proxy_port: router_common::net::Be16(0),
    },
    reserved: 0,
};

/// Writes the socket's storage.
#[inline(always)]
fn remember(destination: &impl Destination, fresh: &mut Connection) -> Result<(), Reason> {
    let stored = unsafe { connection_or(destination.socket(), fresh) }.ok_or(Reason::NoMemory)?;
    // The storage may be there from an earlier connect of the same socket.
    *stored = *fresh;
    Ok(())
}

#[inline(always)]
fn is_own(state: u32) -> bool {
    state == STATE_OWN || state == STATE_OWN_REFUSED || state == STATE_OWN_ROUTED
}

/// The agent's own upstream socket: routed already, but counted like every other.
#[inline(always)]
fn own(connection: &mut Connection) -> Verdict {
    if connection.state == STATE_OWN_ROUTED {
        limit::release(connection);
    }
    if let Err(reason) = limit::reserve(connection.limit) {
        connection.state = STATE_OWN_REFUSED;
        return Err(reason);
    }
    connection.state = STATE_OWN_ROUTED;
    limit::count_open(connection.endpoint);
    limit::count_connect(connection.endpoint);
    Ok(Reason::Own)
}

/// Counts what became of the connection at its service.
#[inline(always)]
pub(crate) fn count(found: Found, verdict: Verdict) {
    // SAFETY: the value lives as long as the map.
    let counter = unsafe {
        match verdict {
            Ok(Reason::Proxied) => &raw mut (*found.service).proxied,
            Ok(Reason::NotAService) => return,
            Ok(_) => &raw mut (*found.service).routed,
            Err(_) => &raw mut (*found.service).refused,
        }
    };
    fetch_add(counter, 1);
}
