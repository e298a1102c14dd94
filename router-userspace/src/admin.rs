//! The admin address: health, readiness, status, metrics, snapshot, maps, explain. Read-only: nothing that it is
//! given lets it change anything.
//!
//! It knows nothing of how a configuration is put in force, and answers `GET` (and `HEAD`) alone.

pub mod dump;
pub mod ejections;
pub mod explain;
mod routes;
mod server;
mod view;

pub use routes::ENDPOINTS;
pub use server::{MAX_CONNECTIONS, serve};
pub use view::View;
