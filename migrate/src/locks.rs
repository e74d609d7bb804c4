//! Locks on files. The other node's copy of a job stands still with its locks until it is agreed on
//! that it is this one's; so CRIU is not to take them here: they are taken after that copy has
//! ended and before this one runs.

use crate::members;
use crate::root::ROOT;
use krg_rpc::prost::Message;
use krg_sys::file_lock::{self, LockKind, Range};
use krg_sys::process::PidFd;
use krg_sys::xattr;
use krg_types::mfs;
use std::collections::HashMap;
use std::ffi::CString;
use std::io::{self, ErrorKind};
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

/// Why a job with locks on files of its home does not go on.
pub const ABROAD: &str = "it has locked files of its home since it came here, or came with such \
                          locks: it can move when it has given them up";
/// The image that tells of them.
pub const IMAGE: &str = "filelocks.img";
/// Two magic numbers come first.
const HEADER_BYTES: usize = 8;
/// More than any job has.
const LOCKS_MAX: usize = 65_536;
/// Nobody else is to have taken one meanwhile; if somebody has, it is waited for so long.
const TAKE_MAX: Duration = Duration::from_secs(5);
const TRY_AGAIN: Duration = Duration::from_millis(10);

const POSIX: u32 = 1;
const FLOCK: u32 = 2;
const OFD: u32 = 4;

/// CRIU's file_lock_entry.
#[derive(Clone, PartialEq, Message)]
#[prost(prost_path = "krg_rpc::prost")]
pub struct Lock {
    #[prost(uint32, required, tag = "1")]
    flag: u32,
    #[prost(uint32, required, tag = "2")]
    kind: u32,
    #[prost(int32, required, tag = "3")]
    pid: i32,
    #[prost(int32, required, tag = "4")]
    fd: i32,
    #[prost(int64, required, tag = "5")]
    start: i64,
    #[prost(int64, required, tag = "6")]
    len: i64,
}

/// Takes the locks out of their image: what is left of it for CRIU, and they.
///
/// # Errors
/// For a lock that belongs to a process and not to an open file, which only the process itself can
/// take: in words for a user; InvalidData for what is no such image.
pub fn take_out(image: &[u8]) -> io::Result<(Vec<u8>, Vec<Lock>)> {
    let bad = || io::Error::new(ErrorKind::InvalidData, "the image of its locks makes no sense");
    let (header, mut rest) = image.split_at_checked(HEADER_BYTES).ok_or_else(bad)?;
    let mut locks = Vec::new();
    while !rest.is_empty() {
        let (length, after) = rest.split_first_chunk::<4>().ok_or_else(bad)?;
        let length = u32::from_le_bytes(*length) as usize;
        let (entry, after) = after.split_at_checked(length).ok_or_else(bad)?;
        let lock = Lock::decode(entry).map_err(|_| bad())?;
        if lock.flag & POSIX != 0 {
            let why = format!(
                "process {} of it has a lock by fcntl(2) on descriptor {}, which does not move",
                lock.pid, lock.fd
            );
            return Err(io::Error::new(ErrorKind::Unsupported, why));
        }
        if locks.len() >= LOCKS_MAX || lock.flag & (FLOCK | OFD) == 0 {
            return Err(bad());
        }
        locks.push(lock);
        rest = after;
    }
    Ok((header.to_vec(), locks))
}

/// Has a job that is away locked files of its home? The kernel knows nothing of that, and CRIU asks
/// the kernel.
pub fn are_abroad() -> bool {
    let mut count = [0; 20];
    let root = CString::new(ROOT).unwrap_or_default();
    let told = xattr::get(&root, mfs::LOCKS, &mut count);
    // What does not answer may have any.
    !told.is_ok_and(|length| &count[..length] == b"0")
}

/// Takes them again, for the job with this first process, which stands still.
///
/// # Errors
/// When another has one, and keeps it.
pub fn take_again(locks: &[Lock], init: u32) -> io::Result<()> {
    if locks.is_empty() {
        return Ok(());
    }
    let numbers: HashMap<u32, u32> = members::all(init)
        .into_iter()
        .filter_map(|pid| Some((members::number(pid)?, pid)))
        .collect();
    let until = Instant::now() + TAKE_MAX;
    for lock in locks {
        let gone = || io::Error::from_raw_os_error(libc::ESRCH);
        let pid =
            u32::try_from(lock.pid).ok().and_then(|pid| numbers.get(&pid)).ok_or_else(gone)?;
        let process = PidFd::open(*pid)?.ok_or_else(gone)?;
        let file = process.file(lock.fd)?;
        let writes = lock.kind == libc::F_WRLCK as u32;
        let kind = if writes { LockKind::Write } else { LockKind::Read };
        let unsigned = |n: i64| u64::try_from(n).unwrap_or(0);
        let range = Range { start: unsigned(lock.start), len: unsigned(lock.len) };
        while !match lock.flag & OFD {
            0 => file_lock::try_flock(file.as_fd(), kind)?,
            _ => file_lock::try_set(file.as_fd(), kind, range)?,
        } {
            if Instant::now() >= until {
                return Err(ErrorKind::WouldBlock.into());
            }
            std::thread::park_timeout(TRY_AGAIN);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image(locks: &[Lock]) -> Vec<u8> {
        let mut bytes = vec![7; HEADER_BYTES];
        for lock in locks {
            let entry = lock.encode_to_vec();
            bytes.extend((entry.len() as u32).to_le_bytes());
            bytes.extend(entry);
        }
        bytes
    }

    fn lock(flag: u32) -> Lock {
        Lock { flag, kind: 1, pid: 40_001, fd: 3, start: 0, len: 0 }
    }

    #[test]
    fn locks_are_taken_out_of_the_image() {
        let locks = [lock(FLOCK), lock(OFD)];
        let (left, taken) = take_out(&image(&locks)).unwrap();
        assert_eq!((left, &taken[..]), (vec![7; HEADER_BYTES], &locks[..]));
        let why = take_out(&image(&[lock(POSIX)])).unwrap_err().to_string();
        assert!(why.contains("40001") && why.contains("descriptor 3"), "{why}");
    }

    #[test]
    fn what_is_no_image_is_refused() {
        let whole = image(&[lock(FLOCK)]);
        for cut in (0..whole.len()).filter(|cut| *cut != HEADER_BYTES) {
            assert!(take_out(&whole[..cut]).is_err(), "{cut}");
        }
    }
}
