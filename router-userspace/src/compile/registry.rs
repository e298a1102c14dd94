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
use super::{WORTH_A_THREAD, names};
use crate::{
    config::{
        Document, Documents,
        kubernetes::{self, EndpointSlice, SERVICE_NAME_LABEL, ServicePort, SliceEndpoint},
    },
    finding::{Finding, codes},
    parallel,
    registry::Identity,
};

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
    // They are asked for by nothing else here.
    let is_large = objects.pods.len() >= WORTH_A_THREAD;
    let (addresses, registry) =
        parallel::both(is_large, || addresses(objects), || services(objects, findings));
    Registry {
        addresses,
        ..registry
    }
}

/// All but the addresses.
fn services(objects: &Objects<'_>, findings: &mut Vec<Finding>) -> Registry {
    let mut compiler = Compiler {
        pods: Pods::new(&objects.pods, findings),
        slices: slices_by_service(objects, findings),
        findings,
    };
    let mut services: Vec<_> = objects
        .services
        .iter()
        .filter_map(|&document| Some((compiler.service(document)?, document)))
        .collect();
    services.sort_by(|a, b| a.0.name.cmp(&b.0.name));
    let (services, documents): (Vec<_>, Vec<_>) = services.into_iter().unzip();
    let (workloads, identities) = compiler.pods.into_workloads();
    frontend_conflicts(&services, &documents, findings);
    Registry {
        services,
        workloads,
        identities,
        externals: BTreeMap::new(),
        addresses: Vec::new(),
    }
}

/// Every address that the registry knows: of services, also of those that are not routed, of pods, of the nodes they
/// are on, and of slices. What is no address is reported elsewhere.
fn addresses(objects: &Objects<'_>) -> Vec<IpAddr> {
    let services = objects.services.iter().map(|service| &service.body);
    let of_services =
        services.flat_map(|service| service.cluster_ip.sound().chain(service.cluster_ips.sound()));
    let slices = objects.endpoint_slices.iter();
    let endpoints = slices.flat_map(|slice| &slice.body.endpoints);
    let of_endpoints = endpoints.flat_map(|endpoint| endpoint.addresses.sound());
    let mut all: Vec<IpAddr> = of_services
        .chain(of_endpoints)
        .chain(
            objects
                .pods
                .iter()
                .flat_map(|pod| pods::known_addresses(&pod.body)),
        )
        .collect();
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
        let label = document.body.service.as_deref();
        let key = label.map(|name| (&*document.namespace, name));
        let problem = match key {
            None => format!("it has no label {SERVICE_NAME_LABEL}"),
            Some(key) if !known.contains(&key) => format!("there is no service {}", key.1),
            Some(_) if document.body.is_named => "its endpoints are host names".to_owned(),
            Some(key) => {
                slices.entry(key).or_default().push(document);
                continue;
            }
        };
        let message = format!("its endpoints are not used: {problem}");
        findings.push(document.finding(&codes::IGNORED_ENDPOINTS, "", message, ""));
    }
    slices
}

/// A slice with the pod behind each of its endpoints.
struct Slice<'d> {
    document: &'d Document<EndpointSlice>,
    pods: Vec<Option<usize>>,
}

struct Compiler<'c, 'd> {
    pods: Pods<'d>,
    slices: Slices<'d>,
    findings: &'c mut Vec<Finding>,
}

impl<'d> Compiler<'_, 'd> {
    fn service(&mut self, document: &'d Document<kubernetes::Service>) -> Option<Service> {
        let spec = &document.body;
        if spec.is_external_name {
            let message = "a service of type ExternalName is not routed";
            let finding = document.finding(&codes::IGNORED_SERVICE, "spec.type", message, "");
            self.findings.push(finding);
            return None;
        }
        let name = names::of_service(&document.namespace, &document.name);
        let slices = self.slices.remove(&(&*document.namespace, &*document.name));
        let slices = slices.map(|slices| self.behind(slices));
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
                name: port.name.as_deref().map(str::to_owned),
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
    fn join(&mut self, name: &ServiceName, slices: Option<&[Slice<'_>]>, selected: &[usize]) {
        let number = self.pods.number(name);
        let of_slices = slices.into_iter().flatten().flat_map(|slice| &slice.pods);
        for &pod in selected.iter().chain(of_slices.flatten()) {
            self.pods.join(pod, number);
        }
    }

    /// Slices with the pods behind their endpoints.
    fn behind(&self, slices: Vec<&'d Document<EndpointSlice>>) -> Vec<Slice<'d>> {
        let slice = |document: &'d Document<EndpointSlice>| {
            let endpoints = document.body.endpoints.iter();
            let pods = endpoints.map(|endpoint| self.pod_of(&document.body, endpoint));
            Slice {
                document,
                pods: pods.collect(),
            }
        };
        slices.into_iter().map(slice).collect()
    }

    /// Ports of slices that the service does not have: their endpoints are never used.
    fn unknown_ports(&mut self, name: &ServiceName, slices: &[Slice<'_>], ports: &[ServicePort]) {
        let known: BTreeSet<&str> = ports
            .iter()
            .map(|port| port.name.as_deref().unwrap_or_default())
            .collect();
        for slice in slices.iter().map(|slice| slice.document) {
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
                let finding = slice.finding(&codes::UNKNOWN_PORT, &field, message, hint);
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
            let finding = document.finding(code, &field, message, hint);
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
        let spec = &document.body;
        let (field, written) = if spec.cluster_ips.is_empty() {
            ("spec.clusterIP", &spec.cluster_ip)
        } else {
            ("spec.clusterIPs", &spec.cluster_ips)
        };
        let mut addresses = Vec::new();
        for address in written.iter() {
            match address {
                Ok(address) => addresses.push(address),
                Err("" | "None") => {}
                Err(text) => {
                    let message = format!("`{text}` is no IP address");
                    let finding = document.finding(&codes::INVALID_ADDRESS, field, message, "");
                    self.findings.push(finding);
                }
            }
        }
        addresses.sort_unstable();
        addresses.dedup();
        addresses
    }

    fn slice_endpoints(&mut self, slices: &[Slice<'_>], port: &ServicePort) -> Vec<Endpoint> {
        let mut endpoints = Vec::new();
        for Slice {
            document: slice,
            pods,
        } in slices
        {
            let name = port.name.as_deref().unwrap_or_default();
            let is_same = |p: &&kubernetes::SlicePort| p.name.as_deref().unwrap_or_default() == name;
            let Some(number) = slice.body.ports.iter().find(is_same).and_then(|p| p.port) else {
                continue;
            };
            for (index, (endpoint, pod)) in slice.body.endpoints.iter().zip(pods).enumerate() {
                if !endpoint.is_ready {
                    continue;
                }
                // Several addresses of one endpoint are interchangeable; kube-proxy uses the first, and so do we.
                let Some(address) = endpoint.addresses.first() else {
                    continue;
                };
                let address = match address {
                    Ok(address) => address,
                    Err(text) => {
                        let message = format!("`{text}` is no IP address");
                        let field = format!("endpoints[{index}].addresses[0]");
                        let finding = slice.finding(&codes::INVALID_ADDRESS, &field, message, "");
                        self.findings.push(finding);
                        continue;
                    }
                };
                endpoints.push(self.endpoint(SocketAddr::new(address, number), *pod));
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

    fn pod_of(&self, slice: &EndpointSlice, endpoint: &SliceEndpoint) -> Option<usize> {
        let named = slice.pod(endpoint);
        let by_name = named.and_then(|(namespace, name)| self.pods.by_name(namespace, name));
        by_name.or_else(|| self.pods.by_address(endpoint.addresses.first()?.ok()?))
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
fn frontend_conflicts(
    services: &[Service],
    documents: &[&Document<kubernetes::Service>],
    findings: &mut Vec<Finding>,
) {
    let mut owners: HashMap<(Transport, IpAddr, u16), usize> = HashMap::new();
    for (index, (service, document)) in services.iter().zip(documents).enumerate() {
        let mut numbers = BTreeSet::new();
        for port in &service.ports {
            let transport = port.protocol.transport();
            if !numbers.insert((transport, port.number)) {
                let message = format!("the port {} is there twice", port.number);
                findings.push(document.finding(&codes::FRONTEND_CONFLICT, "spec.ports", message, ""));
                continue;
            }
            for &address in &service.addresses {
                let Some(owner) = owners.insert((transport, address, port.number), index) else {
                    continue;
                };
                let frontend = SocketAddr::new(address, port.number);
                let other = &services[owner].name;
                let position = &documents[owner].position;
                let place = format!("{}:{}", position.file(), position.line());
                let message = format!("{frontend} belongs to {other} already, at {place}");
                let hint = "a service's cluster IP is its own";
                findings.push(document.finding(&codes::FRONTEND_CONFLICT, "spec.clusterIP", message, hint));
            }
        }
    }
}
