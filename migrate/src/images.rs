//! The images of a job: made by CRIU, and given to it, through pipes and never on a disk. The
//! protocol is that of `criu dump --stream` (criu's img-streamer.c): each file by name, and a pipe
//! for what is in it.

pub mod capture;
pub mod freight;
pub mod store;

use krg_rpc::prost::Message;
use krg_sys::fd_passing;
use krg_sys::open_file::open_again;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::io::{self, ErrorKind, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;

/// Longest name of an image, bytes.
const NAME_BYTES_MAX: usize = 256;
/// What a pipe between CRIU and this holds, if that is allowed, bytes: the larger the fewer turns.
const PIPE_BYTES: u32 = 1 << 20;
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
    use super::capture::{Sink, capture};
    use super::store::Images;
    use super::*;
    use std::fs::File;
    use std::io::Write;
    use std::os::fd::BorrowedFd;

    /// Keeps what comes.
    #[derive(Default)]
    struct Keeps(Images);

    impl Sink for Keeps {
        fn begin(&mut self, image: u32, name: &str) -> io::Result<()> {
            self.0.begin(image, name)
        }

        fn take(&mut self, image: u32, mut pipe: &File) -> io::Result<u64> {
            let mut buf = vec![0; 100_000];
            let count = pipe.read(&mut buf)?;
            self.0.add(image, &buf[..count])?;
            Ok(count as u64)
        }

        fn idle(&mut self) -> io::Result<()> {
            Ok(())
        }

        fn all(&mut self, _bytes: u64) -> io::Result<()> {
            panic!("nobody has cut it")
        }
    }

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
        let mut keeps = Keeps::default();
        let bytes = capture(&door, &never, &never, &mut keeps).unwrap();
        let images = keeps.0;
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
}
