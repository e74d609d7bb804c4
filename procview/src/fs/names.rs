//! Names of this node's own /proc that the view passes on as links into `.local`.

use crate::inode::Fixed;
use crate::merge::mosix;
use krg_sys::procfs::Procfs;
use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

/// More distinct names than any kernel has; a name beyond gets no link.
const NAMES_MAX: usize = 8_192;

/// Numbers for names, given out once.
#[derive(Default)]
pub(crate) struct Names(Mutex<Table>);

#[derive(Default)]
struct Table {
    by_path: HashMap<String, u32>,
    paths: Vec<String>,
}

impl Names {
    /// The number of a path below the real /proc, if it is there.
    pub(super) fn number(&self, procfs: &Procfs, dir: Fixed, name: &str) -> Option<u32> {
        let path = format!("{}{name}", below(dir)?);
        if name.is_empty() || name.contains('/') || name.starts_with('.') {
            return None;
        }
        let mut table = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(n) = table.by_path.get(&path) {
            return Some(*n);
        }
        procfs.root().lstat(&*path).ok()?;
        let n =
            u32::try_from(table.paths.len()).ok().filter(|_| table.paths.len() < NAMES_MAX)?;
        table.paths.push(path.clone());
        table.by_path.insert(path, n);
        Some(n)
    }

    /// The path with this number.
    pub(super) fn path(&self, number: u32) -> Option<String> {
        let table = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        table.paths.get(usize::try_from(number).ok()?).cloned()
    }
}

/// Where a directory of the view lies in the real /proc, if names are passed on in it.
fn below(dir: Fixed) -> Option<&'static str> {
    match dir {
        Fixed::Root => Some(""),
        Fixed::Net => Some("net/"),
        Fixed::Pressure => Some("pressure/"),
        Fixed::Sys => Some("sys/"),
        Fixed::SysKernel => Some("sys/kernel/"),
        _ => None,
    }
}

/// The names there are in a passed-on directory.
pub(super) fn list(procfs: &Procfs, dir: Fixed) -> Vec<String> {
    let Some(path) = below(dir) else { return Vec::new() };
    let path = if path.is_empty() { "." } else { path };
    let mut names = procfs.root().names(path, NAMES_MAX).unwrap_or_default();
    names.retain(|n| !n.bytes().all(|b| b.is_ascii_digit()));
    names
}

/// How many steps up the root of the view is from a directory, as text for a link.
pub(super) fn up(dir_path: &str) -> String {
    "../".repeat(dir_path.matches('/').count())
}

/// The place of a MOSIX file's name.
pub(super) fn mosix_place(name: &str) -> Option<u8> {
    let place = mosix::FILES.iter().position(|f| *f == name)?;
    u8::try_from(place).ok()
}
