//! The kernel's side of proxied connections: socket storage, read and written by file descriptor.

use std::{
    io,
    net::SocketAddr,
    os::fd::{AsRawFd, BorrowedFd},
    sync::Arc,
};

use arc_swap::ArcSwap;
use router_common::connection::{CONFINED_CALLER, Connection, STATE_ACCEPTED, STATE_OWN, STATE_OWN_REFUSED};

use super::{UpstreamIds, bpf, maps::Maps};
use crate::enforce::{Enforcement, Origin};

/// [`Enforcement`] by the kernel's maps.
#[derive(Debug)]
pub struct KernelEnforcement {
    maps: Arc<Maps>,
    ids: ArcSwap<UpstreamIds>,
}

impl KernelEnforcement {
    /// Without ids yet: upstream connections count nowhere until [`KernelEnforcement::set_ids`].
    pub fn new(maps: Arc<Maps>) -> Self {
        Self {
            maps,
            ids: ArcSwap::default(),
        }
    }

    /// Puts the ids of a reconciled configuration in force.
    pub fn set_ids(&self, ids: UpstreamIds) {
        self.ids.store(Arc::new(ids));
    }

    fn connection(&self, socket: BorrowedFd<'_>) -> io::Result<Option<Connection>> {
        bpf::lookup(self.maps.connections(), &socket.as_raw_fd())
    }
}

impl Enforcement for KernelEnforcement {
    fn origin(&self, accepted: BorrowedFd<'_>) -> io::Result<Option<Origin>> {
        let connection = self.connection(accepted)?.filter(|c| c.state == STATE_ACCEPTED);
        Ok(connection.map(|Connection { origin, .. }| Origin {
            destination: SocketAddr::new(origin.addr.to_ip(), origin.port.port()),
            cgroup: origin.cgroup,
            confined: origin.flags & CONFINED_CALLER != 0,
        }))
    }

    fn claim(&self, socket: BorrowedFd<'_>, policy: Option<&str>, endpoint: SocketAddr) -> io::Result<()> {
        let ids = self.ids.load();
        let own = Connection {
            state: STATE_OWN,
            limit: policy.and_then(|name| ids.limits.get(name)).copied().unwrap_or(0),
            endpoint: ids.endpoints.get(endpoint).unwrap_or(0),
            ..Connection::default()
        };
        bpf::update(self.maps.connections(), &socket.as_raw_fd(), &own)
    }

    fn over_limit(&self, socket: BorrowedFd<'_>) -> bool {
        matches!(self.connection(socket), Ok(Some(connection)) if connection.state == STATE_OWN_REFUSED)
    }

    fn has_room(&self, policy: &str) -> bool {
        let id = self.ids.load().limits.get(policy).copied().unwrap_or(0);
        if id == 0 || id >= self.maps.limits.len() {
            return true;
        }
        let limit = self.maps.limits.get(id);
        limit.active < limit.max
    }
}
