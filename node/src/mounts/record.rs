//! What krgd writes down of a process that it keeps, so that the next krgd finds it.

use super::kind::Kind;
use anyhow::Result;
use krg_sys::process::PidFd;
use std::ffi::OsStr;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

/// One process.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Record {
    /// Its pid.
    pub pid: u32,
    /// When it started: the pid may be another's by now.
    pub start: u64,
    /// What it was started with.
    pub stamp: String,
    /// What it does.
    pub kind: Kind,
}

impl Record {
    /// The process, if it still lives.
    pub fn process(&self) -> Option<PidFd> {
        PidFd::open_started(self.pid, self.start).ok().flatten()
    }

    fn to_text(&self) -> String {
        format!("{} {} {} {}\n", self.pid, self.start, self.stamp, self.kind.word())
    }

    fn parse(text: &str) -> Option<Record> {
        let mut words = text.split_whitespace();
        let pid = words.next()?.parse().ok()?;
        let start = words.next()?.parse().ok()?;
        let stamp = words.next()?.to_owned();
        // There was one kind once, and it was not written down.
        let kind = words.next().map_or(Some(Kind::Proc), Kind::parse)?;
        Some(Record { pid, start, stamp, kind })
    }
}

/// The file for a mount: its path as hexadecimal digits, so that any path is a name.
fn file(dir: &Path, mount: &Path) -> PathBuf {
    let hex: String = mount.as_os_str().as_bytes().iter().map(|b| format!("{b:02x}")).collect();
    dir.join(hex)
}

fn path_of(name: &OsStr) -> Option<PathBuf> {
    let name = name.to_str().filter(|n| n.len() % 2 == 0 && n.is_ascii())?;
    let byte = |i: usize| u8::from_str_radix(name.get(i..i + 2)?, 16).ok();
    let bytes: Option<Vec<u8>> = (0..name.len()).step_by(2).map(byte).collect();
    Some(std::ffi::OsString::from_vec(bytes?).into())
}

/// All that are written down, with their places.
pub fn all(dir: &Path) -> Vec<(PathBuf, Record)> {
    let Ok(entries) = std::fs::read_dir(dir) else { return Vec::new() };
    let paths = entries.flatten().filter_map(|e| path_of(&e.file_name()));
    paths.filter_map(|path| Some((path.clone(), read(dir, &path)?))).collect()
}

/// What is written down of one.
pub fn read(dir: &Path, mount: &Path) -> Option<Record> {
    Record::parse(&std::fs::read_to_string(file(dir, mount)).ok()?)
}

/// Writes it down, whole or not at all.
pub fn write(dir: &Path, mount: &Path, record: &Record) -> Result<()> {
    let path = file(dir, mount);
    let next = dir.join(".next");
    std::fs::write(&next, record.to_text())?;
    Ok(std::fs::rename(next, path)?)
}

/// Forgets it.
pub fn remove(dir: &Path, mount: &Path) {
    let _ = std::fs::remove_file(file(dir, mount));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_read_as_written() {
        let record =
            Record { pid: 7, start: 8, stamp: "ab".into(), kind: Kind::Mfs(<_>::default()) };
        assert_eq!(Record::parse(&record.to_text()), Some(record.clone()));
        let old = Record { kind: Kind::Proc, ..record };
        assert_eq!(Record::parse("7 8 ab\n"), Some(old));
        for bad in ["", "7", "7 8", "x 8 a", "7 8 ab what"] {
            assert_eq!(Record::parse(bad), None, "{bad}");
        }
        let path = Path::new("/a b/\u{1f600}");
        let name = file(Path::new("/run"), path);
        assert_eq!(path_of(name.file_name().unwrap()).as_deref(), Some(path));
        assert_eq!(path_of(OsStr::new(".next")), None);
    }
}
