//! Attributes, extended ones, and those of the file system.

use super::{Out, Turn, attr_of, errno, path_of, reopen};
use crate::op::{Answer, Handle, Moment, OpenId, SetAttr, SetTime, StatFs, XattrName};
use krg_sys::statx::{Time, statx};
use krg_sys::{file_times, xattr};
use krg_types::limits::XATTR_BYTES_MAX;
use nix::fcntl::AtFlags;
use nix::sys::stat::{FchmodatFlags, Mode, fchmodat};
use nix::sys::statvfs::fstatvfs;
use nix::unistd::{Gid, Uid, fchownat, ftruncate};
use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};

impl Turn<'_> {
    pub(super) fn get_attr(&self, file: &Handle, open: Option<OpenId>) -> io::Result<Answer> {
        // Of an open file also when it has no name any more.
        if let Some(open) = open.and_then(|id| self.session.get(id).ok()) {
            let sealed = self.server.export.sealer().open(file);
            let (mount, handle) = sealed.ok_or_else(|| errno(libc::ESTALE))?;
            self.session.promises.make(self.tree.change_key(mount, &handle));
            let stat = statx(open.fd.as_fd(), c"")?;
            return Ok(Answer::Attr(attr_of(&self.tree, mount, &stat)));
        }
        let file = self.find(file)?;
        self.promise(&file);
        let stat = statx(file.fd.as_fd(), c"")?;
        Ok(Answer::Attr(attr_of(&self.tree, file.mount, &stat)))
    }

    pub(super) fn set_attr(
        &self,
        file: &Handle,
        open: Option<OpenId>,
        set: &SetAttr,
    ) -> io::Result<Answer> {
        let file = self.find(file)?;
        let fd = file.fd.as_fd();
        if let Some(size) = set.size {
            // What another client has written before must not come after it.
            self.lease(self.key(&file), false);
            self.server.leases.closed(self.key(&file), self.session.serial);
            self.truncate(fd, open, size)?;
        }
        self.acting(|| {
            if set.uid.is_some() || set.gid.is_some() {
                let (uid, gid) = (set.uid.map(Uid::from_raw), set.gid.map(Gid::from_raw));
                fchownat(fd, c"", uid, gid, AtFlags::AT_EMPTY_PATH)?;
            }
            if let Some(mode) = set.mode {
                let mode = Mode::from_bits_truncate(mode & 0o7777);
                let here = nix::fcntl::AT_FDCWD;
                fchmodat(here, path_of(fd).as_c_str(), mode, FchmodatFlags::FollowSymlink)?;
            }
            if set.atime.is_some() || set.mtime.is_some() {
                file_times::set(fd, time(set.atime), time(set.mtime))?;
            }
            Ok(())
        })?;
        self.changed(&file);
        self.promise(&file);
        Ok(Answer::Attr(attr_of(&self.tree, file.mount, &statx(fd, c"")?)))
    }

    /// With ftruncate(2) where the file is open for it: that needs no permission any more.
    fn truncate(&self, fd: BorrowedFd<'_>, open: Option<OpenId>, size: u64) -> io::Result<()> {
        let size = super::file::place(size)?;
        if let Some(open) = open.and_then(|id| self.session.get(id).ok()) {
            let _as = krg_sys::cred::ActingAs::enter(&open.caller)?;
            if ftruncate(&open.fd, size) != Err(nix::errno::Errno::EINVAL) {
                return Ok(ftruncate(&open.fd, size)?);
            }
        }
        self.acting(|| {
            let fd = reopen(fd, libc::O_WRONLY | libc::O_NONBLOCK)?;
            Ok(ftruncate(&fd, size)?)
        })
    }

    pub(super) fn stat_fs(&self, file: &Handle) -> io::Result<Answer> {
        let file = self.find(file)?;
        let stat = fstatvfs(&file.fd)?;
        Ok(Answer::StatFs(StatFs {
            blocks: stat.blocks(),
            free: stat.blocks_free(),
            available: stat.blocks_available(),
            files: stat.files(),
            files_free: stat.files_free(),
            block_size: stat.block_size() as u32,
            fragment_size: stat.fragment_size() as u32,
            name_max: stat.name_max() as u32,
        }))
    }

    pub(super) fn get_xattr(
        &self,
        file: &Handle,
        name: &XattrName,
        out: &mut Out,
    ) -> io::Result<Answer> {
        let file = self.find(file)?;
        let name = c_name(name)?;
        let room = out.room(XATTR_BYTES_MAX);
        let path = path_of(file.fd.as_fd());
        let len = self.acting(|| xattr::get(&path, &name, room))?;
        out.len = len;
        Ok(Answer::Data)
    }

    pub(super) fn set_xattr(
        &self,
        file: &Handle,
        name: &XattrName,
        value: &[u8],
        flags: u32,
    ) -> io::Result<Answer> {
        let file = self.find(file)?;
        let name = c_name(name)?;
        if value.len() > XATTR_BYTES_MAX {
            return Err(errno(libc::E2BIG));
        }
        let path = path_of(file.fd.as_fd());
        self.acting(|| xattr::set(&path, &name, value, flags as i32))?;
        self.changed(&file);
        Ok(Answer::Done)
    }

    pub(super) fn list_xattr(&self, file: &Handle, out: &mut Out) -> io::Result<Answer> {
        let file = self.find(file)?;
        let room = out.room(XATTR_BYTES_MAX);
        let path = path_of(file.fd.as_fd());
        let len = self.acting(|| xattr::list(&path, room))?;
        out.len = len;
        Ok(Answer::Data)
    }

    pub(super) fn remove_xattr(&self, file: &Handle, name: &XattrName) -> io::Result<Answer> {
        let file = self.find(file)?;
        let name = c_name(name)?;
        let path = path_of(file.fd.as_fd());
        self.acting(|| xattr::remove(&path, &name))?;
        self.changed(&file);
        Ok(Answer::Done)
    }
}

fn c_name(name: &XattrName) -> io::Result<CString> {
    CString::new(name.as_slice()).map_err(|_| errno(libc::EINVAL))
}

fn time(set: Option<SetTime>) -> file_times::SetTime {
    match set {
        None => file_times::SetTime::Omit,
        Some(SetTime::Now) => file_times::SetTime::Now,
        Some(SetTime::At(Moment { s, ns })) => file_times::SetTime::At(Time { s, ns }),
    }
}
