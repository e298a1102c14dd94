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
        let hook = HandoverHook {
            links: self,
            path,
            program: loaded.program,
            attach_type: loaded.attach_type,
            is_ending: false,
        };
        if hook.is_pinned() {
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
        let attached = bpf::link_state(link.as_fd())
            .map_err(io_error("asking", path))?
            .cgroup;
        let wanted = self
            .cgroup
            .metadata()
            .map_err(io_error("looking at the cgroup of", path))?
            .ino();
        if attached == wanted {
            bpf::link_update(link.as_fd(), program).map_err(io_error("replacing", path))?;
            return Ok(true);
        }
        // Attached to another cgroup, or to one that is gone: it covers nothing that is ours.
        tracing::warn!(link = %path.display(), attached, wanted, "link belongs to another cgroup; attaching anew");
        fs::remove_file(path).map_err(io_error("removing", path))?;
        Ok(false)
    }
}

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
    /// It was not needed when it was last looked at.
    is_ending: bool,
}

impl HandoverHook {
    /// Attaches the program unless it is. The pin alone keeps the link, so that one which somebody removed is made anew.
    pub(in crate::datapath) fn begin(&mut self) -> io::Result<()> {
        self.is_ending = false;
        if !self.is_pinned() {
            self.put().map_err(io::Error::other)?;
            tracing::info!("connections are sent to the proxy: the hand-over is attached");
        }
        Ok(())
    }

    /// Detaches the program at the second call in a row: connections that were sent to the proxy before the first one are
    /// handed over until then.
    pub(in crate::datapath) fn end(&mut self) -> io::Result<()> {
        if self.is_ending && self.is_pinned() {
            fs::remove_file(&self.path)?;
            tracing::info!("no connection is sent to the proxy: the hand-over is detached");
        }
        self.is_ending = true;
        Ok(())
    }

    /// Where the other programs are attached, too.
    pub(super) const fn links(&self) -> &Links {
        &self.links
    }

    fn is_pinned(&self) -> bool {
        self.path.exists()
    }

    fn put(&self) -> Result<(), KernelError> {
        self.links.put(&self.path, self.program.as_fd(), self.attach_type)
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
