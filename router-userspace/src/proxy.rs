//! The HTTP proxy: one readable function per request.
