//! The admin address: health, readiness, status, metrics, snapshot, maps, explain. Read-only: nothing that it is
//! given lets it change anything.
//!
//! It knows nothing of how a configuration is put in force, and answers `GET` (and `HEAD`) alone.

pub mod dump;
pub mod ejections;
pub mod explain;
mod gateways;
mod routes;
mod server;
mod view;

pub(crate) use gateways::certificate;
pub use routes::ENDPOINTS;
pub use server::{MAX_CONNECTIONS, serve};
pub use view::View;
