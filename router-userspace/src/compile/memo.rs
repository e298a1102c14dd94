//! What was compiled last, so that a change of endpoints need not compile everything again.
//!
//! It recognises one kind of change, which is nearly every change of a large cluster: EndpointSlices of the same names
//! that say something else than before. Whatever it is not certain of is compiled whole. It knows nothing of snapshots.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    hash::{BuildHasher as _, RandomState},
    path::{Path, PathBuf},
    sync::Arc,
};

use router_common::abi;
use router_rules::{
    EndpointChange, Membership,
    id::ServiceName,
    labels::Labels,
    model::{Model, Port, Service},
    source::{Services, Workload},
};

use super::{
    Compiled, capacity,
    registry::{self, Objects, Registry, pods::has_ended},
};
use crate::{
    config::{
        Document, Documents, Many,
        kubernetes::{self, EndpointSlice, Pod},
    },
    finding::Finding,
};

mod index;

use index::{Index, Place};

/// Entries of all subsets together that are known to fit: as many distinct endpoints would fit too.
const ROOM: usize = {
    let entries = abi::MAX_ENDPOINTS / capacity::OLD_AND_NEW as u32;
    let states = abi::MAX_ENDPOINT_STATES - 1;
    (if entries < states { entries } else { states }) as usize
};

/// Services that are compiled by themselves at most; with more, everything is.
const MAX_SERVICES: usize = 256;

/// Files with what they hold.
pub(super) type Files<'f> = [(&'f Path, &'f Arc<Documents>)];

/// Files that compile without an error, indexed.
#[derive(Debug)]
pub struct Memo {
    paths: Vec<PathBuf>,
    /// What each holds.
    files: Vec<Arc<Documents>>,
    hasher: RandomState,
    services: Index,
    /// By the service they belong to.
    slices: Index,
    pods: Index,
    /// Names of files that there are warnings about: their lines may be others now.
    warned: HashSet<Arc<str>>,
    asked: HashMap<ServiceName, Asked>,
    /// Endpoint entries of all subsets, as [`capacity`] counts them.
    entries: usize,
}

/// What rules and policies ask of a service's instances.
#[derive(Debug, Default)]
struct Asked {
    /// Labels that rules route to, each once, without none.
    routed: Vec<Labels>,
    /// Labels that copies of requests are sent to.
    mirrored: Vec<Labels>,
    /// How many there are makes a difference to what there is to say.
    counted: bool,
}

/// A change that was recognised.
#[derive(Debug)]
pub struct Followed {
    /// What is different.
    pub change: EndpointChange,
    files: Vec<(usize, Arc<Documents>)>,
    entries: usize,
}

impl Memo {
    /// Remembers all files of a configuration, in the order of reading, and what they were compiled to.
    pub fn new<'f>(files: impl Iterator<Item = (&'f Path, &'f Arc<Documents>)>, compiled: &Compiled) -> Self {
        let (paths, files): (Vec<_>, Vec<_>) = files
            .map(|(path, documents)| (path.to_owned(), documents.clone()))
            .unzip();
        let hasher = RandomState::new();
        let named = |namespace: &str, name: &str| Some(hasher.hash_one((namespace, name)));
        let asked = asked(&compiled.model);
        let services = &compiled.model.services;
        Self {
            services: Index::new(files.iter().map(|f| &f.services), |d| {
                named(&d.namespace, &d.name)
            }),
            slices: Index::new(files.iter().map(|f| &f.endpoint_slices), |d| {
                named(&d.namespace, service_of(d)?)
            }),
            pods: Index::new(files.iter().map(|f| &f.pods), |d| named(&d.namespace, &d.name)),
            warned: compiled
                .findings
                .iter()
                .map(|finding| finding.place.file.clone())
                .collect(),
            entries: services.iter().map(|service| entries(service, &asked)).sum(),
            paths,
            files,
            hasher,
            asked,
        }
    }

    /// What is different in files that may have changed, when it is nothing but endpoints of services, and when there is
    /// nothing else to say about the configuration than before.
    pub fn follow(&self, changed: &Files<'_>) -> Option<Followed> {
        let after = After::new(self, changed)?;
        let touched = after.touched()?;
        let mut then = Objects::default();
        let mut now = Objects::default();
        for &(namespace, name) in &touched {
            let service = self.service(namespace, name)?;
            then.services.push(service);
            now.services.push(service);
            for place in self.slices.all(self.hash(namespace, name)) {
                let slice = slice_at(&self.files[place.file()], place);
                if (&*slice.namespace, service_of(slice)) != (namespace, Some(name)) {
                    continue;
                }
                then.endpoint_slices.push(slice);
                now.endpoint_slices
                    .push(slice_at(after.file(self, place.file()), place));
            }
        }
        let pods = self.pods_of(then.endpoint_slices.iter().chain(&now.endpoint_slices))?;
        then.pods.clone_from(&pods);
        now.pods = pods;
        let mut findings: Vec<Finding> = Vec::new();
        let then = registry::compile(&then, &mut findings);
        let now = registry::compile(&now, &mut findings);
        if !findings.is_empty() || !is_alike(&then, &now) {
            return None;
        }
        let mut entries = self.entries;
        for (then, now) in then.services.iter().zip(&now.services) {
            if !self.says_as_much(then, now) {
                return None;
            }
            entries = entries + self.entries_of(now) - self.entries_of(then);
        }
        (entries <= ROOM.max(self.entries)).then(|| Followed {
            change: change(then, now),
            files: after.files,
            entries,
        })
    }

    /// Takes what was recognised for what was compiled last, and returns what is different.
    pub fn advance(&mut self, followed: Followed) -> EndpointChange {
        for (file, documents) in followed.files {
            self.files[file] = documents;
        }
        self.entries = followed.entries;
        followed.change
    }

    fn service(&self, namespace: &str, name: &str) -> Option<&Document<kubernetes::Service>> {
        let places = self.services.all(self.hash(namespace, name));
        let found = places.map(|place| &self.files[place.file()].services[place.item()]);
        only(found.filter(|d| (&*d.namespace, &*d.name) == (namespace, name)))
    }

    fn pod(&self, namespace: &str, name: &str) -> Option<(Place, &Document<Pod>)> {
        let places = self.pods.all(self.hash(namespace, name));
        let found = places.map(|place| (place, &self.files[place.file()].pods[place.item()]));
        only(found.filter(|(_, d)| (&*d.namespace, &*d.name) == (namespace, name)))
    }

    /// The pods behind the endpoints of `slices`, in the order of reading. None when an endpoint does not name a pod that
    /// is there: then others may be behind it.
    fn pods_of<'d, 's>(
        &'d self,
        slices: impl Iterator<Item = &'s &'s Document<EndpointSlice>>,
    ) -> Option<Vec<&'d Document<Pod>>> {
        let mut pods: BTreeMap<Place, &Document<Pod>> = BTreeMap::new();
        for slice in slices {
            for endpoint in &slice.body.endpoints {
                let (namespace, name) = slice.body.pod(endpoint)?;
                let (place, pod) = self.pod(namespace, name)?;
                if has_ended(&pod.body) {
                    return None;
                }
                pods.insert(place, pod);
            }
        }
        Some(pods.into_values().collect())
    }

    /// True when what [`review`](super::review) says about instances of a service is the same. It asks whether instances
    /// with the labels of a rule are there on any port, and counts those that a policy may eject.
    fn says_as_much(&self, then: &Service, now: &Service) -> bool {
        static EVERY_INSTANCE: Labels = Labels::new();
        let nothing = Asked::default();
        let asked = self.asked.get(&then.name).unwrap_or(&nothing);
        let any = |service: &Service, labels: &Labels| {
            let mut endpoints = service.ports.iter().flat_map(|port| &port.endpoints);
            endpoints.any(|endpoint| labels.select(&endpoint.labels))
        };
        let mut labels = std::iter::once(&EVERY_INSTANCE)
            .chain(&asked.routed)
            .chain(&asked.mirrored);
        let census = |port: &Port| {
            let mut labels: Vec<_> = port.endpoints.iter().map(|e| e.labels.clone()).collect();
            labels.sort_unstable();
            labels
        };
        labels.all(|labels| any(then, labels) == any(now, labels))
            && (!asked.counted || then.ports.iter().map(census).eq(now.ports.iter().map(census)))
    }

    fn entries_of(&self, service: &Service) -> usize {
        entries(service, &self.asked)
    }

    fn hash(&self, namespace: &str, name: &str) -> u64 {
        self.hasher.hash_one((namespace, name))
    }
}

/// Files that changed, as they are now.
struct After<'d> {
    files: Vec<(usize, Arc<Documents>)>,
    /// Slices that differ, as they were and as they are.
    differing: Vec<(&'d Document<EndpointSlice>, &'d Document<EndpointSlice>)>,
}

impl<'d> After<'d> {
    /// None when more differs than what slices say.
    fn new(memo: &'d Memo, changed: &Files<'d>) -> Option<Self> {
        let mut after = Self {
            files: Vec::new(),
            differing: Vec::new(),
        };
        for &(path, now) in changed {
            let at = memo
                .paths
                .binary_search_by(|known| known.as_path().cmp(path))
                .ok()?;
            let then = &memo.files[at];
            if Arc::ptr_eq(then, now) {
                continue;
            }
            after.differing.extend(memo.differing_slices(then, now)?);
            after.files.push((at, now.clone()));
        }
        Some(after)
    }

    fn file<'s>(&'s self, memo: &'s Memo, file: usize) -> &'s Documents {
        let changed = self.files.iter().find(|(at, _)| *at == file);
        changed.map_or(&memo.files[file], |(_, documents)| documents)
    }

    /// Namespace and name of the services whose slices differ.
    fn touched(&self) -> Option<BTreeSet<(&'d str, &'d str)>> {
        let mut touched = BTreeSet::new();
        for (then, now) in &self.differing {
            let of = service_of(then)?;
            let moved = service_of(now) != Some(of);
            if moved || then.body.is_named || now.body.is_named {
                return None;
            }
            touched.insert((&*then.namespace, of));
        }
        (touched.len() <= MAX_SERVICES).then_some(touched)
    }
}

impl Memo {
    /// The slices that differ, as they were and as they are. None when anything else does: then lines of findings may be
    /// others too.
    fn differing_slices<'d>(
        &self,
        then: &'d Documents,
        now: &'d Documents,
    ) -> Option<Vec<(&'d Document<EndpointSlice>, &'d Document<EndpointSlice>)>> {
        // Every field by its name: what is new here is to be thought of.
        let Documents {
            route_rules,
            destination_policies,
            ingress_rules,
            egress_rules,
            services,
            endpoint_slices,
            pods,
            secrets,
            declared,
            findings,
        } = now;
        let no_rules = route_rules.is_empty()
            && then.route_rules.is_empty()
            && destination_policies.is_empty()
            && then.destination_policies.is_empty()
            && ingress_rules.is_empty()
            && then.ingress_rules.is_empty()
            && egress_rules.is_empty()
            && then.egress_rules.is_empty()
            && secrets.is_empty()
            && then.secrets.is_empty()
            && declared.is_empty()
            && then.declared.is_empty();
        let is_sound = no_rules
            && findings.is_empty()
            && then.findings.is_empty()
            && !self.is_warned(then)
            && differing(&then.services, services)?.is_empty()
            && differing(&then.pods, pods)?.is_empty();
        if !is_sound {
            return None;
        }
        differing(&then.endpoint_slices, endpoint_slices)
    }

    fn is_warned(&self, file: &Documents) -> bool {
        let services = file.services.iter().map(|d| &d.position);
        let slices = file.endpoint_slices.iter().map(|d| &d.position);
        let mut positions = services
            .chain(slices)
            .chain(file.pods.iter().map(|d| &d.position));
        // Every object of a file has the same file.
        positions
            .next()
            .is_some_and(|position| self.warned.contains(position.file()))
    }
}

/// Objects that are not what they were; none when others are there, or in another order.
fn differing<'d, T: PartialEq>(
    then: &'d Many<Document<T>>,
    now: &'d Many<Document<T>>,
) -> Option<Vec<(&'d Document<T>, &'d Document<T>)>> {
    let is_same = |(then, now): (&Document<T>, &Document<T>)| {
        (&then.namespace, &then.name) == (&now.namespace, &now.name)
    };
    if then.len() != now.len() || !then.iter().zip(now).all(is_same) {
        return None;
    }
    let differing = then.iter().zip(now).filter(|(then, now)| then.body != now.body);
    Some(differing.collect())
}

fn slice_at(file: &Documents, place: Place) -> &Document<EndpointSlice> {
    &file.endpoint_slices[place.item()]
}

fn service_of(slice: &Document<EndpointSlice>) -> Option<&str> {
    slice.body.service.as_deref()
}

fn only<T>(mut found: impl Iterator<Item = T>) -> Option<T> {
    found.next().filter(|_| found.next().is_none())
}

fn asked(model: &Model) -> HashMap<ServiceName, Asked> {
    let mut asked: HashMap<ServiceName, Asked> = HashMap::new();
    for rule in &model.rules {
        for target in &rule.targets {
            let of = &mut asked.entry(target.service.clone()).or_default().routed;
            if !target.labels.is_empty() && !of.contains(&target.labels) {
                of.push(target.labels.clone());
            }
        }
        for mirror in &rule.mirrors {
            let of = &mut asked.entry(mirror.service.clone()).or_default().mirrored;
            if !of.contains(&mirror.labels) {
                of.push(mirror.labels.clone());
            }
        }
    }
    for policy in model.policies.iter().filter(|p| p.outlier_detection.is_some()) {
        asked.entry(policy.destination.clone()).or_default().counted = true;
    }
    asked
}

fn entries(service: &Service, asked: &HashMap<ServiceName, Asked>) -> usize {
    let routed = asked.get(&service.name).map_or(&[][..], |asked| &asked.routed);
    let ports = service.ports.iter();
    ports.map(|port| capacity::entries(port, routed)).sum()
}

/// True when two compilations differ in nothing but endpoints, and in what workloads are instances of.
fn is_alike(then: &Registry, now: &Registry) -> bool {
    let Registry {
        services,
        workloads,
        identities,
        externals,
        addresses,
    } = now;
    // Copies without endpoints are compared whole, so that no field can be forgotten.
    let without_endpoints = |services: &[Service]| -> Vec<Service> {
        let bare = |port: &Port| Port {
            endpoints: Vec::new(),
            ..port.clone()
        };
        let service = |service: &Service| Service {
            ports: service.ports.iter().map(bare).collect(),
            ..service.clone()
        };
        services.iter().map(service).collect()
    };
    let without_services = |workloads: &[Workload]| -> Vec<Workload> {
        let workload = |workload: &Workload| Workload {
            services: Services::default(),
            ..workload.clone()
        };
        workloads.iter().map(workload).collect()
    };
    without_endpoints(services) == without_endpoints(&then.services)
        && without_services(workloads) == without_services(&then.workloads)
        && *identities == then.identities
        && *externals == then.externals
        && *addresses == then.addresses
}

/// What became of the services and of their instances.
fn change(then: Registry, now: Registry) -> EndpointChange {
    let endpoints = |service: Service| {
        let mut ports = BTreeMap::new();
        for port in service.ports {
            // Of two ports with one number the first counts.
            let key = (port.protocol.transport(), port.number);
            ports.entry(key).or_insert(port.endpoints);
        }
        (service.name, ports)
    };
    let mut change = EndpointChange {
        endpoints: now.services.into_iter().map(endpoints).collect(),
        workloads: BTreeMap::new(),
    };
    for (then, now) in then.workloads.into_iter().zip(now.workloads) {
        let without = |these: &Services, those: &Services| {
            let only = these.iter().filter(|service| !those.contains(service));
            only.cloned().collect()
        };
        let membership = Membership {
            left: without(&then.services, &now.services),
            joined: without(&now.services, &then.services),
        };
        if membership != Membership::default() {
            change.workloads.insert(now.name, membership);
        }
    }
    change
}

#[cfg(test)]
mod tests;
