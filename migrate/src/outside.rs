//! What a job was started with at its home, where that is no file that it can have as its own:
//! pipes, sockets, another's terminal. Its holder reads and writes there for it.

use crate::flow::{Chunk, Credit, Reader, Writer};
use krg_sys::open_file::{SFlag, is_open_for, open_again, open_file};
use nix::unistd::{Whence, lseek};
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;

struct Original {
    channel: u32,
    fd: OwnedFd,
    reader: Option<Reader>,
    writer: Option<Writer>,
}

/// All of it.
#[derive(Default)]
pub struct Outside {
    /// It has a terminal: what is typed comes from who is connected.
    pub has_terminal: bool,
    originals: Vec<Original>,
    /// Files that the job has opened for itself, after those it was started with.
    files: Vec<(OwnedFd, File)>,
}

impl Outside {
    /// Here is where this channel leads.
    pub fn add(&mut self, channel: u32, fd: OwnedFd) {
        self.originals.push(Original { channel, fd, reader: None, writer: None });
    }

    /// The job has this file, whose position is to be that of the original at its end.
    pub fn add_file(&mut self, original: OwnedFd, file: File) {
        self.files.push((original, file));
    }

    /// Tells what is read, and of those that it writes to the end: nobody reads there.
    ///
    /// # Errors
    /// The kernel's.
    pub fn connect(
        &mut self,
        tell: impl Fn(u32, Option<Chunk>) + Send + Sync + 'static,
    ) -> io::Result<()> {
        let tell = Arc::new(tell);
        for original in &mut self.originals {
            let (channel, tell) = (original.channel, tell.clone());
            let reads = channel == 0;
            // Not so that others who have it find it changed. A file's position is to be theirs.
            let fd = match open_file(&original.fd)?.kind {
                SFlag::S_IFIFO | SFlag::S_IFCHR => {
                    open_again(&original.fd, reads, !reads)?.into()
                }
                _ => original.fd.try_clone()?,
            };
            if reads {
                let tell = move |chunk| tell(channel, chunk);
                original.reader = Some(Reader::start(fd, Credit::default(), tell));
            } else {
                original.writer = Some(Writer::start(fd, move || tell(channel, None)));
            }
        }
        Ok(())
    }

    /// Does this channel lead anywhere but to who is connected?
    pub fn has(&self, channel: u32) -> bool {
        self.originals.iter().any(|original| original.channel == channel)
    }

    /// The job has written this.
    pub fn push(&self, channel: u32, chunk: Chunk) {
        if let Some(writer) = self.find(channel).and_then(|original| original.writer.as_ref()) {
            writer.push(chunk);
        }
    }

    /// It writes nothing more there.
    pub fn end(&self, channel: u32) {
        if let Some(writer) = self.find(channel).and_then(|original| original.writer.as_ref()) {
            writer.end();
        }
    }

    /// It reads nothing more there.
    pub fn close(&mut self, channel: u32) {
        if channel == 0 {
            self.originals.retain(|original| original.channel != channel);
        }
    }

    /// Is all written that was given?
    pub fn is_drained(&self) -> bool {
        self.originals.iter().all(|o| o.writer.as_ref().is_none_or(Writer::is_drained))
    }

    fn find(&self, channel: u32) -> Option<&Original> {
        self.originals.iter().find(|original| original.channel == channel)
    }

    /// The originals of its files stand where the job has got to, so that who has started it goes
    /// on there. To be called once, before he hears of the end: what he writes then moves them on.
    /// `moved`: the files are not those of this node's processes any more.
    pub fn put_positions(&mut self, moved: bool) {
        for (original, file) in self.files.drain(..) {
            let writes = is_open_for(&original, false, true).unwrap_or(false);
            let at = match (moved, writes) {
                (false, _) => lseek(&file, 0, Whence::SeekCur),
                // Nobody here knows where it was last: what it has written is not written over.
                (true, true) => lseek(&original, 0, Whence::SeekEnd),
                (true, false) => continue,
            };
            if let Ok(at) = at {
                let _ = lseek(&original, at, Whence::SeekSet);
            }
        }
    }

    /// Until all is written that was to be.
    pub async fn settled(self) {
        for original in self.originals {
            if let Some(writer) = original.writer {
                writer.end();
                writer.finished().await;
            }
        }
    }
}
