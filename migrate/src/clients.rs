//! Who is connected to the holder of a job: commands of its owner, krgd, and the job's home.

use crate::flow::{Chunk, Credit};
use krg_rpc::job::{Received, written};
use krg_rpc::proto::job::{FromJob, ToJob, from_job, to_job};
use krg_types::limits::JOB_OUTPUT_BYTES_MAX;
use std::collections::HashMap;
use std::io;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::Relaxed;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::task::JoinHandle;

/// Bytes received at once.
const READ_BYTES: usize = 16 << 10;
/// Connected to one job at once.
const CLIENTS_MAX: usize = 32;

/// What one says.
#[derive(Debug)]
pub enum Said {
    /// This; typed bytes come with their credit.
    Message(Box<to_job::What>),
    /// Typed.
    Typed(Chunk),
    /// Nothing any more.
    Gone,
}

struct Client {
    uid: u32,
    tell: UnboundedSender<(Vec<u8>, Option<Chunk>)>,
    /// Bytes that it has not taken.
    behind: Arc<AtomicUsize>,
    reads: JoinHandle<()>,
    writes: JoinHandle<()>,
    /// Hears what the terminal of the job shows.
    watches: bool,
}

impl Drop for Client {
    fn drop(&mut self) {
        self.reads.abort();
        // What was told is still sent: the sender's end is what ends it.
    }
}

/// All of them.
pub struct Clients {
    known: HashMap<u64, Client>,
    last: u64,
    says: UnboundedSender<(u64, Said)>,
}

impl Clients {
    /// None yet; they will say things there.
    pub fn new(says: UnboundedSender<(u64, Said)>) -> Clients {
        Clients { known: HashMap::new(), last: 0, says }
    }

    /// One more; `None` when there are too many.
    pub fn add(&mut self, stream: UnixStream, uid: u32, received: Received) -> Option<u64> {
        if self.known.len() >= CLIENTS_MAX {
            return None;
        }
        self.last += 1;
        let id = self.last;
        let (mut from, mut to) = stream.into_split();
        let says = self.says.clone();
        let reads = tokio::spawn(async move {
            if let Err(e) = read_all(&mut from, received, &says, id).await {
                tracing::debug!(client = id, error = %e, "is not understood");
            }
            let _ = says.send((id, Said::Gone));
        });
        let (tell, mut told): (_, UnboundedReceiver<(Vec<u8>, Option<Chunk>)>) =
            unbounded_channel();
        let behind = Arc::<AtomicUsize>::default();
        let taken = behind.clone();
        let writes = tokio::spawn(async move {
            while let Some((bytes, _credit)) = told.recv().await {
                if to.write_all(&bytes).await.is_err() {
                    return;
                }
                taken.fetch_sub(bytes.len(), Relaxed);
            }
        });
        self.known.insert(id, Client { uid, tell, behind, reads, writes, watches: false });
        Some(id)
    }

    /// Whose it is.
    pub fn uid(&self, id: u64) -> Option<u32> {
        Some(self.known.get(&id)?.uid)
    }

    /// It hears what the terminal shows from now on.
    pub fn watch(&mut self, id: u64) {
        if let Some(client) = self.known.get_mut(&id) {
            client.watches = true;
        }
    }

    /// Tells one something.
    pub fn tell(&self, id: u64, what: from_job::What) {
        if let Some(client) = self.known.get(&id) {
            client.send(what, None);
        }
    }

    /// What tells one something, from wherever it is.
    pub fn teller(&self, id: u64) -> impl Fn(from_job::What) + Send + 'static {
        let tell = self.known.get(&id).map(|client| client.tell.clone());
        move |what| {
            if let Some(tell) = &tell {
                let _ = tell.send((written(&FromJob { what: Some(what) }), None));
            }
        }
    }

    /// Tells all who watch something.
    pub fn tell_all(&self, what: &from_job::What) {
        for client in self.known.values().filter(|client| client.watches) {
            client.send(what.clone(), None);
        }
    }

    /// Shows all who watch what the terminal shows. The first holds the credit: who is slower, and
    /// far behind, is not waited for.
    pub fn show(&self, mut chunk: Chunk) {
        let bytes = std::mem::take(&mut chunk.bytes);
        let mut credit = Some(chunk);
        for client in self.known.values().filter(|client| client.watches) {
            let behind = client.behind.load(Relaxed);
            if credit.is_some() || behind < JOB_OUTPUT_BYTES_MAX {
                client.send(from_job::What::Output(bytes.clone()), credit.take());
            }
        }
    }

    /// Lets one go.
    pub fn remove(&mut self, id: u64) {
        self.known.remove(&id);
    }

    /// Until all have taken what they were told, or are gone.
    pub async fn settled(self) {
        for (_, mut client) in self.known {
            let (nobody, _) = unbounded_channel();
            client.tell = nobody;
            let writes = std::mem::replace(&mut client.writes, tokio::spawn(async {}));
            let _ = writes.await;
        }
    }
}

impl Client {
    fn send(&self, what: from_job::What, credit: Option<Chunk>) {
        let bytes = written(&FromJob { what: Some(what) });
        self.behind.fetch_add(bytes.len(), Relaxed);
        let _ = self.tell.send((bytes, credit));
    }
}

async fn read_all(
    from: &mut (impl AsyncReadExt + Unpin),
    mut received: Received,
    says: &UnboundedSender<(u64, Said)>,
    id: u64,
) -> io::Result<()> {
    let (credit, mut buf) = (Credit::default(), vec![0; READ_BYTES]);
    loop {
        let bad = |e| io::Error::new(io::ErrorKind::InvalidData, e);
        while let Some(message) = received.take::<ToJob>().map_err(bad)? {
            let said = match message.what {
                Some(to_job::What::Input(bytes)) => Said::Typed(credit.take(bytes).await),
                Some(what) => Said::Message(Box::new(what)),
                None => continue,
            };
            if says.send((id, said)).is_err() {
                return Ok(());
            }
        }
        match from.read(&mut buf).await? {
            0 => return Ok(()),
            n => received.add(&buf[..n]),
        }
    }
}
