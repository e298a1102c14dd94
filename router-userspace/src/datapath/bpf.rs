//! The few `bpf(2)` commands that aya does not offer in the form needed here: links that are created, replaced in
//! place and asked for their cgroup; pins; map elements by file descriptor without exclusive access.

use std::{
    ffi::CString,
    io,
    os::{
        fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd},
        unix::ffi::OsStrExt,
    },
    path::Path,
};

const MAP_LOOKUP_ELEM: libc::c_long = 1;
const MAP_UPDATE_ELEM: libc::c_long = 2;
const MAP_DELETE_ELEM: libc::c_long = 3;
const MAP_GET_NEXT_KEY: libc::c_long = 4;
const OBJ_PIN: libc::c_long = 6;
const OBJ_GET: libc::c_long = 7;
const OBJ_GET_INFO_BY_FD: libc::c_long = 15;
const LINK_CREATE: libc::c_long = 28;
const LINK_UPDATE: libc::c_long = 29;

/// Where a cgroup program attaches: `enum bpf_attach_type` of `linux/bpf.h`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u32)]
pub(super) enum AttachType {
    SockOps = 3,
    Connect4 = 10,
    Connect6 = 11,
    Sendmsg4 = 14,
    Sendmsg6 = 15,
    Recvmsg4 = 19,
    Recvmsg6 = 20,
    SockRelease = 34,
}

/// What the kernel says of a link.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct LinkState {
    /// Id of the program that runs now.
    pub(super) program: u32,
    /// Id of the cgroup it is attached to; 0 when that cgroup is gone.
    pub(super) cgroup: u64,
}

/// Attaches a program to a cgroup beside those that are there.
pub(super) fn link_create(
    program: BorrowedFd<'_>,
    cgroup: BorrowedFd<'_>,
    attach_type: AttachType,
) -> io::Result<OwnedFd> {
    #[repr(C)]
    struct Attr {
        prog_fd: i32,
        target_fd: i32,
        attach_type: u32,
        flags: u32,
        rest: [u64; 6],
    }
    let attr = Attr {
        prog_fd: program.as_raw_fd(),
        target_fd: cgroup.as_raw_fd(),
        attach_type: attach_type as u32,
        flags: 0,
        rest: [0; 6],
    };
    new_fd(bpf(LINK_CREATE, attr)?)
}

/// Puts another program in the place of a link's, without a moment in which none runs.
pub(super) fn link_update(link: BorrowedFd<'_>, program: BorrowedFd<'_>) -> io::Result<()> {
    #[repr(C)]
    struct Attr {
        link_fd: i32,
        new_prog_fd: i32,
        flags: u32,
        old_prog_fd: u32,
    }
    let attr = Attr {
        link_fd: link.as_raw_fd(),
        new_prog_fd: program.as_raw_fd(),
        flags: 0,
        old_prog_fd: 0,
    };
    bpf(LINK_UPDATE, attr).map(drop)
}

/// Asks the kernel about a cgroup link.
pub(super) fn link_state(link: BorrowedFd<'_>) -> io::Result<LinkState> {
    /// `struct bpf_link_info` as far as cgroup links fill it.
    #[repr(C)]
    #[derive(Default)]
    struct Info {
        kind: u32,
        id: u32,
        program: u32,
        pad: u32,
        cgroup: u64,
        attach_type: u32,
        rest: [u32; 25],
    }
    let mut info = Info::default();
    info_by_fd(link, &raw mut info)?;
    Ok(LinkState {
        program: info.program,
        cgroup: info.cgroup,
    })
}

/// Gives an object a name in bpffs, under which it outlives this process.
pub(super) fn pin(object: BorrowedFd<'_>, path: &Path) -> io::Result<()> {
    let path = c_path(path)?;
    bpf(
        OBJ_PIN,
        ObjAttr {
            pathname: path.as_ptr() as u64,
            bpf_fd: object.as_raw_fd(),
            file_flags: 0,
        },
    )
    .map(drop)
}

/// Opens a pinned object.
pub(super) fn open_pinned(path: &Path) -> io::Result<OwnedFd> {
    let path = c_path(path)?;
    new_fd(bpf(
        OBJ_GET,
        ObjAttr {
            pathname: path.as_ptr() as u64,
            bpf_fd: 0,
            file_flags: 0,
        },
    )?)
}

#[repr(C)]
struct ObjAttr {
    pathname: u64,
    bpf_fd: i32,
    file_flags: u32,
}

/// Reads a map element; `None` when there is none.
pub(super) fn lookup<K: aya::Pod, V: aya::Pod + Default>(
    map: BorrowedFd<'_>,
    key: &K,
) -> io::Result<Option<V>> {
    let mut value = V::default();
    let attr = ElemAttr {
        map_fd: map.as_raw_fd() as u32,
        pad: 0,
        key: (&raw const *key) as u64,
        value: (&raw mut value) as u64,
        flags: 0,
    };
    match bpf(MAP_LOOKUP_ELEM, attr) {
        Ok(_) => Ok(Some(value)),
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Writes a map element, new or old.
pub(super) fn update<K: aya::Pod, V: aya::Pod>(map: BorrowedFd<'_>, key: &K, value: &V) -> io::Result<()> {
    let attr = ElemAttr {
        map_fd: map.as_raw_fd() as u32,
        pad: 0,
        key: (&raw const *key) as u64,
        value: (&raw const *value) as u64,
        flags: 0,
    };
    bpf(MAP_UPDATE_ELEM, attr).map(drop)
}

/// Removes a map element; that it is not there is no error.
pub(super) fn delete<K: aya::Pod>(map: BorrowedFd<'_>, key: &K) -> io::Result<()> {
    let attr = ElemAttr {
        map_fd: map.as_raw_fd() as u32,
        pad: 0,
        key: (&raw const *key) as u64,
        value: 0,
        flags: 0,
    };
    match bpf(MAP_DELETE_ELEM, attr) {
        Err(error) if error.raw_os_error() != Some(libc::ENOENT) => Err(error),
        _ => Ok(()),
    }
}

/// Every key and value of a hash map that nobody else writes meanwhile. `blank` is any key.
pub(super) fn entries<K: aya::Pod, V: aya::Pod + Default>(
    map: BorrowedFd<'_>,
    blank: K,
) -> io::Result<Vec<(K, V)>> {
    entries_up_to(map, blank, usize::MAX)
}

/// The same, but no more than `most`: where the kernel removes entries by itself, the walk may begin again and again.
pub(super) fn entries_up_to<K: aya::Pod, V: aya::Pod + Default>(
    map: BorrowedFd<'_>,
    blank: K,
    most: usize,
) -> io::Result<Vec<(K, V)>> {
    let mut found = Vec::new();
    let mut previous: Option<K> = None;
    loop {
        if found.len() == most {
            return Ok(found);
        }
        let mut next = blank;
        let attr = ElemAttr {
            map_fd: map.as_raw_fd() as u32,
            pad: 0,
            key: previous.as_ref().map_or(0, |key| (&raw const *key) as u64),
            value: (&raw mut next) as u64,
            flags: 0,
        };
        match bpf(MAP_GET_NEXT_KEY, attr) {
            Ok(_) => {}
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => return Ok(found),
            Err(error) => return Err(error),
        }
        if let Some(value) = lookup(map, &next)? {
            found.push((next, value));
        }
        previous = Some(next);
    }
}

#[repr(C)]
struct ElemAttr {
    map_fd: u32,
    pad: u32,
    key: u64,
    /// The next key's address for `MAP_GET_NEXT_KEY`.
    value: u64,
    flags: u64,
}

fn info_by_fd<T>(object: BorrowedFd<'_>, info: *mut T) -> io::Result<()> {
    #[repr(C)]
    struct Attr {
        bpf_fd: i32,
        info_len: u32,
        info: u64,
    }
    let attr = Attr {
        bpf_fd: object.as_raw_fd(),
        info_len: size_of::<T>() as u32,
        info: info as u64,
    };
    bpf(OBJ_GET_INFO_BY_FD, attr).map(drop)
}

fn bpf<T>(command: libc::c_long, mut attr: T) -> io::Result<libc::c_long> {
    // SAFETY: `attr` is the part of `union bpf_attr` that the command reads, zero-initialised beyond what is set, and
    // every pointer in it is valid for the call; the kernel checks the size.
    let result = unsafe { libc::syscall(libc::SYS_bpf, command, &raw mut attr, size_of::<T>()) };
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(result)
    }
}

fn new_fd(result: libc::c_long) -> io::Result<OwnedFd> {
    let fd = i32::try_from(result).map_err(io::Error::other)?;
    // SAFETY: the kernel just returned this descriptor to us and nobody else knows it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

fn c_path(path: &Path) -> io::Result<CString> {
    CString::new(path.as_os_str().as_bytes()).map_err(io::Error::other)
}
