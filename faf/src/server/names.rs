//! Names: finding, making, linking, renaming and removing them.

use super::{Turn, errno};
use crate::bytes::Name;
use crate::op::{Answer, Handle, Target};
use krg_sys::umask::set_thread_umask;
use nix::fcntl::{RenameFlags, readlinkat, renameat2};
use nix::sys::stat::{Mode, SFlag, mkdirat, mknodat};
use nix::unistd::{LinkatFlags, UnlinkatFlags, linkat, symlinkat, unlinkat};
use std::ffi::CString;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;

/// Bits of a mode that are permissions.
const PERMISSIONS: u32 = 0o7777;

impl Turn<'_> {
    pub(super) fn lookup(&self, dir: &Handle, name: &Name) -> io::Result<Answer> {
        let (dir, _) = self.find(dir)?;
        let fd = self.acting(|| self.tree.child(dir.as_fd(), name.as_c()))?;
        Ok(Answer::Entry(self.entry(fd)?))
    }

    /// Makes something in a directory as the caller, and tells what is there then.
    fn make(
        &self,
        dir: &Handle,
        name: &Name,
        make: impl FnOnce(std::os::fd::BorrowedFd<'_>) -> nix::Result<()>,
    ) -> io::Result<Answer> {
        let (dir, _) = self.find(dir)?;
        self.acting(|| Ok(make(dir.as_fd())?))?;
        // As root: the caller may have made something that it may not see.
        let fd = self.tree.child(dir.as_fd(), name.as_c())?;
        Ok(Answer::Entry(self.entry(fd)?))
    }

    pub(super) fn make_node(
        &self,
        dir: &Handle,
        name: &Name,
        mode: u32,
        umask: u32,
        rdev: u64,
    ) -> io::Result<Answer> {
        let kind = SFlag::from_bits_truncate(mode) & SFlag::S_IFMT;
        let bits = Mode::from_bits_truncate(mode & PERMISSIONS);
        self.make(dir, name, |dir| {
            with_umask(umask, || mknodat(dir, name.as_c(), kind, bits, rdev))
        })
    }

    pub(super) fn make_dir(
        &self,
        dir: &Handle,
        name: &Name,
        mode: u32,
        umask: u32,
    ) -> io::Result<Answer> {
        let bits = Mode::from_bits_truncate(mode & PERMISSIONS);
        self.make(dir, name, |dir| with_umask(umask, || mkdirat(dir, name.as_c(), bits)))
    }

    pub(super) fn make_link(
        &self,
        dir: &Handle,
        name: &Name,
        target: &Target,
    ) -> io::Result<Answer> {
        let target = CString::new(target.as_slice()).map_err(|_| errno(libc::EINVAL))?;
        self.make(dir, name, |dir| symlinkat(target.as_c_str(), dir, name.as_c()))
    }

    pub(super) fn link(&self, file: &Handle, dir: &Handle, name: &Name) -> io::Result<Answer> {
        let (file, mount) = self.find(file)?;
        let (dir, dir_mount) = self.find(dir)?;
        if mount != dir_mount {
            return Err(errno(libc::EXDEV));
        }
        // By its descriptor's name: linking a descriptor itself takes a capability.
        let old = super::path_of(file.as_fd());
        let here = nix::fcntl::AT_FDCWD;
        let follow = LinkatFlags::AT_SYMLINK_FOLLOW;
        self.acting(|| Ok(linkat(here, old.as_c_str(), dir.as_fd(), name.as_c(), follow)?))?;
        Ok(Answer::Entry(self.entry(file)?))
    }

    pub(super) fn unlink(&self, dir: &Handle, name: &Name, is_dir: bool) -> io::Result<Answer> {
        let (dir, _) = self.find(dir)?;
        let flag = if is_dir { UnlinkatFlags::RemoveDir } else { UnlinkatFlags::NoRemoveDir };
        self.acting(|| Ok(unlinkat(dir.as_fd(), name.as_c(), flag)?))?;
        Ok(Answer::Done)
    }

    pub(super) fn rename(
        &self,
        from: (&Handle, &Name),
        to: (&Handle, &Name),
        flags: u32,
    ) -> io::Result<Answer> {
        let (from_dir, _) = self.find(from.0)?;
        let (to_dir, _) = self.find(to.0)?;
        let flags = RenameFlags::from_bits(flags).ok_or_else(|| errno(libc::EINVAL))?;
        let (old, new) = (from.1.as_c(), to.1.as_c());
        self.acting(|| Ok(renameat2(from_dir.as_fd(), old, to_dir.as_fd(), new, flags)?))?;
        Ok(Answer::Done)
    }

    pub(super) fn read_link(&self, file: &Handle, out: &mut super::Out) -> io::Result<Answer> {
        let (file, _) = self.find(file)?;
        let target = readlinkat(file.as_fd(), c"")?;
        let target = target.as_bytes();
        out.room(target.len()).copy_from_slice(target);
        out.len = target.len();
        Ok(Answer::Data)
    }
}

/// With the caller's umask: whether it counts is for the kernel to say, which knows the
/// directory's default ACL.
pub(super) fn with_umask<T>(umask: u32, work: impl FnOnce() -> T) -> T {
    set_thread_umask(umask & 0o777);
    let done = work();
    set_thread_umask(0);
    done
}
