//! The node and its pods.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    ops::Deref,
    path::Path,
    sync::atomic::{AtomicU16, Ordering},
};

use anyhow::{Context, Result};

use super::{remote::Remote, scratch::Scratch};
use crate::protocol::{Command, Plug};

/// A node: a namespace that forwards between its pods, and a cgroup that stands for the root.
#[derive(Debug)]
pub struct Node {
    // Dropped in this order: the process ends before its cgroup is removed.
    remote: Remote,
    scratch: Scratch,
    next: AtomicU16,
}

/// What makes a pod.
#[derive(Clone, Debug)]
pub struct PodSpec {
    /// Name, unique on the node.
    pub name: String,
    /// Uid, as in the Pod object; its cgroup's name carries it.
    pub uid: String,
    /// Addresses of either family, at least one.
    pub addresses: Vec<IpAddr>,
    /// Labels.
    pub labels: BTreeMap<String, String>,
}

/// A pod with its process.
#[derive(Debug)]
pub struct Pod {
    remote: Remote,
    spec: PodSpec,
    /// Name for `ip netns exec`.
    namespace: String,
}

impl Node {
    /// A node without pods.
    ///
    /// # Errors
    ///
    /// Not root, or the kernel lacks something.
    pub fn new() -> Result<Self> {
        let scratch = Scratch::new()?;
        let remote = Remote::start("node", &scratch.cgroup_below("system")?)?;
        remote.call(Command::BecomeNode).context("making the node")?;
        scratch.name_network("node", &remote.network())?;
        Ok(Self {
            remote,
            scratch,
            next: AtomicU16::new(1),
        })
    }

    /// The node's places on this machine.
    pub fn scratch(&self) -> &Scratch {
        &self.scratch
    }

    /// A process in the node's own namespace.
    pub fn remote(&self) -> &Remote {
        &self.remote
    }

    /// Adds a pod with the next addresses of both families.
    ///
    /// # Errors
    ///
    /// The kernel lacks something.
    pub fn pod(&self, name: &str, labels: &[(&str, &str)]) -> Result<Pod> {
        let number = self.next.fetch_add(1, Ordering::Relaxed) + 1;
        let [high, low] = number.to_be_bytes();
        let labels = labels.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned()));
        self.add(PodSpec {
            name: name.into(),
            uid: format!("00000000-0000-4000-8000-{number:012x}"),
            addresses: vec![
                Ipv4Addr::new(10, 77, high, low).into(),
                Ipv6Addr::new(0xfd77, 0x77, 0, 0, 0, 0, 0, number).into(),
            ],
            labels: labels.collect(),
        })
    }

    /// Adds a pod.
    ///
    /// # Errors
    ///
    /// The name or an address is taken, or the kernel lacks something.
    pub fn add(&self, spec: PodSpec) -> Result<Pod> {
        // As kubelet nests them with the cgroupfs driver: the pod, and a container in it.
        let cgroup = self
            .scratch
            .cgroup_below(&format!("kubepods/pod{}/container", spec.uid))?;
        let remote = Remote::start(&spec.name, &cgroup)?;
        let plug = Plug {
            device: format!("pod{}", remote.pid()),
            pid: remote.pid(),
            addresses: spec.addresses.clone(),
        };
        self.remote
            .call(Command::Plug(plug))
            .with_context(|| format!("plugging in {}", spec.name))?;
        let addresses = spec.addresses.clone();
        remote
            .call(Command::BecomePod { addresses })
            .with_context(|| format!("making {}", spec.name))?;
        let namespace = self.scratch.name_network(&spec.name, &remote.network())?;
        Ok(Pod {
            remote,
            spec,
            namespace,
        })
    }
}

impl Pod {
    /// What made it.
    pub fn spec(&self) -> &PodSpec {
        &self.spec
    }

    /// Name for `ip netns exec`.
    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    /// First IPv4 address with `port`.
    ///
    /// # Panics
    ///
    /// The pod has none.
    pub fn v4(&self, port: u16) -> SocketAddr {
        self.address(port, IpAddr::is_ipv4)
    }

    /// First IPv6 address with `port`.
    ///
    /// # Panics
    ///
    /// The pod has none.
    pub fn v6(&self, port: u16) -> SocketAddr {
        self.address(port, IpAddr::is_ipv6)
    }

    #[expect(
        clippy::expect_used,
        reason = "a test that asks for an address it did not give is wrong"
    )]
    fn address(&self, port: u16, family: fn(&IpAddr) -> bool) -> SocketAddr {
        let ip = self.spec.addresses.iter().copied().find(family);
        SocketAddr::new(ip.expect("the pod has an address of that family"), port)
    }

    /// Directory of the pod's cgroup: the parent of its container's.
    pub fn pod_cgroup(&self) -> &Path {
        let container = self.remote.cgroup();
        container.parent().unwrap_or(container)
    }
}

impl Deref for Pod {
    type Target = Remote;

    fn deref(&self) -> &Remote {
        &self.remote
    }
}
