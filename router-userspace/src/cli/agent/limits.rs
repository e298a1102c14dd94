//! `router agent`: the flags that bound what clients of the proxy may do.
//!
//! It knows no more of a bound than its range; `proxy::limits` says what each is for.

use std::{ops::RangeInclusive, time::Duration};

use crate::{
    cli::units::{size, time},
    proxy::{
        Limits,
        limits::{Rate, Tolerated},
    },
};

/// Bounds that operators may need to change. Defaults are those of [`Limits`]; a test compares them.
#[derive(clap::Args, Clone, Debug)]
#[command(next_help_heading = "Limits of the proxy's clients")]
pub(super) struct ClientLimits {
    /// Bytes of a request head or header list; 1KiB to 1MiB.
    #[arg(long, env = "ROUTER_MAX_HEAD_SIZE", default_value = "60KiB", value_name = "SIZE",
          value_parser = head_size)]
    max_head_size: usize,
    /// Fields of a request head; 1 to 1000.
    #[arg(long, env = "ROUTER_MAX_HEAD_FIELDS", default_value = "100", value_name = "N",
          value_parser = clap::value_parser!(u16).range(1..=1000))]
    max_head_fields: u16,
    /// Time for a client to send a request head; 100ms to 1h. It is enforced within twice the time.
    #[arg(long, env = "ROUTER_HEAD_TIMEOUT", default_value = "10s", value_name = "TIME",
          value_parser = head_timeout)]
    head_timeout: Duration,
    /// Time that a client may keep a request's body waiting; 100ms to 1h, or 0: for ever. Not for gRPC and WebSocket.
    #[arg(long, env = "ROUTER_BODY_TIMEOUT", default_value = "60s", value_name = "TIME",
          value_parser = body_timeout)]
    body_timeout: Duration,
    /// Bytes a second that a body must come with on average, once the body timeout is used up.
    #[arg(long, env = "ROUTER_MIN_BODY_RATE", default_value = "240", value_name = "BYTES",
          value_parser = clap::value_parser!(u32).range(1..))]
    min_body_rate: u32,
    /// Time after which a connection without a request is closed; 1s to 24h.
    #[arg(long, env = "ROUTER_IDLE_TIMEOUT", default_value = "1h", value_name = "TIME",
          value_parser = idle_timeout)]
    idle_timeout: Duration,
    /// Connections of clients, per thread of the proxy; more wait to be accepted.
    #[arg(long, env = "ROUTER_MAX_CONNECTIONS", default_value = "16384", value_name = "N",
          value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    max_connections: u32,
    /// Requests at once on an HTTP/2 connection; 1 to 10000.
    #[arg(long, env = "ROUTER_HTTP2_STREAMS", default_value = "256", value_name = "N",
          value_parser = clap::value_parser!(u32).range(1..=10_000))]
    http2_streams: u32,
    /// Requests that an HTTP/2 client may cancel at once; beyond it, as many a second as the next flag says.
    #[arg(long, env = "ROUTER_HTTP2_RESET_BURST", default_value = "1000", value_name = "N",
          value_parser = clap::value_parser!(u32).range(1..))]
    http2_reset_burst: u32,
    /// Requests that an HTTP/2 client may cancel a second in the long run.
    #[arg(long, env = "ROUTER_HTTP2_RESET_RATE", default_value = "33", value_name = "N")]
    http2_reset_rate: u32,
    /// HTTP/2 frames without content (PING, SETTINGS, …) that a client may send a second; ten times as many at once.
    #[arg(long, env = "ROUTER_HTTP2_CONTROL_RATE", default_value = "1000", value_name = "N",
          value_parser = clap::value_parser!(u32).range(1..=100_000))]
    http2_control_rate: u32,
    /// What is let pass of that which is refused otherwise; may be repeated, or a list with commas.
    #[arg(
        long,
        env = "ROUTER_TOLERATE",
        value_name = "WHAT",
        value_delimiter = ',',
        value_enum
    )]
    tolerate: Vec<Tolerance>,
}

/// What clients may be forgiven.
#[derive(Clone, Copy, PartialEq, Eq, Debug, clap::ValueEnum)]
enum Tolerance {
    /// Targets with bytes of UTF-8 that should have been percent-encoded.
    NonAsciiTarget,
    /// `Content-Length` beside `Transfer-Encoding: chunked`: the length is dropped, and the connection closed after
    /// the response.
    LengthBesideChunked,
}

impl ClientLimits {
    pub(super) fn limits(&self) -> Limits {
        let bytes = self.max_head_size;
        Limits {
            head_bytes: bytes,
            fields: self.max_head_fields.into(),
            head_timeout: self.head_timeout,
            body_timeout: self.body_timeout,
            body_rate: self.min_body_rate,
            downstream_idle: self.idle_timeout,
            connections_per_worker: self.max_connections.try_into().unwrap_or(usize::MAX),
            streams: self.http2_streams,
            resets: Rate {
                per_second: self.http2_reset_rate,
                burst: self.http2_reset_burst,
            },
            control_frames: Rate {
                per_second: self.http2_control_rate,
                burst: self.http2_control_rate * 10,
            },
            tolerated: Tolerated {
                non_ascii_target: self.tolerate.contains(&Tolerance::NonAsciiTarget),
                length_beside_chunked: self.tolerate.contains(&Tolerance::LengthBesideChunked),
            },
            ..Limits::default()
        }
    }
}

const MILLISECONDS_100: Duration = Duration::from_millis(100);
const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_secs(3600);

fn head_size(text: &str) -> Result<usize, String> {
    size(text).and_then(|bytes| within(bytes, (1 << 10)..=(1 << 20), "1KiB to 1MiB"))
}

fn head_timeout(text: &str) -> Result<Duration, String> {
    time(text).and_then(|value| within(value, MILLISECONDS_100..=HOUR, "100ms to 1h"))
}

fn body_timeout(text: &str) -> Result<Duration, String> {
    match time(text)? {
        Duration::ZERO => Ok(Duration::ZERO),
        value => within(value, MILLISECONDS_100..=HOUR, "100ms to 1h, or 0"),
    }
}

fn idle_timeout(text: &str) -> Result<Duration, String> {
    time(text).and_then(|value| within(value, SECOND..=24 * HOUR, "1s to 24h"))
}

fn within<T: PartialOrd>(value: T, range: RangeInclusive<T>, named: &str) -> Result<T, String> {
    if range.contains(&value) {
        Ok(value)
    } else {
        Err(format!("it must be {named}"))
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Command {
        #[command(flatten)]
        limits: ClientLimits,
    }

    fn parsed(arguments: &[&str]) -> Result<Limits, String> {
        Command::try_parse_from(std::iter::once(&"agent").chain(arguments))
            .map(|command| command.limits.limits())
            .map_err(|error| error.to_string())
    }

    #[test]
    fn defaults_are_those_of_the_proxy() {
        let (here, there) = (parsed(&[]).unwrap(), Limits::default());
        assert_eq!(format!("{here:?}"), format!("{there:?}"));
    }

    #[test]
    fn flags_are_read() {
        let limits = parsed(&[
            "--max-head-size=8KiB",
            "--body-timeout=0",
            "--idle-timeout=5m",
            "--http2-control-rate=7",
            "--tolerate=non-ascii-target,length-beside-chunked",
        ])
        .unwrap();
        assert_eq!(
            (limits.head_bytes, limits.body_timeout, limits.downstream_idle),
            (8192, Duration::ZERO, Duration::from_secs(300))
        );
        assert_eq!(
            limits.control_frames,
            Rate {
                per_second: 7,
                burst: 70
            }
        );
        assert!(limits.tolerated.non_ascii_target && limits.tolerated.length_beside_chunked);
    }

    #[test]
    fn what_is_out_of_range_is_named() {
        for (argument, says) in [
            ("--max-head-size=12", "1KiB to 1MiB"),
            ("--max-head-size=much", "a size is a number"),
            ("--max-head-fields=0", "1..=1000"),
            ("--head-timeout=10", "a time has a unit"),
            ("--head-timeout=0", "100ms to 1h"),
            ("--body-timeout=2h", "100ms to 1h, or 0"),
            ("--idle-timeout=1ms", "1s to 24h"),
            ("--max-connections=0", "1..=1000000"),
            ("--http2-streams=0", "1..=10000"),
            ("--http2-reset-burst=0", "1.."),
            ("--tolerate=bare-lf", "non-ascii-target"),
        ] {
            let error = parsed(&[argument]).unwrap_err();
            assert!(error.contains(says), "{argument}: {error}");
        }
    }
}
