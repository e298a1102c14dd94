//! Ids under which the proxy's own connections are counted, by policy and by endpoint.
//!
//! It does not know who gives ids; copies share what they have in common, so that a change of one endpoint costs little.

use std::{
    collections::HashMap,
    hash::{BuildHasher as _, BuildHasherDefault, DefaultHasher},
    net::SocketAddr,
    sync::Arc,
};

use super::desired::EndpointKey;

/// Shards of the endpoints: one is copied for an endpoint that comes or goes.
const SHARDS: usize = 512;

/// Ids under which upstream connections are counted.
#[derive(Clone, Debug, Default)]
pub struct UpstreamIds {
    /// Limit id by the object name of the policy.
    pub limits: Arc<HashMap<Arc<str>, u32>>,
    /// Endpoint id by address.
    pub endpoints: EndpointIds,
}

/// Endpoint ids by address, each shard in the order of addresses.
#[derive(Clone, Debug, Default)]
pub struct EndpointIds(Vec<Shard>);

type Shard = Arc<[(EndpointKey, u32)]>;

impl EndpointIds {
    /// The id of an endpoint.
    pub fn get(&self, endpoint: SocketAddr) -> Option<u32> {
        let key = endpoint.into();
        let shard = self.0.get(shard_of(&key))?;
        let at = shard.binary_search_by_key(&key, |(key, _)| *key).ok()?;
        Some(shard[at].1)
    }

    /// Every id, in any order.
    pub fn ids(&self) -> impl Iterator<Item = u32> {
        let entries = self.0.iter().flat_map(|shard| shard.iter());
        entries.map(|&(_, id)| id)
    }

    /// Gives an endpoint an id, in this copy.
    pub fn insert(&mut self, endpoint: EndpointKey, id: u32) {
        self.0.resize_with(SHARDS, || Arc::from([]));
        let shard = &mut self.0[shard_of(&endpoint)];
        let before = shard.iter().filter(|(key, _)| *key < endpoint);
        let after = shard.iter().filter(|(key, _)| *key > endpoint);
        *shard = before.chain(&[(endpoint, id)]).chain(after).copied().collect();
    }

    /// Takes an endpoint's id from it, in this copy.
    pub fn remove(&mut self, endpoint: &EndpointKey) {
        if let Some(shard) = self.0.get_mut(shard_of(endpoint)) {
            let stays = shard.iter().filter(|(key, _)| key != endpoint);
            *shard = stays.copied().collect();
        }
    }
}

impl FromIterator<(EndpointKey, u32)> for EndpointIds {
    fn from_iter<I: IntoIterator<Item = (EndpointKey, u32)>>(ids: I) -> Self {
        let mut shards = vec![Vec::new(); SHARDS];
        for (key, id) in ids {
            shards[shard_of(&key)].push((key, id));
        }
        let sorted = |mut shard: Vec<(EndpointKey, u32)>| {
            shard.sort_unstable();
            Arc::from(shard)
        };
        Self(shards.into_iter().map(sorted).collect())
    }
}

fn shard_of(key: &EndpointKey) -> usize {
    let hash = BuildHasherDefault::<DefaultHasher>::default().hash_one(key);
    hash as usize % SHARDS
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(number: u16) -> EndpointKey {
        SocketAddr::from(([10, 0, 0, 1], number)).into()
    }

    #[test]
    fn copies_go_their_own_ways() {
        let mut ids: EndpointIds = (0..2000).map(|n| (key(n), u32::from(n))).collect();
        let before = ids.clone();
        ids.remove(&key(7));
        ids.insert(key(8), 1);
        ids.insert(key(5000), 2);
        let all = |ids: &EndpointIds| [7, 8, 9, 5000].map(|n| ids.get(key(n).into()));
        assert_eq!(all(&before), [Some(7), Some(8), Some(9), None]);
        assert_eq!(all(&ids), [None, Some(1), Some(9), Some(2)]);
        let mut empty = EndpointIds::default();
        empty.remove(&key(1));
        assert_eq!(empty.get(key(1).into()), None);
        empty.insert(key(1), 3);
        assert_eq!(empty.get(key(1).into()), Some(3));
    }
}
