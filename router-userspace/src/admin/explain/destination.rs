//! The destination of a question: a URL, or host and port; found in the snapshot as a pod's resolver would find it.
//!
//! It knows nothing of rules.

use std::{
    collections::BTreeSet,
    net::{IpAddr, SocketAddr},
    str::FromStr,
};

use router_rules::{
    Snapshot,
    connection::Transport,
    id::ServiceName,
    snapshot::{Port, Spoken},
};

use super::words;

/// Domain of services in a cluster.
const CLUSTER_DOMAIN: &str = "svc.cluster.local";

/// A URL, or host and port.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Destination {
    scheme: Option<String>,
    host: String,
    port: Option<u16>,
    /// Path and query; `/` when there is none.
    pub(super) path: String,
    /// The host that the client names, when it is told apart from the one it connects to.
    sent_host: Option<String>,
}

/// Why there is no such destination.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum DestinationError {
    /// It can not be read.
    #[error("{0:?} is no destination (try http://reviews:9080/ or tcp://10.0.0.1:27017)")]
    Unreadable(String),
    /// The scheme is none that is routed.
    #[error("{0:?} is not routed (use http, https, grpc, tcp or udp)")]
    Scheme(String),
    /// No service has the name.
    #[error("no service is called {host} ({hint})")]
    UnknownService {
        /// As asked.
        host: String,
        /// What there is instead.
        hint: String,
    },
    /// The service has not this port.
    #[error("{service} has no {transport} port {port} (it has {ports})")]
    UnknownPort {
        /// The service.
        service: String,
        /// As asked: `tcp` or `udp`.
        transport: Transport,
        /// As asked.
        port: u16,
        /// Those it has.
        ports: String,
    },
    /// The address is unknown, on a port where hosts below some domains may be reached: what the client says decides.
    #[error(
        "{at} is unknown, and only the name that the client sends tells whether it is below {domains}: the proxy looks for it \
         (ask for https://HOST, or with -H 'Host: …')"
    )]
    Unnamed {
        /// As asked.
        at: SocketAddr,
        /// Of egress rules.
        domains: String,
    },
    /// The host is below no domain of the port's.
    #[error(
        "{host} is no service's and below none of {domains}: the proxy passes it on as it is, or refuses it to workloads under \
         registry-only (unknown-destination)"
    )]
    Elsewhere {
        /// As asked.
        host: String,
        /// Of egress rules.
        domains: String,
    },
    /// The address is no frontend: connections to it are left as they are.
    #[error("{0} is no service's address: the kernel leaves connections to it as they are (not-a-service)")]
    NotAService(SocketAddr),
    /// The address is unknown, and the caller may reach only what is known.
    #[error(
        "{0} is unknown: neither a service's, a workload's or a node's address nor an egress rule's, so the kernel refuses \
         workloads' connections to it (unknown-destination)"
    )]
    Refused(SocketAddr),
}

impl FromStr for Destination {
    type Err = DestinationError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let unreadable = || DestinationError::Unreadable(text.to_owned());
        let (scheme, rest) = match text.split_once("://") {
            Some((scheme, rest)) => (Some(scheme.to_ascii_lowercase()), rest),
            None => (None, text),
        };
        if let Some(scheme) = &scheme
            && !["http", "https", "grpc", "tcp", "udp"].contains(&scheme.as_str())
        {
            return Err(DestinationError::Scheme(scheme.clone()));
        }
        let at = rest.find(['/', '?']).unwrap_or(rest.len());
        let authority: http::uri::Authority = rest[..at].parse().map_err(|_| unreadable())?;
        let path = match &rest[at..] {
            "" => "/".to_owned(),
            query if query.starts_with('?') => format!("/{query}"),
            path => path.to_owned(),
        };
        // What is after the last colon must be a port: `Authority` takes `host:` and numbers beyond 65535.
        let tail = authority.as_str().rsplit(']').next().unwrap_or("");
        if tail.contains(':') && authority.port_u16().is_none() {
            return Err(unreadable());
        }
        let host = authority.host().trim_start_matches('[').trim_end_matches(']');
        if host.is_empty() {
            return Err(unreadable());
        }
        Ok(Self {
            scheme,
            host: host.to_owned(),
            port: authority.port_u16(),
            path,
            sent_host: None,
        })
    }
}

impl Destination {
    /// The service port that a workload of `namespace` would reach.
    pub(super) fn find<'s>(
        &self,
        snapshot: &'s Snapshot,
        namespace: &str,
    ) -> Result<&'s Port, DestinationError> {
        if let Ok(ip) = self.host.parse() {
            let at = SocketAddr::new(canonical(ip), self.port_or_default());
            let port = snapshot
                .port_carried_at(self.transport(), at)
                .ok_or(DestinationError::NotAService(at))?;
            return match port.is_named() {
                // The kernel leaves this host's own addresses alone.
                true if at.ip().is_loopback() => Err(DestinationError::NotAService(at)),
                true => self.named_at(snapshot, at),
                false => Ok(port),
            };
        }
        let names = self.candidates(namespace);
        let of = |name: &ServiceName| {
            snapshot
                .ports()
                .iter()
                .filter(|p| p.service() == name)
                .collect::<Vec<_>>()
        };
        let carried = |p: &&&Port| p.protocol().transport() == self.transport();
        if let Some(port) = self.below(snapshot, &self.host)
            && names.iter().all(|name| of(name).is_empty())
        {
            return Ok(port);
        }
        let Some(ports) = names.iter().map(of).find(|ports| !ports.is_empty()) else {
            let domains = snapshot.domains_at(self.port_or_default());
            if !domains.is_empty() && host_is_whole(&self.host) {
                return Err(DestinationError::Elsewhere {
                    host: self.host.clone(),
                    domains: domains.join(", "),
                });
            }
            let known: BTreeSet<&str> = snapshot.ports().iter().map(|p| p.service().as_str()).collect();
            return Err(DestinationError::UnknownService {
                host: self.host.clone(),
                hint: words::did_you_mean(names[0].as_str(), known.into_iter()),
            });
        };
        // Without a port, the only one will be meant.
        let number = match (self.port, &ports[..]) {
            (None, [only]) => only.number(),
            _ => self.port_or_default(),
        };
        ports
            .iter()
            .filter(carried)
            .find(|p| p.number() == number)
            .copied()
            .ok_or_else(|| DestinationError::UnknownPort {
                service: ports[0].service().to_string(),
                transport: self.transport(),
                port: number,
                ports: ports
                    .iter()
                    .map(|p| format!("{}/{}", p.number(), p.protocol().transport()))
                    .collect::<Vec<_>>()
                    .join(", "),
            })
    }

    /// The port of hosts at an unknown address, of which only the name tells: the one that the question says is sent.
    fn named_at<'s>(&self, snapshot: &'s Snapshot, at: SocketAddr) -> Result<&'s Port, DestinationError> {
        let sent = self.sent_host.as_deref();
        let found = sent.and_then(|host| self.below(snapshot, host));
        found.ok_or_else(|| DestinationError::Unnamed {
            at,
            domains: snapshot.domains_at(at.port()).join(", "),
        })
    }

    /// The port of hosts below a domain that `host` is one of, as far as the scheme says what is spoken.
    fn below<'s>(&self, snapshot: &'s Snapshot, host: &str) -> Option<&'s Port> {
        let spoken: &[Spoken] = match self.scheme.as_deref() {
            Some("http" | "grpc") => &[Spoken::Http],
            Some("https" | "tcp") => &[Spoken::Tls],
            Some(_) => &[],
            None => &[Spoken::Http, Spoken::Tls],
        };
        let number = self.port_or_default();
        spoken
            .iter()
            .find_map(|&spoken| snapshot.port_below(host, number, spoken))
    }

    /// The same, with the `Host` that the question says the client sends.
    pub(super) fn sending(self, host: Option<&str>) -> Self {
        Self {
            sent_host: host.map(str::to_owned),
            ..self
        }
    }

    /// The name as a pod's search list would complete it, shortest domain last; never empty.
    fn candidates(&self, namespace: &str) -> [ServiceName; 4] {
        let host = self.host.trim_end_matches('.');
        [
            ServiceName::new(&format!("{host}.{namespace}.{CLUSTER_DOMAIN}")),
            ServiceName::new(&format!("{host}.{CLUSTER_DOMAIN}")),
            ServiceName::new(&format!("{host}.cluster.local")),
            ServiceName::new(host),
        ]
    }

    /// What carries the call: TCP unless UDP is named.
    fn transport(&self) -> Transport {
        if self.scheme.as_deref() == Some("udp") {
            Transport::Udp
        } else {
            Transport::Tcp
        }
    }

    /// The port, or the usual one of the scheme.
    pub(super) fn port_or_default(&self) -> u16 {
        let default = if self.scheme.as_deref() == Some("https") {
            443
        } else {
            80
        };
        self.port.unwrap_or(default)
    }

    /// The same error, or the one that says what the kernel does while it refuses what is unknown.
    pub(super) fn judged(snapshot: &Snapshot, error: DestinationError) -> DestinationError {
        match error {
            DestinationError::NotAService(at) if !snapshot.knows(at.ip()) && !at.ip().is_loopback() => {
                DestinationError::Refused(at)
            }
            other => other,
        }
    }

    /// The frontend that is connected to: the address asked for, else the service's first.
    pub(super) fn frontend(&self, port: &Port) -> Option<SocketAddr> {
        let asked = self.host.parse().ok().map(canonical);
        let of = |ip: IpAddr| port.frontends().iter().find(|f| f.ip() == ip);
        let asked_in_network = || asked.filter(|_| port.external().is_some());
        let in_network = || Some(SocketAddr::new(asked_in_network()?, port.number()));
        let found = asked.map_or_else(|| port.frontends().first(), of).copied();
        found.or_else(in_network)
    }

    /// The address, when the host is one.
    pub(super) fn address(&self) -> Option<IpAddr> {
        self.host.parse().ok().map(canonical)
    }

    /// True unless the scheme says that it is no request.
    pub(super) fn is_http(&self) -> bool {
        !matches!(self.scheme.as_deref(), Some("tcp" | "udp"))
    }

    /// The scheme that rules see: the proxy is reached in plain text unless TLS is named.
    pub(super) fn http_scheme(&self) -> &'static str {
        if self.scheme.as_deref() == Some("https") {
            "https"
        } else {
            "http"
        }
    }

    /// Host and port as a client would write them in the request.
    pub(super) fn authority(&self) -> String {
        let host = if self.host.contains(':') {
            format!("[{}]", self.host)
        } else {
            self.host.clone()
        };
        self.port.map_or(host.clone(), |port| format!("{host}:{port}"))
    }
}

/// True for names that no search list completes to a service's: they end in a top-level domain of their own.
fn host_is_whole(host: &str) -> bool {
    host.split('.').count() > 2 && !host.ends_with(CLUSTER_DOMAIN)
}

/// Frontends are never v4-mapped.
fn canonical(ip: IpAddr) -> IpAddr {
    ip.to_canonical()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<(Option<String>, String, Option<u16>, String), DestinationError> {
        text.parse::<Destination>()
            .map(|d| (d.scheme, d.host, d.port, d.path))
    }

    #[test]
    fn urls_and_hosts_are_read() {
        let some = |s: &str| Some(s.to_owned());
        assert_eq!(
            parse("http://reviews:9080/a?b=c").unwrap(),
            (some("http"), "reviews".into(), Some(9080), "/a?b=c".into())
        );
        assert_eq!(
            parse("TCP://mongodb:27017").unwrap(),
            (some("tcp"), "mongodb".into(), Some(27017), "/".into())
        );
        assert_eq!(
            parse("reviews").unwrap(),
            (None, "reviews".into(), None, "/".into())
        );
        assert_eq!(
            parse("[fd00::1]:80").unwrap(),
            (None, "fd00::1".into(), Some(80), "/".into())
        );
        assert_eq!(parse("h?x=1").unwrap(), (None, "h".into(), None, "/?x=1".into()));
    }

    #[test]
    fn nonsense_is_refused() {
        for text in ["", "http://", "a:b", "a:99999", "a:", "http:///x", "a b"] {
            assert!(
                matches!(parse(text), Err(DestinationError::Unreadable(_))),
                "{text}"
            );
        }
        assert_eq!(parse("ftp://a"), Err(DestinationError::Scheme("ftp".into())));
    }

    #[test]
    fn the_authority_is_as_a_client_writes_it() {
        let authority = |text: &str| text.parse::<Destination>().unwrap().authority();
        assert_eq!(authority("http://reviews:9080/"), "reviews:9080");
        assert_eq!(authority("http://[fd00::1]/"), "[fd00::1]");
    }
}
