//! Which endpoint of a subset is next.
//!
//! It knows no connections and no HTTP; draws come from `fastrand`'s generator of the thread.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering::Relaxed},
    },
};

use router_rules::{policy::LoadBalancing, snapshot::Subset};

use super::view::SubsetState;

/// A request that counts as one of its endpoint's, until it is dropped.
#[derive(Debug)]
pub(crate) struct InFlight(Arc<AtomicU32>);

impl InFlight {
    fn begin(count: &Arc<AtomicU32>) -> Self {
        count.fetch_add(1, Relaxed);
        Self(count.clone())
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}

/// The chosen endpoint.
#[derive(Debug)]
pub(crate) struct Choice {
    pub(crate) endpoint: SocketAddr,
    pub(crate) in_flight: Option<InFlight>,
}

/// Chooses an endpoint of `subset`, if possible none of those `tried` before. `None`: it has no endpoint.
pub(crate) fn choose(subset: &Subset, state: &SubsetState, tried: &[SocketAddr]) -> Option<Choice> {
    let endpoints = subset.endpoints();
    let count = endpoints.len();
    if count == 0 {
        return None;
    }
    let first = match subset.load_balancing() {
        LoadBalancing::RoundRobin => (state.cursor.fetch_add(1, Relaxed) % count as u64) as usize,
        LoadBalancing::Random => fastrand::usize(..count),
        LoadBalancing::LeastConn => less_loaded(&state.in_flight, count),
    };
    let fresh = |&index: &usize| !tried.contains(&endpoints[index].address);
    let index = if tried.is_empty() {
        first
    } else {
        (first..count).chain(0..first).find(fresh).unwrap_or(first)
    };
    Some(Choice {
        endpoint: endpoints[index].address,
        in_flight: state.in_flight.get(index).map(InFlight::begin),
    })
}

/// The one with fewer requests of two different ones, drawn at random.
fn less_loaded(in_flight: &[Arc<AtomicU32>], count: usize) -> usize {
    if count == 1 {
        return 0;
    }
    let first = fastrand::usize(..count);
    let second = (first + fastrand::usize(1..count)) % count;
    let load = |index: usize| {
        in_flight
            .get(index)
            .map_or(0, |n: &Arc<AtomicU32>| n.load(Relaxed))
    };
    if load(second) < load(first) { second } else { first }
}

#[cfg(test)]
mod tests;
