//! Pods, found by name, address and labels, and the workloads they become.
//!
//! Pods that have ended are left out: their addresses may belong to others by now.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    net::IpAddr,
    sync::Arc,
};

use router_rules::{
    id::ServiceName,
    labels::Labels,
    source::{Services, Workload},
};

use crate::{
    config::{
        Document,
        kubernetes::{Pairs, Pod, PortReference, ServicePort},
    },
    finding::{Finding, codes},
    registry::Identity,
};

/// The pods that are running or about to.
pub(super) struct Pods<'d> {
    entries: Vec<Entry<'d>>,
    by_name: HashMap<(&'d str, &'d str), usize>,
    by_address: HashMap<IpAddr, usize>,
    groups: Vec<Group<'d>>,
    /// Namespace and labels, by where they are held.
    group_of: HashMap<(&'d str, usize), usize>,
    /// Namespace, key, value of a label → groups that carry it.
    by_label: HashMap<(&'d str, &'d str, &'d str), Vec<usize>>,
}

/// Pods of one namespace that carry the same labels: the replicas of a deployment.
struct Group<'d> {
    pairs: &'d Pairs,
    labels: Arc<Labels>,
    pods: Vec<usize>,
}

struct Entry<'d> {
    document: &'d Document<Pod>,
    name: Arc<str>,
    labels: Arc<Labels>,
    /// The first is the pod's own as endpoints use it.
    addresses: Vec<IpAddr>,
    /// In any order, perhaps more than once.
    services: Vec<ServiceName>,
}

impl<'d> Pods<'d> {
    pub(super) fn new(documents: &[&'d Document<Pod>], findings: &mut Vec<Finding>) -> Self {
        let mut pods = Self {
            entries: Vec::with_capacity(documents.len()),
            by_name: HashMap::with_capacity(documents.len()),
            by_address: HashMap::with_capacity(documents.len()),
            groups: Vec::new(),
            group_of: HashMap::new(),
            by_label: HashMap::new(),
        };
        for &document in documents {
            if !has_ended(&document.body) {
                pods.add(document, findings);
            }
        }
        pods
    }

    fn add(&mut self, document: &'d Document<Pod>, findings: &mut Vec<Finding>) {
        let index = self.entries.len();
        let addresses = addresses(document, findings);
        let (namespace, name) = (&*document.namespace, &*document.name);
        self.by_name.insert((namespace, name), index);
        // A pod on the host's network has the node's addresses, which say nothing about who is there.
        if !document.body.spec.host_network {
            self.by_address
                .extend(addresses.iter().map(|&address| (address, index)));
        }
        let group = self.group(namespace, &document.body.metadata.labels);
        group.pods.push(index);
        let labels = group.labels.clone();
        self.entries.push(Entry {
            document,
            name: Arc::from(format!("{namespace}/{name}")),
            labels,
            addresses,
            services: Vec::new(),
        });
    }

    fn group(&mut self, namespace: &'d str, pairs: &'d Pairs) -> &mut Group<'d> {
        let key = (namespace, Arc::as_ptr(pairs.shared()).addr());
        let at = *self.group_of.entry(key).or_insert_with(|| {
            for (key, value) in pairs.iter() {
                let carriers = self.by_label.entry((namespace, key, value)).or_default();
                carriers.push(self.groups.len());
            }
            self.groups.push(Group {
                pairs,
                labels: Arc::new(Labels::from(pairs.shared().clone())),
                pods: Vec::new(),
            });
            self.groups.len() - 1
        });
        &mut self.groups[at]
    }

    /// Pods that carry every pair of `selector`, in the order of reading; none when it is empty.
    pub(super) fn selected(&self, namespace: &str, selector: &BTreeMap<String, String>) -> Vec<usize> {
        // The rarest pair leaves the fewest to look at.
        let carriers = selector
            .iter()
            .map(|(key, value)| self.carriers(namespace, key, value));
        let fewest = carriers.min_by_key(|found| found.len());
        let groups = fewest.into_iter().flatten().map(|&group| &self.groups[group]);
        let carry_all = |group: &&Group<'_>| {
            let carries = |(key, value): (&String, &String)| group.pairs.get(key) == Some(value);
            selector.iter().all(carries)
        };
        let mut pods: Vec<usize> = groups
            .filter(carry_all)
            .flat_map(|group| group.pods.iter().copied())
            .collect();
        pods.sort_unstable();
        pods
    }

    fn carriers<'a>(&'a self, namespace: &'a str, key: &'a str, value: &'a str) -> &'a [usize] {
        self.by_label
            .get(&(namespace, key, value))
            .map_or(&[], Vec::as_slice)
    }

    pub(super) fn by_name(&self, namespace: &str, name: &str) -> Option<usize> {
        self.by_name.get(&(namespace, name)).copied()
    }

    pub(super) fn by_address(&self, address: IpAddr) -> Option<usize> {
        self.by_address.get(&address).copied()
    }

    /// Addresses of the pods and of the nodes that they are on.
    pub(super) fn known_addresses(&self) -> impl Iterator<Item = IpAddr> {
        let own = self.entries.iter().flat_map(|entry| &entry.addresses).copied();
        let statuses = self.entries.iter().map(|entry| &entry.document.body.status);
        let nodes = statuses.flat_map(|status| {
            let all = status.host_ips.iter().filter_map(|ip| ip.ip.as_deref());
            status.host_ip.as_deref().into_iter().chain(all)
        });
        own.chain(nodes.filter_map(|text| text.parse().ok()))
    }

    /// Makes a pod an instance of `service`.
    pub(super) fn join(&mut self, pod: usize, service: &ServiceName) {
        let services = &mut self.entries[pod].services;
        // Once by the selector and once by a slice.
        if services.last() != Some(service) {
            services.reserve_exact(1);
            services.push(service.clone());
        }
    }

    pub(super) fn labels(&self, pod: usize) -> Arc<Labels> {
        self.entries[pod].labels.clone()
    }

    pub(super) fn name(&self, pod: usize) -> Arc<str> {
        self.entries[pod].name.clone()
    }

    pub(super) fn address(&self, pod: usize) -> Option<IpAddr> {
        self.entries[pod].addresses.first().copied()
    }

    /// True when the pod says so; a pod that says nothing (one written by hand) is ready unless it is pending.
    pub(super) fn is_ready(&self, pod: usize) -> bool {
        let body = &self.entries[pod].document.body;
        if body.metadata.deletion_timestamp.is_some() {
            return false;
        }
        let ready = body.status.conditions.iter().find(|c| &*c.r#type == "Ready");
        ready.map_or(body.status.phase.as_deref() != Some("Pending"), |c| {
            &*c.status == "True"
        })
    }

    /// The pod's port behind a service's port.
    pub(super) fn port(&self, pod: usize, port: &ServicePort) -> Option<u16> {
        match &port.target_port {
            None | Some(PortReference::Number(0)) => Some(port.port),
            Some(PortReference::Number(number)) => Some(*number),
            Some(PortReference::Name(name)) => {
                let containers = &self.entries[pod].document.body.spec.containers;
                let mut ports = containers.iter().flat_map(|container| &container.ports);
                let named = ports.find(|p| p.name.as_deref() == Some(name))?;
                Some(named.container_port)
            }
        }
    }

    /// Workloads with their identities, both in the order of names.
    pub(super) fn into_workloads(mut self) -> (Vec<Workload>, Vec<Identity>) {
        self.entries.sort_by(|a, b| a.name.cmp(&b.name));
        let mut known: HashSet<Services> = HashSet::new();
        let mut shared = |services: Vec<ServiceName>| {
            let services: Services = services.into_iter().collect();
            known.get(&services).cloned().unwrap_or_else(|| {
                known.insert(services.clone());
                services
            })
        };
        let both = self.entries.into_iter().map(|entry| {
            let body = &entry.document.body;
            // A pod on the host's network has the node's addresses, and calls from whichever fits.
            let own = if body.spec.host_network {
                Vec::new()
            } else {
                entry.addresses.clone()
            };
            let identity = Identity {
                workload: entry.name.clone(),
                uid: body.metadata.uid.as_deref().map(Arc::from),
                cgroup: body.metadata.annotations.cgroup.as_deref().map(Arc::from),
                addresses: own,
                host_network: body.spec.host_network,
            };
            let workload = Workload {
                name: entry.name,
                labels: Labels::clone(&entry.labels),
                services: shared(entry.services),
                addresses: entry.addresses,
            };
            (workload, identity)
        });
        both.unzip()
    }
}

/// True when its containers run no more and will not run again.
pub(in crate::compile) fn has_ended(pod: &Pod) -> bool {
    matches!(pod.status.phase.as_deref(), Some("Succeeded" | "Failed"))
}

fn addresses(document: &Document<Pod>, findings: &mut Vec<Finding>) -> Vec<IpAddr> {
    let status = &document.body.status;
    let all = status.pod_ips.iter().filter_map(|ip| ip.ip.as_ref());
    let mut addresses = Vec::new();
    for text in status.pod_ip.iter().chain(all).filter(|text| !text.is_empty()) {
        match text.parse() {
            Ok(address) if addresses.contains(&address) => {}
            Ok(address) => addresses.push(address),
            Err(_) => {
                let message = format!("`{text}` is no IP address");
                let position = &document.position;
                findings.push(position.finding(&codes::INVALID_ADDRESS, "status.podIP", message, ""));
            }
        }
    }
    addresses
}
