//! The admin address: health, metrics, snapshot, maps, explain. Read-only.
