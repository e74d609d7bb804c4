//! Images on their way to another node: from the holder that has the job to the one that will, on a
//! connection of their own.

use super::capture::Sink;
use super::store::Images;
use super::{NAME_BYTES_MAX, bad};
use crate::cluster::Cluster;
use krg_rpc::bulk::{Bulk, Part, Sender, Taken};
use krg_sys::fd_passing;
use krg_types::limits::BULK_PART_BYTES_MAX;
use std::fs::File;
use std::io::{self, ErrorKind, Read};
use std::net::TcpStream;
use std::path::Path;
use std::time::Duration;
use tokio::net::UnixListener;
use tokio::task::spawn_blocking;

/// The number of the last part, which says how many bytes the images were.
const END: u32 = u32::MAX;
/// In the directory of a move: where krgd brings the connection.
const SOCKET: &str = "images.sock";

/// krgd has the connection in its hands when it comes.
const GIVEN_MAX: Duration = Duration::from_secs(1);

/// Sends them.
pub struct Freight {
    sender: Sender,
    buf: Vec<u8>,
}

impl Freight {
    /// On this connection.
    pub fn new(sender: Sender) -> Freight {
        Freight { sender, buf: vec![0; BULK_PART_BYTES_MAX] }
    }

    /// Sends one that is a file.
    ///
    /// # Errors
    /// The disk's; when it is not taken.
    pub fn send(&mut self, image: u32, name: &str, file: &File) -> io::Result<u64> {
        self.begin(image, name)?;
        let mut total = 0;
        loop {
            match self.take(image, file)? {
                0 => return Ok(total),
                count => total += count,
            }
        }
    }
}

impl Sink for Freight {
    fn begin(&mut self, image: u32, name: &str) -> io::Result<()> {
        self.sender.part(2 * image, name.as_bytes())
    }

    fn take(&mut self, image: u32, mut pipe: &File) -> io::Result<u64> {
        loop {
            match pipe.read(&mut self.buf) {
                Ok(0) => return Ok(0),
                Ok(count) => {
                    self.sender.part(2 * image + 1, &self.buf[..count])?;
                    return Ok(count as u64);
                }
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
    }

    fn idle(&mut self) -> io::Result<()> {
        self.sender.flush()
    }

    fn all(&mut self, bytes: u64) -> io::Result<()> {
        self.sender.part(END, &bytes.to_le_bytes())?;
        self.sender.flush()
    }
}

/// Where the connection for a move's images is waited for.
///
/// # Errors
/// The kernel's.
pub fn door(dir: &Path) -> io::Result<UnixListener> {
    UnixListener::bind(dir.join(SOCKET))
}

/// Gives a connection to who waits for it in this directory of a move.
///
/// # Errors
/// When nobody does.
pub async fn give(dir: &Path, connection: &TcpStream) -> io::Result<()> {
    use std::os::fd::AsFd;
    let to = tokio::net::UnixStream::connect(dir.join(SOCKET)).await?;
    fd_passing::send(&to.into_std()?, &[0], &[connection.as_fd()])?;
    Ok(())
}

/// The connection of node `from`, when it has come.
///
/// # Errors
/// When it is not that node's.
pub async fn taken(door: &UnixListener, cluster: &dyn Cluster, from: u32) -> io::Result<Bulk> {
    let krgd = door.accept().await?.0.into_std()?;
    krgd.set_nonblocking(false)?;
    krgd.set_read_timeout(Some(GIVEN_MAX))?;
    let given = spawn_blocking(move || fd_passing::receive(&krgd, &mut [0])).await;
    let (_, fds) = given.map_err(io::Error::other)??;
    let fd = fds.into_iter().next().ok_or_else(|| bad("no connection for images"))?;
    cluster.images_from(TcpStream::from(fd), from).await
}

/// All that comes, when the last of it has.
///
/// # Errors
/// When the other side ends sooner, or says what makes no sense.
pub fn receive(bulk: Bulk) -> io::Result<Images> {
    let mut receiving = Receiving::default();
    bulk.receive(|part| receiving.take(part))?;
    Ok(receiving.images)
}

#[derive(Default)]
struct Receiving {
    images: Images,
    bytes: u64,
    /// Of a part that must be whole.
    words: Vec<u8>,
}

impl Receiving {
    fn take(&mut self, part: Part<'_>) -> io::Result<Taken> {
        let Part { number, bytes, left } = part;
        if number != END && number % 2 == 1 {
            self.bytes += bytes.len() as u64;
            self.images.add(number / 2, bytes)?;
            return Ok(Taken::More);
        }
        self.words.extend_from_slice(bytes);
        if self.words.len() + left > NAME_BYTES_MAX {
            return Err(bad("a name that is too long"));
        }
        if left > 0 {
            return Ok(Taken::More);
        }
        let words = std::mem::take(&mut self.words);
        if number == END {
            return match words[..] == self.bytes.to_le_bytes() {
                true => Ok(Taken::Enough),
                false => Err(bad("not all of the images have come")),
            };
        }
        let name = std::str::from_utf8(&words).map_err(|_| bad("a name that is none"))?;
        self.images.begin(number / 2, name)?;
        Ok(Taken::More)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn part(number: u32, bytes: &[u8], left: usize) -> Part<'_> {
        Part { number, bytes, left }
    }

    #[test]
    fn they_are_whole_or_refused() {
        let mut receiving = Receiving::default();
        let end = |bytes: u64| bytes.to_le_bytes();
        assert_eq!(receiving.take(part(0, b"a", 4)).unwrap(), Taken::More);
        assert_eq!(receiving.take(part(0, b".img", 0)).unwrap(), Taken::More);
        assert_eq!(receiving.take(part(1, &[7; 9], 1)).unwrap(), Taken::More);
        assert_eq!(receiving.take(part(1, &[7], 0)).unwrap(), Taken::More);
        assert!(receiving.take(part(END, &end(11), 0)).is_err());
        assert_eq!(receiving.take(part(END, &end(10), 0)).unwrap(), Taken::Enough);
        let seen = receiving.images.change("a.img", |bytes| Ok((Vec::new(), bytes.to_vec())));
        assert_eq!(seen.unwrap().unwrap(), [7; 10]);
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        for (number, bytes, left) in [
            (1, &[1][..], 0),
            (2, b"b.img", 0),
            (0, b"a/b", 0),
            (0, &[1; 300], 0),
            (0, b"a", 300),
        ] {
            assert!(Receiving::default().take(part(number, bytes, left)).is_err(), "{number}");
        }
    }
}
