//! Descriptors that go from one process to another, and who is at the other end: unix(7).

use nix::cmsg_space;
use nix::sys::socket::{ControlMessage, ControlMessageOwned, MsgFlags, recvmsg, sendmsg};
use std::io::{self, IoSlice, IoSliceMut};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;

/// Descriptors in one message. The kernel's own limit is 253 (SCM_MAX_FD).
pub const FDS_MAX: usize = 16;

/// Sends bytes, and descriptors with the first of them. How many bytes were taken.
///
/// # Errors
/// Those of sendmsg(2); EINVAL for too many descriptors, or none to go with.
pub fn send(to: &UnixStream, bytes: &[u8], fds: &[BorrowedFd<'_>]) -> io::Result<usize> {
    if fds.len() > FDS_MAX || bytes.is_empty() {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let raw: Vec<RawFd> = fds.iter().map(AsRawFd::as_raw_fd).collect();
    let rights = [ControlMessage::ScmRights(&raw)];
    let rights = if raw.is_empty() { &rights[..0] } else { &rights[..] };
    let flags = MsgFlags::MSG_NOSIGNAL;
    Ok(sendmsg::<()>(to.as_raw_fd(), &[IoSlice::new(bytes)], rights, flags, None)?)
}

/// Receives bytes, and the descriptors that came with them, which are closed on exec. No bytes:
/// the other end is closed.
///
/// # Errors
/// Those of recvmsg(2); EMSGSIZE when there were more descriptors than may be.
pub fn receive(from: &UnixStream, buf: &mut [u8]) -> io::Result<(usize, Vec<OwnedFd>)> {
    let mut space = cmsg_space!([RawFd; FDS_MAX]);
    let mut bufs = [IoSliceMut::new(buf)];
    let flags = MsgFlags::MSG_CMSG_CLOEXEC;
    let got = recvmsg::<()>(from.as_raw_fd(), &mut bufs, Some(&mut space), flags)?;
    let mut fds = Vec::new();
    for message in got.cmsgs()? {
        if let ControlMessageOwned::ScmRights(raw) = message {
            // SAFETY: the kernel has just made these descriptors, and nobody else owns them.
            fds.extend(raw.into_iter().map(|fd| unsafe { OwnedFd::from_raw_fd(fd) }));
        }
    }
    match got.flags.contains(MsgFlags::MSG_CTRUNC) {
        true => Err(io::Error::from_raw_os_error(libc::EMSGSIZE)),
        false => Ok((got.bytes, fds)),
    }
}

/// The supplementary groups of who has connected (socket(7), SO_PEERGROUPS), as they were then.
///
/// # Errors
/// Those of getsockopt(2).
pub fn peer_groups(of: &UnixStream) -> io::Result<Vec<u32>> {
    let mut groups = vec![0u32; 64];
    loop {
        let mut bytes =
            libc::socklen_t::try_from(groups.len() * 4).unwrap_or(libc::socklen_t::MAX);
        // SAFETY: the pointer and the length are of one live vector of gid_t (u32).
        let result = unsafe {
            libc::getsockopt(
                of.as_raw_fd(),
                libc::SOL_SOCKET,
                libc::SO_PEERGROUPS,
                groups.as_mut_ptr().cast(),
                &raw mut bytes,
            )
        };
        let count = bytes as usize / 4;
        if result == 0 {
            groups.truncate(count);
            return Ok(groups);
        }
        let error = io::Error::last_os_error();
        if error.raw_os_error() != Some(libc::ERANGE) || count <= groups.len() {
            return Err(error);
        }
        groups.resize(count, 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::os::fd::AsFd;

    #[test]
    fn what_is_sent_is_the_same_open_file() {
        let (one, two) = UnixStream::pair().unwrap();
        let mut file = tempfile::tempfile().unwrap();
        assert_eq!(send(&one, b"with", &[file.as_fd(), file.as_fd()]).unwrap(), 4);
        assert_eq!(send(&one, b"without", &[]).unwrap(), 7);
        let mut buf = [0; 64];
        let (bytes, fds) = receive(&two, &mut buf).unwrap();
        assert_eq!((&buf[..bytes], fds.len()), (&b"with"[..], 2));
        let mut copy = std::fs::File::from(fds.into_iter().next().unwrap());
        copy.write_all(b"through").unwrap();
        std::io::Seek::rewind(&mut file).unwrap();
        let mut text = String::new();
        file.read_to_string(&mut text).unwrap();
        assert_eq!(text, "through");
        let (bytes, fds) = receive(&two, &mut buf).unwrap();
        assert_eq!((&buf[..bytes], fds.len()), (&b"without"[..], 0));
        drop(one);
        assert_eq!(receive(&two, &mut buf).unwrap().0, 0);
    }

    #[test]
    fn too_many_are_refused() {
        let (one, _two) = UnixStream::pair().unwrap();
        let fds = vec![one.as_fd(); FDS_MAX + 1];
        assert!(send(&one, b"x", &fds).is_err() && send(&one, b"", &[]).is_err());
    }

    #[test]
    fn the_other_ends_groups_are_known() {
        let (one, _two) = UnixStream::pair().unwrap();
        let own: Vec<u32> =
            nix::unistd::getgroups().unwrap().into_iter().map(nix::unistd::Gid::as_raw).collect();
        assert_eq!(peer_groups(&one).unwrap(), own);
    }
}
