//! Pods, found by name, address and labels, and the workloads they become.
//!
//! Pods that have ended are left out: their addresses may belong to others by now.

use std::{
    collections::{HashMap, HashSet},
    net::IpAddr,
    sync::Arc,
};

use router_rules::{
    id::ServiceName,
    labels::Labels,
    source::{Addresses, Services, Workload},
};

use crate::{
    config::{
        Document,
        kubernetes::{Pairs, Phase, Pod, PortReference, ServicePort},
    },
    finding::{Finding, codes},
    registry::Identity,
};

/// The pods that are running or about to.
pub(super) struct Pods<'d> {
    entries: Vec<Entry<'d>>,
    by_name: HashMap<(&'d str, &'d str), usize>,
    by_address: HashMap<IpAddr, usize>,
    /// Those that pods may be instances of.
    services: Vec<ServiceName>,
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
    addresses: Addresses,
    /// The service that it is an instance of, by number; nearly always it is one.
    service: Option<u32>,
    /// Others, in any order, perhaps more than once.
    others: Vec<u32>,
}

impl<'d> Pods<'d> {
    pub(super) fn new(documents: &[&'d Document<Pod>], findings: &mut Vec<Finding>) -> Self {
        let mut pods = Self {
            entries: Vec::with_capacity(documents.len()),
            by_name: HashMap::with_capacity(documents.len()),
            by_address: HashMap::with_capacity(documents.len()),
            services: Vec::new(),
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
        if !document.body.host_network {
            self.by_address
                .extend(addresses.iter().map(|&address| (address, index)));
        }
        let group = self.group(namespace, &document.body.labels);
        group.pods.push(index);
        let labels = group.labels.clone();
        self.entries.push(Entry {
            document,
            name: Arc::from(format!("{namespace}/{name}")),
            labels,
            addresses,
            service: None,
            others: Vec::new(),
        });
    }

    fn group(&mut self, namespace: &'d str, pairs: &'d Pairs) -> &mut Group<'d> {
        let held = pairs.shared().map_or(0, |pairs| Arc::as_ptr(pairs).addr());
        let key = (namespace, held);
        let at = *self.group_of.entry(key).or_insert_with(|| {
            for (key, value) in pairs.iter() {
                let carriers = self.by_label.entry((namespace, key, value)).or_default();
                carriers.push(self.groups.len());
            }
            self.groups.push(Group {
                pairs,
                labels: Arc::new(pairs.shared().cloned().map(Labels::from).unwrap_or_default()),
                pods: Vec::new(),
            });
            self.groups.len() - 1
        });
        &mut self.groups[at]
    }

    /// Pods that carry every pair of `selector`, in the order of reading; none when it is empty.
    pub(super) fn selected(&self, namespace: &str, selector: &Pairs) -> Vec<usize> {
        // The rarest pair leaves the fewest to look at.
        let carriers = selector
            .iter()
            .map(|(key, value)| self.carriers(namespace, key, value));
        let fewest = carriers.min_by_key(|found| found.len());
        let groups = fewest.into_iter().flatten().map(|&group| &self.groups[group]);
        let carry_all = |group: &&Group<'_>| {
            let carries = |(key, value): (&str, &str)| group.pairs.get(key) == Some(value);
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

    /// A number for a service that pods may be instances of.
    pub(super) fn number(&mut self, service: &ServiceName) -> u32 {
        self.services.push(service.clone());
        self.services.len() as u32 - 1
    }

    /// Makes a pod an instance of a service.
    pub(super) fn join(&mut self, pod: usize, service: u32) {
        let entry = &mut self.entries[pod];
        match entry.service {
            None => entry.service = Some(service),
            // Once by the selector and once by a slice.
            Some(known) if known == service || entry.others.last() == Some(&service) => {}
            Some(_) => entry.others.push(service),
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
        !body.is_ending && body.ready.unwrap_or(body.phase != Phase::Pending)
    }

    /// The pod's port behind a service's port.
    pub(super) fn port(&self, pod: usize, port: &ServicePort) -> Option<u16> {
        match &port.target_port {
            None | Some(PortReference::Number(0)) => Some(port.port),
            Some(PortReference::Number(number)) => Some(*number),
            Some(PortReference::Name(name)) => self.entries[pod].document.body.port(name),
        }
    }

    /// Workloads with their identities, both in the order of names.
    pub(super) fn into_workloads(mut self) -> (Vec<Workload>, Vec<Identity>) {
        self.entries.sort_by(|a, b| a.name.cmp(&b.name));
        let mut shared = SharedServices::new(&self.services);
        let both = self.entries.into_iter().map(|entry| {
            let body = &entry.document.body;
            let identity = Identity {
                workload: entry.name.clone(),
                uid: body.uid.as_deref().map(Arc::from),
                cgroup: body.cgroup().map(Arc::from),
                host_network: body.host_network,
            };
            let workload = Workload {
                name: entry.name,
                labels: Labels::clone(&entry.labels),
                services: shared.of(entry.service, &entry.others),
                addresses: entry.addresses,
            };
            (workload, identity)
        });
        both.unzip()
    }
}

/// What pods are instances of, held once by all that are instances of the same.
struct SharedServices<'s> {
    names: &'s [ServiceName],
    nothing: Services,
    /// Of one service alone, by its number.
    single: Vec<Option<Services>>,
    several: HashSet<Services>,
}

impl<'s> SharedServices<'s> {
    fn new(names: &'s [ServiceName]) -> Self {
        Self {
            names,
            nothing: Services::default(),
            single: vec![None; names.len()],
            several: HashSet::new(),
        }
    }

    fn of(&mut self, one: Option<u32>, others: &[u32]) -> Services {
        let Some(one) = one else {
            return self.nothing.clone();
        };
        let name = |number: u32| self.names[number as usize].clone();
        if others.is_empty() {
            let single = &mut self.single[one as usize];
            return single.get_or_insert_with(|| [name(one)].into()).clone();
        }
        let all = others.iter().copied().chain([one]);
        let services: Services = all.map(name).collect();
        self.several.get(&services).cloned().unwrap_or_else(|| {
            self.several.insert(services.clone());
            services
        })
    }
}

/// True when its containers run no more and will not run again.
pub(in crate::compile) fn has_ended(pod: &Pod) -> bool {
    pod.phase == Phase::Ended
}

/// Addresses of a pod and of the node that it is on; none of one that has ended.
pub(super) fn known_addresses(pod: &Pod) -> impl Iterator<Item = IpAddr> {
    let nodes = pod.nodes.iter().flat_map(|nodes| nodes.iter().copied());
    let all = pod.addresses.sound().chain(nodes);
    all.filter(|_| !has_ended(pod))
}

fn addresses(document: &Document<Pod>, findings: &mut Vec<Finding>) -> Addresses {
    for text in document.body.addresses.iter().filter_map(Result::err) {
        let message = format!("`{text}` is no IP address");
        findings.push(document.finding(&codes::INVALID_ADDRESS, "status.podIP", message, ""));
    }
    document.body.addresses.sound().collect()
}
