//! Logs: text or JSON on standard error. The access log is the target [`ACCESS`], so that it can be switched by itself.
//!
//! It knows nothing of what is logged.

use std::io::IsTerminal as _;

use tracing_appender::non_blocking::{ErrorCounter, NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::{
    EnvFilter, Layer as _, Registry, filter::ParseError, layer::SubscriberExt as _,
    util::SubscriberInitExt as _,
};

/// Target of the access log: one event per request or proxied connection.
pub const ACCESS: &str = "access";

/// Environment variable with tracing's directives: `info,router_userspace::control=debug`.
const FILTER_VARIABLE: &str = "ROUTER_LOG";

/// How lines look.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, clap::ValueEnum)]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object per line.
    Json,
}

/// Whether requests are logged.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, clap::ValueEnum)]
pub enum AccessLog {
    /// One line per request or proxied connection.
    #[default]
    On,
    /// None.
    Off,
}

/// Lines that may wait to be written. Beyond it lines are dropped and counted: a stalled reader of the log must not
/// stop requests.
const MAX_WAITING_LINES: usize = 65_536;

/// The logger; lines that wait are written when it is dropped.
#[derive(Debug)]
pub struct Logger {
    dropped: ErrorCounter,
    _flush: WorkerGuard,
}

impl Logger {
    /// Counts lines that were dropped.
    pub const fn dropped(&self) -> &ErrorCounter {
        &self.dropped
    }
}

/// Installs the logger of this process, which writes on a thread of its own. Later calls install nothing, so that
/// tests may start several agents.
///
/// # Errors
///
/// The environment variable `ROUTER_LOG` has a directive that cannot be read.
pub fn init(format: LogFormat, access: AccessLog) -> Result<Logger, ParseError> {
    let directives = std::env::var(FILTER_VARIABLE).unwrap_or_default();
    let filter = filter(&directives, access)?;
    let (writer, flush) = NonBlockingBuilder::default()
        .lossy(true)
        .buffered_lines_limit(MAX_WAITING_LINES)
        .thread_name("log")
        .finish(std::io::stderr());
    let dropped = writer.error_counter();
    let lines = tracing_subscriber::fmt::layer().with_writer(writer);
    let lines = match format {
        LogFormat::Text => lines.with_ansi(std::io::stderr().is_terminal()).boxed(),
        LogFormat::Json => lines.json().flatten_event(true).with_current_span(false).boxed(),
    };
    // An error means that a logger is installed already.
    let _ = Registry::default().with(lines.with_filter(filter)).try_init();
    Ok(Logger {
        dropped,
        _flush: flush,
    })
}

/// Of two directives for the same target the later holds.
fn filter(directives: &str, access: AccessLog) -> Result<EnvFilter, ParseError> {
    let filter = EnvFilter::try_new(format!("info,{directives}"))?;
    Ok(match access {
        AccessLog::On => filter,
        AccessLog::Off => filter.add_directive(format!("{ACCESS}=off").parse()?),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_access_log_can_be_switched_off_alone() {
        assert!(
            filter("", AccessLog::Off)
                .unwrap()
                .to_string()
                .contains("access=off")
        );
        assert_eq!(filter("", AccessLog::On).unwrap().to_string(), "info");
        assert_eq!(filter("debug", AccessLog::On).unwrap().to_string(), "debug");
        assert_eq!(
            filter("kernel=debug", AccessLog::On).unwrap().to_string(),
            "kernel=debug,info"
        );
        assert!(filter("no such=directive=x", AccessLog::On).is_err());
    }
}
