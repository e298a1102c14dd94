//! Programs and maps in the kernel: load, pin, attach, adopt what an earlier agent left, remove.
//!
//! ```text
//! PIN_DIR/v<ABI>/MAP      one pin per map
//! PIN_DIR/links/PROGRAM   one pin per link
//! ```
//!
//! Links outlive layouts: a new agent with another ABI builds its maps beside the old ones, puts its programs in the
//! place of the old (`BPF_LINK_UPDATE`, no moment without a program), and then removes the old maps' pins. The link of the
//! hand-over is there only while connections are sent to the proxy.

use std::{
    fs, io,
    net::{Ipv4Addr, Ipv6Addr},
    os::fd::{AsFd, OwnedFd},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use aya::{Ebpf, EbpfLoader};
use router_common::{
    ABI_VERSION, abi,
    net::{Addr, Be16},
    settings::{EGRESS_ALLOW, EGRESS_REGISTRY_ONLY, Settings},
};
use thiserror::Error;

use super::{bpf, log::KernelLog, maps::Maps};
use crate::clock;

mod links;

pub use links::HandoverHook;
use links::Links;

/// The kernel half, as `cargo xtask build-ebpf` made it; empty when this binary was built without it.
static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/router.bpf.o"));

/// Magic number of bpffs in `statfs`.
const BPF_FS_MAGIC: libc::c_long = 0xcafe_4a11;

/// Where and how the kernel half is installed.
#[derive(Clone, Debug)]
pub struct KernelConfig {
    /// Cgroup-v2 directory to attach to: connections of every process below it are routed.
    pub cgroup: PathBuf,
    /// Directory in bpffs for pins.
    pub pin_dir: PathBuf,
    /// IPv4 address of the proxy.
    pub proxy_v4: Option<Ipv4Addr>,
    /// IPv6 address of the proxy.
    pub proxy_v6: Option<Ipv6Addr>,
    /// Port of the proxy.
    pub proxy_port: u16,
    /// Age of the heartbeat beyond which the proxy counts as down.
    pub stale_after: Duration,
    /// Refuse unknown destinations to confined cgroups.
    pub confine: bool,
    /// Have the programs log each verdict; every connection then pays for it.
    pub debug_log: bool,
}

/// Why the kernel half could not be installed.
#[derive(Debug, Error)]
pub enum KernelError {
    /// The binary has no kernel half in it.
    #[error("this binary was built without the kernel half; build it with `cargo xtask build`")]
    NoObject,
    /// The pin directory is not in bpffs.
    #[error("{0} is not in a BPF file system; mount one with `mount -t bpf bpf /sys/fs/bpf`")]
    NotBpffs(PathBuf),
    /// Another agent writes the same maps.
    #[error("another agent holds {0}; stop it first, or give this one its own --pin-dir")]
    Held(PathBuf),
    /// A file, map or link could not be used.
    #[error("{action} {path}: {error}", path = path.display())]
    Io {
        /// What was being done.
        action: &'static str,
        /// To what.
        path: PathBuf,
        /// What the kernel said.
        error: io::Error,
    },
    /// The object could not be loaded; the kernel's verifier log is in the message.
    #[error("loading the kernel half: {0:#}")]
    Load(#[from] aya::EbpfError),
    /// A program could not be loaded.
    #[error("loading program {name}: {error}")]
    Program {
        /// Its name.
        name: &'static str,
        /// What the kernel said.
        error: aya::programs::ProgramError,
    },
    /// The object does not hold a program of this name.
    #[error("the kernel half has no program {0}; rebuild with `cargo xtask build`")]
    NoProgram(&'static str),
}

fn io_error(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> KernelError {
    move |error| KernelError::Io {
        action,
        path: path.to_owned(),
        error,
    }
}

/// The installed kernel half. Dropping it detaches nothing: pins keep it at work.
#[derive(Debug)]
pub struct Kernel {
    map_dir: PathBuf,
    maps: Arc<Maps>,
    log: Option<KernelLog>,
    handover: Option<HandoverHook>,
    /// Verified instructions per program.
    verified: Vec<(&'static str, u32)>,
    adopted: bool,
    /// Held while this agent writes the maps; the kernel drops it with the process.
    _writer: OwnedFd,
}

impl Kernel {
    /// Loads the programs, adopts or creates the maps, and attaches.
    ///
    /// When it returns, connections are routed by what the maps hold: by what an earlier agent left, or, in new maps,
    /// not at all.
    ///
    /// # Errors
    ///
    /// Nothing is attached that was not attached before, except when attaching itself fails midway; running the
    /// agent again or `router uninstall` mends that.
    pub fn install(config: &KernelConfig) -> Result<Self, KernelError> {
        if OBJECT.is_empty() {
            return Err(KernelError::NoObject);
        }
        let cgroup = fs::File::open(&config.cgroup).map_err(io_error("opening cgroup", &config.cgroup))?;
        let writer = claim_pin_dir(&config.pin_dir)?;
        let map_dir = config.pin_dir.join(format!("v{ABI_VERSION}"));
        let adopted = map_dir.join(abi::SETTINGS).exists();
        fs::create_dir_all(&map_dir).map_err(io_error("creating", &map_dir))?;
        let mut ebpf = load(&map_dir, config.debug_log)?;
        let maps = Maps::open(&map_dir).map_err(|(path, error)| io_error("opening map", &path)(error))?;
        configure(&maps, config).map_err(io_error("writing", &map_dir))?;
        let links = Links {
            dir: config.pin_dir.join("links"),
            cgroup,
        };
        fs::create_dir_all(&links.dir).map_err(io_error("creating", &links.dir))?;
        // Before the programs that may send connections to the proxy.
        let (handover, walked) = links.prepare(&mut ebpf, abi::PROGRAM_SOCK_OPS)?;
        let mut verified = vec![(abi::PROGRAM_SOCK_OPS, walked)];
        for name in abi::PROGRAMS.into_iter().filter(|&name| !is_on_demand(name)) {
            verified.push((name, handover.links().attach(&mut ebpf, name)?));
        }
        remove_other_layouts(&config.pin_dir, &map_dir);
        let log = config.debug_log.then(|| KernelLog::new(&mut ebpf)).flatten();
        Ok(Self {
            map_dir,
            maps: Arc::new(maps),
            log,
            handover: Some(handover),
            verified,
            adopted,
            _writer: writer,
        })
    }

    /// The maps.
    pub const fn maps(&self) -> &Arc<Maps> {
        &self.maps
    }

    /// The same maps in mappings of their own, for who writes them: everybody else looks at few.
    ///
    /// # Errors
    ///
    /// A pin could not be opened.
    pub fn maps_apart(&self) -> Result<Maps, KernelError> {
        Maps::open(&self.map_dir).map_err(|(path, error)| io_error("opening map", &path)(error))
    }

    /// True when the maps were left by an earlier agent.
    pub const fn adopted(&self) -> bool {
        self.adopted
    }

    /// The programs' log, once; `None` unless [`KernelConfig::debug_log`] was set.
    pub const fn take_log(&mut self) -> Option<KernelLog> {
        self.log.take()
    }

    /// The hook that hands connections over, once: for whoever writes where connections go.
    pub const fn take_handover(&mut self) -> Option<HandoverHook> {
        self.handover.take()
    }

    /// Instructions that the verifier walked, per program.
    pub fn verified_instructions(&self) -> &[(&'static str, u32)] {
        &self.verified
    }
}

/// Takes the pin directory for this process alone.
fn claim_pin_dir(pin_dir: &Path) -> Result<OwnedFd, KernelError> {
    let parent = pin_dir.ancestors().find(|p| p.exists()).unwrap_or(Path::new("/"));
    if !is_bpffs(parent).map_err(io_error("looking at", parent))? {
        return Err(KernelError::NotBpffs(pin_dir.to_owned()));
    }
    fs::create_dir_all(pin_dir).map_err(io_error("creating", pin_dir))?;
    let dir = fs::File::open(pin_dir).map_err(io_error("opening", pin_dir))?;
    match dir.try_lock() {
        Ok(()) => Ok(dir.into()),
        Err(fs::TryLockError::WouldBlock) => Err(KernelError::Held(pin_dir.to_owned())),
        Err(fs::TryLockError::Error(error)) => Err(io_error("locking", pin_dir)(error)),
    }
}

fn is_bpffs(path: &Path) -> io::Result<bool> {
    use std::os::unix::ffi::OsStrExt;
    let path = std::ffi::CString::new(path.as_os_str().as_bytes())?;
    let mut stat = std::mem::MaybeUninit::<libc::statfs>::zeroed();
    // SAFETY: a C string and a buffer of the right type, both alive during the call.
    if unsafe { libc::statfs(path.as_ptr(), stat.as_mut_ptr()) } != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: zeroed memory is a valid statfs, and the call succeeded.
    Ok(unsafe { stat.assume_init() }.f_type == BPF_FS_MAGIC)
}

/// Creates the maps with their pins, or opens the pinned ones.
fn load(map_dir: &Path, debug_log: bool) -> Result<Ebpf, KernelError> {
    let level = if debug_log { aya_log::Level::Debug as u8 } else { 0 };
    let mut loader = EbpfLoader::new();
    // A constant to the verifier: with logging off it removes the log calls.
    loader.override_global(aya_log::LEVEL, &level, true);
    for name in abi::MAPS {
        loader.map_pin_path(name, map_dir.join(name));
    }
    Ok(loader.load(OBJECT)?)
}

/// Tells the programs where the proxy is. The heartbeat stays as it is until the proxy gives one.
fn configure(maps: &Maps, config: &KernelConfig) -> io::Result<()> {
    let before = maps.settings.get(0);
    maps.settings.set(
        0,
        &Settings {
            abi: ABI_VERSION,
            proxy_port: Be16::from_port(config.proxy_port),
            pad: 0,
            proxy_v4: config
                .proxy_v4
                .map_or(Addr::default(), |ip| Addr::from_ip(ip.into())),
            proxy_v6: config
                .proxy_v6
                .map_or(Addr::default(), |ip| Addr::from_ip(ip.into())),
            heartbeat: before.heartbeat,
            stale_after: u64::try_from(config.stale_after.as_nanos()).unwrap_or(u64::MAX),
            egress: if config.confine {
                EGRESS_REGISTRY_ONLY
            } else {
                EGRESS_ALLOW
            },
            reserved: 0,
        },
    )
}

/// Removes the pins of maps of other layouts, which no program uses any more.
fn remove_other_layouts(pin_dir: &Path, current: &Path) {
    let Ok(entries) = fs::read_dir(pin_dir) else {
        return;
    };
    for path in entries.flatten().map(|entry| entry.path()) {
        let is_layout = path
            .file_name()
            .and_then(|n| n.to_str())
            .is_some_and(|n| n.starts_with('v'));
        if is_layout && path != current {
            tracing::info!(maps = %path.display(), "removing maps of another layout");
            if let Err(error) = fs::remove_dir_all(&path) {
                tracing::warn!(maps = %path.display(), %error, "cannot remove maps of another layout");
            }
        }
    }
}

/// A hook, as the kernel describes it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Hook {
    /// Name of the program.
    pub program: &'static str,
    /// What the kernel said.
    pub state: HookState,
}

/// Whether a hook does its work.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum HookState {
    /// There is no pinned link.
    Missing,
    /// The link's cgroup is gone, so it covers nothing.
    Detached,
    /// At work.
    Attached {
        /// Id of the program that runs.
        program_id: u32,
        /// Id of the cgroup it covers.
        cgroup: u64,
    },
    /// The kernel could not be asked.
    Unknown(String),
}

/// True for the program that is attached only while it is needed.
pub(super) fn is_on_demand(program: &str) -> bool {
    program == abi::PROGRAM_SOCK_OPS
}

/// Asks the kernel which hooks are attached.
pub fn hooks(pin_dir: &Path) -> Vec<Hook> {
    let ask = |program: &'static str| {
        let path = pin_dir.join("links").join(program);
        let state = match bpf::open_pinned(&path).and_then(|link| bpf::link_state(link.as_fd())) {
            Ok(link) if link.cgroup == 0 => HookState::Detached,
            Ok(link) => HookState::Attached {
                program_id: link.program,
                cgroup: link.cgroup,
            },
            Err(error) if error.kind() == io::ErrorKind::NotFound => HookState::Missing,
            Err(error) => HookState::Unknown(error.to_string()),
        };
        Hook { program, state }
    };
    abi::PROGRAMS.into_iter().map(ask).collect()
}

/// Detaches every program and removes every pin. Links go first, connect hooks before the others, so that no new
/// connection is routed while the rest goes. Returns the number of pins removed.
///
/// # Errors
///
/// A pin could not be removed; those before it are gone.
pub fn uninstall(pin_dir: &Path) -> Result<usize, KernelError> {
    if !pin_dir.exists() {
        return Ok(0);
    }
    let _writer = claim_pin_dir(pin_dir)?;
    let links = abi::PROGRAMS
        .iter()
        .rev()
        .map(|name| pin_dir.join("links").join(name));
    let mut removed = 0;
    for path in links.filter(|path| path.exists()) {
        fs::remove_file(&path).map_err(io_error("removing", &path))?;
        removed += 1;
    }
    for layout in fs::read_dir(pin_dir)
        .map_err(io_error("reading", pin_dir))?
        .flatten()
    {
        removed += fs::read_dir(layout.path()).map_or(0, Iterator::count);
        fs::remove_dir_all(layout.path()).map_err(io_error("removing", &layout.path()))?;
    }
    fs::remove_dir(pin_dir).map_err(io_error("removing", pin_dir))?;
    Ok(removed)
}

/// Renews the proxy's sign of life. Called every [`HEARTBEAT_EVERY`](router_common::settings::HEARTBEAT_EVERY).
pub fn heartbeat(maps: &Maps) {
    maps.beat(u64::try_from(clock::kernel().as_nanos()).unwrap_or(u64::MAX));
}

/// Takes the proxy's sign of life back: connections are routed without it from now on, not only when it is stale.
pub fn proxy_goes_down(maps: &Maps) {
    maps.beat(0);
}
