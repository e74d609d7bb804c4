//! The terminal of a job: its holder has the master's side.

use crate::root::ROOT;
use krg_sys::process::WindowSize;
use krg_sys::tty;
use nix::fcntl::OFlag;
use nix::pty::{grantpt, posix_openpt, ptsname_r, unlockpt};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::{fchown, tcgetpgrp};
use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// It.
pub struct Terminal {
    master: OwnedFd,
    /// The other side, in the job's tree.
    path: PathBuf,
}

impl Terminal {
    /// A new one of this user, and the other side of it.
    ///
    /// # Errors
    /// When there is no terminal to be had.
    pub fn open(owner: u32, size: WindowSize) -> io::Result<(Terminal, File)> {
        let flags = OFlag::O_RDWR | OFlag::O_NOCTTY | OFlag::O_CLOEXEC | OFlag::O_NONBLOCK;
        let master = posix_openpt(flags)?;
        grantpt(&master)?;
        unlockpt(&master)?;
        let path = Path::new(ROOT).join(ptsname_r(&master)?.trim_start_matches('/'));
        let terminal = Terminal { master: OwnedFd::from(master), path };
        let slave = terminal.other_side(0)?;
        fchown(&slave, Some(owner.into()), None)?;
        size.apply(&slave)?;
        Ok((terminal, slave))
    }

    fn other_side(&self, flags: i32) -> io::Result<File> {
        let mut open = OpenOptions::new();
        open.read(true).write(true).custom_flags(OFlag::O_NOCTTY.bits() | flags);
        open.open(&self.path)
    }

    /// Its master's side once more.
    ///
    /// # Errors
    /// The kernel's.
    pub fn master(&self) -> io::Result<OwnedFd> {
        self.master.try_clone()
    }

    /// Its settings and its size.
    ///
    /// # Errors
    /// The kernel's.
    pub fn settings(&self) -> io::Result<(Vec<u8>, WindowSize)> {
        Ok((tty::settings(&self.master)?, WindowSize::of(&self.master)?))
    }

    /// Has it treat what is typed and written so.
    ///
    /// # Errors
    /// The kernel's.
    pub fn set(&self, settings: &[u8]) -> io::Result<()> {
        tty::set(&self.master, settings)
    }

    /// Takes back what was typed, and nobody has read. The job must stand still.
    ///
    /// # Errors
    /// The kernel's.
    pub fn take_typed(&self) -> io::Result<Vec<u8>> {
        let (settings, _) = self.settings()?;
        let mut slave = self.other_side(libc::O_NONBLOCK)?;
        tty::make_raw(&slave)?;
        let (mut all, mut buf) = (Vec::new(), [0; 4096]);
        loop {
            match slave.read(&mut buf) {
                Ok(0) => break,
                Ok(n) => all.extend_from_slice(&buf[..n]),
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(_) => break,
            }
        }
        self.set(&settings)?;
        Ok(all)
    }

    /// Types again what was taken back: it was shown already. How many bytes of it there was room
    /// for.
    ///
    /// # Errors
    /// The kernel's.
    pub fn type_again(&self, bytes: &[u8]) -> io::Result<usize> {
        if bytes.is_empty() {
            return Ok(0);
        }
        let (settings, _) = self.settings()?;
        tty::hide_typed(&self.master)?;
        let written = nix::unistd::write(&self.master, bytes);
        self.set(&settings)?;
        Ok(written?)
    }

    /// Gives it another size.
    ///
    /// # Errors
    /// The kernel's.
    pub fn resize(&self, size: WindowSize) -> io::Result<()> {
        size.apply(&self.master)
    }

    /// A signal to the process group in its foreground.
    ///
    /// # Errors
    /// When there is none.
    pub fn signal(&self, signal: Signal) -> io::Result<()> {
        match tcgetpgrp(&self.master)? {
            // Nobody's: to killpg(2) it would be this process's own.
            group if group.as_raw() <= 1 => Err(io::Error::from_raw_os_error(libc::ESRCH)),
            group => Ok(killpg(group, signal)?),
        }
    }
}

impl AsFd for Terminal {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.master.as_fd()
    }
}
