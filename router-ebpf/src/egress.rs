//! Destinations that are no frontend: networks of external services, what is known otherwise, and who may reach
//! nothing else.
//!
//! It knows no routing: a network leads to a service like a frontend does.

use aya_ebpf::maps::lpm_trie::Key;
use router_common::{
    net::{Addr, Be16},
    network::{BITS_BEFORE_ADDR, CONFINED, DNS_PORT, NetworkAddr, UNKNOWN_ONLY},
    reason::Reason,
    service::{FrontendKey, PROTOCOL_TCP},
    settings::{EGRESS_REGISTRY_ONLY, Settings},
};

use crate::{
    lookup,
    maps::{ADDRESSES, CONFINEMENT, NETWORKS, SETTINGS},
    rewrite::Destination,
    source,
    verdict::Verdict,
};

/// Every bit of an address.
const ADDR_BITS: u32 = 128;

/// Index of the service whose network holds the address, and whether only the client's words tell if it is meant. Asked
/// only when the address is no frontend.
#[inline(always)]
pub(crate) fn network(frontend: &FrontendKey) -> Option<(u32, bool)> {
    // Of the network of all addresses, too, these are the caller's own.
    if is_loopback(&frontend.addr) {
        return None;
    }
    let key = Key::new(BITS_BEFORE_ADDR + ADDR_BITS, NetworkAddr::of(frontend));
    let entry = NETWORKS.get(&key)?;
    let named = entry.flags & UNKNOWN_ONLY != 0;
    // Behind link-local addresses clouds keep credentials: no name opens them.
    if named && (is_link_local(&frontend.addr) || is_known(&frontend.addr, frontend.port)) {
        return None;
    }
    Some((entry.service, named))
}

/// True when some callers may reach nothing that is not declared.
#[inline(always)]
pub(crate) fn is_restricted() -> bool {
    SETTINGS
        .get(0)
        .is_some_and(|settings| settings.egress == EGRESS_REGISTRY_ONLY)
}

/// True when the caller may reach nothing that is not declared.
#[inline(always)]
pub(crate) fn confines_caller(settings: &Settings) -> bool {
    settings.egress == EGRESS_REGISTRY_ONLY && is_confined()
}

/// What becomes of a destination that is no service's: left as it is, or refused to who may not reach it. Where a service
/// is reached over TCP on the port of DNS, it may be reached otherwise as well.
#[inline(always)]
pub(crate) fn unknown(destination: &impl Destination) -> Verdict {
    let settings = SETTINGS.get(0).ok_or(Reason::Inconsistent)?;
    if settings.egress != EGRESS_REGISTRY_ONLY {
        return Ok(Reason::NotAService);
    }
    let (addr, port) = (destination.addr(), destination.port());
    if is_known(&addr, port) || !is_confined() {
        return Ok(Reason::NotAService);
    }
    if port.0 == DNS.0 && lookup::service(PROTOCOL_TCP, addr, port).is_some_and(|found| !found.named) {
        return Ok(Reason::NotAService);
    }
    Err(Reason::UnknownDestination)
}

const DNS: Be16 = Be16::from_port(DNS_PORT);

/// True for this host itself, link-local name servers, and what the agent says is known.
#[inline(always)]
pub(crate) fn is_known(addr: &Addr, port: Be16) -> bool {
    // Asked twice for the same reason as frontends are.
    is_loopback(addr)
        || (port.0 == DNS.0 && is_link_local(addr))
        || unsafe { ADDRESSES.get(addr).or_else(|| ADDRESSES.get(addr)) }.is_some()
}

/// True for loopback addresses, and for the unspecified one, which stands for them.
#[inline(always)]
fn is_loopback(addr: &Addr) -> bool {
    const V6_LOOPBACK: u32 = 1_u32.to_be();
    let last = addr.0[3];
    if addr.is_v4() {
        last == 0 || last.to_ne_bytes()[0] == 127
    } else {
        addr.0[0] == 0 && addr.0[1] == 0 && addr.0[2] == 0 && (last == 0 || last == V6_LOOPBACK)
    }
}

#[inline(always)]
fn is_link_local(addr: &Addr) -> bool {
    if addr.is_v4() {
        let v4 = addr.0[3].to_ne_bytes();
        v4[0] == 169 && v4[1] == 254
    } else {
        let v6 = addr.0[0].to_ne_bytes();
        v6[0] == 0xfe && v6[1] & 0xc0 == 0x80
    }
}

/// True when the nearest cgroup of which something is said is confined.
#[inline(always)]
fn is_confined() -> bool {
    source::nearest(|cgroup| unsafe { CONFINEMENT.get(cgroup) }.copied()) == Some(CONFINED)
}
