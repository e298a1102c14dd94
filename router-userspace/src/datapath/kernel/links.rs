//! Programs at their hooks: attached by pinned links, replaced in place, and one of them attached only while it is needed.
//!
//! It knows nothing of what the programs do, nor when the one is needed.

use std::{
    fs, io,
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::fs::MetadataExt,
    },
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use aya::{Ebpf, programs::Program};
use router_common::abi;

use super::{KernelError, io_error};
use crate::datapath::bpf::{self, AttachType};

/// The directory of the pinned links and the cgroup they belong to.
#[derive(Debug)]
pub(super) struct Links {
    pub(super) dir: PathBuf,
    pub(super) cgroup: fs::File,
}

/// A program that is loaded.
struct Loaded {
    program: OwnedFd,
    attach_type: AttachType,
    /// Instructions that the verifier walked.
    verified: u32,
}

impl Links {
    /// Loads a program and puts it to work: in the place of its predecessor where there is one. Returns the number
    /// of instructions the verifier walked.
    pub(super) fn attach(&self, ebpf: &mut Ebpf, name: &'static str) -> Result<u32, KernelError> {
        let loaded = load(ebpf, name)?;
        let path = self.dir.join(name);
        self.put(&path, loaded.program.as_fd(), loaded.attach_type)?;
        Ok(loaded.verified)
    }

    /// Loads a program that is attached when it is needed. Where it has a predecessor, it takes its place at once: that may
    /// be needed now.
    pub(super) fn prepare(
        self,
        ebpf: &mut Ebpf,
        name: &'static str,
    ) -> Result<(HandoverHook, u32), KernelError> {
        let loaded = load(ebpf, name)?;
        let path = self.dir.join(name);
        let is_attached = path.exists();
        let hook = HandoverHook {
            links: self,
            path,
            program: loaded.program,
            attach_type: loaded.attach_type,
            is_attached,
            unneeded: Unneeded::default(),
        };
        if is_attached {
            hook.put()?;
        }
        Ok((hook, loaded.verified))
    }

    fn put(&self, path: &Path, program: BorrowedFd<'_>, attach_type: AttachType) -> Result<(), KernelError> {
        if !self.replace(path, program)? {
            let link = bpf::link_create(program, self.cgroup.as_fd(), attach_type)
                .map_err(io_error("attaching", path))?;
            bpf::pin(link.as_fd(), path).map_err(io_error("pinning", path))?;
        }
        Ok(())
    }

    /// Puts the program into a pinned link; false when there is none that is attached to our cgroup.
    fn replace(&self, path: &Path, program: BorrowedFd<'_>) -> Result<bool, KernelError> {
        if !path.exists() {
            return Ok(false);
        }
        let link = bpf::open_pinned(path).map_err(io_error("opening link", path))?;
        let (attached, wanted) = self.cgroups(path, link.as_fd())?;
        if attached == wanted {
            bpf::link_update(link.as_fd(), program).map_err(io_error("replacing", path))?;
            return Ok(true);
        }
        // Attached to another cgroup, to one that is gone, or to none any more: it covers nothing that is ours.
        tracing::warn!(link = %path.display(), attached, wanted, "link belongs to another cgroup; attaching anew");
        fs::remove_file(path).map_err(io_error("removing", path))?;
        Ok(false)
    }

    /// True when there is a pinned link that is attached to our cgroup.
    fn is_attached(&self, path: &Path) -> Result<bool, KernelError> {
        if !path.exists() {
            return Ok(false);
        }
        let link = bpf::open_pinned(path).map_err(io_error("opening link", path))?;
        let (attached, wanted) = self.cgroups(path, link.as_fd())?;
        Ok(attached == wanted)
    }

    /// The cgroup that a link is attached to, 0 for none, and ours.
    fn cgroups(&self, path: &Path, link: BorrowedFd<'_>) -> Result<(u64, u64), KernelError> {
        let attached = bpf::link_state(link).map_err(io_error("asking", path))?.cgroup;
        let wanted = self
            .cgroup
            .metadata()
            .map_err(io_error("looking at the cgroup of", path))?
            .ino();
        Ok((attached, wanted))
    }
}

/// What is not needed for so long is detached: connections that were sent to the proxy before are handed over until then.
/// They stay within the node, which takes microseconds; a first packet that is lost all the same is repeated after 1, 3, 7
/// and 15 seconds.
const UNNEEDED_FOR: Duration = Duration::from_secs(20);

/// The program that hands connections over to the proxy (`sock_ops`), attached only while some are sent there.
///
/// The kernel runs it some nine times for every TCP connection that is made on the node, whoever makes it and wherever it
/// goes, and that is most of what a node without proxied services would pay for a connection.
#[derive(Debug)]
pub struct HandoverHook {
    links: Links,
    path: PathBuf,
    program: OwnedFd,
    attach_type: AttachType,
    is_attached: bool,
    unneeded: Unneeded,
}

impl HandoverHook {
    /// Attaches the program unless that was done.
    pub(in crate::datapath) fn begin(&mut self) -> io::Result<()> {
        self.unneeded = Unneeded::default();
        if !self.is_attached {
            self.put().map_err(io::Error::other)?;
            self.is_attached = true;
            tracing::info!("connections are sent to the proxy: the hand-over is attached");
        }
        Ok(())
    }

    /// Looks whether the kernel runs the program, whatever was done before, and attaches it when it is needed and detaches
    /// it when it has not been for [`UNNEEDED_FOR`].
    pub(in crate::datapath) fn keep(&mut self, is_needed: bool, now: Instant) -> io::Result<()> {
        self.is_attached = self.links.is_attached(&self.path).map_err(io::Error::other)?;
        if is_needed {
            return self.begin();
        }
        if self.unneeded.for_long(now) && self.is_attached {
            fs::remove_file(&self.path)?;
            self.is_attached = false;
            tracing::info!("no connection is sent to the proxy: the hand-over is detached");
        }
        Ok(())
    }

    /// Where the other programs are attached, too.
    pub(super) const fn links(&self) -> &Links {
        &self.links
    }

    fn put(&self) -> Result<(), KernelError> {
        self.links.put(&self.path, self.program.as_fd(), self.attach_type)
    }
}

/// Since when something has not been needed, as far as anybody asked.
#[derive(Clone, Copy, Debug, Default)]
struct Unneeded(Option<Instant>);

impl Unneeded {
    /// It is not needed `now` either.
    fn for_long(&mut self, now: Instant) -> bool {
        now.duration_since(*self.0.get_or_insert(now)) >= UNNEEDED_FOR
    }
}

fn load(ebpf: &mut Ebpf, name: &'static str) -> Result<Loaded, KernelError> {
    let program = ebpf.program_mut(name).ok_or(KernelError::NoProgram(name))?;
    let attach_type = load_program(program, name)?;
    let failed = |error| KernelError::Program { name, error };
    let fd = program.fd().map_err(failed)?.as_fd();
    let fd = fd.try_clone_to_owned().map_err(|error| failed(error.into()))?;
    let info = program.info().map_err(failed)?;
    Ok(Loaded {
        program: fd,
        attach_type,
        verified: info.verified_instruction_count().unwrap_or(0),
    })
}

fn load_program(program: &mut Program, name: &'static str) -> Result<AttachType, KernelError> {
    let (loaded, attach_type) = match program {
        Program::CgroupSockAddr(program) => {
            let attach_type = match name {
                abi::PROGRAM_CONNECT4 => AttachType::Connect4,
                abi::PROGRAM_CONNECT6 => AttachType::Connect6,
                abi::PROGRAM_SENDMSG4 => AttachType::Sendmsg4,
                abi::PROGRAM_SENDMSG6 => AttachType::Sendmsg6,
                abi::PROGRAM_RECVMSG4 => AttachType::Recvmsg4,
                abi::PROGRAM_RECVMSG6 => AttachType::Recvmsg6,
                _ => return Err(KernelError::NoProgram(name)),
            };
            (program.load(), attach_type)
        }
        Program::CgroupSock(program) => (program.load(), AttachType::SockRelease),
        Program::SockOps(program) => (program.load(), AttachType::SockOps),
        _ => return Err(KernelError::NoProgram(name)),
    };
    loaded
        .map(|()| attach_type)
        .map_err(|error| KernelError::Program { name, error })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_needed_rests_before_it_ends() {
        let start = Instant::now();
        let mut unneeded = Unneeded::default();
        for seconds in [0, 1, 19] {
            assert!(
                !unneeded.for_long(start + Duration::from_secs(seconds)),
                "{seconds} s"
            );
        }
        assert!(unneeded.for_long(start + UNNEEDED_FOR));
        unneeded = Unneeded::default();
        assert!(!unneeded.for_long(start + 2 * UNNEEDED_FOR));
    }
}
