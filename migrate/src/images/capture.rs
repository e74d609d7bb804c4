//! Images as CRIU makes them.

use super::{PIPE_BYTES, bad, comer, next_name, next_pipe};
use krg_sys::pages;
use krg_types::limits::IMAGES_MAX;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::AsFd;
use std::os::unix::net::{UnixListener, UnixStream};

/// Where they go. What it does not take is not made.
pub trait Sink {
    /// One more image; it is called by this number from now on.
    ///
    /// # Errors
    /// When it cannot be taken.
    fn begin(&mut self, image: u32, name: &str) -> io::Result<()>;

    /// Takes of what is in an image's pipe: how many bytes; 0: it has ended.
    ///
    /// # Errors
    /// When it cannot be taken.
    fn take(&mut self, image: u32, pipe: &File) -> io::Result<u64>;

    /// Nothing more is there now.
    ///
    /// # Errors
    /// When what was taken is not kept.
    fn idle(&mut self) -> io::Result<()>;

    /// These were all, so many bytes; what follows (statistics) is not handed on.
    ///
    /// # Errors
    /// When they are not kept.
    fn all(&mut self, bytes: u64) -> io::Result<()>;
}

/// Takes what CRIU makes until it is done, and hands it on; how many bytes it was. What it has
/// begun when `cut` becomes readable is all that is handed on.
///
/// # Errors
/// When CRIU does not keep to the protocol, or something was not taken.
pub fn capture(
    door: &UnixListener,
    ended: impl AsFd,
    cut: impl AsFd,
    sink: &mut impl Sink,
) -> io::Result<u64> {
    let Some(criu) = comer(door, ended)? else { return Ok(0) };
    let mut capture = Capture { criu, sink, open: Vec::new(), images: 0, bytes: 0, all: false };
    let mut more = true;
    while more || !capture.open.is_empty() {
        let Ready { pipes, speaks, is_cut } = capture.ready(&cut, more)?;
        if is_cut && !speaks && capture.open.is_empty() {
            capture.all = true;
            capture.sink.all(capture.bytes)?;
        }
        for at in pipes.into_iter().rev() {
            capture.take(at)?;
        }
        if speaks {
            more = capture.hear()?;
        }
    }
    Ok(capture.bytes)
}

struct Capture<'a, S> {
    criu: UnixStream,
    sink: &'a mut S,
    open: Vec<(u32, File)>,
    images: u32,
    bytes: u64,
    /// What comes now is not handed on.
    all: bool,
}

struct Ready {
    /// Which of the open ones.
    pipes: Vec<usize>,
    speaks: bool,
    is_cut: bool,
}

impl<S: Sink> Capture<'_, S> {
    fn ready(&mut self, cut: impl AsFd, more: bool) -> io::Result<Ready> {
        let pipes = self.open.iter();
        let mut fds: Vec<PollFd<'_>> =
            pipes.map(|(_, pipe)| PollFd::new(pipe.as_fd(), PollFlags::POLLIN)).collect();
        // Of no interest when over: -1 would do for poll(2), but is no descriptor.
        let said = if more { PollFlags::POLLIN } else { PollFlags::empty() };
        fds.push(PollFd::new(self.criu.as_fd(), said));
        if !self.all {
            fds.push(PollFd::new(cut.as_fd(), PollFlags::POLLIN));
        }
        let mut wait = PollTimeout::ZERO;
        loop {
            match poll(&mut fds, wait) {
                Ok(0) => {
                    if !self.all {
                        self.sink.idle()?;
                    }
                    wait = PollTimeout::NONE;
                }
                Ok(_) => break,
                Err(Errno::EINTR) => {}
                Err(e) => return Err(e.into()),
            }
        }
        let is = |at: usize| fds.get(at).is_some_and(|fd| fd.any() == Some(true));
        let last = self.open.len();
        let pipes = (0..last).filter(|at| is(*at)).collect();
        Ok(Ready { pipes, speaks: more && is(last), is_cut: is(last + 1) })
    }

    fn take(&mut self, at: usize) -> io::Result<()> {
        let (image, pipe) = &mut self.open[at];
        let count = match self.all {
            true => pipe.read(&mut [0; 4_096])? as u64,
            false => self.sink.take(*image, pipe)?,
        };
        self.bytes += count;
        if count == 0 {
            self.open.swap_remove(at);
        }
        Ok(())
    }

    /// What CRIU says; false when that was all.
    fn hear(&mut self) -> io::Result<bool> {
        let Some(name) = next_name(&mut self.criu)? else { return Ok(false) };
        if self.images as usize >= IMAGES_MAX {
            return Err(bad("too many images"));
        }
        let pipe = File::from(next_pipe(&self.criu)?);
        pages::widen(&pipe, PIPE_BYTES);
        if !self.all {
            self.sink.begin(self.images, &name)?;
        }
        self.open.push((self.images, pipe));
        self.images += 1;
        Ok(true)
    }
}
