//! The places a node occupies on this machine, all named `router-test-PID-N`: a cgroup, a directory of pins, a
//! directory of files, names of network namespaces. Removed on drop; those of dead processes are swept.

use std::{
    fs, io,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    sync::{
        Mutex, Once, PoisonError,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use anyhow::{Context, Result};

use crate::{
    require::{self, BPFFS},
    sys, wait,
};

const PREFIX: &str = "router-test-";
/// Where `ip netns exec` looks for namespaces by name.
const NETWORK_NAMES: &str = "/run/netns";
/// The kernel takes a moment to let go of a killed process's cgroup.
const EMPTY_WITHIN: Duration = Duration::from_secs(10);

static NEXT: AtomicU32 = AtomicU32::new(1);
static SWEEP: Once = Once::new();

/// The places of one node.
#[derive(Debug)]
pub struct Scratch {
    name: String,
    cgroup: PathBuf,
    pins: PathBuf,
    directory: PathBuf,
    networks: Mutex<Vec<PathBuf>>,
}

impl Scratch {
    /// Makes the cgroup and names the rest. Sweeps what dead processes left, once per process.
    ///
    /// # Errors
    ///
    /// No cgroup v2, or not permitted.
    pub fn new() -> Result<Self> {
        SWEEP.call_once(|| {
            if let Err(error) = sweep() {
                eprintln!("sweeping what earlier runs left: {error:#}");
            }
        });
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("{PREFIX}{}-{number}", std::process::id());
        let cgroup = require::cgroup_root()?.join(&name);
        fs::create_dir(&cgroup).with_context(|| format!("making {}", cgroup.display()))?;
        let directory = std::env::temp_dir().join(&name);
        fs::create_dir(&directory).with_context(|| format!("making {}", directory.display()))?;
        Ok(Self {
            pins: Path::new(BPFFS).join(&name),
            directory,
            name,
            cgroup,
            networks: Mutex::default(),
        })
    }

    /// `router-test-PID-N`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Stands for the root of the cgroup tree.
    pub fn cgroup(&self) -> &Path {
        &self.cgroup
    }

    /// Directory for pins; the agent makes it.
    pub fn pins(&self) -> &Path {
        &self.pins
    }

    /// Directory for files.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Makes a cgroup below the scratch cgroup.
    ///
    /// # Errors
    ///
    /// Not permitted.
    pub fn cgroup_below(&self, path: &str) -> Result<PathBuf> {
        let path = self.cgroup.join(path);
        fs::create_dir_all(&path).with_context(|| format!("making {}", path.display()))?;
        Ok(path)
    }

    /// Names a network namespace for `ip netns exec`.
    ///
    /// # Errors
    ///
    /// Not permitted.
    pub fn name_network(&self, pod: &str, network: &Path) -> Result<String> {
        fs::create_dir_all(NETWORK_NAMES)?;
        let name = format!("{}-{pod}", self.name);
        let path = Path::new(NETWORK_NAMES).join(&name);
        symlink(network, &path).with_context(|| format!("naming {}", path.display()))?;
        self.networks
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(path);
        Ok(name)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        for path in self
            .networks
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .drain(..)
        {
            let _ = fs::remove_file(path);
        }
        let removed = remove_all(&self.pins)
            .and_then(|()| remove_cgroup(&self.cgroup))
            .and_then(|()| remove_all(&self.directory));
        if let Err(error) = removed {
            eprintln!("cleaning up after {}: {error:#}", self.name);
        }
    }
}

/// Removes what processes left that are no more.
///
/// # Errors
///
/// Something cannot be removed.
pub fn sweep() -> Result<()> {
    remove(|pid| !sys::alive(pid))
}

/// Removes what this process made and still uses, before it exits without unwinding.
///
/// # Errors
///
/// Something cannot be removed.
pub fn remove_own() -> Result<()> {
    remove(|pid| pid == std::process::id())
}

/// Removes what the processes made whose number `of` accepts.
fn remove(of: impl Fn(u32) -> bool) -> Result<()> {
    for path in owned(Path::new(NETWORK_NAMES), &of)? {
        fs::remove_file(path)?;
    }
    for path in owned(Path::new(BPFFS), &of)? {
        remove_all(&path)?;
    }
    for path in owned(&require::cgroup_root()?, &of)? {
        remove_cgroup(&path)?;
    }
    for path in owned(&std::env::temp_dir(), &of)? {
        remove_all(&path)?;
    }
    Ok(())
}

/// Entries of `directory` that carry the number of a process that `of` accepts.
fn owned(directory: &Path, of: impl Fn(u32) -> bool) -> Result<Vec<PathBuf>> {
    let entries = match fs::read_dir(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let mut found = Vec::new();
    for entry in entries {
        let entry = entry?;
        let name = entry.file_name();
        let rest = name.to_str().and_then(|name| name.strip_prefix(PREFIX));
        let owner = rest.and_then(|rest| rest.split('-').next()?.parse().ok());
        if owner.is_some_and(&of) {
            found.push(entry.path());
        }
    }
    Ok(found)
}

/// Removes a directory with all below. Among pins, that detaches links and frees maps.
fn remove_all(path: &Path) -> Result<()> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("removing {}", path.display()))
        }
        _ => Ok(()),
    }
}

/// Kills what lives in a cgroup and removes it with all below.
fn remove_cgroup(path: &Path) -> Result<()> {
    for cgroup in descendants(path)? {
        for pid in fs::read_to_string(cgroup.join("cgroup.procs"))?.lines() {
            if let Ok(pid) = pid.parse() {
                // It may end by itself meanwhile.
                let _ = sys::signal(pid, libc::SIGKILL);
            }
        }
        let what = format!("{} to be empty", cgroup.display());
        wait::until(&what, EMPTY_WITHIN, || fs::remove_dir(&cgroup).ok())?;
    }
    Ok(())
}

/// The cgroup and all below it, deepest first.
fn descendants(path: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(path)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            found.extend(descendants(&entry.path())?);
        }
    }
    found.push(path.into());
    Ok(found)
}
