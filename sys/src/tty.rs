//! What belongs to a terminal beside what is written to it: termios(3), tty_ioctl(4).

use std::io;
use std::os::fd::{AsFd, AsRawFd};

/// Bytes of a terminal's settings; of the kernel's own form, the same on all machines that can run
/// one another's programs.
pub const SETTINGS_BYTES: usize = size_of::<libc::termios>();

/// How a terminal treats what is typed and written, as bytes.
///
/// # Errors
/// ENOTTY for what is none.
pub fn settings(terminal: impl AsFd) -> io::Result<Vec<u8>> {
    // SAFETY: plain numbers all of it, for which zero is a value.
    let mut now: libc::termios = unsafe { std::mem::zeroed() };
    // SAFETY: it outlives the call.
    if unsafe { libc::tcgetattr(terminal.as_fd().as_raw_fd(), &raw mut now) } != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: these are the bytes of a live value of that size, all of which were written.
    let bytes = unsafe { std::slice::from_raw_parts((&raw const now).cast(), SETTINGS_BYTES) };
    Ok(bytes.to_vec())
}

/// Has it treat them so.
///
/// # Errors
/// EINVAL for bytes that are no settings; ENOTTY for what is no terminal.
pub fn set(terminal: impl AsFd, settings: &[u8]) -> io::Result<()> {
    if settings.len() != SETTINGS_BYTES {
        return Err(io::Error::from_raw_os_error(libc::EINVAL));
    }
    let fd = terminal.as_fd().as_raw_fd();
    // SAFETY: the bytes are those of one termios, in which any bytes are a value; it is read only,
    // and a copy that is aligned.
    let done = unsafe {
        let copy: libc::termios = settings.as_ptr().cast::<libc::termios>().read_unaligned();
        libc::tcsetattr(fd, libc::TCSANOW, &raw const copy)
    };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// What is typed is there at once, byte by byte, and is not shown: for who reads what is left.
///
/// # Errors
/// ENOTTY for what is none.
pub fn make_raw(terminal: impl AsFd) -> io::Result<()> {
    let mut now = nix::sys::termios::tcgetattr(&terminal)?;
    nix::sys::termios::cfmakeraw(&mut now);
    Ok(nix::sys::termios::tcsetattr(&terminal, nix::sys::termios::SetArg::TCSANOW, &now)?)
}

/// What is typed is not shown from now on; all else stays.
///
/// # Errors
/// ENOTTY for what is none.
pub fn hide_typed(terminal: impl AsFd) -> io::Result<()> {
    use nix::sys::termios::{LocalFlags, SetArg, tcgetattr, tcsetattr};
    let mut now = tcgetattr(&terminal)?;
    now.local_flags.remove(LocalFlags::ECHO | LocalFlags::ECHONL);
    Ok(tcsetattr(&terminal, SetArg::TCSANOW, &now)?)
}

/// Is it a terminal (isatty(3))?
pub fn is_terminal(file: impl AsFd) -> bool {
    std::io::IsTerminal::is_terminal(&file.as_fd())
}

/// The columns of the terminal that this process writes to, or is on; `None`: it has none, or
/// that does not say.
pub fn columns() -> Option<usize> {
    let (out, err, input) = (io::stdout(), io::stderr(), io::stdin());
    let own = [out.as_fd(), err.as_fd(), input.as_fd()].into_iter().find_map(columns_of);
    own.or_else(|| columns_of(std::fs::File::open("/dev/tty").ok()?))
}

fn columns_of(terminal: impl AsFd) -> Option<usize> {
    // SAFETY: plain numbers all of it, for which zero is a value.
    let mut size: libc::winsize = unsafe { std::mem::zeroed() };
    // SAFETY: it outlives the call.
    let done =
        unsafe { libc::ioctl(terminal.as_fd().as_raw_fd(), libc::TIOCGWINSZ, &raw mut size) };
    (done == 0 && size.ws_col > 0 && size.ws_row > 0).then_some(size.ws_col.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::OwnedFd;

    #[test]
    fn settings_go_from_one_terminal_to_another() {
        let pair = || nix::pty::openpty(None, None).unwrap();
        let (one, two) = (pair(), pair());
        let before: Vec<u8> = settings(&one.slave).unwrap();
        make_raw(&one.slave).unwrap();
        let raw = settings(&one.slave).unwrap();
        assert_ne!(before, raw);
        set(&two.slave, &raw).unwrap();
        assert_eq!(settings(&two.slave).unwrap(), raw);
        assert!(set(&two.slave, &raw[1..]).is_err());
        let null = OwnedFd::from(std::fs::File::open("/dev/null").unwrap());
        assert!(settings(&null).is_err());
    }
}
