//! Names: finding, making, linking, renaming and removing them.

use super::{Out, Turn, attr_of, errno};
use crate::bytes::Name;
use crate::export::Child;
use crate::op::{Answer, Handle, Target};
use krg_sys::statx::statx;
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

/// Attributes take no more, in postcard's form.
const ATTR_BYTES_MAX: usize = 256;

impl Turn<'_> {
    pub(super) fn lookup(&self, dir: &Handle, name: &Name) -> io::Result<Answer> {
        let dir = self.find(dir)?;
        // A name that is not there is told of when it comes.
        self.promise(&dir);
        match self.acting(|| self.tree.child(dir.fd.as_fd(), name.as_c())) {
            Ok(fd) => Ok(Answer::Entry(self.entry(fd)?)),
            Err(e) if e.raw_os_error() == Some(libc::ENOENT) => {
                Ok(Answer::Absent { watched: self.server.watch.covers(dir.mount) })
            }
            Err(e) => Err(e),
        }
    }

    /// Is a name nobody's to make, take away or open?
    pub(super) fn may_touch(&self, dir: &Child, name: &Name) -> io::Result<()> {
        match self.tree.denies(dir.fd.as_fd(), name.as_c())? {
            true => Err(errno(libc::EACCES)),
            false => Ok(()),
        }
    }

    /// Makes something in a directory as the caller, and tells what is there then.
    fn make(
        &self,
        dir: &Handle,
        name: &Name,
        out: &mut Out,
        make: impl FnOnce(std::os::fd::BorrowedFd<'_>) -> nix::Result<()>,
    ) -> io::Result<Answer> {
        let dir = self.find(dir)?;
        self.may_touch(&dir, name)?;
        self.acting(|| Ok(make(dir.fd.as_fd())?))?;
        self.renamed(&dir, name);
        // As root: the caller may have made something that it may not see.
        let fd = self.tree.child(dir.fd.as_fd(), name.as_c())?;
        let entry = self.entry(fd)?;
        self.tell_after(&dir, out);
        Ok(Answer::Entry(entry))
    }

    /// With the answer goes what a directory is like after it was changed.
    pub(super) fn tell_after(&self, dir: &Child, out: &mut Out) {
        // First: what changes after it was looked at is told.
        self.promise(dir);
        if let Ok(stat) = statx(dir.fd.as_fd(), c"") {
            let attr = attr_of(&self.tree, dir.mount, &stat);
            out.len = attr.written(out.room(ATTR_BYTES_MAX)).len();
        }
    }

    pub(super) fn make_node(
        &self,
        dir: &Handle,
        name: &Name,
        mode: u32,
        umask: u32,
        rdev: u64,
        out: &mut Out,
    ) -> io::Result<Answer> {
        let kind = SFlag::from_bits_truncate(mode) & SFlag::S_IFMT;
        let bits = Mode::from_bits_truncate(mode & PERMISSIONS);
        self.make(dir, name, out, |dir| {
            with_umask(umask, || mknodat(dir, name.as_c(), kind, bits, rdev))
        })
    }

    pub(super) fn make_dir(
        &self,
        dir: &Handle,
        name: &Name,
        mode: u32,
        umask: u32,
        out: &mut Out,
    ) -> io::Result<Answer> {
        let bits = Mode::from_bits_truncate(mode & PERMISSIONS);
        self.make(dir, name, out, |dir| with_umask(umask, || mkdirat(dir, name.as_c(), bits)))
    }

    pub(super) fn make_link(
        &self,
        dir: &Handle,
        name: &Name,
        target: &Target,
        out: &mut Out,
    ) -> io::Result<Answer> {
        let target = CString::new(target.as_slice()).map_err(|_| errno(libc::EINVAL))?;
        self.make(dir, name, out, |dir| symlinkat(target.as_c_str(), dir, name.as_c()))
    }

    pub(super) fn link(
        &self,
        file: &Handle,
        dir: &Handle,
        name: &Name,
        out: &mut Out,
    ) -> io::Result<Answer> {
        let (file, dir) = (self.find(file)?, self.find(dir)?);
        self.may_touch(&dir, name)?;
        if file.mount != dir.mount {
            return Err(errno(libc::EXDEV));
        }
        // By its descriptor's name: linking a descriptor itself takes a capability.
        let old = super::path_of(file.fd.as_fd());
        let here = nix::fcntl::AT_FDCWD;
        let follow = LinkatFlags::AT_SYMLINK_FOLLOW;
        let dir_fd = dir.fd.as_fd();
        self.acting(|| Ok(linkat(here, old.as_c_str(), dir_fd, name.as_c(), follow)?))?;
        self.renamed(&dir, name);
        self.changed(&file);
        let entry = self.entry(file.fd)?;
        self.tell_after(&dir, out);
        Ok(Answer::Entry(entry))
    }

    pub(super) fn unlink(
        &self,
        dir: &Handle,
        name: &Name,
        is_dir: bool,
        out: &mut Out,
    ) -> io::Result<Answer> {
        let dir = self.find(dir)?;
        self.may_touch(&dir, name)?;
        let flag = if is_dir { UnlinkatFlags::RemoveDir } else { UnlinkatFlags::NoRemoveDir };
        self.acting(|| Ok(unlinkat(dir.fd.as_fd(), name.as_c(), flag)?))?;
        self.renamed(&dir, name);
        self.tell_after(&dir, out);
        Ok(Answer::Done)
    }

    pub(super) fn rename(
        &self,
        from: (&Handle, &Name),
        to: (&Handle, &Name),
        flags: u32,
    ) -> io::Result<Answer> {
        let (from_dir, to_dir) = (self.find(from.0)?, self.find(to.0)?);
        self.may_touch(&from_dir, from.1)?;
        self.may_touch(&to_dir, to.1)?;
        let flags = RenameFlags::from_bits(flags).ok_or_else(|| errno(libc::EINVAL))?;
        let (old, new) = (from.1.as_c(), to.1.as_c());
        let (from_fd, to_fd) = (from_dir.fd.as_fd(), to_dir.fd.as_fd());
        self.acting(|| Ok(renameat2(from_fd, old, to_fd, new, flags)?))?;
        self.renamed(&from_dir, from.1);
        self.renamed(&to_dir, to.1);
        Ok(Answer::Done)
    }

    pub(super) fn read_link(&self, file: &Handle, out: &mut Out) -> io::Result<Answer> {
        let file = self.find(file)?;
        let target = readlinkat(file.fd.as_fd(), c"")?;
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
