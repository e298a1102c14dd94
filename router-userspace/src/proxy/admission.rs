//! What a request needs besides an endpoint: a place among those under way, and a turn when it has to wait for a
//! connection. All of it comes from the policy in force; a request without such limits needs nothing.
//!
//! It does not know how connections are made.

use std::{
    pin::{Pin, pin},
    sync::Arc,
    time::Duration,
};

use router_rules::policy::HttpLimits;
use tokio::time::Instant;

use super::{
    body::Transfer,
    error::{Kind, ProxyError},
    forward::Deadline,
    upstream::{ConnectError, Fresh, Lease, Target, Wanted},
    worker::Worker,
};
use crate::enforce::breaker::{Breaker, Place, Turn};

/// The limits on requests of the policy in force, with their counts.
#[derive(Clone, Copy)]
pub(crate) struct RequestLimits<'v> {
    pub(crate) limits: HttpLimits,
    pub(crate) breaker: &'v Arc<Breaker>,
}

/// A request's way to a connection.
pub(crate) struct Admission<'v> {
    limits: Option<RequestLimits<'v>>,
    /// None while it waits.
    place: Option<Place>,
    turn: Option<Turn>,
    waits: Waits,
}

/// Whether a request may wait for a connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Waits {
    /// As the policy says.
    AsThePolicySays,
    /// It is refused instead: nobody waits for its answer.
    Never,
}

impl<'v> Admission<'v> {
    pub(crate) const fn new(limits: Option<RequestLimits<'v>>, waits: Waits) -> Self {
        Self {
            limits,
            place: None,
            turn: None,
            waits,
        }
    }

    /// True while it waits for its turn, so that no endpoint keeps it.
    pub(crate) const fn is_in_line(&self) -> bool {
        self.turn.is_some() && self.place.is_none()
    }

    /// The place, to be kept until the response is complete.
    pub(crate) const fn take_place(&mut self) -> Option<Place> {
        self.place.take()
    }

    /// A connection for an attempt that must end at `attempt.expiry`. Time in the queue is not the attempt's: the
    /// expiry moves with it.
    ///
    /// # Errors
    ///
    /// As many requests are under way or wait as may be, or there is no connection.
    pub(crate) async fn lease(
        &mut self,
        worker: &Worker,
        target: &Target,
        fresh: Fresh,
        attempt: &mut Attempt,
    ) -> Result<Lease, ProxyError> {
        let pool = worker.pool(target.policy.is_some());
        loop {
            self.enter(attempt).await?;
            let wanted = Wanted {
                target,
                fresh,
                breaker: self.limits.map(|limits| limits.breaker),
                uses: self.limits.and_then(|l| l.limits.max_requests_per_connection),
                may_crowd: self.max_pending() == 0 && self.waits != Waits::Never,
                turn: &mut self.turn,
            };
            let lent = {
                let lending = pin!(pool.lend(wanted, &worker.stats));
                attempt.within(lending).await?
            };
            match lent {
                Ok(lease) => {
                    self.turn = None;
                    return Ok(lease);
                }
                Err(ConnectError::LimitReached) if self.max_pending() > 0 => {
                    self.wait(worker, target).await?;
                    attempt.restart();
                }
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Takes a place among the requests under way, behind all that wait.
    async fn enter(&mut self, attempt: &mut Attempt) -> Result<(), ProxyError> {
        let Some(RequestLimits { limits, breaker }) = self.limits else {
            return Ok(());
        };
        if self.turn.is_none() && self.max_pending() > 0 && breaker.is_waited_for() {
            self.line_up(breaker).await?;
            attempt.restart();
        }
        while self.place.is_none() {
            self.place = breaker.begin(limits.max_requests);
            match &self.turn {
                _ if self.place.is_some() => {}
                // It has been let in to wait, so it waits for this too.
                Some(turn) => {
                    turn.vacancy(|| false).await;
                    attempt.restart();
                }
                None => {
                    breaker.refuse();
                    return Err(ProxyError::new(Kind::RequestLimitReached, "overflow"));
                }
            }
        }
        Ok(())
    }

    /// Waits until there may be a connection.
    async fn wait(&mut self, worker: &Worker, target: &Target) -> Result<(), ProxyError> {
        let Some(RequestLimits { breaker, .. }) = self.limits else {
            return Ok(());
        };
        let Some(turn) = &self.turn else {
            // What came back before it stood in line told nobody: it looks again as soon as it is the first.
            return self.line_up(breaker).await;
        };
        if let Some(place) = self.place.take() {
            place.give_back_silently();
        }
        let policy = target.policy.as_deref().unwrap_or_default();
        turn.vacancy(|| worker.enforcement().has_room(policy)).await;
        Ok(())
    }

    async fn line_up(&mut self, breaker: &Arc<Breaker>) -> Result<(), ProxyError> {
        self.place = None;
        let turn = breaker
            .line_up(self.max_pending())
            .ok_or_else(|| ProxyError::new(Kind::PendingLimitReached, "overflow"))?;
        self.turn.insert(turn).first().await;
        Ok(())
    }

    fn max_pending(&self) -> u32 {
        match self.waits {
            Waits::AsThePolicySays => self
                .limits
                .and_then(|l| l.limits.max_pending_requests)
                .unwrap_or(0),
            Waits::Never => 0,
        }
    }
}

/// The time of an attempt, connecting included. It begins anew when the request is complete, as the request's own does.
pub(crate) struct Attempt {
    /// None: only the request's own.
    deadline: Option<Deadline>,
}

impl Attempt {
    /// Begins now; a time of zero is no limit.
    pub(crate) fn begin(limit: Option<(Duration, Option<Arc<Transfer>>)>) -> Self {
        let deadline = limit.map(|(limit, request)| Deadline::new(limit, Instant::now(), request));
        Self { deadline }
    }

    fn restart(&mut self) {
        if let Some(deadline) = &mut self.deadline {
            deadline.begin(Instant::now());
        }
    }

    /// Awaits a part of the attempt.
    ///
    /// # Errors
    ///
    /// Its time is over.
    pub(crate) async fn within<T>(&self, part: Pin<&mut impl Future<Output = T>>) -> Result<T, ProxyError> {
        let Some(deadline) = &self.deadline else {
            return Ok(part.await);
        };
        tokio::select! {
            biased;
            outcome = part => Ok(outcome),
            () = deadline.clone().passed() => {
                Err(ProxyError::new(Kind::PerTryTimeout, "upstream request timeout"))
            }
        }
    }
}
