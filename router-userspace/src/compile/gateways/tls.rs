//! What the rules of one port must agree on for TLS, and whether its certificates are for the hosts that they ask for.

use std::sync::Arc;

use router_rules::{
    gateway::{Credential, choose},
    text::TextMatch,
};

use super::Compiled;
use crate::finding::{Finding, codes};

/// Looks at the rules of a port.
pub(super) fn review(port: u16, rules: &[Compiled<'_>], findings: &mut Vec<Finding>) {
    let credentials: Vec<Arc<Credential>> = rules
        .iter()
        .filter_map(|(_, rule, _)| rule.credential.clone())
        .collect();
    let secure = rules.iter().find(|(_, rule, _)| rule.credential.is_some());
    let Some((_, secure, _)) = secure else { return };
    for (_, rule, position) in rules {
        if rule.credential.is_none() {
            let message = format!(
                "port {port} speaks TLS, as {} says, and plain text, as this says",
                secure.origin
            );
            let hint = "add `tlsSecret`, or take another port";
            findings.push(position.finding(&codes::INGRESS_TLS_CONFLICT, "port", message, hint));
        }
        for host in rule.any_of.iter().filter_map(|m| match &m.authority {
            Some(TextMatch::Exact(authority)) => Some(without_port(authority)),
            _ => None,
        }) {
            let shown = choose(&credentials, Some(host)).map(|at| &credentials[at]);
            if let Some(shown) = shown.filter(|shown| !shown.is_for(host)) {
                let message = format!(
                    "clients that ask for {host} are shown the certificate of {}, which is for {}",
                    shown.secret,
                    names(shown)
                );
                let hint = "name a Secret whose certificate is for this host";
                findings.push(position.finding(&codes::CERTIFICATE_OTHER_HOST, "tlsSecret", message, hint));
            }
        }
    }
}

fn without_port(authority: &str) -> &str {
    let parts = authority.rsplit_once(':');
    let port = |port: &str| !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit());
    let host = parts
        .filter(|(_, tail)| port(tail))
        .map_or(authority, |(host, _)| host);
    host.trim_start_matches('[').trim_end_matches(']')
}

fn names(credential: &Credential) -> String {
    match &credential.names[..] {
        [] => "no name".to_owned(),
        names => names.join(", "),
    }
}
