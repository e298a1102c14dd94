//! Which connections suffer the faults of connections. It does not draw.

use super::{Port, Route, Rule};
use crate::{l4_fault::L4Fault, matcher::Conditions};

impl Port {
    /// True when [`Route::l4_fault`] may be there for connections to it.
    pub const fn has_l4_faults(&self) -> bool {
        self.l4_faults
    }
}

impl Rule {
    /// Faults of the connections that it decides.
    pub const fn l4_fault(&self) -> &L4Fault {
        &self.l4_fault
    }

    /// True when a connection that it decides may suffer a fault.
    pub(crate) fn may_strike_connections(&self) -> bool {
        !self.l4_fault.is_empty()
            && (self.any_of.is_empty() || !self.any_of.iter().all(Conditions::needs_http))
    }
}

impl<'s> Route<'s> {
    /// What a connection on this route suffers. Asked of [`Snapshot::route_connection`](super::Snapshot::route_connection):
    /// a connection is decided before its first request.
    pub fn l4_fault(&self) -> Option<&'s L4Fault> {
        let fault = self.rule.map(|rule| &rule.l4_fault);
        fault.filter(|fault| self.port.l4_faults && !fault.is_empty())
    }
}
