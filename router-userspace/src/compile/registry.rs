//! Kubernetes objects → services with their endpoints, workloads, and how workloads are recognised.
//!
//! It knows no rules.

pub(super) mod pods;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use router_rules::{
    connection::Transport,
    external::External,
    id::ServiceName,
    labels::Labels,
    model::{Endpoint, Port, Protocol, Service},
    source::Workload,
};

use self::pods::Pods;
use super::names;
use crate::{
    config::{
        Document, Documents, Position,
        kubernetes::{self, EndpointSlice, ServicePort, SliceEndpoint},
    },
    finding::{Finding, codes},
    registry::Identity,
};

/// Label of an EndpointSlice that names its service.
pub(super) const SERVICE_NAME_LABEL: &str = "kubernetes.io/service-name";

/// The registry, compiled.
#[derive(Debug)]
pub(super) struct Registry {
    /// Ordered by name.
    pub(super) services: Vec<Service>,
    /// Ordered by name.
    pub(super) workloads: Vec<Workload>,
    /// Of each workload, in the same order.
    pub(super) identities: Vec<Identity>,
    /// Services outside the cluster, which are among the services.
    pub(super) externals: BTreeMap<ServiceName, External>,
    /// Addresses that belong to the cluster, ordered, each once.
    pub(super) addresses: Vec<IpAddr>,
}

/// Objects of the registry: all of them, or those that concern some services.
#[derive(Default)]
pub(super) struct Objects<'d> {
    pub(super) services: Vec<&'d Document<kubernetes::Service>>,
    pub(super) endpoint_slices: Vec<&'d Document<EndpointSlice>>,
    pub(super) pods: Vec<&'d Document<kubernetes::Pod>>,
}

impl<'d> From<&'d Documents> for Objects<'d> {
    fn from(documents: &'d Documents) -> Self {
        Self {
            services: documents.services.iter().collect(),
            endpoint_slices: documents.endpoint_slices.iter().collect(),
            pods: documents.pods.iter().collect(),
        }
    }
}

pub(super) fn compile(objects: &Objects<'_>, findings: &mut Vec<Finding>) -> Registry {
    let mut compiler = Compiler {
        pods: Pods::new(&objects.pods, findings),
        slices: slices_by_service(objects, findings),
        findings,
    };
    let mut services: Vec<_> = objects
        .services
        .iter()
        .filter_map(|&document| Some((compiler.service(document)?, &document.position)))
        .collect();
    services.sort_by(|a, b| a.0.name.cmp(&b.0.name));
    let (services, positions): (Vec<_>, Vec<_>) = services.into_iter().unzip();
    let addresses = addresses(objects, &compiler.pods);
    let (workloads, identities) = compiler.pods.into_workloads();
    frontend_conflicts(&services, &positions, findings);
    Registry {
        services,
        workloads,
        identities,
        externals: BTreeMap::new(),
        addresses,
    }
}

/// Every address that the registry knows: of services, also of those that are not routed, of pods, of the nodes they
/// are on, and of slices. What is no address is reported elsewhere.
fn addresses(objects: &Objects<'_>, pods: &Pods<'_>) -> Vec<IpAddr> {
    let specs = objects.services.iter().map(|service| &service.body.spec);
    let of_services = specs.flat_map(|spec| spec.cluster_ip.iter().chain(&spec.cluster_ips));
    let slices = objects.endpoint_slices.iter();
    let endpoints = slices.flat_map(|slice| &slice.body.endpoints);
    let of_endpoints = endpoints.flat_map(|endpoint| &endpoint.addresses);
    let parsed = of_services
        .map(String::as_str)
        .chain(of_endpoints.map(|text| &**text))
        .filter_map(|text| text.parse().ok());
    let mut all: Vec<IpAddr> = parsed.chain(pods.known_addresses()).collect();
    all.sort_unstable();
    all.dedup();
    all.shrink_to_fit();
    all
}

type Slices<'d> = HashMap<(&'d str, &'d str), Vec<&'d Document<EndpointSlice>>>;

/// The slices of each service, by its namespace and name.
fn slices_by_service<'d>(objects: &Objects<'d>, findings: &mut Vec<Finding>) -> Slices<'d> {
    let known: std::collections::HashSet<(&str, &str)> = objects
        .services
        .iter()
        .map(|service| (&*service.namespace, &*service.name))
        .collect();
    let mut slices = Slices::new();
    for &document in &objects.endpoint_slices {
        let label = document.body.metadata.labels.get(SERVICE_NAME_LABEL);
        let key = label.map(|name| (&*document.namespace, name));
        let problem = match key {
            None => format!("it has no label {SERVICE_NAME_LABEL}"),
            Some(key) if !known.contains(&key) => format!("there is no service {}", key.1),
            Some(_) if document.body.address_type.as_deref() == Some("FQDN") => {
                "its endpoints are host names".to_owned()
            }
            Some(key) => {
                slices.entry(key).or_default().push(document);
                continue;
            }
        };
        let message = format!("its endpoints are not used: {problem}");
        findings.push(
            document
                .position
                .finding(&codes::IGNORED_ENDPOINTS, "", message, ""),
        );
    }
    slices
}

struct Compiler<'c, 'd> {
    pods: Pods<'d>,
    slices: Slices<'d>,
    findings: &'c mut Vec<Finding>,
}

impl<'d> Compiler<'_, 'd> {
    fn service(&mut self, document: &'d Document<kubernetes::Service>) -> Option<Service> {
        let spec = &document.body.spec;
        if spec.r#type.as_deref() == Some("ExternalName") {
            let message = "a service of type ExternalName is not routed";
            let finding = document
                .position
                .finding(&codes::IGNORED_SERVICE, "spec.type", message, "");
            self.findings.push(finding);
            return None;
        }
        let name = names::of_service(&document.namespace, &document.name);
        let slices = self.slices.remove(&(&*document.namespace, &*document.name));
        let selected = self.pods.selected(&document.namespace, &spec.selector);
        self.join(&name, slices.as_deref(), &selected);
        self.unknown_ports(&name, slices.as_deref().unwrap_or_default(), &spec.ports);
        let mut ports = Vec::with_capacity(spec.ports.len());
        for (index, port) in spec.ports.iter().enumerate() {
            if !self.is_routed(document, index, port) {
                continue;
            }
            let endpoints = match &slices {
                Some(slices) => self.slice_endpoints(slices, port),
                None => self.pod_endpoints(&selected, port),
            };
            ports.push(Port {
                number: port.port,
                name: port.name.clone(),
                protocol: protocol(port),
                endpoints: ordered(endpoints),
            });
        }
        Some(Service {
            name,
            addresses: self.cluster_addresses(document),
            ports,
        })
    }

    /// Makes the pods behind a service, ready or not, its instances.
    fn join(&mut self, name: &ServiceName, slices: Option<&[&Document<EndpointSlice>]>, selected: &[usize]) {
        for &pod in selected {
            self.pods.join(pod, name);
        }
        for slice in slices.into_iter().flatten() {
            for endpoint in &slice.body.endpoints {
                if let Some(pod) = self.pod_of(slice, endpoint) {
                    self.pods.join(pod, name);
                }
            }
        }
    }

    /// Ports of slices that the service does not have: their endpoints are never used.
    fn unknown_ports(
        &mut self,
        name: &ServiceName,
        slices: &[&Document<EndpointSlice>],
        ports: &[ServicePort],
    ) {
        let known: BTreeSet<&str> = ports
            .iter()
            .map(|port| port.name.as_deref().unwrap_or_default())
            .collect();
        for slice in slices {
            for (index, port) in slice.body.ports.iter().enumerate() {
                let written = port.name.as_deref().unwrap_or_default();
                if known.contains(written) {
                    continue;
                }
                let message = match written {
                    "" => format!("{name} has no port without a name"),
                    written => format!("{name} has no port named {written}"),
                };
                let hint = "endpoints belong to the port of the service that has the same name";
                let field = format!("ports[{index}]");
                let finding = slice
                    .position
                    .finding(&codes::UNKNOWN_PORT, &field, message, hint);
                self.findings.push(finding);
            }
        }
    }

    fn is_routed(
        &mut self,
        document: &Document<kubernetes::Service>,
        index: usize,
        port: &ServicePort,
    ) -> bool {
        let field = format!("spec.ports[{index}]");
        let mut report = |code, message: String, hint| {
            let finding = document.position.finding(code, &field, message, hint);
            self.findings.push(finding);
        };
        if port.port == 0 {
            report(
                &codes::INVALID_VALUE,
                "the port has no number".to_owned(),
                "add `port:`",
            );
            return false;
        }
        match port.protocol.as_deref() {
            None | Some("TCP" | "UDP") => true,
            Some(other) => {
                report(
                    &codes::IGNORED_PORT,
                    format!("{other} port {} is not routed", port.port),
                    "",
                );
                false
            }
        }
    }

    fn cluster_addresses(&mut self, document: &Document<kubernetes::Service>) -> Vec<IpAddr> {
        let spec = &document.body.spec;
        let (field, written) = if spec.cluster_ips.is_empty() {
            ("spec.clusterIP", spec.cluster_ip.as_slice())
        } else {
            ("spec.clusterIPs", spec.cluster_ips.as_slice())
        };
        let mut addresses = Vec::with_capacity(written.len());
        for text in written
            .iter()
            .filter(|text| !matches!(text.as_str(), "" | "None"))
        {
            match text.parse() {
                Ok(address) => addresses.push(address),
                Err(_) => {
                    let message = format!("`{text}` is no IP address");
                    let position = &document.position;
                    self.findings
                        .push(position.finding(&codes::INVALID_ADDRESS, field, message, ""));
                }
            }
        }
        addresses.sort_unstable();
        addresses.dedup();
        addresses
    }

    fn slice_endpoints(
        &mut self,
        slices: &[&'d Document<EndpointSlice>],
        port: &ServicePort,
    ) -> Vec<Endpoint> {
        let mut endpoints = Vec::new();
        for slice in slices {
            let name = port.name.as_deref().unwrap_or_default();
            let is_same = |p: &&kubernetes::SlicePort| p.name.as_deref().unwrap_or_default() == name;
            let Some(number) = slice.body.ports.iter().find(is_same).and_then(|p| p.port) else {
                continue;
            };
            for (index, endpoint) in slice.body.endpoints.iter().enumerate() {
                if endpoint.conditions.ready == Some(false) {
                    continue;
                }
                // Several addresses of one endpoint are interchangeable; kube-proxy uses the first, and so do we.
                let Some(address) = endpoint.addresses.first() else {
                    continue;
                };
                let Ok(address) = address.parse() else {
                    let message = format!("`{address}` is no IP address");
                    let field = format!("endpoints[{index}].addresses[0]");
                    let finding = slice
                        .position
                        .finding(&codes::INVALID_ADDRESS, &field, message, "");
                    self.findings.push(finding);
                    continue;
                };
                let pod = self.pod_of(slice, endpoint);
                endpoints.push(self.endpoint(SocketAddr::new(address, number), pod));
            }
        }
        endpoints
    }

    fn pod_endpoints(&self, selected: &[usize], port: &ServicePort) -> Vec<Endpoint> {
        let ready = selected.iter().filter(|&&pod| self.pods.is_ready(pod));
        ready
            .filter_map(|&pod| {
                let number = self.pods.port(pod, port)?;
                let address = self.pods.address(pod)?;
                Some(self.endpoint(SocketAddr::new(address, number), Some(pod)))
            })
            .collect()
    }

    fn endpoint(&self, address: SocketAddr, pod: Option<usize>) -> Endpoint {
        Endpoint {
            address,
            labels: pod.map_or_else(|| Arc::new(Labels::default()), |pod| self.pods.labels(pod)),
            workload: pod.map(|pod| self.pods.name(pod)),
        }
    }

    fn pod_of(&self, slice: &Document<EndpointSlice>, endpoint: &SliceEndpoint) -> Option<usize> {
        let target = endpoint
            .target_ref
            .as_ref()
            .filter(|target| target.kind.as_deref() == Some("Pod"));
        let by_name = target.and_then(|target| {
            let namespace = target.namespace.as_deref().unwrap_or(&slice.namespace);
            self.pods.by_name(namespace, target.name.as_deref()?)
        });
        by_name.or_else(|| self.pods.by_address(endpoint.addresses.first()?.parse().ok()?))
    }
}

/// In the order of addresses, each instance once: the order of slices says nothing.
///
/// An instance with an address of each family is one instance, and reached over IPv4: clients of both families can
/// connect there, an IPv6 client by the v4-mapped address, while an IPv4 client could not reach the other.
fn ordered(mut endpoints: Vec<Endpoint>) -> Vec<Endpoint> {
    endpoints.sort_by_key(|endpoint| endpoint.address);
    endpoints.dedup_by_key(|endpoint| endpoint.address);
    let mut over_v4 = BTreeSet::new();
    endpoints.retain(|endpoint| match &endpoint.workload {
        // IPv4 addresses are in front.
        Some(workload) if endpoint.address.is_ipv4() => {
            over_v4.insert(workload.clone());
            true
        }
        Some(workload) => !over_v4.contains(workload),
        None => true,
    });
    endpoints
}

/// What is spoken on a port: datagrams on UDP; on TCP what `appProtocol` says, else the port's name up to the first hyphen, else TCP.
fn protocol(port: &ServicePort) -> Protocol {
    if port.protocol.as_deref() == Some("UDP") {
        return Protocol::Udp;
    }
    let said = port.app_protocol.as_deref().map(str::to_ascii_lowercase);
    let named = || {
        let name = port.name.as_deref().unwrap_or_default();
        match name {
            "grpc-web" => "http",
            _ => name.split('-').next().unwrap_or_default(),
        }
    };
    match said.as_deref().unwrap_or_else(named) {
        "http" | "grpc-web" | "kubernetes.io/ws" => Protocol::Http,
        "http2" | "h2c" | "kubernetes.io/h2c" => Protocol::Http2,
        "grpc" => Protocol::Grpc,
        _ => Protocol::Tcp,
    }
}

/// Two services at one address and port, or one service with a port twice.
fn frontend_conflicts(services: &[Service], positions: &[&Position], findings: &mut Vec<Finding>) {
    let mut owners: HashMap<(Transport, IpAddr, u16), usize> = HashMap::new();
    for (index, (service, position)) in services.iter().zip(positions).enumerate() {
        let mut numbers = BTreeSet::new();
        for port in &service.ports {
            let transport = port.protocol.transport();
            if !numbers.insert((transport, port.number)) {
                let message = format!("the port {} is there twice", port.number);
                findings.push(position.finding(&codes::FRONTEND_CONFLICT, "spec.ports", message, ""));
                continue;
            }
            for &address in &service.addresses {
                let Some(owner) = owners.insert((transport, address, port.number), index) else {
                    continue;
                };
                let frontend = SocketAddr::new(address, port.number);
                let other = &services[owner].name;
                let place = format!("{}:{}", positions[owner].file(), positions[owner].line());
                let message = format!("{frontend} belongs to {other} already, at {place}");
                let hint = "a service's cluster IP is its own";
                findings.push(position.finding(&codes::FRONTEND_CONFLICT, "spec.clusterIP", message, hint));
            }
        }
    }
}
