//! Copies of requests for mirrors: sent beside the original, answered to nobody.
//!
//! A mirror never slows or fails the original: what it cannot take in time is lost, and counted. What a rule mirrors
//! is decided by its snapshot.

use std::sync::Arc;

use http::{HeaderValue, Request, header::HOST, request};
use http_body_util::BodyExt as _;
use router_rules::{
    action::DEFAULT_TIMEOUT,
    policy::HttpLimits,
    snapshot::{Route, SubsetId},
};
use tokio::sync::OwnedSemaphorePermit;

use super::{
    admission::{Admission, RequestLimits, Waits},
    balance::{self, InFlight},
    body::{Copied, Metered, Progress, RequestBody},
    connection::Session,
    error::{Kind, ProxyError},
    forward::{Deadline, Way, send},
    headers::{self, BodyFraming},
    stats::WorkerStats,
    upstream::{Target, limited_policy},
    view::View,
    worker::Worker,
};
use crate::enforce::breaker::Breaker;

/// What is put behind the host's name, so that mirrors know copies from originals.
const SUFFIX: &str = "-shadow";

/// The mirrors of one request, each with an endpoint and a place among the copies in flight.
#[derive(Default)]
pub(crate) struct Mirrors(Vec<Mirroring>);

struct Mirroring {
    target: Target,
    limits: Option<(HttpLimits, Arc<Breaker>)>,
    in_flight: Option<InFlight>,
    body: Option<Copied>,
    _place: OwnedSemaphorePermit,
}

impl Mirrors {
    /// Draws which mirrors of the rule get a copy, and picks their endpoints. A request for a tunnel is not copied.
    pub(crate) fn choose(session: &Session, view: &View, route: &Route<'_>, head: &request::Parts) -> Self {
        let mirrors = route.rule().map_or(&[][..], |rule| rule.mirrors());
        if mirrors.is_empty() || headers::is_upgrade(&head.headers) {
            return Self::default();
        }
        let drawn = mirrors
            .iter()
            .filter(|(_, fraction)| fraction.takes(fastrand::u64(..)));
        Self(
            drawn
                .filter_map(|&(subset, _)| Mirroring::new(session, view, route, subset))
                .collect(),
        )
    }

    /// Lets every mirror read along in `body`.
    pub(crate) fn tap(&mut self, body: &mut Metered, bound: usize) {
        for mirroring in &mut self.0 {
            mirroring.body = Some(body.copy(bound));
        }
    }

    /// Sends copies of `head`, which is what the endpoint will get but for the form of its protocol. `deadline` is
    /// made anew for every mirror.
    pub(crate) fn start(self, worker: &Arc<Worker>, head: &request::Parts, deadline: impl Fn() -> Deadline) {
        for mirroring in self.0 {
            let deadline = deadline();
            match mirroring.head(head) {
                Ok(head) => drop(tokio::spawn(mirroring.run(worker.clone(), head, deadline))),
                Err(_) => WorkerStats::add(&worker.stats.mirrors_failed, 1),
            }
        }
    }
}

/// Time for a mirror's response: the original's, where that has an end.
pub(crate) const fn timeout(of_route: std::time::Duration) -> std::time::Duration {
    if of_route.is_zero() {
        DEFAULT_TIMEOUT
    } else {
        of_route
    }
}

impl Mirroring {
    fn new(session: &Session, view: &View, route: &Route<'_>, subset: SubsetId) -> Option<Self> {
        let worker = &session.worker;
        let Ok(place) = worker.mirrors().clone().try_acquire_owned() else {
            WorkerStats::add(&worker.stats.mirrors_dropped, 1);
            return None;
        };
        let subset = view.snapshot.subset(subset);
        let state = worker.views().subset(view, subset);
        let how = (route.load_balancing(subset), state.watch(route.policy(subset)));
        let Some(choice) = balance::choose(subset, state, how, &[]) else {
            WorkerStats::add(&worker.stats.mirrors_failed, 1);
            return None;
        };
        let limits = worker.views().request_limits(view, route, subset);
        Some(Self {
            limits: limits.map(|limits| (limits.limits, limits.breaker.clone())),
            target: Target {
                endpoint: choice.address(session.destination),
                http2: subset.protocol().is_http2(),
                policy: limited_policy(&view.snapshot, route, subset),
            },
            in_flight: choice.in_flight,
            body: None,
            _place: place,
        })
    }

    /// The head of the copy.
    fn head(&self, original: &request::Parts) -> Result<request::Parts, ProxyError> {
        let mut head = original.clone();
        head.extensions.clear();
        if let Some(host) = shadow(headers::host(&head.headers)) {
            head.headers.insert(HOST, host);
        }
        let framing = if self.body.is_some() {
            BodyFraming::Unknown
        } else {
            BodyFraming::Empty
        };
        headers::address(&mut head, self.target.http2, framing)?;
        Ok(head)
    }

    async fn run(mut self, worker: Arc<Worker>, head: request::Parts, deadline: Deadline) {
        let body = self.body.take();
        let progress = body.as_ref().map(Copied::progress);
        let body = body.map_or(RequestBody::Empty, |copied| RequestBody::Copied(Box::new(copied)));
        let request = Request::from_parts(head, body);
        let outcome = tokio::select! {
            biased;
            outcome = self.answered(&worker, request, progress.as_ref()) => outcome,
            () = deadline.passed() => Err(ProxyError::new(Kind::RequestTimeout, "the mirror took too long")),
        };
        let stats = &worker.stats;
        let counter = match outcome {
            _ if progress.is_some_and(|progress| progress.fell_behind()) => &stats.mirrors_dropped,
            Ok(()) => &stats.mirrors_sent,
            Err(error) => {
                let endpoint = self.target.endpoint;
                tracing::debug!(%endpoint, reason = error.kind.name(), "a mirror failed");
                &stats.mirrors_failed
            }
        };
        WorkerStats::add(counter, 1);
        drop(self.in_flight);
    }

    /// Sends the copy and reads its response to the end, so that the connection can be used again. It counts under the
    /// limits of its policy, but never waits in front of somebody's original.
    async fn answered(
        &self,
        worker: &Arc<Worker>,
        request: Request<RequestBody>,
        progress: Option<&Progress>,
    ) -> Result<(), ProxyError> {
        let limits = self.limits.as_ref().map(|(limits, breaker)| RequestLimits {
            limits: *limits,
            breaker,
        });
        let mut admission = Admission::new(limits, Waits::Never);
        let mut way = Way {
            target: &self.target,
            admission: &mut admission,
            limit: None,
        };
        let (response, lease) = send(worker, &mut way, request).await?;
        let mut body = response.into_body();
        while let Some(frame) = body.frame().await {
            frame.map_err(|_| ProxyError::new(Kind::UpstreamReset, "the response broke off"))?;
        }
        drop(admission);
        if progress.is_none_or(Progress::is_whole) {
            lease.release();
        }
        Ok(())
    }
}

/// `reviews:9080` → `reviews-shadow:9080`. An IPv6 address stays: nothing can be put behind it.
fn shadow(host: &str) -> Option<HeaderValue> {
    let (name, port) = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|b| b.is_ascii_digit()) => (name, Some(port)),
        _ => (host, None),
    };
    if name.is_empty() || name.ends_with(']') {
        return None;
    }
    let host = match port {
        Some(port) => format!("{name}{SUFFIX}:{port}"),
        None => format!("{name}{SUFFIX}"),
    };
    HeaderValue::try_from(host).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_suffix_goes_before_the_port() {
        let shadowed = |host| shadow(host).map(|value| value.to_str().unwrap().to_owned());
        let some = |host: &str| Some(host.to_owned());
        assert_eq!(shadowed("reviews"), some("reviews-shadow"));
        assert_eq!(shadowed("reviews:9080"), some("reviews-shadow:9080"));
        assert_eq!(shadowed("10.0.0.1:80"), some("10.0.0.1-shadow:80"));
        assert_eq!(shadowed("[::1]:80"), None);
        assert_eq!(shadowed("[::1]"), None);
        assert_eq!(shadowed(""), None);
    }
}
