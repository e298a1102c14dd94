//! Whether this machine can run the tests that need root and BPF. It tries, it does not guess.

use std::{fs, io, thread};

/// `BPF_MAP_CREATE` of bpf(2).
const MAP_CREATE: libc::c_long = 0;
/// `BPF_MAP_TYPE_ARRAY`.
const ARRAY: u32 = 2;

/// The first thing in the way, for people; `None` when nothing is.
pub(super) fn obstacle() -> Option<String> {
    // SAFETY: takes nothing, touches nothing, cannot fail.
    if unsafe { libc::geteuid() } != 0 {
        return Some("needs root; run it with sudo".to_owned());
    }
    let mounts = fs::read_to_string("/proc/mounts").unwrap_or_default();
    if !mounts_cgroup2(&mounts) {
        return Some("no cgroup v2 is mounted: mount -t cgroup2 none /sys/fs/cgroup/unified".to_owned());
    }
    if let Err(error) = create_map() {
        return Some(format!(
            "the kernel refuses bpf(2): {error} (needs CONFIG_BPF_SYSCALL and CAP_BPF)"
        ));
    }
    if let Err(error) = leave_network() {
        return Some(format!(
            "the kernel refuses network namespaces: {error} (needs CAP_SYS_ADMIN)"
        ));
    }
    None
}

fn mounts_cgroup2(mounts: &str) -> bool {
    mounts
        .lines()
        .any(|line| line.split(' ').nth(2) == Some("cgroup2"))
}

/// Makes the smallest map and lets it go.
fn create_map() -> io::Result<()> {
    /// The start of `union bpf_attr` for this command; the kernel takes the rest as zero.
    #[repr(C)]
    struct Attributes {
        kind: u32,
        key_size: u32,
        value_size: u32,
        max_entries: u32,
    }
    let attributes = Attributes {
        kind: ARRAY,
        key_size: 4,
        value_size: 4,
        max_entries: 1,
    };
    // SAFETY: the attributes outlive the call, and their size is given.
    let fd = unsafe {
        libc::syscall(
            libc::SYS_bpf,
            MAP_CREATE,
            &raw const attributes,
            size_of::<Attributes>(),
        )
    };
    let fd = libc::c_int::try_from(fd).map_err(io::Error::other)?;
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the descriptor is ours and nobody else knows it.
    unsafe { libc::close(fd) };
    Ok(())
}

/// Enters a fresh network namespace on a thread that ends then.
fn leave_network() -> io::Result<()> {
    let entered = thread::spawn(|| {
        // SAFETY: affects the calling thread alone.
        match unsafe { libc::unshare(libc::CLONE_NEWNET) } {
            0 => Ok(()),
            _ => Err(io::Error::last_os_error()),
        }
    });
    entered
        .join()
        .unwrap_or_else(|_| Err(io::Error::other("the probe panicked")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_cgroup2_wherever_it_is_mounted() {
        assert!(mounts_cgroup2(
            "cgroup2 /sys/fs/cgroup/unified cgroup2 rw,relatime 0 0\n"
        ));
        assert!(!mounts_cgroup2("cgroup /sys/fs/cgroup/cpu cgroup rw,cpu 0 0\n"));
    }
}
