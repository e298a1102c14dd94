//! The event loop: reloads, publishes, reconciles. The sole publisher of snapshots.
