//! The small cluster that most tests share: two callers, three versions of one server, and the services they form.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use anyhow::Result;

use crate::{
    bed::{Agent, AgentOptions, Manifest, Node, Pod, ServicePort},
    protocol::{Http, HttpRequest},
};

/// Port on which pods serve TCP.
pub const TCP: u16 = 7000;
/// Port on which pods serve HTTP.
pub const HTTP: u16 = 8000;

const STORE_V4: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 96, 0, 10));
const STORE_V6: IpAddr = IpAddr::V6(Ipv6Addr::new(0xfd77, 0x96, 0, 0, 0, 0, 0, 0x10));
const WEB_V4: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 96, 0, 20));
const WEB_V6: IpAddr = IpAddr::V6(Ipv6Addr::new(0xfd77, 0x96, 0, 0, 0, 0, 0, 0x20));
const BOTH_V4: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 96, 0, 50));
const BOTH_V6: IpAddr = IpAddr::V6(Ipv6Addr::new(0xfd77, 0x96, 0, 0, 0, 0, 0, 0x50));
const CLOSED_V4: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 96, 0, 60));
const CLIENTS_V4: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 96, 0, 30));

/// `store` over IPv4: TCP.
pub const STORE: SocketAddr = SocketAddr::new(STORE_V4, TCP);
/// `store6`: the same pods over IPv6.
pub const STORE6: SocketAddr = SocketAddr::new(STORE_V6, TCP);
/// `web`: HTTP.
pub const WEB: SocketAddr = SocketAddr::new(WEB_V4, 80);
/// `web6`: the same pods over IPv6.
pub const WEB6: SocketAddr = SocketAddr::new(WEB_V6, 80);
/// `both` over IPv4: the pods with both their addresses.
pub const BOTH4: SocketAddr = SocketAddr::new(BOTH_V4, TCP);
/// `both` over IPv6.
pub const BOTH6: SocketAddr = SocketAddr::new(BOTH_V6, TCP);
/// `closed`: pods that do not listen.
pub const CLOSED: SocketAddr = SocketAddr::new(CLOSED_V4, TCP);
/// `web` on its TCP port.
pub const WEB_TCP: SocketAddr = SocketAddr::new(WEB_V4, TCP);
/// Host of `web`.
pub const WEB_HOST: &str = "web.default.svc.cluster.local";

/// Callers and servers on a node. Fields are dropped in order: pods before their node.
#[derive(Debug)]
pub struct Cluster {
    /// Caller with label `version: a`.
    pub a: Pod,
    /// Caller with label `version: b`.
    pub b: Pod,
    /// Servers with labels `version: v1`, `v2`, `v3`.
    pub servers: [Pod; 3],
    /// Their node.
    pub node: Node,
}

impl Cluster {
    /// Makes the pods and starts their servers.
    ///
    /// # Errors
    ///
    /// Not root, or the kernel lacks something.
    pub fn new() -> Result<Self> {
        let node = Node::new()?;
        let server = |version| {
            let pod = node.pod(version, &[("app", "store"), ("version", version)])?;
            pod.serve_tcp(TCP)?;
            pod.serve_http(HTTP)?;
            anyhow::Ok(pod)
        };
        Ok(Self {
            servers: [server("v1")?, server("v2")?, server("v3")?],
            a: node.pod("a", &[("app", "client"), ("version", "a")])?,
            b: node.pod("b", &[("app", "client"), ("version", "b")])?,
            node,
        })
    }

    /// The registry: pods and services.
    ///
    /// # Errors
    ///
    /// None that a test can cause.
    pub fn registry(&self) -> Result<String> {
        let tcp = ServicePort {
            name: "tcp-store",
            port: TCP,
            target: TCP,
        };
        let http = ServicePort {
            name: "http",
            port: WEB.port(),
            target: HTTP,
        };
        let closed = ServicePort { target: 9, ..tcp };
        let clients = [&self.a, &self.b];
        let servers: Vec<_> = self.servers.iter().collect();
        Manifest::new()
            .pods(clients.into_iter().chain(&self.servers))
            .service("store", &[STORE_V4], &[tcp], &servers)
            .service("store6", &[STORE_V6], &[tcp], &servers)
            .service("web", &[WEB_V4], &[http, tcp], &servers)
            .service("web6", &[WEB_V6], &[http], &servers)
            .service("both", &[BOTH_V4, BOTH_V6], &[tcp], &servers)
            .service("closed", &[CLOSED_V4], &[closed], &servers)
            .service("client", &[CLIENTS_V4], &[tcp], &clients)
            .yaml()
    }

    /// The agent with the registry and `rules`.
    ///
    /// # Errors
    ///
    /// It does not become ready.
    pub fn agent(&self, rules: &str) -> Result<Agent<'_>> {
        self.agent_with(rules, &[])
    }

    /// [`Cluster::agent`] with further arguments.
    ///
    /// # Errors
    ///
    /// It does not become ready.
    pub fn agent_with(&self, rules: &str, arguments: &[&str]) -> Result<Agent<'_>> {
        let files = [("registry.yaml", &*self.registry()?), (RULES, rules)];
        let options = AgentOptions {
            arguments: arguments.iter().map(|&a| a.into()).collect(),
            ..AgentOptions::default()
        };
        Agent::start_with(&self.node, &files, options)
    }

    /// `count` times `GET /` of `web`.
    pub fn get(count: u64) -> Http {
        Self::send(HttpRequest::get("/"), count)
    }

    /// `count` times `request` to `web`.
    pub fn send(request: HttpRequest, count: u64) -> Http {
        Http::to(WEB, WEB_HOST, request, count)
    }
}

/// File that holds the rules.
pub const RULES: &str = "rules.yaml";

/// A route rule `NAME` for `service` with further fields of its spec, already indented by two spaces.
pub fn rule(name: &str, service: &str, fields: &str) -> String {
    format!(
        "---\ntype: route-rule\nname: {name}\nspec:\n  destination: {service}.default.svc.cluster.local\n{fields}"
    )
}

/// A rule that splits `service` among versions by weight.
pub fn split(service: &str, weights: &[(&str, u32)]) -> String {
    rule(&format!("{service}-split"), service, &route(weights))
}

/// The `route` of a rule.
pub fn route(weights: &[(&str, u32)]) -> String {
    let mut fields = String::from("  route:\n");
    for (version, weight) in weights {
        fields.push_str(&format!(
            "  - tags: {{version: {version}}}\n    weight: {weight}\n"
        ));
    }
    fields
}

/// A policy `service-limit` of `max` connections.
pub fn limit(service: &str, max: u64) -> String {
    format!(
        "---\ntype: destination-policy\nname: {service}-limit\nspec:\n  \
         destination: {service}.default.svc.cluster.local\n  circuitBreaker:\n    simpleCb:\n      \
         maxConnections: {max}\n"
    )
}

/// A policy that balances `service` by `name`.
pub fn balance(service: &str, name: &str) -> String {
    format!(
        "---\ntype: destination-policy\nname: {service}-balance\nspec:\n  \
         destination: {service}.default.svc.cluster.local\n  loadBalancing: {name}\n"
    )
}
