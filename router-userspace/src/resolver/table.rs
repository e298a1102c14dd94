//! What is known of names, and when to ask again: a pure state machine on moments that it is given.

use std::{
    collections::BTreeMap,
    io,
    net::IpAddr,
    time::{Duration, Instant},
};

use router_rules::id::ServiceName;

use super::Addresses;

/// How often a name is looked up.
pub const REFRESH: Duration = Duration::from_secs(30);
/// How soon after a failure.
pub const RETRY: Duration = Duration::from_secs(5);
/// How long an address stays after it was last seen, while lookups succeed.
pub const KEEP: Duration = Duration::from_secs(600);
/// Addresses of one name; those seen longest ago make room.
pub const MAX_ADDRESSES: usize = 64;

/// Names with their addresses.
#[derive(Clone, Debug, Default)]
pub struct Table(BTreeMap<ServiceName, Entry>);

#[derive(Clone, Debug, Default)]
struct Entry {
    /// When each address was seen last.
    seen: BTreeMap<IpAddr, Instant>,
    /// When to ask; none: now.
    due: Option<Instant>,
}

impl Table {
    /// Forgets other names, and learns of new ones.
    pub fn follow(&mut self, names: &[ServiceName]) {
        self.0.retain(|name, _| names.contains(name));
        for name in names {
            self.0.entry(name.clone()).or_default();
        }
    }

    /// Names that are to be looked up at `now`.
    pub fn due(&self, now: Instant) -> Vec<ServiceName> {
        let due = self
            .0
            .iter()
            .filter(|(_, entry)| entry.due.is_none_or(|due| due <= now));
        due.map(|(name, _)| name.clone()).collect()
    }

    /// Takes in what a lookup found. A failure leaves what is known.
    pub fn learn(&mut self, name: &ServiceName, outcome: io::Result<Vec<IpAddr>>, now: Instant) {
        let Some(entry) = self.0.get_mut(name) else {
            return;
        };
        match outcome {
            Ok(addresses) if !addresses.is_empty() => {
                entry
                    .seen
                    .extend(addresses.into_iter().map(|address| (address, now)));
                entry.seen.retain(|_, seen| now.duration_since(*seen) < KEEP);
                entry.bound();
                entry.due = Some(now + REFRESH);
            }
            Ok(_) => entry.due = Some(now + RETRY),
            Err(error) => {
                tracing::warn!(%name, %error, stale = entry.seen.len(), "cannot be resolved");
                entry.due = Some(now + RETRY);
            }
        }
    }

    /// Every name that was found, with its addresses in their order.
    pub fn addresses(&self) -> Addresses {
        let found = self.0.iter().filter(|(_, entry)| !entry.seen.is_empty());
        found
            .map(|(name, entry)| (name.clone(), entry.seen.keys().copied().collect()))
            .collect()
    }

    /// How long nothing is due.
    pub fn pause(&self, now: Instant) -> Duration {
        let next = self.0.values().map(|entry| entry.due.unwrap_or(now)).min();
        next.map_or(REFRESH, |next| next.saturating_duration_since(now))
    }
}

impl Entry {
    fn bound(&mut self) {
        while self.seen.len() > MAX_ADDRESSES {
            let oldest = self.seen.iter().min_by_key(|(_, seen)| **seen).map(|(ip, _)| *ip);
            let Some(oldest) = oldest else { return };
            self.seen.remove(&oldest);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(last: u8) -> IpAddr {
        [203, 0, 113, last].into()
    }

    #[test]
    fn addresses_outlive_failures_and_a_while_beside_new_ones() {
        let name = ServiceName::new("api.example.com");
        let start = Instant::now();
        let mut table = Table::default();
        table.follow(std::slice::from_ref(&name));
        assert_eq!(table.due(start), std::slice::from_ref(&name));
        table.learn(&name, Ok(vec![ip(1)]), start);
        assert!(table.due(start + REFRESH - Duration::from_secs(1)).is_empty());
        assert_eq!(table.pause(start), REFRESH);
        // Another answer: both are known.
        table.learn(&name, Ok(vec![ip(2)]), start + REFRESH);
        assert_eq!(table.addresses()[&name], [ip(1), ip(2)]);
        // The first is forgotten in time.
        table.learn(&name, Ok(vec![ip(2)]), start + KEEP);
        assert_eq!(table.addresses()[&name], [ip(2)]);
        // A failure forgets nothing, however long it lasts, and is repeated sooner.
        let later = start + KEEP * 10;
        table.learn(&name, Err(io::Error::other("no name server")), later);
        assert_eq!(table.addresses()[&name], [ip(2)]);
        assert_eq!(table.pause(later), RETRY);
        table.follow(&[]);
        assert!(table.addresses().is_empty());
    }

    #[test]
    fn a_name_has_a_bounded_number_of_addresses() {
        let name = ServiceName::new("cdn.example.com");
        let start = Instant::now();
        let mut table = Table::default();
        table.follow(std::slice::from_ref(&name));
        for n in 0..200 {
            table.learn(&name, Ok(vec![ip(n)]), start + Duration::from_secs(n.into()));
        }
        let known = &table.addresses()[&name];
        assert_eq!(known.len(), MAX_ADDRESSES);
        assert!(known.contains(&ip(199)) && !known.contains(&ip(0)));
    }
}
