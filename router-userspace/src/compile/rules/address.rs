//! Redirects and rewrites: where a rule sends clients, and what it makes of the address of a request.

use http::uri::{Authority, PathAndQuery};
use router_rules::rewrite::{DEFAULT_REDIRECT_STATUS, Redirect, Rewrite};

use super::Compiler;
use crate::{
    config::rules_v1alpha1::{Address, RouteRule},
    finding::codes,
};

impl Compiler<'_> {
    pub(super) fn redirect(&mut self, redirect: &Address) -> Option<Redirect> {
        self.says_something("redirect", redirect);
        Some(Redirect {
            uri: self.uri("redirect", redirect, Query::Allowed)?,
            authority: self.authority("redirect", redirect)?,
            status: DEFAULT_REDIRECT_STATUS,
        })
    }

    pub(super) fn rewrite(&mut self, rewrite: &Address) -> Rewrite {
        self.says_something("rewrite", rewrite);
        Rewrite {
            uri: self.uri("rewrite", rewrite, Query::Refused).flatten(),
            authority: self.authority("rewrite", rewrite).flatten(),
        }
    }

    fn says_something(&mut self, action: &str, address: &Address) {
        if address.uri.is_none() && address.authority.is_none() {
            let message = format!("`{action}` changes neither the path nor the host");
            self.report(
                &codes::MISSING_FIELD,
                action,
                message,
                "add `uri`, `authority` or both",
            );
        }
    }

    /// The path. `None` when it was reported.
    fn uri(&mut self, action: &str, address: &Address, query: Query) -> Option<Option<String>> {
        let Some(uri) = &address.uri else {
            return Some(None);
        };
        let hint = match query {
            _ if !uri.starts_with('/') => "write it as /path",
            Query::Refused if uri.contains('?') => "leave the query out: that of the request stays",
            _ if uri
                .parse::<PathAndQuery>()
                .is_ok_and(|parsed| parsed.as_str() == uri) =>
            {
                return Some(Some(uri.clone()));
            }
            _ => "encode what a URI does not take as %XX",
        };
        let message = format!("`{uri}` is no path that a request could have");
        self.report(&codes::INVALID_VALUE, &format!("{action}.uri"), message, hint);
        None
    }

    /// The host. `None` when it was reported.
    fn authority(&mut self, action: &str, address: &Address) -> Option<Option<String>> {
        let Some(authority) = &address.authority else {
            return Some(None);
        };
        let parsed = authority.parse::<Authority>();
        if parsed.is_ok_and(|parsed| !parsed.host().is_empty() && !authority.contains('@')) {
            return Some(Some(authority.clone()));
        }
        let message = format!("`{authority}` is no host with or without a port");
        let hint = "write it as reviews.example.com or reviews.example.com:8080";
        self.report(
            &codes::INVALID_VALUE,
            &format!("{action}.authority"),
            message,
            hint,
        );
        None
    }

    /// What a redirect keeps from happening: nothing of such a request is ever forwarded.
    pub(super) fn contradictions(&mut self, rule: &RouteRule) {
        if rule.redirect.is_none() {
            return;
        }
        let others = [
            (
                "route",
                rule.route.as_ref().is_some_and(|route| !route.is_empty()),
            ),
            ("rewrite", rule.rewrite.is_some()),
            ("appendHeaders", rule.append_headers.is_some()),
            ("mirror", rule.mirror.is_some()),
            ("httpFault", rule.http_fault.is_some()),
            ("websocketUpgrade", rule.websocket_upgrade.is_some()),
            ("httpReqTimeout", rule.http_req_timeout.is_some()),
            ("httpReqRetries", rule.http_req_retries.is_some()),
        ];
        for (field, _) in others.into_iter().filter(|other| other.1) {
            let message = format!("`{field}` could not happen beside `redirect`");
            let hint = "keep one of the two, or make two rules with different matches";
            self.report(&codes::CONTRADICTORY_ACTIONS, field, message, hint);
        }
    }
}

/// Whether a path may carry a query.
#[derive(Clone, Copy)]
enum Query {
    Allowed,
    Refused,
}
