//! Ports of the node at which requests from outside come in, and the services that they lead to.
//!
//! A gateway's rules are tried like those of a service, and the one that matches only names a port of a service, whose
//! own rules then decide as for any caller that nobody knows. It knows no sockets and no TLS: certificates are bytes
//! here, chosen by name.

use std::{cmp::Reverse, fmt, sync::Arc};

use crate::{
    connection::Connection,
    id::{Origin, ServiceName},
    index::RuleIndex,
    matcher::{Conditions, Request},
    model::{Match, Rank},
    snapshot::{PortId, Route, Snapshot},
    source::ClassId,
};

/// A port of the node with the rules of what comes in there.
#[derive(Clone, PartialEq, Debug)]
pub struct Gateway {
    /// The port.
    pub port: u16,
    /// Its rules, in any order. All of them have a credential, or none has.
    pub rules: Vec<GatewayRule>,
}

/// A rule of a gateway.
#[derive(Clone, PartialEq, Debug)]
pub struct GatewayRule {
    /// Where it was written.
    pub origin: Origin,
    /// Larger is tried first; ties in the order of the origins' object names.
    pub precedence: i32,
    /// Alternatives, of which one must hold; none: the rule always matches.
    pub any_of: Vec<Match>,
    /// The service that matching requests go to.
    pub service: ServiceName,
    /// The port of that service.
    pub service_port: u16,
    /// What the node proves to clients that it is; none: the port speaks plain text.
    pub credential: Option<Arc<Credential>>,
}

impl GatewayRule {
    /// Place in the order of evaluation among the rules of the same port.
    pub fn rank(&self) -> Rank<'_> {
        Rank {
            precedence: Reverse(self.precedence),
            object: &self.origin.object,
        }
    }
}

/// A certificate with its key.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Credential {
    /// Where it is from: `default/shop-tls`.
    pub secret: Arc<str>,
    /// Names that the certificate is for, in lower case; the first label may be `*`.
    pub names: Vec<String>,
    /// When it is valid.
    pub validity: Validity,
    /// The certificate and those above it, in DER.
    pub chain: Vec<Vec<u8>>,
    /// The private key.
    pub key: Key,
}

/// From when until when, in seconds since 1970 began, both included.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Validity {
    /// The first second.
    pub from: u64,
    /// The last second.
    pub until: u64,
}

/// A private key in DER. It is never shown, whoever asks.
#[derive(Clone, PartialEq, Eq)]
pub struct Key(Vec<u8>);

impl Key {
    /// From DER: PKCS#1, PKCS#8 or SEC1.
    pub const fn new(der: Vec<u8>) -> Self {
        Self(der)
    }

    /// The key itself.
    pub fn reveal(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Key(…)")
    }
}

impl Credential {
    /// True when the certificate is for a host.
    pub fn is_for(&self, host: &str) -> bool {
        self.names.iter().any(|name| covers(name, host) != Covers::Not)
    }
}

/// How a certificate's name is for a host.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Covers {
    Not,
    ByWildcard,
    Exactly,
}

/// A wildcard stands for one whole label (RFC 9525, 6.3).
fn covers(name: &str, host: &str) -> Covers {
    if name.eq_ignore_ascii_case(host) {
        return Covers::Exactly;
    }
    let below = name.strip_prefix("*.").zip(host.split_once('.'));
    match below {
        Some((of, (label, parent))) if !label.is_empty() && of.eq_ignore_ascii_case(parent) => {
            Covers::ByWildcard
        }
        _ => Covers::Not,
    }
}

/// Position of the credential for a client that asks for `host`: the first that names it, else the first with a wildcard
/// for it, else the first of all, which is also for clients that name nobody. None when there are no credentials.
pub fn choose(credentials: &[Arc<Credential>], host: Option<&str>) -> Option<usize> {
    let how = |credential: &Credential| {
        let host = host.map(|host| host.trim_end_matches('.'));
        let names = credential.names.iter();
        host.and_then(|host| names.map(|name| covers(name, host)).max())
            .unwrap_or(Covers::Not)
    };
    let ranked = credentials.iter().enumerate();
    ranked
        .max_by_key(|(position, credential)| (how(credential), Reverse(*position)))
        .map(|(position, _)| position)
}

/// A gateway of a snapshot.
#[derive(Debug)]
pub struct Entrance {
    pub(crate) port: u16,
    /// In the order of evaluation.
    pub(crate) rules: Box<[EntranceRule]>,
    pub(crate) index: RuleIndex,
    pub(crate) credentials: Box<[Arc<Credential>]>,
}

/// A rule of a gateway of a snapshot.
#[derive(Debug)]
pub struct EntranceRule {
    pub(crate) origin: Origin,
    pub(crate) precedence: i32,
    pub(crate) any_of: Box<[Conditions]>,
    pub(crate) service: ServiceName,
    pub(crate) service_port: u16,
    pub(crate) leads_to: Option<PortId>,
    pub(crate) secret: Option<Arc<str>>,
}

impl Entrance {
    /// The port of the node.
    pub const fn port(&self) -> u16 {
        self.port
    }
    /// Its rules in the order of evaluation.
    pub fn rules(&self) -> &[EntranceRule] {
        &self.rules
    }
    /// What it can prove to be, in the order of the rules that say so; none: it speaks plain text.
    pub fn credentials(&self) -> &[Arc<Credential>] {
        &self.credentials
    }
    /// True when clients must speak TLS.
    pub fn is_secure(&self) -> bool {
        !self.credentials.is_empty()
    }

    /// The scheme of what comes in.
    pub fn scheme(&self) -> &'static str {
        if self.is_secure() { "https" } else { "http" }
    }

    /// The host that rules see: clients name the port beside it unless it is their scheme's, and rules are about hosts.
    fn host<'a>(&self, authority: &'a str) -> &'a str {
        let parts = authority.rsplit_once(':');
        let own = parts.filter(|(_, port)| port.parse() == Ok(self.port));
        own.map_or(authority, |(host, _)| host)
    }

    /// The request as its rules, and those of the services, see it.
    pub fn seen<'a>(&self, request: &Request<'a>) -> Request<'a> {
        Request {
            authority: self.host(request.authority),
            scheme: self.scheme(),
            ..*request
        }
    }
}

impl EntranceRule {
    /// Where it was written.
    pub const fn origin(&self) -> &Origin {
        &self.origin
    }
    /// Larger is tried first.
    pub const fn precedence(&self) -> i32 {
        self.precedence
    }
    /// The service that requests go to, and its port.
    pub const fn leads_to(&self) -> (&ServiceName, u16) {
        (&self.service, self.service_port)
    }
    /// The secret that it names: `default/shop-tls`.
    pub fn secret(&self) -> Option<&str> {
        self.secret.as_deref()
    }
}

/// Where a request from outside goes.
#[derive(Clone, Copy, Debug)]
pub struct Entered<'s> {
    /// The gateway's rule that matched.
    pub rule: &'s EntranceRule,
    /// What the service's own rules say.
    pub route: Route<'s>,
}

/// Why a request that came in leads nowhere.
#[derive(Clone, Copy, Debug, thiserror::Error)]
pub enum Astray<'s> {
    /// No rule of the port matches.
    #[error("no rule of the port matches")]
    NoRule,
    /// The rule that matches names a service or port that there is not.
    #[error("there is no such service")]
    NoService(&'s EntranceRule),
}

/// Somebody outside as the rules of a service see them: nobody dialled its address.
pub(crate) const fn outsider(connection: Connection) -> Connection {
    Connection {
        class: ClassId::UNKNOWN,
        dialled: None,
        ..connection
    }
}

impl Snapshot {
    /// Every gateway, in the order of the ports.
    pub fn gateways(&self) -> &[Entrance] {
        &self.gateways
    }

    /// The gateway of a port.
    pub fn gateway(&self, port: u16) -> Option<&Entrance> {
        let found = self.gateways.binary_search_by_key(&port, Entrance::port);
        found.ok().map(|index| &self.gateways[index])
    }

    /// Decides a request that came in at `entrance`: its first rule that matches, then those of the service. `connection`
    /// has the client's address and the node's that was dialled; whoever comes in is unknown.
    ///
    /// # Errors
    ///
    /// It leads nowhere.
    pub fn enter<'s>(
        &'s self,
        entrance: &'s Entrance,
        connection: Connection,
        request: &Request<'_>,
    ) -> Result<Entered<'s>, Astray<'s>> {
        let connection = Connection {
            class: ClassId::UNKNOWN,
            ..connection
        };
        let request = entrance.seen(request);
        let holds = |entry: crate::index::Entry| {
            let rule = &entrance.rules[entry.rule as usize];
            rule.any_of[entry.alternative as usize].hold(&self.sources, &connection, &request)
        };
        let first = entrance
            .index
            .first(&self.sources, connection.class, &request, holds);
        let rule = first
            .map(|position| &entrance.rules[position])
            .ok_or(Astray::NoRule)?;
        let port = rule.leads_to.ok_or(Astray::NoService(rule))?;
        let port = &self.ports[port.0 as usize];
        Ok(Entered {
            rule,
            route: self.route_http(port, outsider(connection), &request),
        })
    }
}

#[cfg(test)]
mod tests;
