//! Bytes on their way between a job and what is outside of it. What is on its way is bounded by
//! credit: who reads waits until what he has read before is written.

use krg_sys::open_file::{SFlag, open_file};
use krg_types::limits::JOB_CHANNEL_BYTES_MAX;
use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use tokio::net::unix::pipe;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinHandle;

/// Bytes read at once.
const READ_BYTES: usize = 32 << 10;

/// Bytes, and the credit that whoever writes them gives back.
#[derive(Debug)]
pub struct Chunk {
    /// They.
    pub bytes: Vec<u8>,
    _credit: Option<OwnedSemaphorePermit>,
}

impl From<Vec<u8>> for Chunk {
    fn from(bytes: Vec<u8>) -> Chunk {
        Chunk { bytes, _credit: None }
    }
}

/// How much may be read before the first of it is written.
#[derive(Clone)]
pub struct Credit(Arc<Semaphore>);

impl Default for Credit {
    fn default() -> Credit {
        Credit(Arc::new(Semaphore::new(JOB_CHANNEL_BYTES_MAX)))
    }
}

impl Credit {
    /// For some bytes; waits until there is enough of it.
    pub async fn take(&self, bytes: Vec<u8>) -> Chunk {
        let count = u32::try_from(bytes.len().min(JOB_CHANNEL_BYTES_MAX)).unwrap_or(0);
        // It is never closed.
        let credit = self.0.clone().acquire_many_owned(count).await.ok();
        Chunk { bytes, _credit: credit }
    }
}

/// Reads from a descriptor until it ends.
pub struct Reader {
    task: JoinHandle<()>,
    /// It waits for something to be written, and has room for it.
    idle: Arc<AtomicBool>,
}

impl Reader {
    /// `tell` gets what is read, and `None` at the end. What it has been told is all that was read,
    /// also when this is stopped.
    pub fn start(
        from: OwnedFd,
        credit: Credit,
        mut tell: impl FnMut(Option<Chunk>) + Send + 'static,
    ) -> Reader {
        let idle = Arc::<AtomicBool>::default();
        let waits = idle.clone();
        let task = tokio::spawn(async move {
            if is_file(&from) {
                read_file(&File::from(from), &credit, &mut tell).await;
            } else {
                // Of any kind that can be waited for: a terminal, a socket.
                match pipe::Receiver::from_owned_fd_unchecked(from) {
                    Ok(from) => read_all(&from, &credit, &waits, &mut tell).await,
                    Err(e) => tracing::warn!(error = %e, "cannot be waited for"),
                }
            }
            tell(None);
        });
        Reader { task, idle }
    }

    /// Has it read all there is?
    pub fn is_idle(&self) -> bool {
        self.idle.load(Ordering::Relaxed)
    }

    /// Reads no more from now on; what it has read was told.
    pub async fn stop(mut self) {
        self.task.abort();
        let _ = (&mut self.task).await;
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// One that is always ready, and cannot be waited for (epoll_ctl(2), EPERM).
fn is_file(fd: &OwnedFd) -> bool {
    open_file(fd).is_ok_and(|file| matches!(file.kind, SFlag::S_IFREG | SFlag::S_IFBLK))
}

async fn read_file(
    mut from: &File,
    credit: &Credit,
    tell: &mut (impl FnMut(Option<Chunk>) + Send),
) {
    let mut buf = vec![0; READ_BYTES];
    loop {
        let most = u32::try_from(READ_BYTES).unwrap_or(u32::MAX);
        let Ok(room) = credit.0.clone().acquire_many_owned(most).await else { return };
        match from.read(&mut buf) {
            Ok(n) if n > 0 => {
                tell(Some(Chunk { bytes: buf[..n].to_vec(), _credit: Some(room) }));
            }
            Err(e) if e.kind() == ErrorKind::Interrupted => {}
            _ => return,
        }
    }
}

async fn read_all(
    from: &pipe::Receiver,
    credit: &Credit,
    idle: &AtomicBool,
    tell: &mut (impl FnMut(Option<Chunk>) + Send),
) {
    let mut buf = vec![0; READ_BYTES];
    loop {
        // Room first: nothing is waited for between reading and telling.
        let most = u32::try_from(READ_BYTES).unwrap_or(u32::MAX);
        let Ok(mut room) = credit.0.clone().acquire_many_owned(most).await else { return };
        idle.store(true, Ordering::Relaxed);
        let ready = from.readable().await;
        idle.store(false, Ordering::Relaxed);
        if ready.is_err() {
            return;
        }
        match from.try_read(&mut buf) {
            // EIO: nobody has the other side of a terminal any more.
            Ok(0) => return,
            Ok(n) => {
                let unused = room.split(READ_BYTES - n);
                drop(unused);
                tell(Some(Chunk { bytes: buf[..n].to_vec(), _credit: Some(room) }));
            }
            Err(e) if e.kind() == ErrorKind::Interrupted => {}
            Err(e) if e.kind() == ErrorKind::WouldBlock => {}
            Err(_) => return,
        }
    }
}

#[derive(Default)]
struct Queue {
    chunks: VecDeque<Chunk>,
    /// Bytes of the first that are written already.
    written: usize,
    /// Nothing follows.
    last: bool,
    /// Nobody reads there any more.
    deaf: bool,
}

/// Writes to a descriptor what it is given, in order, and closes it after the last.
pub struct Writer {
    queue: Arc<(Mutex<Queue>, Notify)>,
    task: JoinHandle<()>,
}

impl Writer {
    /// To this one; `tell` is called when nobody reads there any more, or all is written.
    pub fn start(to: OwnedFd, tell: impl FnOnce() + Send + 'static) -> Writer {
        let queue = Arc::new((Mutex::new(Queue::default()), Notify::new()));
        let shared = queue.clone();
        let task = tokio::spawn(async move {
            if is_file(&to) {
                write_file(&File::from(to), &shared).await;
            } else {
                match pipe::Sender::from_owned_fd_unchecked(to) {
                    Ok(to) => write_all(&to, &shared).await,
                    Err(e) => tracing::warn!(error = %e, "cannot be waited for"),
                }
            }
            let mut queue = lock(&shared);
            queue.deaf = true;
            // With their credit.
            queue.chunks.clear();
            drop(queue);
            tell();
        });
        Writer { queue, task }
    }

    /// After what is there.
    pub fn push(&self, chunk: Chunk) {
        self.with(|queue| {
            if !queue.deaf {
                queue.chunks.push_back(chunk);
            }
        });
    }

    /// Nothing follows.
    pub fn end(&self) {
        self.with(|queue| queue.last = true);
    }

    fn with(&self, change: impl FnOnce(&mut Queue)) {
        change(&mut lock(&self.queue));
        self.queue.1.notify_one();
    }

    /// Is all written, as far as anybody reads it?
    pub fn is_drained(&self) -> bool {
        lock(&self.queue).chunks.is_empty()
    }

    /// Until the last is written, or nobody reads it.
    pub async fn finished(mut self) {
        let _ = (&mut self.task).await;
    }

    /// Writes no more from now on: what is not written, and whether anything was to follow.
    pub async fn stop(mut self) -> (Vec<u8>, bool) {
        self.task.abort();
        let _ = (&mut self.task).await;
        let mut queue = lock(&self.queue);
        let written = queue.written;
        let bytes: Vec<u8> = queue.chunks.drain(..).flat_map(|chunk| chunk.bytes).collect();
        (bytes.get(written..).unwrap_or_default().to_vec(), queue.last)
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn lock(queue: &(Mutex<Queue>, Notify)) -> std::sync::MutexGuard<'_, Queue> {
    queue.0.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn write_all(to: &pipe::Sender, shared: &(Mutex<Queue>, Notify)) {
    loop {
        let (empty, last) = {
            let queue = lock(shared);
            (queue.chunks.is_empty(), queue.last)
        };
        match (empty, last) {
            (true, true) => return,
            (true, false) => shared.1.notified().await,
            (false, _) => {
                if to.writable().await.is_err() {
                    return;
                }
                match write_some(to, shared) {
                    Err(e) if e.kind() == ErrorKind::Interrupted => {}
                    Err(e) if e.kind() == ErrorKind::WouldBlock => {}
                    Err(_) => return,
                    Ok(()) => {}
                }
            }
        }
    }
}

async fn write_file(mut to: &File, shared: &(Mutex<Queue>, Notify)) {
    loop {
        let (first, last) = {
            let mut queue = lock(shared);
            (queue.chunks.pop_front(), queue.last)
        };
        match first {
            Some(chunk) => {
                if to.write_all(&chunk.bytes).is_err() {
                    return;
                }
            }
            None if last => return,
            None => shared.1.notified().await,
        }
    }
}

/// Of the first chunk; noted at once, so that this can be stopped anywhere.
fn write_some(to: &pipe::Sender, shared: &(Mutex<Queue>, Notify)) -> io::Result<()> {
    let mut queue = lock(shared);
    let written = queue.written;
    let Some(first) = queue.chunks.front_mut() else { return Ok(()) };
    let n = match first.bytes.get(written..) {
        Some([]) | None => 0,
        Some(left) => to.try_write(left)?,
    };
    if written + n >= first.bytes.len() {
        queue.chunks.pop_front();
        queue.written = 0;
    } else {
        queue.written += n;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use krg_sys::open_file::open_again;
    use tokio::io::AsyncReadExt;
    use tokio::sync::mpsc;

    fn pipe() -> (OwnedFd, OwnedFd) {
        let (read, write) = nix::unistd::pipe().unwrap();
        let again = |fd, read| OwnedFd::from(open_again(fd, read, !read).unwrap());
        (again(&read, true), again(&write, false))
    }

    #[tokio::test]
    async fn what_is_read_is_told_once_and_what_is_not_written_comes_back() {
        let (read, write) = pipe();
        let (told, mut hears) = mpsc::unbounded_channel();
        let reader = Reader::start(read, Credit::default(), move |chunk| {
            let _ = told.send(chunk.map(|chunk| chunk.bytes));
        });
        // More than a pipe holds: the reader has to take it.
        let all: Vec<u8> = (0..200_000u32).flat_map(u32::to_le_bytes).collect();
        let writer = Writer::start(write, || {});
        all.chunks(10_000).for_each(|part| writer.push(part.to_vec().into()));
        writer.end();
        let mut heard = Vec::new();
        while let Some(Some(bytes)) = hears.recv().await {
            heard.extend(bytes);
        }
        assert!(heard == all);
        reader.stop().await;

        let (read, write) = pipe();
        let writer = Writer::start(write, || {});
        writer.push(all.clone().into());
        // As much as a pipe holds is written before this ends.
        let mut first = vec![0; 100];
        let mut read = pipe::Receiver::from_owned_fd_unchecked(read).unwrap();
        read.read_exact(&mut first).await.unwrap();
        let (left, last) = writer.stop().await;
        assert!(!last && first == all[..100]);
        read.read_to_end(&mut first).await.unwrap();
        assert!([first, left].concat() == all);
    }

    #[tokio::test]
    async fn who_reads_waits_for_who_writes() {
        let (read, write) = pipe();
        let (told, mut hears) = mpsc::unbounded_channel();
        let _reader = Reader::start(read, Credit::default(), move |chunk| {
            let _ = told.send(chunk);
        });
        let writer = Writer::start(write, || {});
        writer.push(vec![7; 4 * JOB_CHANNEL_BYTES_MAX].into());
        writer.end();
        let (mut held, mut count) = (Vec::new(), 0);
        while count + READ_BYTES <= JOB_CHANNEL_BYTES_MAX {
            let chunk: Chunk = hears.recv().await.unwrap().unwrap();
            count += chunk.bytes.len();
            held.push(chunk);
        }
        assert!(hears.try_recv().is_err());
        held.clear();
        while let Some(Some(chunk)) = hears.recv().await {
            count += chunk.bytes.len();
        }
        assert_eq!(count, 4 * JOB_CHANNEL_BYTES_MAX);
    }
}
