//! `router agent`: arguments → settings of the agent.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    num::{NonZeroU16, NonZeroUsize},
    path::PathBuf,
};

use anyhow::Context as _;
use http::HeaderName;

use super::{client::DEFAULT_ADMIN, text::hinted};
use crate::{
    app::{self, Egress, OnProxyDown, Settings},
    proxy::Disclosure,
    registry, sys,
    telemetry::{AccessLog, LogFormat},
};

mod limits;

/// Directory of the pins unless another is given.
pub(super) const DEFAULT_PIN_DIR: &str = "/sys/fs/bpf/router";

/// All of the node's, of both families.
const EVERY_ADDRESS: [IpAddr; 2] = [
    IpAddr::V4(Ipv4Addr::UNSPECIFIED),
    IpAddr::V6(Ipv6Addr::UNSPECIFIED),
];

#[derive(clap::Args, Debug)]
#[command(after_help = "Examples:
  router agent --config /etc/router
  router agent --config . --on-proxy-down reject --log-format json
  router agent --config . --cgroup /sys/fs/cgroup/kubepods.slice

SIGTERM stops the agent and leaves the kernel routing; `router uninstall` ends that.
ROUTER_LOG filters the log (`debug`, `info,access=off`, `kernel=debug` for the programs' own).")]
pub(super) struct Args {
    /// Directory of YAML files: rules, policies, Services, EndpointSlices, Pods. It is watched.
    #[arg(long, env = "ROUTER_CONFIG", value_name = "DIR")]
    config: PathBuf,
    /// Cgroup-v2 directory whose processes are routed [default: the root of the mount].
    #[arg(long, env = "ROUTER_CGROUP", value_name = "PATH")]
    cgroup: Option<PathBuf>,
    #[command(flatten)]
    pins: Pins,
    /// Address and port of health, metrics, status, explain.
    #[arg(long, env = "ROUTER_ADMIN", default_value = DEFAULT_ADMIN, value_name = "ADDRESS:PORT")]
    admin: SocketAddr,
    #[command(flatten)]
    proxy: ProxyAddress,
    /// Port of the proxy.
    #[arg(long, env = "ROUTER_PROXY_PORT", default_value = "15001", value_name = "PORT")]
    proxy_port: NonZeroU16,
    /// Addresses of the node at which the ports of ingress rules are listened on.
    #[arg(long, env = "ROUTER_INGRESS_ADDRESS", value_name = "ADDRESS", value_delimiter = ',', default_values_t = EVERY_ADDRESS)]
    ingress_address: Vec<IpAddr>,
    /// Threads of the proxy [default: one for each processor].
    #[arg(long, env = "ROUTER_PROXY_THREADS", value_name = "N")]
    proxy_threads: Option<NonZeroUsize>,
    /// What becomes of connections that need the proxy while it is down.
    #[arg(long, env = "ROUTER_ON_PROXY_DOWN", value_enum, default_value_t)]
    on_proxy_down: OnProxyDown,
    /// What becomes of workloads' connections to destinations that are neither the cluster's nor an egress rule's.
    #[arg(long, env = "ROUTER_EGRESS", value_enum, default_value_t)]
    egress: Egress,
    /// How the log looks.
    #[arg(long, env = "ROUTER_LOG_FORMAT", value_enum, default_value_t)]
    log_format: LogFormat,
    /// Whether each request is logged.
    #[arg(long, env = "ROUTER_ACCESS_LOG", value_enum, default_value_t)]
    access_log: AccessLog,
    #[command(flatten)]
    disclosure: DisclosureArgs,
    #[command(flatten)]
    clients: limits::ClientLimits,
}

/// What clients are told beside their responses.
#[derive(clap::Args, Clone, Debug)]
struct DisclosureArgs {
    /// Whether responses that no endpoint sent carry `x-router-reason`.
    #[arg(long, env = "ROUTER_REASON_HEADER", value_enum, default_value_t)]
    reason_header: ReasonHeader,
    /// Requests with this header get their own explanation in a header of the same name [default: none do].
    #[arg(long, env = "ROUTER_DEBUG_HEADER", value_name = "NAME", value_parser = debug_header)]
    debug_header: Option<HeaderName>,
}

/// Whether responses that no endpoint sent carry `x-router-reason`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, clap::ValueEnum)]
enum ReasonHeader {
    /// They do.
    #[default]
    On,
    /// They do not; the access log and metrics still say it.
    Off,
}

/// A name that no client sends for another purpose: what asks for an explanation is taken out of the request.
fn debug_header(name: &str) -> Result<HeaderName, String> {
    const TAKEN: [&str; 4] = ["x-forwarded-", "x-envoy-", "x-request-id", "x-router-reason"];
    let header: HeaderName = name.parse().map_err(|_| "it is no name of a header".to_owned())?;
    let own = header.as_str().starts_with("x-");
    if own && !TAKEN.iter().any(|taken| header.as_str().starts_with(taken)) {
        Ok(header)
    } else {
        Err("a name of your own that begins with x- is wanted, such as x-router-explain".to_owned())
    }
}

impl From<DisclosureArgs> for Disclosure {
    fn from(args: DisclosureArgs) -> Self {
        Self {
            reason: args.reason_header == ReasonHeader::On,
            explain: args.debug_header,
        }
    }
}

/// Where the pins are.
#[derive(clap::Args, Clone, Debug)]
pub(super) struct Pins {
    /// Directory in the BPF file system for pins.
    #[arg(long, env = "ROUTER_PIN_DIR", default_value = DEFAULT_PIN_DIR, value_name = "DIR")]
    pub(super) pin_dir: PathBuf,
}

/// Where the proxy is.
#[derive(clap::Args, Clone, Debug)]
pub(super) struct ProxyAddress {
    /// IPv4 address of the proxy; it is put on `lo`.
    #[arg(long, env = "ROUTER_PROXY_ADDRESS", default_value_t = app::PROXY_V4, value_name = "IPV4")]
    proxy_address: Ipv4Addr,
    /// IPv6 address of the proxy; it is put on `lo`.
    #[arg(long, env = "ROUTER_PROXY_ADDRESS6", default_value_t = app::PROXY_V6, value_name = "IPV6")]
    proxy_address6: Ipv6Addr,
}

impl ProxyAddress {
    pub(super) fn addresses(&self) -> [IpAddr; 2] {
        [self.proxy_address.into(), self.proxy_address6.into()]
    }
}

pub(super) fn run(args: Args) -> anyhow::Result<()> {
    if !sys::is_root() {
        return Err(hinted(
            anyhow::anyhow!("the agent may not load programs into the kernel"),
            "run it as root (CAP_BPF, CAP_NET_ADMIN, CAP_DAC_READ_SEARCH); `router check` and \
             `router explain --config DIR` need no rights",
        ));
    }
    app::run(settings(args)?)
}

fn settings(args: Args) -> anyhow::Result<Settings> {
    let (cgroup, cgroup_mount) = cgroups(args.cgroup)?;
    // A symbolic link in it is followed at each reading, so that it may be exchanged.
    let config = std::path::absolute(&args.config)?;
    std::fs::read_dir(&config).with_context(|| format!("--config {}", config.display()))?;
    Ok(Settings {
        config,
        cgroup,
        cgroup_mount,
        pin_dir: args.pins.pin_dir,
        admin: args.admin,
        proxy_v4: args.proxy.proxy_address,
        proxy_v6: args.proxy.proxy_address6,
        proxy_port: args.proxy_port.get(),
        ingress: args.ingress_address,
        proxy_threads: args.proxy_threads,
        on_proxy_down: args.on_proxy_down,
        egress: args.egress,
        log_format: args.log_format,
        access_log: args.access_log,
        disclosure: args.disclosure.into(),
        limits: args.clients.limits(),
    })
}

/// The cgroup that is routed, and where cgroup v2 is mounted.
fn cgroups(asked: Option<PathBuf>) -> anyhow::Result<(PathBuf, PathBuf)> {
    match (asked, registry::cgroup2_mount()) {
        (Some(cgroup), Ok(mount)) => Ok((cgroup, mount)),
        // A mount that `/proc/mounts` does not show is as good: paths count from the cgroup then.
        (Some(cgroup), Err(_)) => Ok((cgroup.clone(), cgroup)),
        (None, Ok(mount)) => Ok((mount.clone(), mount)),
        (None, Err(error)) => Err(hinted(
            error,
            "mount it: mount -t cgroup2 cgroup2 /sys/fs/cgroup (or boot with cgroup v2)",
        )),
    }
}
