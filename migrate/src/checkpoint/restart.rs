//! A saved job begins again. All that could be in the way is looked at first: what is refused has
//! changed nothing.

use super::files;
use super::frost::Frost;
use super::host::Host;
use super::offer::{NONSENSE, Offer};
use super::shelf::{Shelf, USUAL, Version};
use super::writer::digest;
use crate::arrive::Made;
use crate::begin::refuse;
use crate::cluster::Cluster;
use crate::criu::{Criu, Run};
use crate::depart::{PREPARED_MAX, RUNS_MAX};
use crate::holder::{Equipment, Holder, Starter};
use crate::hook::{Hooks, Step};
use crate::images;
use crate::images::capture::Sink;
use crate::images::freight::Freight;
use crate::images::store::Images;
use crate::inside::{Inside, TERMINAL};
use crate::job::Job;
use crate::outside::Outside;
use crate::place::{self, Place};
use crate::{members, root};
use krg_rpc::job::Received;
use krg_rpc::proto::job::{
    self as wire, Arrival, Begin, Frozen, Restart, Restarted, arrival, arrived,
};
use krg_sys::cred::Caller;
use krg_sys::feature::has_pid_blocks;
use krg_sys::open_file::is_open_for;
use krg_types::version::understood;
use krg_types::{GlobalPid, NodeId};
use std::io::{self, ErrorKind};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::Arc;
use tokio::task::spawn_blocking;

/// One that is asked for: the words of who is connected, and his descriptors.
pub struct Again {
    pub(crate) stream: UnixStream,
    pub(crate) received: Received,
    pub(crate) order: Restart,
    pub(crate) fds: Vec<OwnedFd>,
    pub(crate) owner: Caller,
}

/// Process numbers: `Some`, those that begin there, if nobody has them; `None`, any.
pub type Numbers<'a> = &'a mut dyn FnMut(Option<u32>) -> Option<(u32, u32)>;

/// Kerrighed's numbers of what was in the way.
const E_CR_APPBUSY: i32 = 1000;
const E_CR_PIDBUSY: i32 = 1001;
const E_CR_BADDATA: i32 = 1003;

/// Why it does not begin, and such a number.
struct NotBegun(String, i32);

impl From<String> for NotBegun {
    fn from(why: String) -> NotBegun {
        NotBegun(why, 0)
    }
}

fn bad_data(why: impl ToString) -> NotBegun {
    NotBegun(why.to_string(), E_CR_BADDATA)
}

/// What is to begin again, and as what.
struct Checked {
    version: Arc<Version>,
    job: Job,
    order: Restart,
    trace: String,
}

impl Again {
    /// Begins it and holds it, until nothing of it is left.
    ///
    /// # Errors
    /// The kernel's; why it was not begun is told to who has asked.
    pub fn hold(
        self,
        equipment: Equipment,
        numbers: Numbers<'_>,
        trace: String,
        runtime: &tokio::runtime::Runtime,
    ) -> io::Result<()> {
        let Again { stream, received, order, fds, owner } = self;
        root::at_home()?;
        let background = order.background;
        let checked = check(order, &owner, &equipment, numbers, trace, runtime);
        let begun = checked.and_then(|checked| {
            let outside = outside(&checked, fds)?;
            let uid = checked.job.uid;
            let holder = runtime.block_on(begin(checked, equipment, outside))?;
            Ok((holder, uid))
        });
        let (holder, uid) = match begun {
            Ok(begun) => begun,
            Err(NotBegun(why, errno)) => return refuse(stream, why, errno),
        };
        runtime.block_on(async {
            stream.set_nonblocking(true)?;
            let stream = tokio::net::UnixStream::from_std(stream)?;
            holder.hold(Starter { stream, received, uid, background }).await
        })
    }
}

fn check(
    order: Restart,
    asker: &Caller,
    equipment: &Equipment,
    numbers: Numbers<'_>,
    trace: String,
    runtime: &tokio::runtime::Runtime,
) -> Result<Checked, NotBegun> {
    let words = |e: io::Error| e.to_string();
    if !understood(order.version) {
        return Err("krg is of another version than krgd".to_owned().into());
    }
    // What another krgd asks for is for one of its users.
    let uid = if asker.uid == 0 { order.uid.unwrap_or(0) } else { asker.uid };
    if !order.dir.is_empty() && uid != 0 {
        return Err("only root may choose the directory of versions".to_owned().into());
    }
    let dir = if order.dir.is_empty() { USUAL } else { &order.dir };
    let shelf = Shelf::open(Path::new("/"), dir, order.app).map_err(words)?;
    let owner = shelf.owner().map_err(words)?;
    if uid != 0 && uid != owner {
        return Err(format!("what is saved of {} is another user's", order.app).into());
    }
    let newest = || shelf.versions().map(|all| all.last().copied().unwrap_or(0));
    let number = match order.checkpoint {
        0 => newest().map_err(words)?,
        number => number,
    };
    if number == 0 {
        return Err(format!("nothing is saved of {}", order.app).into());
    }
    let version = shelf.version(number).map_err(|e| match e.kind() {
        ErrorKind::NotFound => words(e).into(),
        _ => bad_data(e),
    })?;
    let name = runtime.block_on(equipment.cluster.name()).map_err(words)?;
    let scratch = place::criu_dir(&equipment.dir, order.app, &trace);
    let criu = Criu::new(&scratch).and_then(|criu| criu.version());
    let _ = std::fs::remove_dir_all(scratch);
    let criu = criu.map_err(words)?;
    let here = Host::here(criu).map_err(words)?;
    let here = (order.node == 0 || order.node == equipment.cluster.own()).then_some(here);
    fits(&version, &order, owner, &name, here.as_ref())?;
    verify(&version).map_err(bad_data)?;
    if !order.files
        && let Some(why) = files::changed(&version)
    {
        return Err(why.into());
    }
    let job = become_job(&version, &order, equipment, numbers, runtime)?;
    let manifest = &version.manifest;
    let (uid, gid, groups) = (manifest.uid, manifest.gid, manifest.groups.clone());
    let owner = Caller { uid, gid, groups };
    if order.files {
        files::put_back(&version, &owner, &trace).map_err(words)?;
    }
    Ok(Checked { version: Arc::new(version), job, order, trace })
}

fn fits(
    version: &Version,
    order: &Restart,
    owner: u32,
    cluster: &str,
    here: Option<&Host>,
) -> Result<(), NotBegun> {
    let (manifest, path) = (&version.manifest, version.path.display());
    if manifest.app != order.app || manifest.uid != owner {
        let app = manifest.app;
        return Err(bad_data(format!("{path}: it is of another application ({app})")));
    }
    if manifest.cluster != cluster {
        let saved = &manifest.cluster;
        let why = format!("{path}: it was saved in the cluster {saved}, and this is {cluster}");
        return Err(bad_data(why));
    }
    if order.files && manifest.files.is_empty() {
        return Err(format!("{path}: no files were saved with it").into());
    }
    if order.frozen && order.node > 0 {
        let why = "what begins frozen begins at home: leave out --node";
        return Err(why.to_owned().into());
    }
    // Where it is to begin elsewhere that node looks.
    let fits = here.map_or(Ok(()), |here| manifest.host.fits(here));
    fits.map_err(|e| bad_data(format!("{path}: {e}")))
}

/// Is every image, and every file, what was written?
fn verify(version: &Version) -> io::Result<()> {
    let manifest = &version.manifest;
    let images = manifest.images.iter().map(|i| (&i.name, i.bytes, &i.sha256));
    let files = manifest.files.iter().map(|f| (&f.saved, f.bytes, &f.sha256));
    for (name, bytes, sha256) in images.chain(files) {
        let (sum, length) = digest(&version.file(name)?)?;
        let why = match () {
            () if length != bytes => format!("it has {length} bytes, and had {bytes}"),
            () if sum != *sha256 => "it is not what was written (SHA-256)".to_owned(),
            () => continue,
        };
        let path = version.path.join(name);
        let why = format!("{}: {why}", path.display());
        return Err(io::Error::new(ErrorKind::InvalidData, why));
    }
    Ok(())
}

/// It is the job that it was, if that is not there; else another one, whose processes have the same
/// numbers within it.
fn become_job(
    version: &Version,
    order: &Restart,
    equipment: &Equipment,
    numbers: Numbers<'_>,
    runtime: &tokio::runtime::Runtime,
) -> Result<Job, NotBegun> {
    let manifest = &version.manifest;
    let (cluster, own) = (&equipment.cluster, equipment.cluster.own());
    let (record, revision) =
        runtime.block_on(cluster.record(order.app)).map_err(|e| e.to_string())?;
    let is_away = record.as_ref().is_some_and(|record| record.holder != own);
    let is_there = is_away || place::is_held(&equipment.dir, order.app);
    if is_there && order.alone {
        let why = format!("an application using appid {} is already running", order.app);
        return Err(NotBegun(why, E_CR_APPBUSY));
    }
    let job = |id, pids| Job {
        id,
        home: own,
        uid: manifest.uid,
        name: manifest.name.clone(),
        command: manifest.command.clone(),
        program: manifest.program,
        pids,
        moves: 0,
    };
    let as_it_was = match (is_there, manifest.pids) {
        (true, _) => None,
        (false, Some((first, _))) => numbers(Some(first)).map(|_| job(order.app, manifest.pids)),
        (false, None) => Some(job(order.app, None)),
    };
    if let Some(it) = as_it_was {
        if record.is_some() {
            // Of a holder that was killed.
            let removed = runtime.block_on(cluster.set_record(order.app, None, revision));
            removed.map_err(|e| e.to_string())?;
        }
        return Ok(it);
    }
    if order.alone {
        let why = "its numbers are another job's by now".to_owned();
        return Err(NotBegun(why, E_CR_PIDBUSY));
    }
    let id = match numbers(None) {
        Some((first, _)) => first,
        // As this kernel numbers all alike, a number that is this process's is no other job's.
        None => NodeId::new(own)
            .and_then(|node| GlobalPid::new(node, std::process::id()))
            .map(GlobalPid::raw)
            .ok_or_else(|| "it can have no number".to_owned())?,
    };
    Ok(job(id, None))
}

/// Where what leads out of it leads to now.
fn outside(checked: &Checked, fds: Vec<OwnedFd>) -> Result<Outside, String> {
    let mut outside = Outside::default();
    let ends = checked.version.manifest.wire_ends();
    outside.has_terminal = ends.iter().any(|end| end.channel == TERMINAL);
    if checked.order.background {
        return Ok(outside);
    }
    let over = |channel| {
        let unread = checked.version.manifest.wire_unread();
        unread.iter().any(|unread| unread.channel == channel && unread.ended)
    };
    for (channel, fd) in (0u32..).zip(fds) {
        let leads = ends.iter().any(|end| end.channel == channel);
        if !leads || (channel == 0 && over(0)) {
            continue;
        }
        // Nobody gets more of a file here than he had.
        if !is_open_for(&fd, channel == 0, channel > 0).map_err(|e| e.to_string())? {
            let use_ = if channel == 0 { "read from" } else { "written to" };
            return Err(format!("descriptor {channel} cannot be {use_}"));
        }
        outside.add(channel, fd);
    }
    Ok(outside)
}

async fn begin(
    checked: Checked,
    equipment: Equipment,
    outside: Outside,
) -> Result<Holder, String> {
    let words = |e: io::Error| e.to_string();
    let own = equipment.cluster.own();
    let node = if checked.order.node == 0 { own } else { checked.order.node };
    let (manifest, job) = (&checked.version.manifest, &checked.job);
    let mut unread = manifest.wire_unread();
    let reads = |end: &wire::End| end.channel == 0;
    if manifest.wire_ends().iter().any(reads) && !outside.has(0) {
        // Nobody is there to say more.
        match unread.iter_mut().find(|unread| unread.channel == 0) {
            Some(unread) => unread.ended = true,
            None => unread.push(wire::Unread { channel: 0, data: Vec::new(), ended: true }),
        }
    }
    let cluster = equipment.cluster.clone();
    let name = cluster.name().await.map_err(words)?;
    let mut begin = job.told(name, own, &checked.trace);
    begin.ends = manifest.wire_ends();
    begin.report.clone_from(&manifest.report);
    let restarted = Restarted {
        app: manifest.app,
        checkpoint: checked.version.number,
        job: job.id,
        has_terminal: outside.has_terminal,
        frozen: checked.order.frozen,
        name: job.name.clone(),
        node,
    };
    let dir = place::criu_dir(&equipment.dir, job.id, &checked.trace);
    // Before anything of it is there: what nobody has may be taken for lost.
    let place = Place::take(&equipment.dir, job.id).map_err(words)?;
    let begun = if node == own {
        let begun = begin_here(&checked, &begin, &dir, &equipment.program).await;
        begun.and_then(|(inside, frost)| {
            let holder = Holder::new(equipment, job.clone(), inside, Some(outside), place);
            Ok(holder.map_err(words)?.with_unread(unread).frozen(frost))
        })
    } else {
        begin.stopped.clone_from(&manifest.stopped);
        begin.host = manifest.host.written();
        begin.moves = 1;
        let begun = begin_there(&checked.version, begin, node, unread, &cluster).await;
        begun.and_then(|()| {
            let job = Job { moves: 1, ..job.clone() };
            Holder::away(equipment, job, node, outside, place).map_err(words)
        })
    };
    let _ = std::fs::remove_dir_all(&dir);
    Ok(begun?.restarted(restarted))
}

fn stored(version: &Arc<Version>) -> Images {
    let version = version.clone();
    Images::stored(Box::new(move |name| {
        let known = version.manifest.images.iter().any(|image| image.name == name);
        known.then(|| version.file(name))
    }))
}

async fn begin_here(
    checked: &Checked,
    begin: &Begin,
    dir: &Path,
    program: &Path,
) -> Result<(Inside, Option<Frost>), String> {
    let words = |e: io::Error| e.to_string();
    let manifest = &checked.version.manifest;
    let criu = Criu::new(dir).map_err(words)?;
    let hooks = Hooks::new(criu.dir(), program).map_err(words)?;
    let door = images::serve_door(criu.dir()).map_err(words)?;
    let Made { ends, theirs, report, report_name } = Made::new(begin).map_err(words)?;
    let run = criu.bring_back(theirs, &hooks, checked.order.frozen).map_err(words)?;
    let held = run.held().again().map_err(words)?;
    let held_too = run.held().again().map_err(words)?;
    let images = stored(&checked.version);
    let served = spawn_blocking(move || images.serve(&door, held));
    let waiting = spawn_blocking(move || hooks.wait(Step::Restored, held_too)).await;
    let waiting = match waiting.map_err(|e| e.to_string())? {
        Ok(Some(waiting)) => waiting,
        Ok(None) | Err(_) => return Err(failed(run).await),
    };
    // The next number follows the highest that is in use.
    let numbers = manifest.pids.filter(|_| has_pid_blocks()).map(|(first, last)| {
        let next = members::highest(waiting.init) + 1;
        (if (first..=last).contains(&next) { next } else { first }, last)
    });
    waiting.go(numbers).map_err(words)?;
    match spawn_blocking(move || run.finish()).await {
        Ok(Ok(())) => {}
        Ok(Err(e)) => return Err(e.to_string()),
        Err(e) => return Err(e.to_string()),
    }
    let _ = served.await;
    let init = criu.restored().map_err(words)?;
    let frost = match checked.order.frozen {
        true => Some(Frost::left(init, &manifest.halted)),
        false => {
            Frost::again(init, &manifest.stopped).thaw(None);
            None
        }
    };
    let inside = Inside::new(init, report, report_name, ends).map_err(words)?;
    Ok((inside, frost))
}

async fn failed(run: Run) -> String {
    match spawn_blocking(move || run.finish()).await {
        Ok(Err(e)) => explained(&e.to_string()),
        _ => "CRIU has not brought it back".into(),
    }
}

/// What CRIU says, and what to do about it where that is known.
fn explained(why: &str) -> String {
    match why.contains("has bad size") {
        true => format!(
            "{why}: that file was changed since (`krg checkpoint --files` saves such files, and \
             `krg restart --files` puts them back)"
        ),
        false => why.to_owned(),
    }
}

/// On another node, as if it had moved there: it is the other's when that is agreed on.
async fn begin_there(
    version: &Arc<Version>,
    begin: Begin,
    to: u32,
    unread: Vec<wire::Unread>,
    cluster: &Arc<dyn Cluster>,
) -> Result<(), String> {
    let job = begin.job;
    let mut offer = Offer::new(begin, to, cluster).await?;
    let whole = offered(version, unread, &mut offer).await;
    // Once it has all of it that node may have taken it, whatever was heard.
    if !offer.decide(whole.is_ok()).await {
        offer.forget().await;
        let why = whole.err().unwrap_or_else(|| "it could not be agreed on".into());
        return Err(explained(&why));
    }
    let _ = offer.say.send(Arrival { what: Some(arrival::What::Go(true)) }).await;
    match offer.answer(RUNS_MAX).await {
        Ok(arrived::What::Runs(_)) => {}
        // It is the other's: that one asks the record if it has not heard.
        told => tracing::warn!(job, ?told, "not heard that it runs"),
    }
    Ok(())
}

/// Until that node has it whole.
async fn offered(
    version: &Arc<Version>,
    unread: Vec<wire::Unread>,
    offer: &mut Offer,
) -> Result<(), String> {
    let (reads, freight) = (version.clone(), offer.freight.take());
    let mut freight = freight.ok_or("nobody waits for it")?;
    // Kept until all of it is there.
    let sent = spawn_blocking(move || send(&reads, &mut freight).map(|()| freight)).await;
    let sent = sent.map_err(|e| e.to_string())?.map_err(|e| e.to_string())?;
    offer.freight = Some(sent);
    let what = Some(arrival::What::Frozen(Frozen { unread, ..Frozen::default() }));
    offer.say.send(Arrival { what }).await.map_err(|_| "the other node takes no more")?;
    match offer.answer(PREPARED_MAX).await? {
        arrived::What::Prepared(_) => Ok(()),
        _ => Err(NONSENSE.into()),
    }
}

fn send(version: &Version, freight: &mut Freight) -> io::Result<()> {
    let mut bytes = 0;
    for (image, told) in (0u32..).zip(&version.manifest.images) {
        bytes += freight.send(image, &told.name, &version.file(&told.name)?)?;
    }
    freight.all(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_changed_file_is_explained() {
        let why = "CRIU: File var/tmp/log has bad size 10 (expect 149)";
        assert!(explained(why).contains("restart --files"));
        assert_eq!(explained("CRIU: no"), "CRIU: no");
    }
}
