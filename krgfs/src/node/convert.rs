//! Between FUSE's words and those of a file server.

use fuser::{FileAttr, FileType, INodeNo, TimeOrNow};
use krg_faf::op::{Attr, Moment, SetTime};
use std::time::{Duration, SystemTime};

/// The attributes of a file with this number.
pub fn file_attr(ino: INodeNo, attr: &Attr) -> FileAttr {
    FileAttr {
        ino,
        size: attr.size,
        blocks: attr.blocks,
        atime: time(attr.atime),
        mtime: time(attr.mtime),
        ctime: time(attr.ctime),
        crtime: SystemTime::UNIX_EPOCH,
        kind: kind(attr.mode),
        perm: (attr.mode & 0o7777) as u16,
        nlink: attr.nlink,
        uid: attr.uid,
        gid: attr.gid,
        rdev: device_out(attr.rdev),
        blksize: attr.blksize,
        flags: 0,
    }
}

/// The root of a node that does not answer: nobody may look into it.
pub fn nobody() -> FileAttr {
    let attr = Attr { mode: libc::S_IFDIR, nlink: 2, blksize: 4096, ..Attr::default() };
    file_attr(INodeNo::ROOT, &attr)
}

/// A name that is not there.
pub fn nothing() -> FileAttr {
    FileAttr { ino: INodeNo(0), ..nobody() }
}

/// The type in a mode.
fn kind(mode: u32) -> FileType {
    match mode & libc::S_IFMT {
        libc::S_IFDIR => FileType::Directory,
        libc::S_IFLNK => FileType::Symlink,
        libc::S_IFIFO => FileType::NamedPipe,
        libc::S_IFSOCK => FileType::Socket,
        libc::S_IFCHR => FileType::CharDevice,
        libc::S_IFBLK => FileType::BlockDevice,
        _ => FileType::RegularFile,
    }
}

/// The type in a directory's line (`DT_DIR` and so on of readdir(3)).
pub fn kind_of_line(kind: u8) -> FileType {
    match kind {
        libc::DT_DIR => FileType::Directory,
        libc::DT_LNK => FileType::Symlink,
        libc::DT_FIFO => FileType::NamedPipe,
        libc::DT_SOCK => FileType::Socket,
        libc::DT_CHR => FileType::CharDevice,
        libc::DT_BLK => FileType::BlockDevice,
        _ => FileType::RegularFile,
    }
}

fn time(moment: Moment) -> SystemTime {
    let whole = Duration::from_secs(moment.s.unsigned_abs());
    let part = Duration::from_nanos(moment.ns.into());
    let whole = match moment.s >= 0 {
        true => SystemTime::UNIX_EPOCH.checked_add(whole),
        false => SystemTime::UNIX_EPOCH.checked_sub(whole),
    };
    whole.and_then(|t| t.checked_add(part)).unwrap_or(SystemTime::UNIX_EPOCH)
}

/// What a time is to be set to.
pub fn set_time(time: TimeOrNow) -> SetTime {
    let TimeOrNow::SpecificTime(time) = time else { return SetTime::Now };
    SetTime::At(match time.duration_since(SystemTime::UNIX_EPOCH) {
        Ok(after) => Moment { s: after.as_secs() as i64, ns: after.subsec_nanos() },
        // fuser has taken the nanoseconds away from the seconds that the kernel adds them to.
        Err(e) => {
            let before = e.duration();
            Moment { s: -(before.as_secs() as i64), ns: before.subsec_nanos() }
        }
    })
}

/// A device number as FUSE has it (`new_encode_dev` of linux/kdev_t.h).
fn device_out(rdev: u64) -> u32 {
    let (major, minor) = (libc::major(rdev), libc::minor(rdev));
    (minor & 0xff) | (major << 8) | ((minor & !0xff) << 12)
}

/// And back.
pub fn device_in(rdev: u32) -> u64 {
    let major = (rdev & 0xf_ff00) >> 8;
    let minor = (rdev & 0xff) | ((rdev >> 12) & 0xf_ff00);
    libc::makedev(major, minor)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_before_1970_with_a_fraction_come_through() {
        for (s, ns) in [(0, 0), (5, 7), (-1, 0), (-1, 500_000_000), (-86_400, 1)] {
            let moment = Moment { s, ns };
            // As fuser makes it of what the kernel says.
            let whole = Duration::from_secs(s.unsigned_abs());
            let part = Duration::from_nanos(ns.into());
            let said = match s >= 0 {
                true => SystemTime::UNIX_EPOCH + whole + part,
                false => SystemTime::UNIX_EPOCH - whole - part,
            };
            assert_eq!(set_time(TimeOrNow::SpecificTime(said)), SetTime::At(moment));
            // And what the kernel is told, fuser takes for what it is.
            let told = time(moment).duration_since(SystemTime::UNIX_EPOCH);
            let told = match &told {
                Ok(after) => after.as_nanos() as i128,
                Err(before) => -(before.duration().as_nanos() as i128),
            };
            assert_eq!(told, i128::from(s) * 1_000_000_000 + i128::from(ns));
        }
    }

    #[test]
    fn device_numbers_come_through() {
        for (major, minor) in [(0, 0), (8, 1), (259, 300_000), (4095, 0xf_ffff)] {
            let dev = libc::makedev(major, minor);
            assert_eq!(device_in(device_out(dev)), dev, "{major}:{minor}");
        }
    }
}
