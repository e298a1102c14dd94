//! System calls that no library wraps: each one small, checked and documented.
