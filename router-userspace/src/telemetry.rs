//! Logs: text or JSON on standard error. The access log is the target [`ACCESS`], so that it can be switched by itself.
//!
//! It knows nothing of what is logged.

use std::io::IsTerminal as _;

use tracing_subscriber::{
    EnvFilter, Layer as _, Registry, layer::SubscriberExt as _, util::SubscriberInitExt as _,
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

/// Installs the logger of this process. Later calls do nothing, so that tests may start several agents.
///
/// # Errors
///
/// The environment variable `ROUTER_LOG` has a directive that cannot be read.
pub fn init(format: LogFormat, access: AccessLog) -> Result<(), tracing_subscriber::filter::ParseError> {
    let directives = std::env::var(FILTER_VARIABLE).unwrap_or_default();
    let filter = filter(&directives, access)?;
    let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
    let lines = match format {
        LogFormat::Text => lines.with_ansi(std::io::stderr().is_terminal()).boxed(),
        LogFormat::Json => lines.json().flatten_event(true).with_current_span(false).boxed(),
    };
    // An error means that a logger is installed already.
    let _ = Registry::default().with(lines.with_filter(filter)).try_init();
    Ok(())
}

fn filter(directives: &str, access: AccessLog) -> Result<EnvFilter, tracing_subscriber::filter::ParseError> {
    let directives = if directives.is_empty() { "info" } else { directives };
    let filter = EnvFilter::try_new(directives)?;
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
        assert!(filter("no such=directive=x", AccessLog::On).is_err());
    }
}
