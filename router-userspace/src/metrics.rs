//! Names and registration of every metric.
