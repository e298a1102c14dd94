//! Which ports of the node are listened on, as the proxy reports it and the admin address and metrics show it.
//!
//! It opens nothing, and does not know which ports are wanted.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

/// What became of a port.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum PortState {
    /// It is listened on at these addresses.
    Open(Arc<[SocketAddr]>),
    /// It could not be opened, and is tried again every second.
    Failed(Arc<str>),
}

/// The ports of gateways. One place in the proxy writes; every other reads.
#[derive(Debug, Default)]
pub struct Listening(Mutex<BTreeMap<u16, PortState>>);

impl Listening {
    /// What became of a port; none: nobody has tried yet.
    pub fn state(&self, port: u16) -> Option<PortState> {
        self.ports().get(&port).cloned()
    }

    /// Notes what became of a port. True when that is news.
    pub(crate) fn note(&self, port: u16, state: PortState) -> bool {
        self.ports().insert(port, state.clone()) != Some(state)
    }

    /// Forgets ports that nobody wants any more.
    pub(crate) fn retain(&self, wanted: impl Fn(u16) -> bool) {
        self.ports().retain(|port, _| wanted(*port));
    }

    fn ports(&self) -> MutexGuard<'_, BTreeMap<u16, PortState>> {
        // The map is valid after every single operation on it.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
