//! Images that have come, in memory, until CRIU has them.

use super::{NAME_BYTES_MAX, PIPE_BYTES, Reply, bad, comer, next_name, next_pipe};
use krg_rpc::prost::Message;
use krg_sys::pages::{self, Pages};
use krg_types::limits::IMAGES_MAX;
use std::collections::HashMap;
use std::fs::File;
use std::io::{self, ErrorKind, Write};
use std::num::NonZeroUsize;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::sync::{Mutex, PoisonError};

/// What is longer is kept in pages of its own, bytes.
const SMALL_BYTES: usize = 64 << 10;
/// What fits in the smallest pipe (pipe(7)), bytes.
const TINY_BYTES: usize = 4_096;
/// So many at a time: few calls of the kernel, and given back soon.
const BLOCK_BYTES: NonZeroUsize = NonZeroUsize::MIN.saturating_add((4 << 20) - 1);

/// They.
#[derive(Default)]
pub struct Images {
    names: HashMap<String, usize>,
    kept: Vec<Kept>,
    stored: Option<Stored>,
}

/// Opens an image by its name, if there is one.
pub type Stored = Box<dyn Fn(&str) -> Option<io::Result<File>> + Send>;

/// What is in an image.
#[derive(Default)]
struct Kept {
    head: Vec<u8>,
    blocks: Vec<Block>,
}

struct Block {
    pages: Pages,
    used: usize,
}

enum Content {
    Kept(Kept),
    File(File),
}

impl Images {
    /// Those that are files.
    pub fn stored(stored: Stored) -> Images {
        Images { stored: Some(stored), ..Images::default() }
    }

    /// One more, of this name.
    ///
    /// # Errors
    /// When it does not follow those that are there, or is none.
    pub fn begin(&mut self, image: u32, name: &str) -> io::Result<()> {
        let image = image as usize;
        let is_next = image == self.kept.len() && image < IMAGES_MAX;
        let is_name = !name.is_empty() && name.len() <= NAME_BYTES_MAX && !name.contains('/');
        if !is_next || !is_name || self.names.insert(name.to_owned(), image).is_some() {
            return Err(bad("no image"));
        }
        self.kept.push(Kept::default());
        Ok(())
    }

    /// More of one.
    ///
    /// # Errors
    /// When it has not begun; when there is no memory for it.
    pub fn add(&mut self, image: u32, bytes: &[u8]) -> io::Result<()> {
        let kept = self.kept.get_mut(image as usize);
        kept.ok_or_else(|| bad("a piece of no image"))?.add(bytes)
    }

    /// Changes an image, if it is there.
    ///
    /// # Errors
    /// Those of the change.
    pub fn change<T>(
        &mut self,
        name: &str,
        change: impl FnOnce(&[u8]) -> io::Result<(Vec<u8>, T)>,
    ) -> io::Result<Option<T>> {
        let Some(kept) = self.names.get(name).and_then(|at| self.kept.get_mut(*at)) else {
            return Ok(None);
        };
        let (head, told) = change(&kept.all())?;
        *kept = Kept { head, blocks: Vec::new() };
        Ok(Some(told))
    }

    /// Gives CRIU what it asks for, until it is done. What was given is not kept.
    ///
    /// # Errors
    /// When CRIU does not keep to the protocol.
    pub fn serve(self, door: &UnixListener, ended: impl AsFd) -> io::Result<()> {
        let Some(mut criu) = comer(door, ended)? else { return Ok(()) };
        let Images { names, kept, stored } = self;
        let mut kept: Vec<Option<Kept>> = kept.into_iter().map(Some).collect();
        let failed = Mutex::new(None);
        std::thread::scope(|threads| {
            while let Some(name) = next_name(&mut criu)? {
                let come = names.get(&name).and_then(|at| kept.get_mut(*at)?.take());
                let found = match (come.map(Content::Kept), &stored) {
                    (None, Some(stored)) => stored(&name).transpose()?.map(Content::File),
                    (come, _) => come,
                };
                let reply = Reply { exists: found.is_some() }.encode_to_vec();
                let mut bytes = (reply.len() as u32).to_le_bytes().to_vec();
                bytes.extend(reply);
                criu.write_all(&bytes)?;
                let Some(content) = found else { continue };
                let (pipe, failed) = (next_pipe(&criu)?, &failed);
                let content = match content {
                    // It fits in any pipe.
                    Content::Kept(kept) if kept.is_tiny() => {
                        kept.write(pipe)?;
                        continue;
                    }
                    content => content,
                };
                // CRIU reads several at a time: none may wait for another.
                threads.spawn(move || {
                    if let Err(e) = content.write(pipe) {
                        *failed.lock().unwrap_or_else(PoisonError::into_inner) = Some(e);
                    }
                });
            }
            io::Result::Ok(())
        })?;
        failed.into_inner().unwrap_or_else(PoisonError::into_inner).map_or(Ok(()), Err)
    }
}

impl Kept {
    fn is_tiny(&self) -> bool {
        self.blocks.is_empty() && self.head.len() <= TINY_BYTES
    }

    fn add(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        if self.blocks.is_empty() {
            let small = bytes.len().min(SMALL_BYTES - self.head.len().min(SMALL_BYTES));
            self.head.extend_from_slice(&bytes[..small]);
            bytes = &bytes[small..];
        }
        while !bytes.is_empty() {
            let is_full = self.blocks.last().is_none_or(|block| block.used == block.pages.len());
            if is_full {
                self.blocks.push(Block { pages: Pages::new(BLOCK_BYTES)?, used: 0 });
            }
            let Some(Block { pages, used }) = self.blocks.last_mut() else { break };
            let room = &mut pages[*used..];
            let taken = bytes.len().min(room.len());
            room[..taken].copy_from_slice(&bytes[..taken]);
            (*used, bytes) = (*used + taken, &bytes[taken..]);
        }
        Ok(())
    }

    fn all(&self) -> Vec<u8> {
        let mut all = self.head.clone();
        self.blocks.iter().for_each(|block| all.extend_from_slice(&block.pages[..block.used]));
        all
    }

    /// All of it, block by block, each of which is the kernel's again as soon as it is in the pipe.
    fn write(self, pipe: OwnedFd) -> io::Result<()> {
        let mut pipe = File::from(pipe);
        let written = pipe.write_all(&self.head).and_then(|()| {
            self.blocks.into_iter().try_for_each(|block| block.pages.splice(block.used, &pipe))
        });
        unless_left(written)
    }
}

impl Content {
    fn write(self, pipe: OwnedFd) -> io::Result<()> {
        pages::widen(&pipe, PIPE_BYTES);
        match self {
            Content::Kept(kept) => kept.write(pipe),
            Content::File(mut file) => {
                unless_left(io::copy(&mut file, &mut File::from(pipe)).map(drop))
            }
        }
    }
}

/// CRIU has all it wants of an image when it reads no more.
fn unless_left(written: io::Result<()>) -> io::Result<()> {
    match written {
        Err(e) if e.kind() == ErrorKind::BrokenPipe => Ok(()),
        written => written,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_of_nothing_are_refused() {
        let mut images = Images::default();
        assert!(images.add(0, &[1]).is_err());
        assert!(images.begin(1, "a.img").is_err());
        for name in ["../a.img", "", &"a".repeat(NAME_BYTES_MAX + 1)] {
            assert!(images.begin(0, name).is_err(), "{name}");
        }
        images.begin(0, "a.img").unwrap();
        images.add(0, &[1]).unwrap();
        assert!(images.begin(1, "a.img").is_err());
        assert!(images.add(1, &[1]).is_err());
    }

    #[test]
    fn large_ones_are_whole() {
        let all: Vec<u8> = (0..9u32 << 20).map(|n| (n % 253) as u8).collect();
        let mut images = Images::default();
        images.begin(0, "a.img").unwrap();
        all.chunks(70_001).for_each(|part| images.add(0, part).unwrap());
        let seen = images.change("a.img", |bytes| Ok((vec![2], bytes.to_vec())));
        assert!(seen.unwrap().unwrap() == all);
        assert_eq!(images.kept[0].all(), [2]);
        assert!(images.change("b.img", |_| Ok((Vec::new(), ()))).unwrap().is_none());
    }
}
