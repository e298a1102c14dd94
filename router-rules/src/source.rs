//! Who is calling: source conditions, workloads, and the classes that rules tell apart.

use std::{
    collections::{HashMap, HashSet},
    fmt,
    net::IpAddr,
    sync::Arc,
};

use crate::{
    cidr::{Family, Subnets},
    connection::Connection,
    id::ServiceName,
    labels::Labels,
};

/// Condition on the caller.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct SourceMatch {
    /// The caller must be an instance of this service.
    pub service: Option<ServiceName>,
    /// The caller must carry these labels.
    pub labels: Labels,
}

impl SourceMatch {
    /// True when it asks for nothing. Every caller satisfies it, also an unknown one.
    pub fn is_empty(&self) -> bool {
        self.service.is_none() && self.labels.is_empty()
    }

    /// True when `workload` satisfies the condition.
    pub fn matches(&self, workload: &Workload) -> bool {
        self.service
            .as_ref()
            .is_none_or(|s| workload.services.contains(s))
            && self.labels.select(&workload.labels)
    }
}

impl fmt::Display for SourceMatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.service {
            Some(service) if self.labels.is_empty() => write!(f, "{service}"),
            Some(service) => write!(f, "{service} with {}", self.labels),
            None => write!(f, "workloads with {}", self.labels),
        }
    }
}

/// A pod or process that may call.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Workload {
    /// `namespace/name`, unique.
    pub name: Arc<str>,
    /// Its labels.
    pub labels: Labels,
    /// The services it is an instance of.
    pub services: Services,
    /// Addresses that it calls from, as far as the registry knows them.
    pub addresses: Addresses,
}

/// Addresses of a workload. Nearly always it is one, which is held in place.
#[derive(Clone, PartialEq, Eq)]
pub enum Addresses {
    /// Only this one.
    One(IpAddr),
    /// None, or several.
    Many(Box<[IpAddr]>),
}

impl fmt::Debug for Addresses {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(&**self).finish()
    }
}

impl Default for Addresses {
    fn default() -> Self {
        Self::Many(Box::default())
    }
}

impl std::ops::Deref for Addresses {
    type Target = [IpAddr];

    fn deref(&self) -> &[IpAddr] {
        match self {
            Self::One(address) => std::slice::from_ref(address),
            Self::Many(addresses) => addresses,
        }
    }
}

impl FromIterator<IpAddr> for Addresses {
    fn from_iter<I: IntoIterator<Item = IpAddr>>(addresses: I) -> Self {
        let mut addresses = addresses.into_iter();
        match (addresses.next(), addresses.next()) {
            (None, _) => Self::default(),
            (Some(only), None) => Self::One(only),
            (first, second) => Self::Many(first.into_iter().chain(second).chain(addresses).collect()),
        }
    }
}

/// Names of services, ordered, each once. Copies share them: replicas are instances of the same services.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Services(Arc<[ServiceName]>);

impl Services {
    /// True when `service` is among them.
    pub fn contains(&self, service: &ServiceName) -> bool {
        self.0.binary_search(service).is_ok()
    }

    /// In order.
    pub fn iter(&self) -> impl Iterator<Item = &ServiceName> {
        self.0.iter()
    }
}

impl<const N: usize> From<[ServiceName; N]> for Services {
    fn from(names: [ServiceName; N]) -> Self {
        names.into_iter().collect()
    }
}

impl FromIterator<ServiceName> for Services {
    fn from_iter<I: IntoIterator<Item = ServiceName>>(names: I) -> Self {
        let mut names: Vec<_> = names.into_iter().collect();
        names.sort_unstable();
        names.dedup();
        Self(names.into())
    }
}

/// Index of a distinct [`SourceMatch`] in a snapshot.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct SourceId(pub(crate) u32);

/// Index of a distinct, non-empty set of source subnets in a snapshot.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct SubnetsId(pub(crate) u32);

/// Index of a workload in a snapshot.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct WorkloadId(pub u32);

/// Callers that no rule tells apart share a class. Class 0 is "unknown caller", which satisfies no source condition.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct ClassId(pub u32);

impl ClassId {
    /// Callers that the registry has no workload for.
    pub const UNKNOWN: Self = Self(0);
}

/// The source conditions of a snapshot, each decided for every class once.
#[derive(Debug, Default)]
pub(crate) struct Sources {
    conditions: Vec<SourceMatch>,
    /// Services that a condition names.
    services: HashSet<ServiceName>,
    subnets: Vec<Subnets>,
    classes: Vec<Satisfied>,
    /// Per workload.
    class_of: Vec<ClassId>,
}

/// What the callers of a class satisfy.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
struct Satisfied {
    /// Conditions, in order.
    conditions: Box<[SourceId]>,
    /// Source subnets that the callers' IPv4 addresses are in, in order; none: no address is known, or no subnet
    /// asks for one.
    over_v4: Option<Box<[SubnetsId]>>,
    /// As for IPv4.
    over_v6: Option<Box<[SubnetsId]>>,
}

impl Sources {
    /// Decides `conditions` and `subnets`, none of which is empty, for every workload.
    pub(crate) fn new(conditions: Vec<SourceMatch>, subnets: Vec<Subnets>, workloads: &[Workload]) -> Self {
        let concerns = Concerns::new(&conditions);
        let mut satisfied = vec![Satisfied::default()];
        let mut classes: HashMap<Satisfied, ClassId> = HashMap::new();
        let class_of = workloads.iter().map(|workload| {
            let holding = Satisfied {
                conditions: concerns.satisfied_by(workload),
                over_v4: subnets_of(workload, Family::V4, &subnets),
                over_v6: subnets_of(workload, Family::V6, &subnets),
            };
            if let Some(&class) = classes.get(&holding) {
                return class;
            }
            // A known caller that satisfies nothing is told apart from an unknown one: the kernel may decide for it.
            let class = ClassId(satisfied.len() as u32);
            satisfied.push(holding.clone());
            classes.insert(holding, class);
            class
        });
        Self {
            class_of: class_of.collect(),
            classes: satisfied,
            services: conditions.iter().filter_map(|c| c.service.clone()).collect(),
            conditions,
            subnets,
        }
    }

    pub(crate) fn class_of(&self, workload: WorkloadId) -> ClassId {
        self.class_of
            .get(workload.0 as usize)
            .copied()
            .unwrap_or(ClassId::UNKNOWN)
    }

    /// The conditions that a class satisfies, in order.
    pub(crate) fn satisfied_by(&self, class: ClassId) -> &[SourceId] {
        self.classes
            .get(class.0 as usize)
            .map_or(&[], |satisfied| &satisfied.conditions)
    }

    pub(crate) fn satisfies(&self, class: ClassId, source: SourceId) -> bool {
        self.satisfied_by(class).binary_search(&source).is_ok()
    }

    /// Whether a connection comes from one of the subnets; none when nobody knows its address.
    pub(crate) fn is_from(&self, connection: &Connection, subnets: SubnetsId) -> Option<bool> {
        if let Some(family) = connection.family() {
            return self.is_from_over(family, connection, subnets);
        }
        let [over_v4, over_v6] =
            [Family::V4, Family::V6].map(|family| self.is_from_over(family, connection, subnets));
        match (over_v4, over_v6) {
            (Some(true), _) | (_, Some(true)) => Some(true),
            (Some(false), Some(false)) => Some(false),
            _ => None,
        }
    }

    /// As [`Sources::is_from`], of a connection over `family`.
    fn is_from_over(&self, family: Family, connection: &Connection, id: SubnetsId) -> Option<bool> {
        let subnets = self.subnets(id);
        if !subnets.have(family) {
            return Some(false);
        }
        let known = self.classes.get(connection.class.0 as usize);
        let known = known.and_then(|class| match family {
            Family::V4 => class.over_v4.as_ref(),
            Family::V6 => class.over_v6.as_ref(),
        });
        match known {
            Some(known) => Some(known.binary_search(&id).is_ok()),
            None => connection
                .client
                .filter(|&client| Family::of(client) == family)
                .map(|client| subnets.contain(client)),
        }
    }

    pub(crate) fn condition(&self, source: SourceId) -> &SourceMatch {
        &self.conditions[source.0 as usize]
    }

    /// True when a condition is about being an instance of `service`.
    pub(crate) fn asks_for_service(&self, service: &ServiceName) -> bool {
        self.services.contains(service)
    }

    pub(crate) fn subnets(&self, subnets: SubnetsId) -> &Subnets {
        &self.subnets[subnets.0 as usize]
    }

    pub(crate) fn class_count(&self) -> u32 {
        self.classes.len() as u32
    }
}

/// The subnets that an address of `workload` is in; none when it has no address of the family, or no subnet is of it:
/// callers are told apart by nothing that no rule asks for.
fn subnets_of(workload: &Workload, family: Family, subnets: &[Subnets]) -> Option<Box<[SubnetsId]>> {
    let mut addresses = workload
        .addresses
        .iter()
        .filter(|&&a| Family::of(a) == family)
        .peekable();
    addresses.peek()?;
    if !subnets.iter().any(|s| s.have(family)) {
        return None;
    }
    let addresses: Vec<_> = addresses.copied().collect();
    let is_in = |(_, subnets): &(SubnetsId, &Subnets)| addresses.iter().any(|&a| subnets.contain(a));
    let numbered = (0..).map(SubnetsId).zip(subnets);
    Some(numbered.filter(is_in).map(|(id, _)| id).collect())
}

/// Conditions by the service, else the first label that they ask for, so that a workload is compared only with
/// those that may concern it.
struct Concerns<'c> {
    conditions: &'c [SourceMatch],
    by_service: HashMap<&'c ServiceName, Vec<SourceId>>,
    by_label: HashMap<(&'c str, &'c str), Vec<SourceId>>,
}

impl<'c> Concerns<'c> {
    fn new(conditions: &'c [SourceMatch]) -> Self {
        let mut concerns = Self {
            conditions,
            by_service: HashMap::new(),
            by_label: HashMap::new(),
        };
        for (id, condition) in (0..).map(SourceId).zip(conditions) {
            if let Some(service) = &condition.service {
                concerns.by_service.entry(service).or_default().push(id);
            } else if let Some(label) = condition.labels.iter().next() {
                concerns.by_label.entry(label).or_default().push(id);
            }
        }
        concerns
    }

    fn satisfied_by(&self, workload: &Workload) -> Box<[SourceId]> {
        let by_service = workload.services.iter().filter_map(|s| self.by_service.get(s));
        let by_label = workload.labels.iter().filter_map(|l| self.by_label.get(&l));
        let candidates = by_service.chain(by_label).flatten();
        let mut satisfied: Vec<SourceId> = candidates
            .copied()
            .filter(|id| self.conditions[id.0 as usize].matches(workload))
            .collect();
        satisfied.sort_unstable();
        satisfied.into()
    }
}
