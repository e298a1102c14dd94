//! Which endpoints of a policy are ejected, and for how long: a state machine on moments that it is given, with the
//! arithmetic of Envoy's outlier detection.
//!
//! It knows no clock, no threads, no requests and no sockets. Moments are times since any fixed one. What an attempt's
//! result is, and what becomes of an ejected endpoint, is the callers' business.

mod in_force;
mod streak;

use std::{collections::BTreeMap, net::SocketAddr, time::Duration};

use crate::policy::OutlierDetection;

pub use in_force::{Ejected, InForce};
pub use streak::Streak;

/// The shortest time between sweeps that a policy may ask for.
pub const MIN_INTERVAL: Duration = Duration::from_millis(10);

/// No ejection lasts longer, unless a policy's first one does already (Envoy's `max_ejection_time`).
pub const MAX_EJECTION: Duration = Duration::from_secs(300);

/// What became of an endpoint that failed as often in a row as its policy allows.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// It is ejected for this long; it comes back in the first sweep after that.
    Ejected(Duration),
    /// It was ejected before.
    AlreadyEjected,
    /// It stays: one more would be too large a share of a subset.
    EnoughEjected,
    /// It is in no subset of the policy now.
    Unknown,
}

/// Endpoints of one policy. Its size is that of the policy's subsets: what leaves them is forgotten.
#[derive(Debug)]
pub struct Detector {
    settings: OutlierDetection,
    /// When endpoints were last looked at.
    swept: Duration,
    pools: Vec<Pool>,
    endpoints: BTreeMap<SocketAddr, Endpoint>,
}

/// A subset, of which only the numbers matter.
#[derive(Clone, Copy, Debug, Default)]
struct Pool {
    size: u64,
    ejected: u64,
}

#[derive(Debug, Default)]
struct Endpoint {
    /// Indexes of the pools that it is in.
    pools: Vec<usize>,
    ejected_at: Option<Duration>,
    /// How many times the base an ejection lasts. Up by one with each ejection, down by one with each sweep in which
    /// the endpoint is not ejected.
    multiplier: u32,
}

impl Detector {
    /// Begins at `now` with no endpoints; the first sweep is an interval later.
    pub fn new(settings: OutlierDetection, now: Duration) -> Self {
        Self {
            settings,
            swept: now,
            pools: Vec::new(),
            endpoints: BTreeMap::new(),
        }
    }

    /// Takes other settings and other subsets over. Endpoints that are still in one keep what is known of them; others
    /// are forgotten. None comes back because its subset has shrunk, as in Envoy: it fails no less for that.
    pub fn follow<'e, P>(&mut self, settings: OutlierDetection, subsets: impl IntoIterator<Item = P>)
    where
        P: IntoIterator<Item = &'e SocketAddr>,
    {
        self.settings = settings;
        self.pools.clear();
        let mut earlier = std::mem::take(&mut self.endpoints);
        for (index, subset) in subsets.into_iter().enumerate() {
            self.pools.push(Pool::default());
            for &address in subset {
                let endpoint = self.endpoints.entry(address).or_insert_with(|| Endpoint {
                    pools: Vec::new(),
                    ..earlier.remove(&address).unwrap_or_default()
                });
                // A subset may list an address twice.
                if endpoint.pools.last() != Some(&index) {
                    endpoint.pools.push(index);
                    self.pools[index].size += 1;
                    self.pools[index].ejected += u64::from(endpoint.ejected_at.is_some());
                }
            }
        }
    }

    /// An endpoint failed as often in a row as the policy allows: ejects it, unless that would be more than the
    /// policy's share of one of its subsets.
    pub fn failed(&mut self, address: SocketAddr, now: Duration) -> Verdict {
        let Some(endpoint) = self.endpoints.get_mut(&address) else {
            return Verdict::Unknown;
        };
        if endpoint.ejected_at.is_some() {
            return Verdict::AlreadyEjected;
        }
        let most = u64::from(self.settings.max_ejection_percent);
        let allows = |pool: Pool| 100 * (pool.ejected + 1) <= most * pool.size;
        if !endpoint.pools.iter().all(|&index| allows(self.pools[index])) {
            return Verdict::EnoughEjected;
        }
        for &index in &endpoint.pools {
            self.pools[index].ejected += 1;
        }
        endpoint.ejected_at = Some(now);
        // It need not grow once another step makes no difference.
        let longest = longest(&self.settings) + self.settings.base_ejection;
        if self.settings.base_ejection.saturating_mul(endpoint.multiplier) < longest {
            endpoint.multiplier += 1;
        }
        Verdict::Ejected(lasts(&self.settings, endpoint.multiplier))
    }

    /// Looks at every endpoint when an interval has passed since the last time. Returns those that come back.
    pub fn sweep(&mut self, now: Duration) -> Vec<SocketAddr> {
        let mut back = Vec::new();
        if now < self.next_sweep() {
            return back;
        }
        self.swept = now;
        for (&address, endpoint) in &mut self.endpoints {
            match endpoint.ejected_at {
                None => endpoint.multiplier = endpoint.multiplier.saturating_sub(1),
                Some(at) if now >= at.saturating_add(lasts(&self.settings, endpoint.multiplier)) => {
                    endpoint.ejected_at = None;
                    for &index in &endpoint.pools {
                        self.pools[index].ejected -= 1;
                    }
                    back.push(address);
                }
                Some(_) => {}
            }
        }
        back
    }

    /// When the next sweep is due.
    pub fn next_sweep(&self) -> Duration {
        self.swept.saturating_add(self.settings.interval)
    }

    /// Ejected endpoints, each with the moment of the sweep that is to bring it back.
    pub fn ejected(&self) -> impl Iterator<Item = (SocketAddr, Duration)> {
        self.endpoints.iter().filter_map(|(&address, endpoint)| {
            let over = endpoint
                .ejected_at?
                .saturating_add(lasts(&self.settings, endpoint.multiplier));
            Some((address, self.sweep_after(over)))
        })
    }

    /// The first sweep that is not before `moment`, when sweeps come as they should.
    fn sweep_after(&self, moment: Duration) -> Duration {
        let next = self.next_sweep();
        let wait = moment.saturating_sub(next).as_nanos();
        let interval = self.settings.interval.as_nanos().max(1);
        let sweeps = u32::try_from(wait.div_ceil(interval)).unwrap_or(u32::MAX);
        next.saturating_add(self.settings.interval.saturating_mul(sweeps))
    }
}

fn longest(settings: &OutlierDetection) -> Duration {
    MAX_EJECTION.max(settings.base_ejection)
}

fn lasts(settings: &OutlierDetection, multiplier: u32) -> Duration {
    settings
        .base_ejection
        .saturating_mul(multiplier)
        .min(longest(settings))
}

#[cfg(test)]
mod tests;
