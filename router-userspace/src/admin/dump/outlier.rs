//! What policies say of failing endpoints. It knows nothing of who ejects them.

use router_rules::policy::OutlierDetection;
use serde::{Deserialize, Serialize};

use super::snapshot::milliseconds;

/// When an endpoint is ejected, and for how long.
#[derive(Serialize, Deserialize, Clone, Copy, PartialEq, Eq, Debug)]
#[serde(rename_all = "camelCase")]
pub struct OutlierDump {
    /// Failed attempts in a row.
    pub consecutive_errors: u32,
    /// Milliseconds between sweeps.
    pub interval_ms: u64,
    /// Milliseconds that a first ejection lasts at least.
    pub base_ejection_ms: u64,
    /// Share of a subset's endpoints that may be ejected at once.
    pub max_ejection_percent: u32,
}

impl OutlierDump {
    /// Dumps settings.
    pub fn new(settings: &OutlierDetection) -> Self {
        Self {
            consecutive_errors: settings.consecutive_errors,
            interval_ms: milliseconds(settings.interval),
            base_ejection_ms: milliseconds(settings.base_ejection),
            max_ejection_percent: settings.max_ejection_percent,
        }
    }
}
