//! System calls that the test bed needs and no library wraps. The only `unsafe` of this crate.

use std::{
    ffi::{CStr, CString},
    fs::File,
    io,
    os::{
        fd::AsRawFd,
        unix::{ffi::OsStrExt as _, process::CommandExt as _},
    },
    path::Path,
    process::Command,
};

fn check(result: i32) -> io::Result<()> {
    if result == -1 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

/// Gives this thread a network namespace of its own. Call it before other threads exist.
///
/// # Errors
///
/// Not permitted.
pub fn leave_network() -> io::Result<()> {
    // SAFETY: takes no pointers.
    check(unsafe { libc::unshare(libc::CLONE_NEWNET) })
}

/// Moves this thread into a network namespace. Call it before other threads exist.
///
/// # Errors
///
/// Not a network namespace, or not permitted.
pub fn enter_network(namespace: &File) -> io::Result<()> {
    // SAFETY: takes no pointers; the descriptor is open.
    check(unsafe { libc::setns(namespace.as_raw_fd(), libc::CLONE_NEWNET) })
}

/// Has the kernel kill this process when the thread that started it ends.
///
/// # Errors
///
/// None on Linux.
pub fn die_with_parent() -> io::Result<()> {
    // SAFETY: PR_SET_PDEATHSIG takes a signal number.
    check(unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) })
}

/// Sends a signal to a process.
///
/// # Errors
///
/// No such process.
pub fn signal(pid: u32, signal: i32) -> io::Result<()> {
    let pid = i32::try_from(pid).map_err(io::Error::other)?;
    // SAFETY: takes no pointers.
    check(unsafe { libc::kill(pid, signal) })
}

/// True while the process exists.
pub fn alive(pid: u32) -> bool {
    signal(pid, 0).is_ok()
}

/// True for root.
pub fn is_root() -> bool {
    // SAFETY: takes nothing and cannot fail.
    unsafe { libc::geteuid() == 0 }
}

/// Mounts the BPF file system.
///
/// # Errors
///
/// Not permitted, or the directory does not exist.
pub fn mount_bpffs(path: &CStr) -> io::Result<()> {
    // SAFETY: every pointer is a C string that outlives the call; bpffs takes no data.
    check(unsafe {
        libc::mount(
            c"bpf".as_ptr(),
            path.as_ptr(),
            c"bpf".as_ptr(),
            0,
            std::ptr::null(),
        )
    })
}

/// Raises the limit of open files as far as the kernel lets us; a refusal is no error.
pub fn raise_open_files() {
    let mut limit = libc::rlimit {
        rlim_cur: 0,
        rlim_max: 0,
    };
    // SAFETY: `limit` is a valid rlimit for the call to fill, and then to read.
    unsafe {
        if libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) == 0 {
            limit.rlim_cur = limit.rlim_max;
            libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit);
        }
    }
}

/// Has a program see `hosts` as its `/etc/hosts`, in a mount namespace of its own.
///
/// # Errors
///
/// There is no `/etc/hosts`, and it cannot be made.
pub fn with_hosts(command: &mut Command, hosts: &Path) -> io::Result<()> {
    const HOSTS: &CStr = c"/etc/hosts";
    // A guest has nothing in /etc.
    std::fs::create_dir_all("/etc")?;
    File::options().create(true).append(true).open("/etc/hosts")?;
    let hosts = CString::new(hosts.as_os_str().as_bytes())?;
    let mount = move |from: Option<&CStr>, to: &CStr, flags| {
        let from = from.map_or(std::ptr::null(), CStr::as_ptr);
        // SAFETY: every pointer is null or a C string that outlives the call; neither kind of mount takes data.
        check(unsafe { libc::mount(from, to.as_ptr(), std::ptr::null(), flags, std::ptr::null()) })
    };
    let enter = move || {
        // SAFETY: takes no pointers.
        check(unsafe { libc::unshare(libc::CLONE_NEWNS) })?;
        mount(None, c"/", libc::MS_REC | libc::MS_PRIVATE)?;
        mount(Some(&hosts), HOSTS, libc::MS_BIND)
    };
    // SAFETY: it makes system calls only, and allocates nothing, between fork and exec.
    unsafe { command.pre_exec(enter) };
    Ok(())
}
