//! Names of services as rules write them → fully qualified names.

use std::net::IpAddr;

use ipnet::IpNet;
use router_rules::id::ServiceName;

use crate::config::rules_v1alpha1::ServiceReference;

/// What follows the namespace in a service's name.
const DOMAIN: &str = "svc.cluster.local";

/// The full name of a service of the registry.
pub(super) fn of_service(namespace: &str, name: &str) -> ServiceName {
    ServiceName::new(&format!("{name}.{namespace}.{DOMAIN}"))
}

/// The full name of what a rule in `namespace` refers to: `reviews`, `reviews.prod`, `reviews.prod.svc` are
/// completed, longer names are taken as they are. `None` when the reference names nothing.
pub(super) fn resolve(reference: &ServiceReference, namespace: &str) -> Option<ServiceName> {
    match reference {
        ServiceReference::Name(name) => complete(name, namespace),
        ServiceReference::Structured(service) => {
            if let Some(whole) = &service.service {
                return complete(whole, namespace);
            }
            let name = service.name.as_deref().filter(|name| !name.is_empty())?;
            let namespace = service.namespace.as_deref().unwrap_or(namespace);
            let domain = service.domain.as_deref().unwrap_or(DOMAIN);
            Some(ServiceName::new(&format!("{name}.{namespace}.{domain}")))
        }
    }
}

/// The canonical name of what is no name of the domain system: an address, a network, or every name below a domain.
pub(super) fn external(text: &str) -> Option<ServiceName> {
    if let Ok(address) = text.parse::<IpAddr>() {
        return Some(ServiceName::new(&address.to_canonical().to_string()));
    }
    if let Ok(network) = text.parse::<IpNet>() {
        return Some(ServiceName::new(&network.to_string()));
    }
    let is_below = text.starts_with("*.") && !text.ends_with(DOMAIN);
    is_below.then(|| ServiceName::new(text))
}

/// What [`resolve`] makes of an external host's name, when that is another.
pub(super) fn completed(name: &ServiceName) -> Option<ServiceName> {
    complete(name.as_str(), "").filter(|completed| completed != name)
}

/// True for a part of a name, between dots.
pub(super) fn is_part(part: &str) -> bool {
    (1..=63).contains(&part.len())
        && part.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
        && !part.starts_with('-')
        && !part.ends_with('-')
}

fn complete(name: &str, namespace: &str) -> Option<ServiceName> {
    if let Some(external) = external(name) {
        return Some(external);
    }
    let name = name.trim_end_matches('.');
    let parts: Vec<_> = name.split('.').collect();
    match parts[..] {
        [""] => None,
        [name] => Some(of_service(namespace, name)),
        [name, namespace] | [name, namespace, "svc"] => Some(of_service(namespace, name)),
        _ => Some(ServiceName::new(name)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_names_are_completed() {
        for (written, full) in [
            ("reviews", "reviews.prod.svc.cluster.local"),
            ("reviews.default", "reviews.default.svc.cluster.local"),
            ("reviews.default.svc", "reviews.default.svc.cluster.local"),
            (
                "Reviews.default.svc.cluster.local.",
                "reviews.default.svc.cluster.local",
            ),
            ("api.example.com", "api.example.com"),
        ] {
            let name = resolve(&ServiceReference::Name(written.to_owned()), "prod");
            assert_eq!(name, Some(ServiceName::new(full)), "{written}");
        }
        assert_eq!(resolve(&ServiceReference::Name(String::new()), "prod"), None);
    }
}
