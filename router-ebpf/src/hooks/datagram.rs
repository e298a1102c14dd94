//! `sendmsg` and `recvmsg` of UDP sockets that are not connected: each datagram is routed by its service's table, and
//! replies bear the address that was dialled.
//!
//! A socket stays with the endpoint that it was given for as long as the service's routing is the same. Nothing is
//! reserved: such a socket may speak to many services, and nobody says when it is done with one.

use aya_ebpf::{EbpfContext as _, helpers::generated::bpf_get_socket_cookie};
use router_common::{
    flow::{FROM_ENDPOINT, Flow, FlowKey, HEARD_FROM, TO_ENDPOINT},
    net::{Addr, Be16},
    reason::Reason,
    route::{RouteKind, RouteWord},
    service::PROTOCOL_UDP,
};

use crate::{
    egress, hooks::connect, limit, lookup, maps::FLOWS, rewrite::Destination, select, verdict::Verdict,
};

/// Routes one datagram. None: there is nothing to count, since it goes where the one before it went, or as it came.
#[inline(always)]
pub(crate) fn send(destination: &impl Destination) -> Option<Verdict> {
    let (addr, port) = (destination.addr(), destination.port());
    let Some(found) = lookup::service(PROTOCOL_UDP, addr, port) else {
        return match egress::unknown(destination) {
            Ok(_) => None,
            Err(_) if has_heard_from(destination, (addr, port)) => None,
            refused => Some(refused),
        };
    };
    let word = lookup::route(found);
    let key = key(destination, (addr, port), TO_ENDPOINT);
    if let Some(flow) = unsafe { FLOWS.get(&key) }
        && flow.word == word.0
    {
        let (to, at) = (flow.addr, flow.port);
        answered_as(destination, (to, at), (addr, port));
        destination.set_addr(&to);
        destination.set_port(at);
        return None;
    }
    let verdict = begin(destination, key, word);
    connect::count(found, verdict);
    Some(verdict)
}

/// Gives a datagram's sender the address that was dialled, when it is an endpoint that serves the socket.
#[inline(always)]
pub(crate) fn receive(source: &impl Destination) {
    let key = key(source, (source.addr(), source.port()), FROM_ENDPOINT);
    if let Some(flow) = unsafe { FLOWS.get(&key) } {
        let (dialled, port) = (flow.addr, flow.port);
        source.set_addr(&dialled);
        source.set_port(port);
    } else if egress::is_restricted() {
        hear(source);
    }
}

/// Remembers an unknown sender: servers answer from the socket on which they were asked, to whoever asked.
#[inline(always)]
fn hear(source: &impl Destination) {
    let (addr, port) = (source.addr(), source.port());
    let key = key(source, (addr, port), HEARD_FROM);
    if unsafe { FLOWS.get(&key) }.is_none() && !egress::is_known(&addr, port) {
        let _ = FLOWS.insert(&key, &NOTHING, 0);
    }
}

#[inline(always)]
fn has_heard_from(destination: &impl Destination, whom: (Addr, Be16)) -> bool {
    let key = key(destination, whom, HEARD_FROM);
    unsafe { FLOWS.get(&key) }.is_some()
}

const NOTHING: Flow = Flow {
    word: 0,
    addr: Addr([0; 4]),
    port: Be16(0),
    pad: [0; 3],
};

/// Chooses an endpoint for a socket and a service.
#[inline(always)]
fn begin(destination: &impl Destination, key: FlowKey, word: RouteWord) -> Verdict {
    let kind = word.kind();
    if kind == RouteKind::Refuse as u8 {
        return Err(connect::refusal(word));
    }
    if kind != RouteKind::Weighted as u8 {
        return Ok(Reason::NotAService);
    }
    let choice = select::choose(word)?;
    let endpoint = choice.endpoint;
    if !destination.reaches(&endpoint.addr) {
        // Instances with addresses of both families are known by the IPv4 one, which a connection over IPv6 can reach and a
        // datagram cannot. Refusing would take name servers away that are reached well without us.
        return Ok(Reason::FamilyMismatch);
    }
    answered_as(destination, (endpoint.addr, endpoint.port), (key.addr, key.port));
    let flow = Flow {
        word: word.0,
        addr: endpoint.addr,
        port: endpoint.port,
        pad: [0; 3],
    };
    // Without it the next datagram is routed anew.
    let _ = FLOWS.insert(&key, &flow, 0);
    limit::count_connect(endpoint.id);
    destination.set_addr(&endpoint.addr);
    destination.set_port(endpoint.port);
    Ok(Reason::Routed)
}

/// Sees to it that what the endpoint sends to the socket bears the address that was dialled. The map forgets what was
/// not used for longest, so this is looked after with every datagram.
#[inline(always)]
fn answered_as(destination: &impl Destination, endpoint: (Addr, Be16), dialled: (Addr, Be16)) {
    let key = key(destination, endpoint, FROM_ENDPOINT);
    let known = unsafe { FLOWS.get(&key) };
    if known.is_some_and(|flow| flow.addr == dialled.0 && flow.port == dialled.1) {
        return;
    }
    let flow = Flow {
        word: 0,
        addr: dialled.0,
        port: dialled.1,
        pad: [0; 3],
    };
    let _ = FLOWS.insert(&key, &flow, 0);
}

#[inline(always)]
fn key(destination: &impl Destination, (addr, port): (Addr, Be16), direction: u32) -> FlowKey {
    FlowKey {
        // SAFETY: the context is valid for the program's run.
        cookie: unsafe { bpf_get_socket_cookie(destination.context().as_ptr()) },
        addr,
        port,
        pad: 0,
        direction,
    }
}
