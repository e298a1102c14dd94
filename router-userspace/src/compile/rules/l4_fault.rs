//! Faults of connections: which are slowed down, which are reset, and when.

use std::{num::NonZeroU64, time::Duration};

use router_rules::l4_fault::{L4Fault, Shape, Start, Terminate, Throttle};

use super::Compiler;
use crate::{config::rules_v1alpha1 as dsl, finding::codes};

const THROTTLE: &str = "l4Fault.throttle";
const TERMINATE: &str = "l4Fault.terminate";

/// Most bytes that a throttle may wait for: beyond it a number of this type is not exact.
const MAX_BYTES: f64 = 9_007_199_254_740_992.0;

impl Compiler<'_> {
    pub(super) fn l4_fault(&mut self, fault: &dsl::L4Fault) -> L4Fault {
        if fault.throttle.is_none() && fault.terminate.is_none() {
            let message = "neither `throttle` nor `terminate` is given";
            self.report(&codes::MISSING_FIELD, "l4Fault", message, "add one of them");
        }
        L4Fault {
            throttle: fault.throttle.as_ref().and_then(|t| self.throttle(t)),
            terminate: fault.terminate.as_ref().and_then(|t| self.terminate(t)),
        }
    }

    fn throttle(&mut self, throttle: &dsl::Throttle) -> Option<Throttle> {
        let fraction = self.fraction(THROTTLE, throttle.percent);
        if throttle.downstream_limit_bps.is_none() && throttle.upstream_limit_bps.is_none() {
            let message = "a throttle without a limit slows nothing down";
            let hint = "add `downstreamLimitBps`, `upstreamLimitBps` or both, in bits per second";
            self.report(&codes::MISSING_FIELD, THROTTLE, message, hint);
        }
        let to_client = self.bits_per_second("downstreamLimitBps", throttle.downstream_limit_bps);
        let to_endpoint = self.bits_per_second("upstreamLimitBps", throttle.upstream_limit_bps);
        let start = self.start(throttle);
        let duration = self.throttled_for(throttle);
        Some(Throttle {
            fraction: fraction?,
            shape: Shape {
                to_client,
                to_endpoint,
                start: start?,
                duration,
            },
        })
    }

    fn bits_per_second(&mut self, name: &str, limit: Option<i64>) -> Option<NonZeroU64> {
        let limit = limit?;
        let field = format!("{THROTTLE}.{name}");
        if limit == 0 {
            let message = "0 could mean no bytes at all, or no limit";
            let hint = "leave it out for no limit; to stop connections, use `terminate`";
            self.report(&codes::LIMIT_OF_ZERO, &field, message, hint);
        } else if limit < 0 {
            let message = format!("{limit} is no number of bits per second");
            self.report(&codes::INVALID_VALUE, &field, message, "");
        }
        u64::try_from(limit).ok().and_then(NonZeroU64::new)
    }

    fn start(&mut self, throttle: &dsl::Throttle) -> Option<Start> {
        let names = ["throttleAfterPeriod", "throttleAfterSeconds"];
        let spellings = (
            throttle.throttle_after_period.as_ref(),
            throttle.throttle_after_seconds,
        );
        let has_period = !matches!(spellings, (None, None));
        let period = self.duration_or_zero(THROTTLE, names, spellings);
        let field = format!("{THROTTLE}.throttleAfterBytes");
        match throttle.throttle_after_bytes {
            None if has_period => period.map(Start::After),
            None => Some(Start::AT_ONCE),
            Some(_) if has_period => {
                let message = "a throttle begins after a time or after a number of bytes";
                let hint = "keep one of `throttleAfterPeriod` and `throttleAfterBytes`";
                self.report(&codes::CONFLICTING_FIELDS, &field, message, hint);
                None
            }
            Some(bytes) if (0.0..=MAX_BYTES).contains(&bytes) => {
                Some(Start::AfterBytes(bytes.round() as u64))
            }
            Some(bytes) => {
                let message = format!("{bytes} is no number of bytes");
                self.report(&codes::INVALID_VALUE, &field, message, "");
                None
            }
        }
    }

    fn throttled_for(&mut self, throttle: &dsl::Throttle) -> Option<Duration> {
        let names = ["throttleForPeriod", "throttleForSeconds"];
        let spellings = (
            throttle.throttle_for_period.as_ref(),
            throttle.throttle_for_seconds,
        );
        let duration = self.duration_or_zero(THROTTLE, names, spellings);
        if duration == Some(Duration::ZERO) {
            let name = if spellings.0.is_some() { names[0] } else { names[1] };
            let message = "a throttle of no time slows nothing down";
            let hint = "leave it out to throttle connections for their lives";
            self.report(
                &codes::INVALID_DURATION,
                &format!("{THROTTLE}.{name}"),
                message,
                hint,
            );
        }
        duration
    }

    fn terminate(&mut self, terminate: &dsl::Terminate) -> Option<Terminate> {
        let fraction = self.fraction(TERMINATE, terminate.percent);
        let names = ["terminateAfterPeriod", "terminateAfterSeconds"];
        let spellings = (
            terminate.terminate_after_period.as_ref(),
            terminate.terminate_after_seconds,
        );
        // As the schema has it: what is left out is zero, at once.
        let after = match spellings {
            (None, None) => Some(Duration::ZERO),
            _ => self.duration_or_zero(TERMINATE, names, spellings),
        };
        Some(Terminate {
            fraction: fraction?,
            after: after?,
        })
    }
}
