//! One file per hook type.

pub(crate) mod connect;
pub(crate) mod datagram;
pub(crate) mod handover;
pub(crate) mod release;
