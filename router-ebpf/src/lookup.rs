//! From a destination to what is to be done with it: frontend → service → route word.

use core::ptr::read_volatile;

use router_common::{
    net::{Addr, Be16},
    route::{RouteKind, RouteWord},
    service::{FrontendKey, PROTOCOL_UDP, Service},
};

use crate::{
    egress,
    maps::{FRONTENDS, SERVICES, SLOTS},
    source,
};

/// A service and its place in the map.
#[derive(Clone, Copy)]
pub(crate) struct Found {
    pub(crate) index: u32,
    pub(crate) service: *mut Service,
    /// Only what the client will say tells whether it means this service.
    pub(crate) named: bool,
}

/// The service that is reached at an address and port by a protocol.
#[inline(always)]
pub(crate) fn service(protocol: u8, addr: Addr, port: Be16) -> Option<Found> {
    let key = FrontendKey::new(protocol, addr, port);
    // Overwriting a hash element can make a concurrent reader miss the old one and the new one; asking twice does not.
    let index = unsafe { FRONTENDS.get(&key).or_else(|| FRONTENDS.get(&key)) };
    let (index, named) = match index {
        Some(index) => (*index, false),
        // Networks are reached over TCP.
        None if protocol == PROTOCOL_UDP => return None,
        None => egress::network(&key)?,
    };
    let service = SERVICES.get_ptr_mut(index)?;
    Some(Found {
        index,
        service,
        named,
    })
}

/// The service's route word for this caller.
#[inline(always)]
pub(crate) fn route(found: Found) -> RouteWord {
    // One volatile load: everything else follows from this word, so a change is seen whole or not at all.
    let word = RouteWord(unsafe { read_volatile(&raw const (*found.service).route) });
    if word.kind() == RouteKind::BySource as u8 {
        by_source(word)
    } else {
        word
    }
}

#[inline(always)]
fn by_source(table: RouteWord) -> RouteWord {
    let class = source::class();
    // A class that this table does not know yet is an unknown caller: cell 0.
    let cell = if class < u32::from(table.len()) { class } else { 0 };
    SLOTS
        .get(table.base() + cell)
        .map_or(RouteWord::UNTOUCHED, |word| RouteWord(*word))
}
