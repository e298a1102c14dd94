//! Random configurations and requests. They depend on nothing but the seed.

use std::{fmt::Write as _, net::SocketAddr};

use fastrand::Rng;

/// A service of the world.
pub struct Service {
    pub name: &'static str,
    /// Name of its port, which says what is spoken.
    pub speaks: &'static str,
    /// Last part of its address, 10.9.8.N.
    pub number: u8,
}

pub const SERVICES: [Service; 6] = [
    Service {
        name: "shop",
        speaks: "http",
        number: 1,
    },
    Service {
        name: "cart",
        speaks: "http",
        number: 2,
    },
    Service {
        name: "bank",
        speaks: "grpc",
        number: 3,
    },
    Service {
        name: "vault",
        speaks: "grpc",
        number: 4,
    },
    Service {
        name: "store",
        speaks: "tcp",
        number: 5,
    },
    Service {
        name: "depot",
        speaks: "tcp",
        number: 6,
    },
];

/// Instances of every service.
pub const INSTANCES: usize = 3;

/// Workloads that call; caller 0 is nobody that the configuration knows.
pub const CALLERS: u8 = 4;

impl Service {
    pub fn is_http(&self) -> bool {
        self.speaks != "tcp"
    }

    pub fn address(&self) -> SocketAddr {
        SocketAddr::from(([10, 9, 8, self.number], 80))
    }

    pub fn full_name(&self) -> String {
        format!("{}.default.svc.cluster.local", self.name)
    }
}

/// A request, or a connection to a service that does not speak HTTP.
#[derive(Clone, Debug)]
pub struct Ask {
    pub service: usize,
    pub caller: u8,
    pub method: &'static str,
    /// Path with a query that no other request has.
    pub path: String,
    pub host: &'static str,
    pub headers: Vec<(&'static str, &'static str)>,
}

fn choice<T: Copy>(rng: &mut Rng, of: &[T]) -> T {
    of[rng.usize(..of.len())]
}

/// One in `n`.
fn chance(rng: &mut Rng, n: u32) -> bool {
    rng.u32(..n) == 0
}

/// The registry and rules as a user would write them. `instances` are the addresses of each service's instances.
pub fn configuration(rng: &mut Rng, instances: &[Vec<SocketAddr>]) -> String {
    let mut yaml = String::new();
    for (service, addresses) in SERVICES.iter().zip(instances) {
        registry(rng, service, addresses, &mut yaml);
    }
    for caller in 1..=CALLERS {
        let app = choice(rng, &SERVICES.each_ref()).name;
        let version = choice(rng, &["v1", "v2"]);
        let _ = write!(
            yaml,
            "---\napiVersion: v1\nkind: Pod\nmetadata: {{name: caller-{caller}, labels: {{app: {app}, version: {version}}}}}\n"
        );
    }
    for number in 0..rng.usize(3..16) {
        rule(rng, number, &mut yaml);
    }
    for (number, service) in SERVICES.iter().enumerate() {
        if chance(rng, 2) {
            let balance = choice(rng, &["ROUND_ROBIN", "RANDOM", "LEAST_CONN"]);
            let tags = choice(rng, &["", "  tags: {version: v1}\n"]);
            let _ = write!(
                yaml,
                "---\ntype: destination-policy\nname: p{number}\nspec:\n  destination: {}\n{tags}  loadBalancing: {balance}\n",
                service.name
            );
        }
    }
    yaml
}

fn registry(rng: &mut Rng, service: &Service, addresses: &[SocketAddr], yaml: &mut String) {
    let Service { name, speaks, number } = service;
    let _ = write!(
        yaml,
        "---\napiVersion: v1\nkind: Service\nmetadata: {{name: {name}}}\n\
         spec:\n  clusterIP: 10.9.8.{number}\n  selector: {{app: {name}}}\n  ports: [{{name: {speaks}, port: 80}}]\n"
    );
    for (n, address) in addresses.iter().enumerate() {
        let version = choice(rng, &["v1", "v2", "v3"]);
        let zone = choice(rng, &["a", "b"]);
        let _ = write!(
            yaml,
            "---\napiVersion: v1\nkind: Pod\n\
             metadata: {{name: {name}-{n}, labels: {{app: {name}, version: {version}, zone: {zone}}}}}\n\
             ---\napiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\n\
             metadata: {{name: {name}-{n}, labels: {{kubernetes.io/service-name: {name}}}}}\n\
             addressType: IPv4\nports: [{{name: {speaks}, port: {port}}}]\n\
             endpoints:\n- addresses: [\"{ip}\"]\n  targetRef: {{kind: Pod, name: {name}-{n}}}\n",
            port = address.port(),
            ip = address.ip(),
        );
    }
}

fn rule(rng: &mut Rng, number: usize, yaml: &mut String) {
    let index = rng.usize(..SERVICES.len());
    let service = &SERVICES[index];
    let _ = write!(
        yaml,
        "---\ntype: route-rule\nname: r{number}\nspec:\n  destination: {}\n  precedence: {}\n",
        service.full_name(),
        rng.i32(-2..6)
    );
    condition(rng, service, yaml);
    if service.is_http() && chance(rng, 8) {
        yaml.push_str(choice(
            rng,
            &[
                "  redirect: {uri: /moved}\n",
                "  redirect: {uri: \"/moved?q=1\", authority: example.com}\n",
                "  redirect: {authority: \"example.com:81\"}\n",
            ],
        ));
        return;
    }
    route(rng, index, yaml);
    if service.is_http() {
        actions(rng, yaml);
    }
    if chance(rng, 8) {
        yaml.push_str(choice(
            rng,
            &[
                "  l4Fault: {terminate: {}}\n",
                "  l4Fault: {terminate: {percent: 0}}\n",
                "  l4Fault: {throttle: {downstreamLimitBps: 1000000000, upstreamLimitBps: 1000000000}}\n",
            ],
        ));
    }
}

fn condition(rng: &mut Rng, service: &Service, yaml: &mut String) {
    let mut parts = Vec::new();
    if chance(rng, 3) {
        parts.push(format!("source: {}", choice(rng, &SERVICES.each_ref()).name));
    }
    if chance(rng, 4) {
        parts.push(format!("sourceTags: {{version: {}}}", choice(rng, &["v1", "v2"])));
    }
    let mut headers = Vec::new();
    if service.is_http() || chance(rng, 8) {
        let uri = [
            "{prefix: /a}",
            "{prefix: /a/b}",
            "{exact: /a}",
            "{exact: /}",
            "{regex: '/a(/.*)?'}",
            "{regex: '.*b'}",
        ];
        let method = ["{exact: GET}", "{prefix: P}", "{regex: 'GET|PUT'}"];
        let authority = ["{exact: shop}", "{prefix: sh}", "{regex: '[^.]+'}"];
        let value = [
            "{exact: '1'}",
            "{prefix: '1'}",
            "{regex: '[12]+'}",
            "{regex: '\\d'}",
            "{exact: '1,2'}",
        ];
        for (name, kinds, n) in [
            ("uri", &uri[..], 3),
            ("method", &method[..], 5),
            ("authority", &authority[..], 6),
            ("X-A", &value[..], 3),
            ("x-b", &value[..], 5),
        ] {
            if chance(rng, n) {
                headers.push(format!("{name}: {}", choice(rng, kinds)));
            }
        }
    }
    if !headers.is_empty() {
        parts.push(format!("httpHeaders: {{{}}}", headers.join(", ")));
    }
    if !parts.is_empty() {
        let _ = writeln!(yaml, "  match: {{{}}}", parts.join(", "));
    }
}

fn route(rng: &mut Rng, index: usize, yaml: &mut String) {
    let entries = rng.usize(0..4);
    if entries > 0 {
        yaml.push_str("  route:\n");
    }
    for _ in 0..entries {
        let tags = choice(
            rng,
            &[
                "{}",
                "{version: v1}",
                "{version: v2}",
                "{zone: a}",
                "{version: v1, zone: b}",
                "{version: v9}",
            ],
        );
        let weight = choice(rng, &[0, 1, 25, 50, 75, 100]);
        let _ = writeln!(yaml, "  - tags: {tags}\n    weight: {weight}");
        if chance(rng, 4) {
            // The other service that speaks the same.
            let _ = writeln!(yaml, "    destination: {}", SERVICES[index ^ 1].name);
        }
    }
}

fn actions(rng: &mut Rng, yaml: &mut String) {
    if chance(rng, 4) {
        yaml.push_str(choice(
            rng,
            &[
                "  rewrite: {uri: /new}\n",
                "  rewrite: {uri: /new/, authority: \"inner:8080\"}\n",
                "  rewrite: {authority: inner}\n",
            ],
        ));
    }
    if chance(rng, 4) {
        let _ = writeln!(yaml, "  appendHeaders: {{x-added: \"{}\"}}", rng.u32(..9));
    }
    if chance(rng, 6) {
        yaml.push_str(choice(
            rng,
            &[
                "  httpFault: {abort: {httpStatus: 418}}\n",
                "  httpFault: {abort: {percent: 100, httpStatus: 404}}\n",
                "  httpFault: {abort: {grpcStatus: UNAVAILABLE}}\n",
                "  httpFault: {abort: {grpcStatus: \"5\"}}\n",
                "  httpFault: {abort: {http2Error: REFUSED_STREAM}}\n",
                "  httpFault: {abort: {percent: 0, httpStatus: 500}}\n",
            ],
        ));
    }
    if chance(rng, 6) {
        yaml.push_str("  httpReqRetries: {simpleRetry: {attempts: 2}}\n");
    }
}

/// A request to one of the services that speak `speaks`; `number` tells it from all others.
pub fn ask(rng: &mut Rng, speaks: &str, number: usize) -> Ask {
    let service = loop {
        let service = rng.usize(..SERVICES.len());
        if SERVICES[service].speaks == speaks {
            break service;
        }
    };
    let mut headers = Vec::new();
    for name in ["x-a", "x-b"] {
        for value in choice(
            rng,
            &[&[][..], &["1"], &["2"], &["12"], &["1", "2"], &["1,2"], &["٣"]],
        ) {
            headers.push((name, *value));
        }
    }
    let path = choice(rng, &["/", "/a", "/a/b", "/ab", "/a/b/c", "/c", "/b"]);
    Ask {
        service,
        caller: rng.u8(0..=CALLERS),
        method: choice(rng, &["GET", "POST", "PUT", "DELETE"]),
        path: format!("{path}?n={number}"),
        host: choice(rng, &["shop", "shop.default", "cart:80", "other.example"]),
        headers,
    }
}
