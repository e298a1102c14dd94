//! Logs: text or JSON, the access log, the kernel half's log.
