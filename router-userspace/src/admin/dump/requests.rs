//! Limits on requests with their use. They know nothing of who keeps them.

use std::num::NonZeroU32;

use router_rules::policy::HttpLimits;
use serde::{Deserialize, Serialize};

use crate::enforce::breaker::RequestUse;

/// Limits of a policy on requests.
#[derive(Serialize, Deserialize, Clone, Copy, PartialEq, Eq, Debug, Default)]
#[serde(rename_all = "camelCase")]
pub struct RequestLimitsDump {
    /// Requests that may be with endpoints at once.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub http_max_requests: Option<u32>,
    /// Requests that may wait for a connection at once.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub http_max_pending_requests: Option<u32>,
    /// Requests after which a connection is not used again.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub http_max_requests_per_connection: Option<u32>,
    /// Retries that may be under way at once.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub http_max_retries: Option<u32>,
    /// What is under way, where it is known.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub requests: Option<RequestUseDump>,
}

/// What is under way under a policy's limits.
#[derive(Serialize, Deserialize, Clone, Copy, PartialEq, Eq, Debug)]
#[serde(rename_all = "camelCase")]
pub struct RequestUseDump {
    /// Requests that are with endpoints now.
    pub active: u32,
    /// Requests that wait for a connection now.
    pub pending: u32,
    /// Retries that are under way now.
    pub retries: u32,
    /// Requests refused so far, for want of a place or of room to wait.
    pub refused: u64,
    /// Retries not made so far.
    pub refused_retries: u64,
}

/// A policy with limits on requests.
#[derive(Serialize, Deserialize, Clone, PartialEq, Eq, Debug)]
#[serde(rename_all = "camelCase")]
pub struct RequestStatus {
    /// Kind and name of the policy.
    pub policy: String,
    /// The service it is for.
    pub service: String,
    /// Labels it is for.
    pub labels: String,
    /// The limits with their use.
    #[serde(flatten)]
    pub limits: RequestLimitsDump,
}

impl RequestLimitsDump {
    /// Dumps limits with their use, where it is known.
    pub fn new(limits: &HttpLimits, in_use: Option<RequestUse>) -> Self {
        let in_use = (!limits.is_empty()).then_some(in_use).flatten();
        Self {
            http_max_requests: limits.max_requests,
            http_max_pending_requests: limits.max_pending_requests,
            http_max_requests_per_connection: limits.max_requests_per_connection.map(NonZeroU32::get),
            http_max_retries: limits.max_retries,
            requests: in_use.map(|of| RequestUseDump {
                active: of.active,
                pending: of.pending,
                retries: of.retries,
                refused: of.refused + of.refused_pending,
                refused_retries: of.refused_retries,
            }),
        }
    }

    /// The limits in words, with their use where it is known: `3 of 10 requests at once`.
    pub fn words(&self) -> Vec<String> {
        let of = |count: fn(&RequestUseDump) -> u32, max: u32, what: &str| match &self.requests {
            Some(in_use) => format!("{} of {max} {what}", count(in_use)),
            None => format!("at most {max} {what}"),
        };
        let requests = self
            .http_max_requests
            .map(|max| of(|u| u.active, max, "requests at once"));
        let pending = self
            .http_max_pending_requests
            .map(|max| of(|u| u.pending, max, "waiting"));
        let retries = self
            .http_max_retries
            .map(|max| of(|u| u.retries, max, "retries at once"));
        let uses = self.http_max_requests_per_connection;
        let uses = uses.map(|max| format!("at most {max} requests per connection"));
        let refused = self
            .requests
            .map(|in_use| format!("{} requests refused so far", in_use.refused));
        [requests, pending, retries, uses, refused]
            .into_iter()
            .flatten()
            .collect()
    }
}
