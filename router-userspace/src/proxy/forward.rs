//! From a routed request to an endpoint's response: attempts, retries, timeouts.
//!
//! It knows which subset was picked, not why.

use std::{net::SocketAddr, pin::pin, sync::Arc, time::Duration};

use http::{Request, Response, request};
use router_rules::{action::Retries, policy::LoadBalancing, snapshot::Subset};
use tokio::time::{Instant, sleep, sleep_until};

use super::{
    admission::{Admission, Attempt, RequestLimits, Waits},
    balance::{self, InFlight},
    body::{Replay, RequestBody, Transfer},
    error::{Kind, ProxyError},
    exchange::Exchange,
    outlier::Witness,
    retry::RetryGate,
    upstream::{Fresh, Lease, Received, Target},
    view::SubsetState,
    worker::Worker,
};
use crate::enforce::breaker::Place;
use crate::enforce::outlier::Watch;

/// Until when a response must be complete. It runs from the moment when the request is, so that an upload or a
/// stream in both directions is not cut while the client still sends (Envoy does the same). As long as no attempt has
/// asked for the body, the client keeps nobody waiting: it runs all the same.
#[derive(Clone, Debug)]
pub(crate) struct Deadline {
    /// None: never.
    limit: Option<Duration>,
    begun: Instant,
    request: Option<Arc<Transfer>>,
}

impl Deadline {
    /// `limit` after `begun` or after the end of `request`, whichever is later; zero: never.
    pub(crate) fn new(limit: Duration, begun: Instant, request: Option<Arc<Transfer>>) -> Self {
        Self {
            limit: Some(limit).filter(|limit| !limit.is_zero()),
            begun,
            request,
        }
    }

    /// Runs from `begun` instead.
    pub(crate) const fn begin(&mut self, begun: Instant) {
        self.begun = begun;
    }

    /// Resolves when the time is over.
    pub(crate) async fn passed(self) {
        let Some(limit) = self.limit else {
            return std::future::pending().await;
        };
        let mut begun = self.begun;
        loop {
            let Some(at) = begun.checked_add(limit) else {
                return std::future::pending().await;
            };
            let Some(request) = &self.request else {
                return sleep_until(at).await;
            };
            tokio::select! {
                biased;
                settled = request.settled() => {
                    return match settled.max(self.begun).checked_add(limit) {
                        Some(at) => sleep_until(at).await,
                        None => std::future::pending().await,
                    };
                }
                () = sleep_until(at) => {
                    if !request.is_asked() {
                        return;
                    }
                    // A later attempt may not get as far as this one.
                    begun = at;
                }
            }
        }
    }
}

/// A request on its way out.
pub(crate) struct Outbound {
    pub(crate) head: request::Parts,
    pub(crate) body: OutboundBody,
}

/// Its body: sent once, or as often as needed.
pub(crate) enum OutboundBody {
    Empty,
    Once(Option<RequestBody>),
    Replay(Replay),
}

impl OutboundBody {
    fn can_be_sent(&self) -> bool {
        match self {
            Self::Empty => true,
            Self::Once(body) => body.is_some(),
            Self::Replay(replay) => replay.is_replayable(),
        }
    }

    /// The body for the next attempt, from its beginning; the attempt before gets no more of it. None: it cannot be sent.
    fn next(&mut self) -> Option<RequestBody> {
        match self {
            Self::Empty => Some(RequestBody::Empty),
            Self::Once(body) => body.take(),
            Self::Replay(replay) => Some(RequestBody::Replay(Box::new(replay.read()?))),
        }
    }
}

/// Where a request may be sent.
pub(crate) struct Destination<'v> {
    pub(crate) subset: &'v Subset,
    /// Whether HTTP/2 is spoken to its endpoints.
    pub(crate) http2: bool,
    pub(crate) state: &'v SubsetState,
    pub(crate) load_balancing: LoadBalancing,
    /// Policy whose connection limit applies.
    pub(crate) policy: Option<Arc<str>>,
    pub(crate) retries: Option<&'v Retries>,
    /// Limits on requests of the policy in force.
    pub(crate) limits: Option<RequestLimits<'v>>,
    /// Tells outlier detection of attempts; none: the policy in force ejects nobody.
    pub(crate) watch: Option<&'v Watch>,
}

/// An endpoint's response, and what it holds until its body has ended.
pub(crate) struct Answer {
    pub(crate) response: Response<Received>,
    pub(crate) lease: Lease,
    pub(crate) under_way: UnderWay,
}

/// What counts a request as under way, until it is dropped.
#[derive(Default)]
pub(crate) struct UnderWay {
    /// With its endpoint.
    #[expect(dead_code, reason = "it is given back when it is dropped")]
    pub(crate) in_flight: Option<InFlight>,
    /// Under the limits of its policy.
    pub(crate) place: Option<Place>,
}

/// Sends a request until an attempt succeeds, attempts run out, or the deadline passes.
///
/// # Errors
///
/// The last attempt's error, or the timeout.
pub(crate) async fn forward(
    exchange: &mut Exchange,
    destination: &Destination<'_>,
    outbound: Outbound,
    deadline: Deadline,
) -> Result<Answer, ProxyError> {
    let mut admission = Admission::new(destination.limits, Waits::AsThePolicySays);
    let mut witness = Witness::new(destination.watch);
    // Here and below, a future that is given to another is pinned first: it holds a request's head, and would move with it.
    let outcome = {
        let attempts = pin!(attempts(
            exchange,
            destination,
            outbound,
            &mut admission,
            &mut witness
        ));
        tokio::select! {
            biased;
            outcome = attempts => Some(outcome),
            () = deadline.passed() => None,
        }
    };
    outcome.unwrap_or_else(|| {
        if !admission.is_in_line() {
            witness.timed_out();
        }
        Err(ProxyError::new(Kind::RequestTimeout, "upstream request timeout"))
    })
}

async fn attempts(
    exchange: &mut Exchange,
    destination: &Destination<'_>,
    mut outbound: Outbound,
    admission: &mut Admission<'_>,
    witness: &mut Witness<'_>,
) -> Result<Answer, ProxyError> {
    let worker = exchange.session().worker.clone();
    let mut left = destination.retries.map_or(0, |retries| retries.attempts);
    let mut tried: Vec<SocketAddr> = Vec::new();
    let gate = RetryGate::of(destination);
    // The retry that is under way.
    let mut retry = None;
    let broken_off = || ProxyError::new(Kind::ClientDisconnected, "the request's body broke off");
    let mut body = outbound.body.next().ok_or_else(broken_off)?;
    loop {
        let how = (destination.load_balancing, destination.watch);
        let choice = balance::choose(destination.subset, destination.state, how, &tried)
            .ok_or_else(|| ProxyError::new(Kind::NoEndpoints, "no healthy upstream"))?;
        let endpoint = choice.address(exchange.session().destination);
        exchange.attempt(endpoint);
        let target = Target {
            endpoint,
            http2: destination.http2,
            policy: destination.policy.clone(),
        };
        let transfer = exchange.request.as_ref();
        if let Some(transfer) = transfer {
            transfer.attempt_begins();
        }
        let per_try_timeout = destination.retries.and_then(|retries| retries.per_try_timeout);
        let mut way = Way {
            target: &target,
            admission: &mut *admission,
            limit: per_try_timeout.map(|limit| (limit, transfer.cloned())),
        };
        witness.awaits(choice.index);
        if left == 0 {
            let request = Request::from_parts(outbound.head, body);
            let sent = send(&worker, &mut way, request).await;
            let outcome = sent.map(|sent| Answer::of(sent, choice.in_flight));
            witness.sees(&outcome);
            return outcome.map(|answer| answer.holding(admission));
        }
        let request = Request::from_parts(outbound.head.clone(), body);
        let sent = send(&worker, &mut way, request).await;
        let outcome = sent.map(|sent| Answer::of(sent, choice.in_flight));
        witness.sees(&outcome);
        drop(retry.take());
        if !may_help(&outcome) || !outbound.body.can_be_sent() {
            return outcome.map(|answer| answer.holding(admission));
        }
        retry = match gate.pass() {
            Ok(retry) => Some(retry),
            Err(why) => {
                exchange.refuse_retry(why);
                return outcome.map(|answer| answer.holding(admission));
            }
        };
        // From here on the attempt before reads nothing more of the body: it might be more than can be sent again.
        body = match outbound.body.next() {
            Some(body) => body,
            None => return outcome.map(|answer| answer.holding(admission)),
        };
        drop(outcome);
        left -= 1;
        tried.push(choice.endpoint);
        sleep(backoff(worker.limits().backoff, tried.len())).await;
    }
}

/// True when another attempt may do better than this one.
fn may_help(outcome: &Result<Answer, ProxyError>) -> bool {
    match outcome {
        Ok(answer) => answer.response.status().is_server_error(),
        Err(error) => error.is_retriable(),
    }
}

/// Wait before retry `number`, counted from 1: uniform in an interval that doubles up to ten times the base.
fn backoff(base: Duration, number: usize) -> Duration {
    let doublings = u32::try_from(number.saturating_sub(1)).unwrap_or(u32::MAX).min(4);
    let interval = (base * 2_u32.pow(doublings)).min(base * 10);
    interval.mul_f64(fastrand::f64())
}

impl Answer {
    fn of((response, lease): (Response<Received>, Lease), in_flight: Option<InFlight>) -> Self {
        Self {
            response,
            lease,
            under_way: UnderWay {
                in_flight,
                place: None,
            },
        }
    }

    /// With the place that the request was admitted to.
    fn holding(mut self, admission: &mut Admission<'_>) -> Self {
        self.under_way.place = admission.take_place();
        self
    }
}

/// How a request gets to an endpoint.
pub(super) struct Way<'w, 'v> {
    pub(super) target: &'w Target,
    pub(super) admission: &'w mut Admission<'v>,
    /// Time of the attempt, with the body that it sends; none: only the request's own.
    pub(super) limit: Option<(Duration, Option<Arc<Transfer>>)>,
}

/// Sends a request on a pooled connection, and once more on a new one when the pooled one turns out to be closed.
///
/// # Errors
///
/// There is no connection, or it broke before the response.
pub(super) async fn send(
    worker: &Arc<Worker>,
    way: &mut Way<'_, '_>,
    mut request: Request<RequestBody>,
) -> Result<(Response<Received>, Lease), ProxyError> {
    let mut fresh = Fresh::No;
    let mut attempt = Attempt::begin(way.limit.take());
    loop {
        let mut lease = way
            .admission
            .lease(worker, way.target, fresh, &mut attempt)
            .await?;
        let sent = {
            let sending = pin!(lease.send(request));
            attempt.within(sending).await?
        };
        let failed = match sent {
            Ok(response) => return Ok((response, lease)),
            Err(failed) => failed,
        };
        match failed.unsent {
            // The endpoint closed an idle connection before anything of the request was sent: that is no attempt.
            Some(unsent) if lease.is_reused() && fresh == Fresh::No => {
                lease.retire();
                request = *unsent;
                fresh = Fresh::Yes;
            }
            _ => return Err(failed.error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn backoff_doubles_up_to_ten_times_the_base() {
        let base = Duration::from_millis(25);
        for (number, bound) in [(1, 25), (2, 50), (3, 100), (4, 200), (5, 250), (50, 250)] {
            let longest = (0..200).map(|_| backoff(base, number)).max();
            assert!(
                longest.is_some_and(|wait| wait < Duration::from_millis(bound)),
                "retry {number}"
            );
        }
    }
}
