//! Limits of a policy by number. It does not know what keeps them.

use std::num::NonZeroU32;

use router_rules::policy::{HttpLimits, MAX_PENDING_REQUESTS};

use super::{Compiler, Entry};
use crate::{config::rules_v1alpha1::SimpleCircuitBreaker, finding::codes};

/// What to do instead of a limit of 0 that was meant to let nothing through.
pub(super) const NO_CONNECTION: &str =
    "leave it out for no limit; send the traffic elsewhere, or abort it, for none";
const NO_RETRY: &str = "leave it out for the retry budget; take `httpReqRetries` out of the rules for none";

impl Compiler<'_> {
    /// The limits that only the proxy can keep.
    pub(super) fn http_limits(&mut self, entry: &Entry<'_>, simple: &SimpleCircuitBreaker) -> HttpLimits {
        let pending = simple.http_max_pending_requests;
        let max_pending_requests = pending.and_then(|n| self.pending(entry, n));
        if max_pending_requests.is_some_and(|max| max > 0) && simple.max_connections.is_none() {
            let hint = "add `maxConnections`, or remove it";
            let message = "requests only wait where the number of connections is limited";
            let field = field(entry, "httpMaxPendingRequests");
            self.report(&codes::LIMIT_HAS_NO_EFFECT, &field, message, hint);
        }
        let max_requests = simple.http_max_requests;
        let max_retries = simple.http_max_retries;
        let per_connection = simple.http_max_requests_per_connection;
        HttpLimits {
            max_requests: max_requests.and_then(|n| self.limit(entry, "httpMaxRequests", (n, NO_CONNECTION))),
            max_pending_requests: max_pending_requests
                .filter(|&max| max > 0 && simple.max_connections.is_some()),
            // 0 is "no limit" by the language's own words.
            max_requests_per_connection: per_connection
                .and_then(|n| self.in_range(entry, "httpMaxRequestsPerConnection", (n, 0, u32::MAX)))
                .and_then(NonZeroU32::new),
            max_retries: max_retries.and_then(|n| self.limit(entry, "httpMaxRetries", (n, NO_RETRY))),
        }
    }

    fn pending(&mut self, entry: &Entry<'_>, written: i64) -> Option<u32> {
        self.in_range(
            entry,
            "httpMaxPendingRequests",
            (written, 0, MAX_PENDING_REQUESTS),
        )
    }

    /// A limit where 0 could mean two things; `instead` says how to write each.
    pub(super) fn limit(
        &mut self,
        entry: &Entry<'_>,
        name: &str,
        (written, instead): (i64, &str),
    ) -> Option<u32> {
        if written == 0 {
            let message = "a limit of 0 could mean none or no limit";
            self.report(&codes::LIMIT_OF_ZERO, &field(entry, name), message, instead);
            return None;
        }
        self.in_range(entry, name, (written, 1, u32::MAX))
    }

    fn in_range(
        &mut self,
        entry: &Entry<'_>,
        name: &str,
        (written, min, max): (i64, u32, u32),
    ) -> Option<u32> {
        let value = u32::try_from(written).ok().filter(|n| (min..=max).contains(n));
        if value.is_none() {
            let message = format!("{written} is not between {min} and {max}");
            self.report(&codes::INVALID_VALUE, &field(entry, name), message, "");
        }
        value
    }
}

fn field(entry: &Entry<'_>, name: &str) -> String {
    format!("{}circuitBreaker.simpleCb.{name}", entry.prefix)
}
