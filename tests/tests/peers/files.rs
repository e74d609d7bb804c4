//! A node's door for files, and members with good papers who say there what no client would: no
//! file outside of the export is touched, nobody else is disturbed, and nothing is left undone.

use crate::peers::tls;
use crate::peers::world::{CLUSTER, SOON, World, listen};
use bytes::BytesMut;
use krg_cluster::identity::Identity;
use krg_faf::bytes::{Bounded, Name};
use krg_faf::export::{Export, Rules};
use krg_faf::op::{
    Answer, Caller, Entry, Handle, Hello, Lock, LockKind, Op, OpenId, Request, SetAttr,
};
use krg_faf::serve::{Service, cluster_name};
use krg_faf::server::Server;
use krg_rpc::frame::{self, Frame};
use krg_types::limits::{FRAME_DATA_BYTES_MAX, FRAME_HEAD_BYTES_MAX, PROTOCOL_VERSION};
use rand::prelude::*;
use rand::rngs::StdRng;
use std::net::SocketAddr;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::sync::Arc;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::client::TlsStream;

/// Questions of the storm, of each of its members, and how many are asked before one is heard.
const STORM: usize = 2_000;
const AT_ONCE: usize = 100;

/// Node 2's files: `shown` of a folder, whose other file nobody may see.
struct Node {
    folder: TempDir,
    address: SocketAddr,
}

impl Node {
    async fn serve(world: &World) -> Node {
        let folder = tempfile::tempdir().expect("a folder");
        let root = folder.path().join("shown");
        std::fs::create_dir_all(root.join("dir")).expect("it is made");
        std::fs::write(root.join("file"), vec![b'f'; 100_000]).expect("it is written");
        let kept = folder.path().join("kept");
        std::fs::write(&kept, "kept").expect("it is written");
        let mode = std::fs::Permissions::from_mode(0o600);
        std::fs::set_permissions(&kept, mode).expect("they are set");
        std::os::unix::fs::symlink("../kept", root.join("link")).expect("it is made");
        let rules = Rules { root, nested: false, ..Rules::default() };
        let export = Export::open(rules, b"a secret").expect("as root");
        let server = Arc::new(Server::new(export));
        let service = Service::new(server, CLUSTER.into()).expect("a thread");
        let (listener, address) = listen().await;
        tokio::spawn(service.run(listener, world.credentials(2)));
        Node { folder, address }
    }

    fn shown(&self, name: &str) -> std::path::PathBuf {
        self.folder.path().join("shown").join(name)
    }

    fn is_kept(&self) {
        let kept = std::fs::read_to_string(self.folder.path().join("kept"));
        assert_eq!(kept.expect("it is there"), "kept");
        let found = std::fs::symlink_metadata(self.folder.path().join("kept"));
        assert_eq!(found.expect("it is there").mode(), 0o100_600);
        let names = |at: &Path| std::fs::read_dir(at).expect("it is there").count();
        assert_eq!(names(self.folder.path()), 2, "something was made beside it");
    }
}

/// A member at the door.
struct Guest {
    stream: TlsStream<TcpStream>,
    received: BytesMut,
    next: u64,
}

impl Guest {
    async fn new(node: &Node, papers: &Identity, session: u128) -> Guest {
        let stream = tls::connect(node.address, Some(papers), tls::FILES).await;
        let (stream, received) = (stream.expect("it is let in"), BytesMut::new());
        let mut guest = Guest { stream, received, next: 1 };
        let (version, cluster) = (PROTOCOL_VERSION, cluster_name(CLUSTER));
        let hello = Hello { version, cluster, session, notices: true };
        let said = guest.ask(Op::Hello(hello)).await;
        assert!(matches!(said, Answer::Welcome(_)), "{said:?}");
        guest
    }

    /// Says these bytes, which need be no frame.
    async fn say(&mut self, bytes: &[u8]) {
        // Who is sent away meanwhile learns it when he listens.
        let _ = self.stream.write_all(bytes).await;
        let _ = self.stream.flush().await;
    }

    async fn post(&mut self, caller: Caller, op: Op, data: &[u8]) -> u64 {
        let id = self.next;
        self.next += 1;
        let head = postcard::to_allocvec(&Request { caller, op, once: false }).expect("written");
        let prefix = frame::prefix(id, head.len(), data.len());
        self.say(&[&prefix[..], &head, data].concat()).await;
        id
    }

    /// The next answer, or nothing: then the connection has ended.
    async fn hear(&mut self) -> Option<Frame> {
        loop {
            match frame::take(&mut self.received).expect("a good frame") {
                Some(frame) if frame.id != 0 => return Some(frame),
                Some(_) => continue,
                None => {}
            }
            let read = timeout(SOON, self.stream.read_buf(&mut self.received)).await;
            match read.expect("it is answered, or ended") {
                Ok(0) | Err(_) => return None,
                Ok(_) => {}
            }
        }
    }

    async fn answer(&mut self, id: u64) -> (Answer, usize) {
        let frame = self.hear().await.expect("it is answered");
        assert_eq!(frame.id, id);
        let answer = postcard::from_bytes(&frame.head).expect("a good answer");
        (answer, frame.data.len())
    }

    async fn ask(&mut self, op: Op) -> Answer {
        let id = self.post(Caller::default(), op, &[]).await;
        self.answer(id).await.0
    }

    async fn find(&mut self, name: &str) -> Entry {
        let op = Op::Lookup { dir: Handle::default(), name: named(name) };
        match self.ask(op).await {
            Answer::Entry(entry) => entry,
            other => panic!("{name}: {other:?}"),
        }
    }

    async fn open(&mut self, file: Handle, flags: i32) -> OpenId {
        match self.ask(Op::Open { file, flags: flags as u32, want: 0 }).await {
            Answer::Opened(opened) => opened.open,
            other => panic!("{other:?}"),
        }
    }
}

fn named(name: &str) -> Name {
    Name::new(name.as_bytes()).expect("a name")
}

/// Questions about a handle and an open file.
fn about(file: &Handle, open: OpenId) -> Vec<Op> {
    let (file, name) = (|| file.clone(), || named("other"));
    let set = SetAttr { mode: Some(0o777), size: Some(7), ..SetAttr::default() };
    let xattr = || Bounded::new(&b"user.x"[..]).expect("it is short");
    vec![
        Op::Lookup { dir: file(), name: name() },
        Op::GetAttr { file: file(), open: None },
        Op::SetAttr { file: file(), open: Some(open), set },
        Op::ReadLink { file: file() },
        Op::MakeNode { dir: file(), name: name(), mode: fifo(), umask: 0, rdev: 0 },
        Op::MakeDir { dir: file(), name: name(), mode: 0o777, umask: 0 },
        Op::Link { file: file(), dir: Handle::default(), name: name() },
        Op::Unlink { dir: file(), name: name() },
        Op::RemoveDir { dir: file(), name: name() },
        Op::Rename {
            dir: file(),
            name: name(),
            to_dir: file(),
            to_name: named("file"),
            flags: 0,
        },
        Op::Open { file: file(), flags: 2, want: 100 },
        Op::Reopen { file: file(), flags: 2, proof: Bounded::default() },
        Op::Create { dir: file(), name: name(), mode: 0o777, umask: 0, flags: 2 },
        Op::OpenDir { dir: file(), bytes: u32::MAX },
        Op::SyncDir { dir: file() },
        Op::StatFs { file: file() },
        Op::GetXattr { file: file(), name: xattr() },
        Op::SetXattr { file: file(), name: xattr(), flags: u32::MAX },
        Op::ListXattr { file: file() },
        Op::RemoveXattr { file: file(), name: xattr() },
    ]
}

/// A FIFO that all may use (mknod(2)).
fn fifo() -> u32 {
    0o010_777
}

/// Questions about an open file, with numbers that no file has.
fn absurd(open: OpenId) -> Vec<Op> {
    let mut ops = Vec::new();
    for far in [u64::MAX, i64::MAX as u64, i64::MAX as u64 - 5, 1 << 62] {
        let lock = Lock { owner: far, kind: LockKind::Write, start: far, end: far - 1 };
        ops.extend([
            Op::Read { open, offset: far, size: u32::MAX },
            Op::Read { open, offset: 0, size: u32::MAX },
            Op::Write { open, offset: far },
            Op::WriteAt { open, offset: far },
            Op::Sync { open, data_only: true },
            Op::ReadDir { open, offset: far as i64, bytes: u32::MAX },
            Op::Allocate { open, offset: far, len: far, mode: u32::MAX },
            Op::Allocate { open, offset: far, len: far, mode: 0 },
            Op::Seek { open, offset: far as i64, whence: far as u32 },
            Op::Copy { from: open, from_offset: far, to: open, to_offset: 0, len: far },
            Op::TestLock { open, lock },
            Op::SetLock { open, lock },
            Op::Unlock { open, owner: far },
            Op::Forget { keys: vec![far; 1000] },
            Op::Returned { file: far },
            Op::Cancel { question: far },
        ]);
    }
    ops
}

/// Handles that a node has not made, made from one that it has.
fn forged(handle: &Handle, other: &Handle) -> Vec<Handle> {
    let real = handle.as_slice();
    let mut forged: Vec<Vec<u8>> = (0..real.len())
        .map(|at| {
            let mut bytes = real.to_vec();
            bytes[at] ^= 1 << (at % 8);
            bytes
        })
        .collect();
    forged.extend([vec![0; 44], vec![0xff; 176], real[..real.len() - 1].to_vec()]);
    // The code of one file on the text of another.
    let (text, code) =
        (&real[..real.len() - 32], &other.as_slice()[other.as_slice().len() - 32..]);
    forged.push([text, code].concat());
    forged.into_iter().map(|bytes| Handle::new(bytes).expect("it is short")).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn forged_handles_are_no_files() {
    let world = World::new(3);
    let node = Node::serve(&world).await;
    let mut guest = Guest::new(&node, world.papers(3), 1).await;
    let (file, dir) = (guest.find("file").await.handle, guest.find("dir").await.handle);
    for handle in forged(&file, &dir).iter().chain(&forged(&dir, &file)) {
        for op in about(handle, 1) {
            let said = guest.ask(op.clone()).await;
            let refused = matches!(said, Answer::Failed(e) if [116, 13, 9].contains(&e));
            assert!(refused, "{op:?}: {said:?}, not ESTALE, EACCES or EBADF");
        }
    }
    // A link is read, and not followed.
    let link = guest.find("link").await.handle;
    for op in
        [Op::Open { file: link.clone(), flags: 2, want: 9 }, Op::OpenDir { dir: link, bytes: 9 }]
    {
        let said = guest.ask(op).await;
        assert!(matches!(said, Answer::Failed(_)), "{said:?}");
    }
    node.is_kept();
}

#[tokio::test(flavor = "multi_thread")]
async fn absurd_numbers_are_refused() {
    let world = World::new(3);
    let node = Node::serve(&world).await;
    let mut guest = Guest::new(&node, world.papers(3), 1).await;
    let file = guest.find("file").await.handle;
    let open = guest.open(file.clone(), 2).await;
    for op in
        absurd(open).into_iter().chain([0, 1, open + 1, u64::MAX].into_iter().flat_map(absurd))
    {
        let id = guest.post(Caller::default(), op, &[7; 10]).await;
        let (_, bytes) = guest.answer(id).await;
        assert!(bytes <= FRAME_DATA_BYTES_MAX);
    }
    let groups = vec![7; 70_000];
    let caller = Caller { uid: u32::MAX, gid: u32::MAX, groups };
    let id = guest.post(caller, Op::Open { file, flags: u32::MAX, want: u32::MAX }, &[]).await;
    assert!(matches!(guest.answer(id).await.0, Answer::Failed(_)));
    let open_still = guest.ask(Op::Read { open, offset: 0, size: 10 }).await;
    assert_eq!(open_still, Answer::Data);
    node.is_kept();
}

#[tokio::test(flavor = "multi_thread")]
async fn absurd_frames_end_their_connection_only() {
    let world = World::new(3);
    let node = Node::serve(&world).await;
    let mut quiet = Guest::new(&node, world.papers(1), 1).await;
    let op = Op::Ping;
    let ping = postcard::to_allocvec(&Request { caller: Caller::default(), op, once: false });
    let ping = ping.expect("written");
    let mut unknown = ping.clone();
    // The number of what is asked is the last but one byte.
    let at = unknown.len() - 2;
    unknown[at] = 0x7f;
    let framed = |head: &[u8]| [&frame::prefix(9, head.len(), 0)[..], head].concat();
    for text in [
        frame::prefix(9, u32::MAX as usize, 0).to_vec(),
        frame::prefix(9, FRAME_HEAD_BYTES_MAX + 1, 0).to_vec(),
        frame::prefix(9, 5, u32::MAX as usize).to_vec(),
        frame::prefix(9, 5, FRAME_DATA_BYTES_MAX + 1).to_vec(),
        framed(&unknown),
        framed(&ping[..ping.len() - 1]),
        framed(&[]),
        framed(&[0xff; 4096]),
        // A list that says it is longer than memory.
        framed(&[0, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1]),
        vec![0xff; 1 << 20],
    ] {
        let mut guest = Guest::new(&node, world.papers(3), 2).await;
        guest.say(&text).await;
        assert!(guest.hear().await.is_none(), "{:?}...", &text[..text.len().min(20)]);
        assert!(matches!(quiet.ask(Op::Ping).await, Answer::Attr(_)));
    }
    // Who is no member, and who says nothing at all of himself.
    let strangers = World::new(3);
    for papers in [None, Some(strangers.papers(3))] {
        let Ok(stream) = tls::connect(node.address, papers, tls::FILES).await else { continue };
        let mut guest = Guest { stream, received: BytesMut::new(), next: 1 };
        guest.say(&framed(&ping)).await;
        assert!(guest.hear().await.is_none());
    }
    let stream = tls::connect(node.address, Some(world.papers(3)), tls::FILES).await;
    let stream = stream.expect("it is let in");
    let mut guest = Guest { stream, received: BytesMut::new(), next: 1 };
    guest.say(&framed(&ping)).await;
    assert!(guest.hear().await.is_none(), "a question before a greeting");
    node.is_kept();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_cancelled_is_not_begun() {
    let world = World::new(3);
    let node = Node::serve(&world).await;
    let mut guest = Guest::new(&node, world.papers(3), 1).await;
    let made = |name: &str| Op::MakeDir {
        dir: Handle::default(),
        name: named(name),
        mode: 0o777,
        umask: 0,
    };
    // The cancel is there first, as when the question waits for a thread.
    let question = guest.next + 1;
    assert_eq!(guest.ask(Op::Cancel { question }).await, Answer::Done);
    assert_eq!(guest.ask(made("cancelled")).await, Answer::Failed(4), "EINTR");
    assert!(!node.shown("cancelled").exists());
    assert!(matches!(guest.ask(made("again")).await, Answer::Entry(_)));
    assert!(node.shown("again").exists());
    // What lets go of something is done all the same.
    let file = guest.find("file").await.handle;
    let open = guest.open(file, 0).await;
    let question = guest.next + 1;
    guest.ask(Op::Cancel { question }).await;
    assert_eq!(guest.ask(Op::Close { open, owner: None }).await, Answer::Done);
    let closed = guest.ask(Op::Read { open, offset: 0, size: 1 }).await;
    assert_eq!(closed, Answer::Failed(9), "EBADF");
    // One client's numbers are not another's.
    let mut other = Guest::new(&node, world.papers(1), 1).await;
    let question = guest.next + 1;
    other.ask(Op::Cancel { question }).await;
    assert!(matches!(guest.ask(Op::Ping).await, Answer::Attr(_)));
    assert!(matches!(guest.ask(made("mine")).await, Answer::Entry(_)));
}

/// Many members ask anything of anything, as anybody, faster than they hear.
#[tokio::test(flavor = "multi_thread")]
async fn a_storm_of_questions_hurts_nobody() {
    let world = World::new(3);
    let node = Arc::new(Node::serve(&world).await);
    let mut storms = tokio::task::JoinSet::new();
    for (seed, papers) in [1, 3, 3].map(|n| world.papers(n).clone()).into_iter().enumerate() {
        let node = node.clone();
        storms.spawn(async move { storm(&node, &papers, seed as u64).await });
    }
    while let Some(stormed) = storms.join_next().await {
        stormed.expect("every question is answered");
    }
    let mut guest = Guest::new(&node, world.papers(1), 99).await;
    assert!(matches!(guest.ask(Op::Ping).await, Answer::Attr(_)));
    node.is_kept();
}

async fn storm(node: &Node, papers: &Identity, seed: u64) {
    let mut rng = StdRng::seed_from_u64(seed);
    let mut guest = Guest::new(node, papers, 7 + u128::from(seed)).await;
    let mut handles = vec![Handle::default()];
    for name in ["file", "dir", "link"] {
        handles.push(guest.find(name).await.handle);
    }
    let first = guest.open(handles[1].clone(), 2).await;
    let mut under_way = 0;
    for _ in 0..STORM {
        let handle = &handles[rng.gen_range(0..handles.len())];
        let open = first + rng.gen_range(0..20);
        let mut ops = about(handle, open);
        ops.extend(absurd(open));
        let op = ops.swap_remove(rng.gen_range(0..ops.len()));
        let uid = [0, 1000, u32::MAX][rng.gen_range(0..3)];
        let caller = Caller { uid, gid: uid, groups: vec![uid; rng.gen_range(0..40)] };
        let data = vec![7; rng.gen_range(0..2000)];
        guest.post(caller, op, &data).await;
        under_way += 1;
        while under_way >= AT_ONCE {
            guest.hear().await.expect("it is answered");
            under_way -= 1;
        }
    }
    for _ in 0..under_way {
        guest.hear().await.expect("it is answered");
    }
}
