//! The kernel half from userspace: desired state, plan, maps, programs. The sole writer of maps.
