//! System calls that no library wraps: each one small, checked and documented.
//!
//! It knows nothing of what its callers want with them.

use std::{
    fs, io,
    os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd},
    path::PathBuf,
};

use tokio::io::{Interest, unix::AsyncFd};

/// `FILEID_KERNFS` of include/linux/exportfs.h: the handle is the 64-bit node id, which is the cgroup id.
const FILEID_KERNFS: libc::c_int = 0xfe;

/// A `struct file_handle` with room for a kernfs id.
#[repr(C)]
struct KernfsHandle {
    bytes: libc::c_uint,
    kind: libc::c_int,
    id: [u8; 8],
}

/// Opens the directory of a cgroup by its id (as `bpf_get_current_cgroup_id` gives it), without knowing its path.
/// `mount` is any directory of the cgroup-v2 mount. Needs `CAP_DAC_READ_SEARCH`.
///
/// # Errors
///
/// `ESTALE` when there is no such cgroup (any more); `EPERM` without the capability.
pub fn open_cgroup(mount: impl AsFd, id: u64) -> io::Result<OwnedFd> {
    let mut handle = KernfsHandle {
        bytes: size_of::<u64>() as libc::c_uint,
        kind: FILEID_KERNFS,
        id: id.to_ne_bytes(),
    };
    let flags = libc::O_PATH | libc::O_DIRECTORY | libc::O_CLOEXEC;
    // SAFETY: `handle` begins as `struct file_handle` does, and `bytes` says how long its flexible array is; the
    // kernel only reads it. The descriptor of `mount` is open for the length of the call.
    let fd = unsafe { libc::open_by_handle_at(mount.as_fd().as_raw_fd(), (&raw mut handle).cast(), flags) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the call succeeded, so `fd` is open and nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Path of an open file, as this process sees it.
///
/// # Errors
///
/// `/proc` is not mounted.
pub fn path_of(fd: impl AsFd) -> io::Result<PathBuf> {
    fs::read_link(format!("/proc/self/fd/{}", fd.as_fd().as_raw_fd()))
}

/// Waits for a descriptor to become readable, on the current tokio runtime.
///
/// # Errors
///
/// The descriptor cannot be polled: it is a file or a directory.
pub fn readable(fd: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: an `OwnedFd` names the same open descriptor as long as it lives, and nothing replaces the one inside.
    unsafe { AsyncFd::register_with_interest(fd, Interest::READABLE) }.map_err(io::Error::from)
}

/// Blocks of memory of at least this many bytes are given back to the kernel as soon as they are freed.
#[cfg(target_env = "gnu")]
const LARGE_BLOCK: libc::c_int = 1 << 20;

/// Keeps large blocks of memory apart from the small ones: a large configuration is compiled by means of tables of
/// megabytes, which would leave gaps between what is kept. By itself glibc learns from the first of them to put the
/// others among the small blocks. To be called before there are other threads.
pub fn keep_large_blocks_apart() {
    #[cfg(target_env = "gnu")]
    // SAFETY: it takes no pointers; other allocators do not have this call, and then it changes nothing that is used.
    unsafe {
        libc::mallopt(libc::M_MMAP_THRESHOLD, LARGE_BLOCK);
    }
}

/// Gives memory back to the kernel that was freed: a large configuration leaves much of it between what is kept.
pub fn give_memory_back() {
    // glibc keeps what is not at the end of its heaps; other allocators do not have this call.
    #[cfg(target_env = "gnu")]
    // SAFETY: it takes no pointers, and locks the heaps that it looks at.
    unsafe {
        libc::malloc_trim(0);
    }
}

/// True when the effective user is root.
pub fn is_root() -> bool {
    // SAFETY: the call takes nothing and cannot fail.
    unsafe { libc::geteuid() == 0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn path_of_an_open_directory() {
        let directory = tempfile::tempdir().unwrap();
        let file = fs::File::open(directory.path()).unwrap();
        assert_eq!(path_of(&file).unwrap(), directory.path().canonicalize().unwrap());
    }

    #[test]
    fn a_cgroup_that_is_not_there_is_an_error() {
        let file = fs::File::open("/").unwrap();
        assert!(open_cgroup(&file, 1).is_err());
    }
}
