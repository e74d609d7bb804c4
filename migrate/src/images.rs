//! The images of a job: made by CRIU, and given to it, through pipes and never on a disk. The
//! protocol is that of `criu dump --stream` (criu's img-streamer.c): each file by name, and a pipe
//! for what is in it.

use krg_rpc::prost::Message;
use krg_rpc::proto::job::Piece;
use krg_sys::fd_passing;
use krg_sys::open_file::open_again;
use krg_types::limits::{IMAGE_PIECE_BYTES, IMAGES_MAX};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::collections::HashMap;
use std::fs::File;
use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

/// Longest name of an image, bytes.
const NAME_BYTES_MAX: usize = 256;
const CAPTURE: &str = "streamer-capture.sock";
const SERVE: &str = "streamer-serve.sock";

/// CRIU's img_streamer_request_entry.
#[derive(Clone, PartialEq, Message)]
#[prost(prost_path = "krg_rpc::prost")]
struct Request {
    #[prost(string, required, tag = "1")]
    filename: String,
}

/// CRIU's img_streamer_reply_entry.
#[derive(Clone, PartialEq, Message)]
#[prost(prost_path = "krg_rpc::prost")]
struct Reply {
    #[prost(bool, required, tag = "1")]
    exists: bool,
}

/// Where CRIU will bring images that it makes.
///
/// # Errors
/// The kernel's.
pub fn capture_door(dir: &Path) -> io::Result<UnixListener> {
    door(&dir.join(CAPTURE))
}

/// Where CRIU will ask for images.
///
/// # Errors
/// The kernel's.
pub fn serve_door(dir: &Path) -> io::Result<UnixListener> {
    door(&dir.join(SERVE))
}

fn door(path: &Path) -> io::Result<UnixListener> {
    match std::fs::remove_file(path) {
        Err(e) if e.kind() != ErrorKind::NotFound => Err(e),
        _ => UnixListener::bind(path),
    }
}

/// Who has come to the door; `None` when `ended` (a descriptor that becomes readable) is sooner.
fn comer(door: &UnixListener, ended: impl AsFd) -> io::Result<Option<UnixStream>> {
    loop {
        let mut fds = [
            PollFd::new(door.as_fd(), PollFlags::POLLIN),
            PollFd::new(ended.as_fd(), PollFlags::POLLIN),
        ];
        match poll(&mut fds, PollTimeout::NONE) {
            Ok(_) if fds[0].any() == Some(true) => return Ok(Some(door.accept()?.0)),
            Ok(_) => return Ok(None),
            Err(Errno::EINTR) => {}
            Err(e) => return Err(e.into()),
        }
    }
}

/// The next file that CRIU speaks of; `None` at the end.
fn next_name(criu: &mut UnixStream) -> io::Result<Option<String>> {
    let mut length = [0; 4];
    match criu.read_exact(&mut length) {
        Err(e) if e.kind() == ErrorKind::UnexpectedEof => return Ok(None),
        read => read?,
    }
    let length = u32::from_le_bytes(length) as usize;
    if length > NAME_BYTES_MAX {
        return Err(bad("a name that is too long"));
    }
    let mut bytes = vec![0; length];
    criu.read_exact(&mut bytes)?;
    let request = Request::decode(&bytes[..]).map_err(|_| bad("no request of an image"))?;
    Ok(Some(request.filename))
}

fn next_pipe(criu: &UnixStream) -> io::Result<OwnedFd> {
    let mut byte = [0; 1];
    let (_, fds) = fd_passing::receive(criu, &mut byte)?;
    fds.into_iter().next().ok_or_else(|| bad("no pipe for an image"))
}

fn bad(what: &'static str) -> io::Error {
    io::Error::new(ErrorKind::InvalidData, what)
}

/// What CRIU makes.
#[derive(Debug)]
pub enum Caught {
    /// A piece of an image.
    Piece(Piece),
    /// These were all; what follows (statistics) is not handed on.
    All,
}

/// Takes what CRIU makes until it is done, and hands it on piece by piece; how many bytes it was.
/// What it has begun when `cut` becomes readable is all that is handed on. What `hand_on` does not
/// take is not made.
///
/// # Errors
/// When CRIU does not keep to the protocol, or a piece was not taken.
pub fn capture(
    door: &UnixListener,
    ended: impl AsFd,
    cut: impl AsFd,
    mut hand_on: impl FnMut(Caught) -> io::Result<()>,
) -> io::Result<u64> {
    let Some(mut criu) = comer(door, ended)? else { return Ok(0) };
    let (mut open, mut images, mut total): (Vec<(u32, File)>, u32, u64) = (Vec::new(), 0, 0);
    let (mut more, mut all) = (true, false);
    let mut buf = vec![0; IMAGE_PIECE_BYTES];
    while more || !open.is_empty() {
        let mut fds: Vec<PollFd<'_>> =
            open.iter().map(|(_, pipe)| PollFd::new(pipe.as_fd(), PollFlags::POLLIN)).collect();
        // Of no interest when over: -1 would do for poll(2), but is no descriptor.
        let said = if more { PollFlags::POLLIN } else { PollFlags::empty() };
        fds.push(PollFd::new(criu.as_fd(), said));
        if !all {
            fds.push(PollFd::new(cut.as_fd(), PollFlags::POLLIN));
        }
        match poll(&mut fds, PollTimeout::NONE) {
            Ok(_) => {}
            Err(Errno::EINTR) => continue,
            Err(e) => return Err(e.into()),
        }
        let ready: Vec<bool> = fds.iter().map(|fd| fd.any() == Some(true)).collect();
        let (speaks, is_cut) =
            (ready[open.len()] && more, ready.get(open.len() + 1) == Some(&true));
        if is_cut && !speaks && open.is_empty() {
            all = true;
            hand_on(Caught::All)?;
        }
        for at in (0..open.len()).rev().filter(|at| ready[*at]) {
            let (image, pipe) = &mut open[at];
            match pipe.read(&mut buf)? {
                0 => drop(open.swap_remove(at)),
                n => {
                    total += n as u64;
                    let data = buf[..n].to_vec();
                    if !all {
                        hand_on(Caught::Piece(Piece {
                            image: *image,
                            name: String::new(),
                            data,
                        }))?;
                    }
                }
            }
        }
        if speaks {
            match next_name(&mut criu)? {
                None => more = false,
                Some(_) if images as usize >= IMAGES_MAX => return Err(bad("too many images")),
                Some(name) => {
                    let pipe = next_pipe(&criu)?;
                    // The larger the fewer turns; where it may not be larger it stays.
                    let larger = nix::fcntl::FcntlArg::F_SETPIPE_SZ(1 << 20);
                    let _ = nix::fcntl::fcntl(&pipe, larger);
                    if !all {
                        let data = Vec::new();
                        hand_on(Caught::Piece(Piece { image: images, name, data }))?;
                    }
                    open.push((images, File::from(pipe)));
                    images += 1;
                }
            }
        }
    }
    Ok(total)
}

/// Images that have come.
#[derive(Default)]
pub struct Images {
    names: HashMap<String, usize>,
    pieces: Vec<Vec<Vec<u8>>>,
    stored: Option<Stored>,
}

/// Opens an image by its name, if there is one.
pub type Stored = Box<dyn Fn(&str) -> Option<io::Result<File>> + Send>;

/// What is in an image.
enum Content {
    Pieces(Vec<Vec<u8>>),
    File(File),
}

impl Images {
    /// Those that are files.
    pub fn stored(stored: Stored) -> Images {
        Images { stored: Some(stored), ..Images::default() }
    }

    /// One more piece.
    ///
    /// # Errors
    /// For one that does not follow from those before it.
    pub fn add(&mut self, piece: Piece) -> io::Result<()> {
        let image = piece.image as usize;
        if !piece.name.is_empty() {
            let fits = image == self.pieces.len() && image < IMAGES_MAX;
            if !fits || piece.name.len() > NAME_BYTES_MAX || piece.name.contains('/') {
                return Err(bad("a piece of no image"));
            }
            self.names.insert(piece.name, image);
            self.pieces.push(Vec::new());
        }
        let pieces = self.pieces.get_mut(image).ok_or_else(|| bad("a piece of no image"))?;
        pieces.push(piece.data);
        Ok(())
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
        let Some(pieces) = self.names.get(name).and_then(|at| self.pieces.get_mut(*at)) else {
            return Ok(None);
        };
        let (bytes, told) = change(&pieces.concat())?;
        *pieces = vec![bytes];
        Ok(Some(told))
    }

    /// Gives CRIU what it asks for, until it is done. What was given is not kept.
    ///
    /// # Errors
    /// When CRIU does not keep to the protocol.
    pub fn serve(self, door: &UnixListener, ended: impl AsFd) -> io::Result<()> {
        let Some(mut criu) = comer(door, ended)? else { return Ok(()) };
        let Images { names, pieces, stored } = self;
        let mut pieces: Vec<Option<Vec<Vec<u8>>>> = pieces.into_iter().map(Some).collect();
        let failed = Arc::new(Mutex::new(None));
        std::thread::scope(|threads| {
            while let Some(name) = next_name(&mut criu)? {
                let come = names.get(&name).and_then(|at| pieces.get_mut(*at)?.take());
                let found = match (come.map(Content::Pieces), &stored) {
                    (None, Some(stored)) => stored(&name).transpose()?.map(Content::File),
                    (come, _) => come,
                };
                let reply = Reply { exists: found.is_some() }.encode_to_vec();
                let mut bytes = (reply.len() as u32).to_le_bytes().to_vec();
                bytes.extend(reply);
                criu.write_all(&bytes)?;
                let Some(content) = found else { continue };
                let pipe = next_pipe(&criu)?;
                let failed = failed.clone();
                // CRIU reads several at a time: none may wait for another.
                threads.spawn(move || {
                    if let Err(e) = write_all(pipe, content) {
                        *failed.lock().unwrap_or_else(PoisonError::into_inner) = Some(e);
                    }
                });
            }
            io::Result::Ok(())
        })?;
        let failed = failed.lock().unwrap_or_else(PoisonError::into_inner).take();
        failed.map_or(Ok(()), Err)
    }
}

fn write_all(pipe: OwnedFd, content: Content) -> io::Result<()> {
    let larger = nix::fcntl::FcntlArg::F_SETPIPE_SZ(1 << 20);
    let _ = nix::fcntl::fcntl(&pipe, larger);
    let mut pipe = File::from(pipe);
    let written = match content {
        Content::Pieces(pieces) => pieces.iter().try_for_each(|piece| pipe.write_all(piece)),
        Content::File(mut file) => io::copy(&mut file, &mut pipe).map(|_| ()),
    };
    match written {
        // CRIU has all it wants of this one.
        Err(e) if e.kind() == ErrorKind::BrokenPipe => Ok(()),
        written => written,
    }
}

/// All that is left in a pipe, of which either side is open here.
///
/// # Errors
/// The kernel's.
pub fn drain(pipe: impl AsFd) -> io::Result<Vec<u8>> {
    let mut reader = open_again(pipe, true, false)?;
    let (mut all, mut buf) = (Vec::new(), vec![0; 64 << 10]);
    loop {
        match reader.read(&mut buf) {
            Ok(0) => return Ok(all),
            Ok(n) => all.extend_from_slice(&buf[..n]),
            Err(e) if e.kind() == ErrorKind::WouldBlock => return Ok(all),
            Err(e) if e.kind() == ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::BorrowedFd;

    fn say(criu: &mut UnixStream, name: &str) {
        let bytes = Request { filename: name.into() }.encode_to_vec();
        criu.write_all(&(bytes.len() as u32).to_le_bytes()).unwrap();
        criu.write_all(&bytes).unwrap();
    }

    fn hand(criu: &UnixStream, fd: BorrowedFd<'_>) {
        assert_eq!(fd_passing::send(criu, &[0], &[fd]).unwrap(), 1);
    }

    #[test]
    fn images_come_out_as_they_went_in() {
        let dir = tempfile::tempdir().unwrap();
        let (never, _held) = nix::unistd::pipe().unwrap();
        let door = capture_door(dir.path()).unwrap();
        let path = dir.path().to_owned();
        let big = vec![3u8; 3 << 20];
        let contents = [("inventory.img", vec![1u8; 10]), ("pages-1.img", big.clone())];
        let given = contents.clone();
        let criu = std::thread::spawn(move || {
            let mut criu = UnixStream::connect(path.join(CAPTURE)).unwrap();
            for (name, bytes) in given {
                say(&mut criu, name);
                let (read, write) = nix::unistd::pipe().unwrap();
                hand(&criu, read.as_fd());
                drop(read);
                File::from(write).write_all(&bytes).unwrap();
            }
        });
        let mut images = Images::default();
        let bytes = capture(&door, &never, &never, |caught| match caught {
            Caught::Piece(piece) => images.add(piece),
            Caught::All => panic!("nobody has cut it"),
        });
        let bytes = bytes.unwrap();
        criu.join().unwrap();
        assert_eq!(bytes, 10 + (3 << 20));

        let door = serve_door(dir.path()).unwrap();
        let path = dir.path().to_owned();
        let criu = std::thread::spawn(move || {
            let mut criu = UnixStream::connect(path.join(SERVE)).unwrap();
            let mut ask = |name: &str| {
                say(&mut criu, name);
                let mut length = [0; 4];
                criu.read_exact(&mut length).unwrap();
                let mut bytes = vec![0; u32::from_le_bytes(length) as usize];
                criu.read_exact(&mut bytes).unwrap();
                if !Reply::decode(&bytes[..]).unwrap().exists {
                    return None;
                }
                let (read, write) = nix::unistd::pipe().unwrap();
                hand(&criu, write.as_fd());
                drop(write);
                let mut all = Vec::new();
                File::from(read).read_to_end(&mut all).unwrap();
                Some(all)
            };
            assert_eq!(ask("none.img"), None);
            for (name, bytes) in contents {
                assert!(ask(name).unwrap() == bytes, "{name}");
            }
        });
        images.serve(&door, &never).unwrap();
        criu.join().unwrap();
    }

    #[test]
    fn pieces_of_nothing_are_refused() {
        let piece = |image, name: &str| Piece { image, name: name.into(), data: vec![1] };
        let mut images = Images::default();
        assert!(images.add(piece(0, "")).is_err());
        assert!(images.add(piece(1, "a.img")).is_err());
        assert!(images.add(piece(0, "../a.img")).is_err());
        images.add(piece(0, "a.img")).unwrap();
        images.add(piece(0, "")).unwrap();
        assert!(images.add(piece(1, "")).is_err());
    }
}
