//! Where a rule sends copies of requests.

use router_rules::{
    action::{Fraction, Mirror},
    id::ServiceName,
};

use super::{Compiler, labels, labels_of};
use crate::config::rules_v1alpha1::{IstioService, ServiceReference};

impl Compiler<'_> {
    /// A mirror without a name is other instances of the rule's own destination.
    pub(super) fn mirror(
        &mut self,
        own: Option<&ServiceName>,
        reference: &ServiceReference,
    ) -> Option<Mirror> {
        let unnamed = match reference {
            ServiceReference::Structured(service) => matches!(
                **service,
                IstioService {
                    name: None,
                    namespace: None,
                    domain: None,
                    service: None,
                    labels: Some(_),
                }
            ),
            ServiceReference::Name(_) => false,
        };
        let service = if unnamed {
            own.cloned()
        } else {
            self.service("mirror", reference)
        };
        Some(Mirror {
            service: service?,
            labels: labels(labels_of(Some(reference))),
            fraction: Fraction::ALL,
        })
    }
}
