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

use router_rules::{external::ORIGINAL_DESTINATION, policy::LoadBalancing, snapshot::Subset};

use super::view::SubsetState;
use crate::enforce::outlier::Watch;

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
    /// Its place in the subset.
    pub(crate) index: usize,
    pub(crate) in_flight: Option<InFlight>,
}

impl Choice {
    /// Where to connect to: the endpoint, or what the client chose when that is what the endpoint stands for.
    pub(crate) fn address(&self, chosen_by_client: SocketAddr) -> SocketAddr {
        if self.endpoint == ORIGINAL_DESTINATION {
            chosen_by_client
        } else {
            self.endpoint
        }
    }
}

/// Chooses an endpoint of `subset`, none that `watch` knows to be ejected, and if possible none of those `tried` before.
/// `None`: it has no endpoint.
pub(crate) fn choose(
    subset: &Subset,
    state: &SubsetState,
    (load_balancing, watch): (LoadBalancing, Option<&Watch>),
    tried: &[SocketAddr],
) -> Option<Choice> {
    let endpoints = subset.endpoints();
    let candidates = Candidates::of(endpoints.len(), watch)?;
    let first = match load_balancing {
        LoadBalancing::RoundRobin => {
            candidates.nth((state.cursor.fetch_add(1, Relaxed) % candidates.left as u64) as usize)
        }
        LoadBalancing::Random => candidates.nth(fastrand::usize(..candidates.left)),
        LoadBalancing::LeastConn => less_loaded(&state.in_flight, &candidates),
    };
    let fresh = |&index: &usize| candidates.has(index) && !tried.contains(&endpoints[index].address);
    let index = if tried.is_empty() {
        first
    } else {
        let mut others = (first..endpoints.len()).chain(0..first);
        others.find(fresh).unwrap_or(first)
    };
    Some(Choice {
        endpoint: endpoints[index].address,
        index,
        in_flight: state.in_flight.get(index).map(InFlight::begin),
    })
}

/// Endpoints that may be chosen.
struct Candidates<'w> {
    /// None: nobody is ejected, or everybody, which is as good.
    watch: Option<&'w Watch>,
    /// How many endpoints there are, and how many of them may be chosen: at least one.
    all: usize,
    left: usize,
}

impl<'w> Candidates<'w> {
    /// None: there is no endpoint at all.
    fn of(all: usize, watch: Option<&'w Watch>) -> Option<Self> {
        let watch = watch.filter(|watch| watch.has_ejected());
        let left = watch.map_or(all, |w| (0..all).filter(|&index| !w.is_ejected(index)).count());
        let (watch, left) = if left == 0 { (None, all) } else { (watch, left) };
        (left > 0).then_some(Self { watch, all, left })
    }

    fn has(&self, index: usize) -> bool {
        self.watch.is_none_or(|watch| !watch.is_ejected(index))
    }

    /// Place of the `n`-th that may be chosen.
    fn nth(&self, n: usize) -> usize {
        match self.watch {
            None => n,
            // Fewer than counted: another thread has ejected one since.
            Some(_) => (0..self.all).filter(|&index| self.has(index)).nth(n).unwrap_or(n),
        }
    }
}

/// The one with fewer requests of two different ones, drawn at random.
fn less_loaded(in_flight: &[Arc<AtomicU32>], candidates: &Candidates<'_>) -> usize {
    let left = candidates.left;
    if left == 1 {
        return candidates.nth(0);
    }
    let draw = fastrand::usize(..left);
    let first = candidates.nth(draw);
    let second = candidates.nth((draw + fastrand::usize(1..left)) % left);
    let load = |index: usize| {
        in_flight
            .get(index)
            .map_or(0, |n: &Arc<AtomicU32>| n.load(Relaxed))
    };
    if load(second) < load(first) { second } else { first }
}

#[cfg(test)]
mod tests;
