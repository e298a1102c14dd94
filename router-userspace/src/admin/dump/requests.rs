//! Limits on requests with their use. They know nothing of who keeps them.

use std::num::NonZeroU32;

use router_rules::policy::HttpLimits;
use serde::{Deserialize, Serialize};

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
}

impl RequestLimitsDump {
    /// Dumps limits.
    pub fn new(limits: &HttpLimits) -> Self {
        Self {
            http_max_requests: limits.max_requests,
            http_max_pending_requests: limits.max_pending_requests,
            http_max_requests_per_connection: limits.max_requests_per_connection.map(NonZeroU32::get),
            http_max_retries: limits.max_retries,
        }
    }
}
