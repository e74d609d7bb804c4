//! A job begins: what it is started with, and its holder at home.

use crate::caps::{self, Whose};
use crate::checkpoint::restart::Again;
use crate::cluster::Cluster;
use crate::holder::{Equipment, Holder, Starter};
use crate::inside::End;
use crate::job::{COMMAND_BYTES_MAX, Job};
use crate::outside::Outside;
use crate::place::Place;
use crate::root;
use crate::spec::Spec;
use crate::start::{NotStarted, opened_inside, start};
use krg_rpc::job::{Received, written};
use krg_rpc::proto::job::{self as wire, FromJob, ToJob, from_job, to_job};
use krg_sys::cred::Caller;
use krg_sys::fd_passing;
use krg_sys::open_file::{is_open_for, is_same};
use krg_sys::process::{Signal, WindowSize, wait_readable};
use krg_types::capability::Sets;
use krg_types::{GlobalPid, NodeId};
use nix::sys::socket::{getsockopt, sockopt::PeerCredentials};
use std::io::{self, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

/// Who connects says what it wants within this.
const ASK_MAX: Duration = Duration::from_secs(5);
/// Bytes received at once.
const READ_BYTES: usize = 16 << 10;

/// A job that is asked for: the words of who is connected, and its descriptors.
pub struct Asked {
    stream: UnixStream,
    received: Received,
    what: to_job::What,
    fds: Vec<OwnedFd>,
    owner: Caller,
}

/// Reads what who is connected wants; `None` when it is no job, or the connection ends.
///
/// # Errors
/// The kernel's; InvalidData for what makes no sense.
pub fn asked(stream: UnixStream) -> io::Result<Option<Asked>> {
    let peer = getsockopt(&stream, PeerCredentials)?;
    let groups = fd_passing::peer_groups(&stream)?;
    let owner = Caller { uid: peer.uid(), gid: peer.gid(), groups };
    let (mut received, mut fds, mut buf) = (Received::default(), Vec::new(), [0; READ_BYTES]);
    let until = Instant::now() + ASK_MAX;
    loop {
        let bad = |e| io::Error::new(io::ErrorKind::InvalidData, e);
        if let Some(message) = received.take::<ToJob>().map_err(bad)? {
            return Ok(match message.what {
                Some(what @ (to_job::What::Run(_) | to_job::What::Restart(_))) => {
                    Some(Asked { stream, received, what, fds, owner })
                }
                _ => None,
            });
        }
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() || !wait_readable(stream.as_fd(), left)? {
            return Ok(None);
        }
        match fd_passing::receive(&stream, &mut buf)? {
            (0, _) => return Ok(None),
            (n, came) => {
                received.add(&buf[..n]);
                fds.extend(came);
            }
        }
        if fds.len() > fd_passing::FDS_MAX {
            return Err(io::ErrorKind::InvalidData.into());
        }
    }
}

/// What the job has at its standard descriptors, where that leads inside, and outside.
struct Stdio {
    theirs: [OwnedFd; 3],
    ends: Vec<End>,
    outside: Outside,
}

impl Asked {
    /// It is to be begun again.
    pub fn again(self) -> Result<Again, Box<Asked>> {
        let Asked { stream, received, what, fds, owner } = self;
        match what {
            to_job::What::Restart(order) => Ok(Again { stream, received, order, fds, owner }),
            what => Err(Box::new(Asked { stream, received, what, fds, owner })),
        }
    }

    /// Starts it and holds it, until nothing of it is left.
    ///
    /// # Errors
    /// The kernel's; why it was not started is told to who has asked.
    pub fn hold(
        self,
        equipment: Equipment,
        pids: Option<(u32, u32)>,
        runtime: &tokio::runtime::Runtime,
    ) -> io::Result<()> {
        let Asked { stream, received, what, fds, owner } = self;
        let to_job::What::Run(run) = what else { return Ok(()) };
        let size = run.terminal;
        let uid = owner.uid;
        let sets = match caps::of_run(&run.capabilities) {
            Ok(sets) => sets,
            Err(why) => return refuse(stream, why, 0),
        };
        let spec = match Spec::new(run, owner) {
            Ok(spec) => Spec { pids, ..spec },
            Err(e) => return refuse(stream, e.to_string(), 0),
        };
        root::at_home()?;
        let stdio = match stdio(fds, size, uid, spec.background) {
            Ok(stdio) => stdio,
            Err(e) => return refuse(stream, e.to_string(), 0),
        };
        // Before it begins, where its number is known by then.
        let first = pids.map(|(first, _)| first);
        if let Err(e) = runtime.block_on(keep(&*equipment.cluster, first, sets.as_ref())) {
            return refuse(stream, format!("its capabilities cannot be kept: {e}"), 0);
        }
        let Stdio { theirs, ends, outside } = stdio;
        let (inside, program) = match start(&spec, theirs, ends, size.is_some()) {
            Ok(started) => started,
            Err(NotStarted::Program(errno)) => {
                let why = NotStarted::Program(errno).to_string();
                return refuse(stream, why, errno);
            }
            Err(e) => return refuse(stream, e.to_string(), 0),
        };
        let own = equipment.cluster.own();
        let local = crate::members::find(inside.init_pid, program).unwrap_or(inside.init_pid);
        let shown = NodeId::new(own).and_then(|node| GlobalPid::new(node, local));
        let id = if pids.is_some() { program } else { shown.map_or(local, GlobalPid::raw) };
        let (name, command) = (spec.name.clone(), command(&spec));
        let job = Job { id, home: own, uid, name, command, program, pids, moves: 0 };
        let background = spec.background;
        runtime.block_on(async {
            let place = match Place::take(&equipment.dir, job.id) {
                Ok(place) => place,
                Err(e) => {
                    let _ = inside.init.signal(Signal::SIGKILL);
                    return refuse(stream, e.to_string(), 0);
                }
            };
            if first.is_none() {
                keep(&*equipment.cluster, Some(job.id), sets.as_ref()).await?;
            }
            stream.set_nonblocking(true)?;
            let stream = tokio::net::UnixStream::from_std(stream)?;
            let holder = Holder::new(equipment, job, inside, Some(outside), place)?;
            holder.hold(Starter { stream, received, uid, background }).await
        })
    }
}

/// What the program has, if that is not the usual.
async fn keep(cluster: &dyn Cluster, job: Option<u32>, sets: Option<&Sets>) -> io::Result<()> {
    match (job, sets) {
        (Some(job), Some(sets)) => {
            cluster.keep(Whose::Member { job, number: 0 }.key(), sets.to_text()).await
        }
        _ => Ok(()),
    }
}

fn command(spec: &Spec) -> String {
    let words: Vec<_> = spec.argv.iter().map(|word| word.to_string_lossy()).collect();
    words.join(" ").chars().take(COMMAND_BYTES_MAX).collect()
}

fn stdio(
    fds: Vec<OwnedFd>,
    size: Option<wire::WindowSize>,
    uid: u32,
    background: bool,
) -> io::Result<Stdio> {
    let mut outside = Outside::default();
    outside.has_terminal = size.is_some();
    if let Some(size) = size {
        let number = |n: u32| u16::try_from(n).unwrap_or(u16::MAX);
        let size = WindowSize::new(number(size.rows), number(size.columns));
        let (end, slave) = End::terminal(uid, size)?;
        let theirs = [slave.try_clone()?, slave.try_clone()?, slave];
        return Ok(Stdio { theirs, ends: vec![end], outside });
    }
    let missing = || io::Error::other("its standard descriptors have not come");
    let fds: [OwnedFd; 3] = fds.try_into().map_err(|_| missing())?;
    let (mut theirs, mut ends): (Vec<OwnedFd>, Vec<End>) = (Vec::new(), Vec::new());
    let same = is_same(&fds[1], &fds[2]);
    for (channel, fd) in (0u32..).zip(fds) {
        // Nobody gets more of a file here than he had.
        if !is_open_for(&fd, channel == 0, channel > 0)? {
            let use_ = if channel == 0 { "read from" } else { "written to" };
            return Err(io::Error::other(format!("descriptor {channel} cannot be {use_}")));
        }
        if channel > 0 && background {
            // Kept for who looks at it later.
            let (end, their) = End::pipe(channel, false)?;
            theirs.push(their);
            ends.push(end);
        } else if channel == 2 && same {
            // One way for both: what is written keeps its order.
            let first = theirs.last().ok_or_else(missing)?.try_clone()?;
            theirs.push(first);
        } else if let Some(file) = opened_inside(&fd) {
            theirs.push(file.try_clone()?.into());
            outside.add_file(fd, file);
        } else {
            let (end, their) = End::pipe(channel, channel == 0)?;
            theirs.push(their);
            ends.push(end);
            outside.add(channel, fd);
        }
    }
    let theirs = theirs.try_into().map_err(|_| missing())?;
    Ok(Stdio { theirs, ends, outside })
}

pub(crate) fn refuse(mut stream: UnixStream, why: String, errno: i32) -> io::Result<()> {
    let refused = from_job::What::Refused(wire::Refused { why, errno });
    stream.set_write_timeout(Some(ASK_MAX))?;
    stream.write_all(&written(&FromJob { what: Some(refused) }))
}
