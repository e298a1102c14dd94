//! Addresses of the domains that egress rules name, asked for again and again by a thread of their own.
//!
//! Names are looked up as every program of the node does (`getaddrinfo`: `/etc/hosts`, then the name servers), which tells
//! no lifetimes; so they are refreshed at a fixed interval. An address stays for a while after it was last seen, since
//! clients may still have it from their own resolver, and every address stays while lookups fail.
//!
//! It knows no rules and publishes nothing: control is told that something changed, and asks.

use std::{
    collections::BTreeMap,
    io,
    net::{IpAddr, ToSocketAddrs as _},
    sync::{Arc, mpsc::SyncSender},
    thread,
    time::Duration,
};

use arc_swap::ArcSwap;
use parking::Parking;
use router_rules::{
    external::{is_loopback, is_unspecified},
    id::ServiceName,
};

use crate::{clock, control::Event};

mod parking;
mod table;

pub use table::{KEEP, MAX_ADDRESSES, REFRESH, RETRY, Table};

/// Names that are looked up at the same time.
const AT_ONCE: usize = 8;

/// Addresses by name.
pub type Addresses = BTreeMap<ServiceName, Vec<IpAddr>>;

/// The names that are wanted, and what is known of them.
#[derive(Debug, Default)]
pub struct Names {
    wanted: ArcSwap<Vec<ServiceName>>,
    addresses: ArcSwap<Addresses>,
    parking: Parking,
}

impl Names {
    /// Looks up these names from now on, and no others.
    pub fn follow(&self, names: Vec<ServiceName>) {
        if **self.wanted.load() != names {
            self.wanted.store(Arc::new(names));
            self.parking.wake();
        }
    }

    /// What is known now. A name that was not found yet is absent.
    pub fn addresses(&self) -> Arc<Addresses> {
        self.addresses.load_full()
    }

    fn publish(&self, addresses: Addresses) -> bool {
        let changed = **self.addresses.load() != addresses;
        if changed {
            self.addresses.store(Arc::new(addresses));
        }
        changed
    }
}

/// Starts the thread; it ends when nobody holds the names any more.
///
/// # Errors
///
/// The thread could not be started.
pub fn start(events: SyncSender<Event>) -> io::Result<Arc<Names>> {
    let started = Arc::new(Names::default());
    let names = Arc::downgrade(&started);
    let run = move || {
        let mut table = Table::default();
        let mut untold = false;
        while let Some(names) = names.upgrade() {
            table.follow(&names.wanted.load());
            let found = look_up(&table.due(clock::now()));
            let now = clock::now();
            for (name, outcome) in found {
                table.learn(&name, outcome, now);
            }
            untold |= names.publish(table.addresses());
            // Full: control is busy, and is told the next time round.
            untold = untold && events.try_send(Event::NamesResolved).is_err();
            let pause = if untold { RETRY } else { table.pause(clock::now()) };
            names.parking.wait(pause.min(MAX_PAUSE));
        }
    };
    thread::Builder::new().name("resolver".to_owned()).spawn(run)?;
    Ok(started)
}

/// The thread looks at least this often whether it is still wanted.
const MAX_PAUSE: Duration = Duration::from_secs(1);

/// What became of looking a name up; on a failure, the addresses that are known stay.
type Outcome = io::Result<Vec<IpAddr>>;

fn look_up(names: &[ServiceName]) -> Vec<(ServiceName, Outcome)> {
    let mut found = Vec::with_capacity(names.len());
    for some in names.chunks(AT_ONCE) {
        thread::scope(|scope| {
            let lookups: Vec<_> = some
                .iter()
                .map(|name| scope.spawn(|| addresses_of(name)))
                .collect();
            for (name, lookup) in some.iter().zip(lookups) {
                let outcome = lookup
                    .join()
                    .unwrap_or_else(|_| Err(io::Error::other("the lookup panicked")));
                found.push((name.clone(), outcome));
            }
        });
    }
    found
}

fn addresses_of(name: &ServiceName) -> Outcome {
    // With a dot at the end no search domain is appended.
    let absolute = format!("{name}.");
    let found = (absolute.as_str(), 0)
        .to_socket_addrs()
        .or_else(|_| (name.as_str(), 0).to_socket_addrs())?;
    Ok(usable(name, found.map(|address| address.ip().to_canonical())))
}

/// Whoever answers for a name must not make each workload's own loopback a service, nor the node's.
fn usable(name: &ServiceName, found: impl Iterator<Item = IpAddr>) -> Vec<IpAddr> {
    let (refused, usable): (Vec<_>, Vec<_>) =
        found.partition(|address| is_loopback(address) || is_unspecified(address));
    if !refused.is_empty() {
        tracing::warn!(%name, ?refused, "addresses that no other host can have are left out");
    }
    usable
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_does_not_lead_to_loopback() {
        let found = ["127.0.0.1", "203.0.113.1", "::1", "0.0.0.0", "::", "2001:db8::1"];
        let found = found.iter().map(|address| address.parse().unwrap());
        let usable = usable(&ServiceName::new("api.example.com"), found);
        let expected: Vec<IpAddr> = vec!["203.0.113.1".parse().unwrap(), "2001:db8::1".parse().unwrap()];
        assert_eq!(usable, expected);
    }
}
