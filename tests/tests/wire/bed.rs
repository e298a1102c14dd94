//! The test bed: a model, a proxy for it, and a double of the kernel.

use std::{
    collections::{HashMap, HashSet},
    fs, io,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    os::fd::{AsRawFd, BorrowedFd, RawFd},
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use router_rules::{
    Snapshot,
    action::Target,
    id::{Origin as Written, ServiceName},
    labels::Labels,
    model::{Endpoint, Model, Port, Protocol, Rule, Service},
};
use router_userspace::{
    enforce::{Enforcement, Origin, outlier::Outliers},
    live::Live,
    proxy::{self, AccessRecord, AccessSink, Disclosure, Limits, Proxy, ProxyConfig},
    registry::Callers,
};
use socket2::SockRef;

/// The service that most tests call.
pub const SERVICE: &str = "reviews.default.svc.cluster.local";
/// Its address, which nobody has.
pub const ADDRESS: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 9, 8, 7));

pub fn labels(version: &str) -> Labels {
    [("version", version)].into_iter().collect()
}

pub fn written(object: &str) -> Written {
    Written {
        object: object.into(),
        file: "rules.yaml".into(),
        line: 1,
    }
}

/// A rule of the service.
pub fn rule(name: &str) -> Rule {
    Rule::new(written(&format!("route-rule {name}")), ServiceName::new(SERVICE))
}

pub fn target(version: &str, weight: u32) -> Target {
    Target {
        service: ServiceName::new(SERVICE),
        labels: labels(version),
        weight,
    }
}

/// The service on port 80, with instances of given versions.
pub fn service(protocol: Protocol, instances: &[(SocketAddr, &str)]) -> Model {
    let endpoint = |&(address, version): &(SocketAddr, &str)| Endpoint {
        address,
        labels: Arc::new(labels(version)),
        workload: None,
    };
    Model {
        services: vec![Service {
            name: ServiceName::new(SERVICE),
            addresses: vec![ADDRESS],
            ports: vec![Port {
                number: 80,
                name: None,
                protocol,
                endpoints: instances.iter().map(endpoint).collect(),
            }],
        }],
        ..Model::default()
    }
}

/// What the kernel would do.
#[derive(Default)]
pub struct Kernel {
    /// Accepted sockets have no original destination.
    pub blind: std::sync::atomic::AtomicBool,
    /// Original destination and cgroup of connections from an address; of others: the service's port 80, and 7.
    pub origins: Mutex<HashMap<IpAddr, Origin>>,
    /// Names of workloads by their cgroups, beside the one of cgroup 7.
    pub workloads: Mutex<HashMap<u64, Arc<str>>>,
    /// Limit per policy object.
    pub limits: Mutex<HashMap<String, usize>>,
    claimed: Mutex<Vec<Claim>>,
    refused: Mutex<HashSet<String>>,
    /// Most connections that were open at once, per policy object.
    pub peaks: Mutex<HashMap<String, usize>>,
}

struct Claim {
    policy: String,
    socket: RawFd,
    inode: String,
}

fn inode(socket: RawFd) -> String {
    let link = format!("/proc/self/fd/{socket}");
    fs::read_link(link).map_or_else(|_| String::new(), |p| p.to_string_lossy().into_owned())
}

/// Forgets claims whose sockets are closed, and counts those of `policy`. The number of a closed socket may be another's,
/// the inode is not.
fn count_open(claimed: &mut Vec<Claim>, policy: &str) -> usize {
    claimed.retain(|claim| inode(claim.socket) == claim.inode);
    claimed.iter().filter(|claim| claim.policy == policy).count()
}

impl Kernel {
    /// Claimed sockets of a policy that are open now.
    pub fn open(&self, policy: &str) -> usize {
        count_open(&mut self.claimed.lock().unwrap(), policy)
    }
}

impl Enforcement for Kernel {
    fn origin(&self, accepted: BorrowedFd<'_>) -> io::Result<Option<Origin>> {
        if self.blind.load(std::sync::atomic::Ordering::Relaxed) {
            return Ok(None);
        }
        let peer = SockRef::from(&accepted).peer_addr()?.as_socket();
        let told = peer.and_then(|peer| self.origins.lock().unwrap().get(&peer.ip()).copied());
        Ok(Some(told.unwrap_or(Origin {
            destination: SocketAddr::new(ADDRESS, 80),
            cgroup: 7,
            confined: false,
        })))
    }

    fn claim(&self, socket: BorrowedFd<'_>, policy: Option<&str>, _: SocketAddr) -> io::Result<()> {
        let Some(policy) = policy else {
            return Ok(());
        };
        let inode = inode(socket.as_raw_fd());
        let mut claimed = self.claimed.lock().unwrap();
        let open = count_open(&mut claimed, policy);
        if self
            .limits
            .lock()
            .unwrap()
            .get(policy)
            .is_some_and(|&limit| open >= limit)
        {
            // A listening socket cannot connect: the nearest to a refusal in the kernel.
            SockRef::from(&socket).listen(1)?;
            self.refused.lock().unwrap().insert(inode);
            return Ok(());
        }
        let mut peaks = self.peaks.lock().unwrap();
        let peak = peaks.entry(policy.to_owned()).or_default();
        *peak = (*peak).max(open + 1);
        claimed.push(Claim {
            policy: policy.to_owned(),
            socket: socket.as_raw_fd(),
            inode,
        });
        Ok(())
    }

    fn over_limit(&self, socket: BorrowedFd<'_>) -> bool {
        self.refused.lock().unwrap().remove(&inode(socket.as_raw_fd()))
    }

    fn has_room(&self, policy: &str) -> bool {
        let open = self.open(policy);
        let limits = self.limits.lock().unwrap();
        limits.get(policy).is_none_or(|&limit| open < limit)
    }
}

/// Every caller is this workload.
pub const CALLER: &str = "default/productpage";

impl Callers for Kernel {
    fn workload(&self, cgroup: u64) -> Option<Arc<str>> {
        let told = self.workloads.lock().unwrap().get(&cgroup).cloned();
        told.or_else(|| (cgroup == 7).then(|| CALLER.into()))
    }
}

/// An access record, kept.
#[derive(Clone, Debug)]
pub struct Line {
    pub method: String,
    pub path: String,
    pub protocol: &'static str,
    pub service: String,
    pub ingress: String,
    pub rule: String,
    pub subset: String,
    pub caller: String,
    pub reason: String,
    pub request_id: String,
    pub endpoint: Option<SocketAddr>,
    pub status: u16,
    pub attempts: u32,
    pub received: u64,
    pub sent: u64,
}

/// The access log.
#[derive(Default)]
pub struct Log(Mutex<Vec<Line>>);

impl Log {
    /// All lines so far, which are forgotten.
    pub fn take(&self) -> Vec<Line> {
        std::mem::take(&mut self.0.lock().unwrap())
    }

    pub fn count(&self) -> usize {
        self.0.lock().unwrap().len()
    }

    pub fn last_reason(&self) -> String {
        self.0
            .lock()
            .unwrap()
            .last()
            .map_or_else(String::new, |line| line.reason.clone())
    }
}

impl AccessSink for Log {
    fn record(&self, r: &AccessRecord<'_>) {
        self.0.lock().unwrap().push(Line {
            method: r.method.into(),
            path: r.path.into(),
            protocol: r.protocol,
            service: r.service.into(),
            ingress: r.ingress.into(),
            rule: r.rule.into(),
            subset: r.subset.into(),
            caller: r.caller.into(),
            reason: r.reason.into(),
            request_id: r.request_id.into(),
            endpoint: r.endpoint,
            status: r.status,
            attempts: r.attempts,
            received: r.received,
            sent: r.sent,
        });
    }
}

/// A running proxy with everything around it.
pub struct Bed {
    pub proxy: Proxy,
    pub kernel: Arc<Kernel>,
    pub log: Arc<Log>,
    pub live: Arc<Live>,
    pub outliers: Arc<Outliers>,
    generation: u64,
}

impl Bed {
    pub fn start(model: Model) -> Self {
        Self::with(model, 2, Limits::default())
    }

    pub fn with(model: Model, threads: usize, limits: Limits) -> Self {
        Self::disclosing(model, threads, limits, Disclosure::default())
    }

    pub fn disclosing(model: Model, threads: usize, limits: Limits, disclosure: Disclosure) -> Self {
        let kernel = Arc::new(Kernel::default());
        let log = Arc::new(Log::default());
        let live = Arc::new(Live::new(Snapshot::build(model, 1)));
        let outliers = Arc::new(Outliers::default());
        let config = ProxyConfig {
            listen: vec!["127.0.0.1:0".parse().unwrap()],
            threads,
            limits,
            access: Some(log.clone()),
            disclosure,
            outliers: outliers.clone(),
            gateways: vec![Ipv4Addr::LOCALHOST.into()],
        };
        let proxy = proxy::start(config, live.clone(), kernel.clone(), kernel.clone()).unwrap();
        Self {
            proxy,
            kernel,
            log,
            live,
            outliers,
            generation: 1,
        }
    }

    /// Where the proxy stands for the service's port 80.
    pub fn address(&self) -> SocketAddr {
        self.proxy.addresses()[0]
    }

    pub fn publish(&mut self, model: Model) {
        self.generation += 1;
        self.live
            .publish(Arc::new(Snapshot::build(model, self.generation)));
    }

    /// Access lines, once there are `count` of them.
    pub async fn lines(&self, count: usize) -> Vec<Line> {
        until(&format!("{count} access lines"), || {
            self.log.0.lock().unwrap().len() >= count
        })
        .await;
        self.log.0.lock().unwrap().clone()
    }
}

/// Waits until something holds; fails after ten seconds.
pub async fn until(what: &str, holds: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while !holds() {
        assert!(Instant::now() < deadline, "timed out waiting for {what}");
        // waits: until the next look at the condition.
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}
