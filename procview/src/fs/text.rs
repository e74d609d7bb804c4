//! What a file contains, and what a link says.

use super::{Fs, PID_MAX_AGE, SYSTEM_MAX_AGE, cpu, may_trace_all, names, needs, process};
use crate::error::ViewError;
use crate::gather::Standing;
use crate::inode::{Fixed, Item, NAMESPACES, NodeFile, Who};
use crate::merge::{self, Part, mosix};
use crate::render::root::Root;
use crate::render::{self, Place};
use krg_rpc::status::RpcError;
use krg_sys::caller::Asker;
use krg_types::limits::LOCAL_PID_BITS;
use krg_types::{GlobalPid, NodeId, PidFile, SystemFile};
use std::os::unix::ffi::OsStrExt;
use std::time::Duration;

/// The idle time beside the uptime may be this old; the uptime itself is computed now. Tools
/// that read it once for every process do not cost a sample each.
const UPTIME_MAX_AGE: Duration = Duration::from_millis(1_000);

/// A read of `.sys/settled` waits so long at most.
const SETTLE_MAX: Duration = Duration::from_millis(800);

impl Fs {
    /// The whole content of a file, now.
    ///
    /// # Errors
    /// ESRCH for a process that has ended, EHOSTDOWN for a node that does not answer and of
    /// which nothing is known, or what the owner's kernel says.
    pub async fn text(&self, item: Item, asker: &Asker) -> Result<Vec<u8>, ViewError> {
        let item = self.seen(item, asker);
        match item {
            Item::PidFile(Who::Root, file) => self.root_text(file),
            Item::PidFile(who @ Who::Process(pid, _), file) if file.is_of_moves() => {
                self.move_text(pid, who, file, asker).await
            }
            Item::PidFile(who @ Who::Process(pid, _), file) => {
                self.process_text(pid, who, file, asker).await
            }
            Item::TaskFile(pid, tid, file) => self.thread_text(pid, tid, file, asker).await,
            Item::Entry(pid, PidFile::Fdinfo, n) => {
                self.entry_link(pid, PidFile::Fdinfo, n, asker).await
            }
            Item::Held(pid, start, place, version) => {
                self.fresh(pid).await;
                self.held_text((pid, start, place, version)).map(|(text, _)| text)
            }
            // For who starts a cluster and wants to know when its views are whole.
            Item::Fixed(Fixed::Settled) => Ok(line(self.gather.settle(SETTLE_MAX).await)),
            Item::Brief(place, version) => {
                self.brief_text(place, version).await.map(|text| text.to_vec())
            }
            _ => self.whole_system_now(item).await,
        }
    }

    pub(super) async fn whole_system_now(&self, item: Item) -> Result<Vec<u8>, ViewError> {
        let only = match item {
            Item::NodeFile(node, _) | Item::MosixFile(node, _) => Some(node),
            _ => None,
        };
        let uptime = item == Item::System(SystemFile::Uptime);
        let max_age = if uptime { UPTIME_MAX_AGE } else { SYSTEM_MAX_AGE };
        self.gather.refresh(only, false, needs(item), max_age).await;
        self.whole_system(item)
    }

    fn whole_system(&self, item: Item) -> Result<Vec<u8>, ViewError> {
        match item {
            Item::System(file) => Ok(self.merged(file)),
            Item::ClusterFile(NodeFile::System(file)) => Ok(self.merged(file)),
            Item::ClusterFile(NodeFile::Age) => {
                let ages = self.gather.nodes().into_iter().filter_map(|n| self.age_ms(n));
                Ok(line(ages.max().map_or(-1, |ms| i64::try_from(ms).unwrap_or(i64::MAX))))
            }
            Item::ClusterFile(_) => {
                let own = self.gather.view(self.gather.own());
                Ok(line(own.map_or(0, |v| v.facts.session)))
            }
            Item::NodeFile(node, file) => self.node_file(node, file),
            Item::MosixFile(node, place) => self.mosix(node, place),
            Item::Fixed(Fixed::Nrnodes) => Ok(self.nrnodes()),
            Item::Fixed(Fixed::PidMax) => Ok(line(self.pid_max())),
            // So that `krg exec` learns of this process's end, whether krgd answers or not.
            Item::Fixed(Fixed::Server) => Ok(line(std::process::id())),
            Item::CpuList(place) => {
                let text = cpu::list(place, self.cluster().cpus());
                Ok(text.ok_or(ViewError::NoEntry)?.into_bytes())
            }
            Item::CpuFile(n, place) => self.topology(n.into(), place),
            _ => Err(ViewError::WrongKind),
        }
    }

    fn merged(&self, file: SystemFile) -> Vec<u8> {
        let cluster = self.cluster();
        let parts: Vec<Part<'_>> = cluster
            .nodes
            .iter()
            .filter_map(|n| {
                let text = n.view.text(file)?;
                Some(Part { node: n.peer.id, text, cpu_base: n.cpu_base })
            })
            .collect();
        merge::system_file(file, &parts, &self.cluster_facts(&cluster))
    }

    fn nrnodes(&self) -> Vec<u8> {
        let standing = |n: NodeId| self.gather.standing(n);
        let online =
            self.gather.nodes().into_iter().filter(|n| standing(*n) == Standing::Online).count();
        let present =
            self.gather.nodes().into_iter().filter(|n| standing(*n) != Standing::Down).count();
        merge::nrnodes(online, present, self.gather.nodes().len())
    }

    /// Above every cluster pid there can be, and no more: procps makes its pid column as wide as
    /// this number, and with 2^30 top has no room left for COMMAND in 80 columns.
    pub(super) fn pid_max(&self) -> u32 {
        let highest = self.gather.nodes().into_iter().last().map_or(0, NodeId::get);
        (highest + 1) << LOCAL_PID_BITS
    }

    pub(super) fn is_shown(&self, node: NodeId) -> bool {
        self.gather.standing(node) != Standing::Down
    }

    /// How long ago a node last gave values, ms.
    fn age_ms(&self, node: NodeId) -> Option<u64> {
        let view = self.gather.view(node)?;
        let loads = view.files[SystemFile::Loadavg.id() as usize].stamp_ns;
        let age = self.gather.age_of(node, view.procs_stamp_ns.max(loads))?;
        Some(age.div_ceil(1_000_000))
    }

    fn node_file(&self, node: NodeId, file: NodeFile) -> Result<Vec<u8>, ViewError> {
        let view = self.gather.view(node).ok_or(ViewError::NoEntry)?;
        Ok(match file {
            NodeFile::Nodeid => line(node),
            NodeFile::Session => line(view.facts.session),
            NodeFile::Hostname => line(&view.facts.hostname),
            NodeFile::State => line(self.gather.standing(node).word()),
            NodeFile::Passes => line(view.passes),
            NodeFile::Age => {
                let age = self.age_ms(node);
                line(age.map_or(-1, |ms| i64::try_from(ms).unwrap_or(i64::MAX)))
            }
            NodeFile::System(file) => {
                let silent = || RpcError::Unreachable(node, "nothing is known of it".into());
                view.text(file).ok_or_else(silent)?.to_vec()
            }
        })
    }

    fn mosix(&self, node: NodeId, place: u8) -> Result<Vec<u8>, ViewError> {
        let name = mosix::FILES.get(usize::from(place)).ok_or(ViewError::NoEntry)?;
        let online = self.gather.standing(node) == Standing::Online;
        let view = self.gather.view(node).filter(|_| online);
        let texts = view.as_ref().map(|view| {
            let text = |f| view.text(f).unwrap_or_default();
            mosix::Texts {
                stat: text(SystemFile::Stat),
                stat_before: b"",
                meminfo: text(SystemFile::Meminfo),
                cpuinfo: text(SystemFile::Cpuinfo),
                loadavg: text(SystemFile::Loadavg),
            }
        });
        mosix::file(name, texts.as_ref()).ok_or(ViewError::NoEntry)
    }

    fn topology(&self, n: u32, place: u8) -> Result<Vec<u8>, ViewError> {
        let cluster = self.cluster();
        let own = cluster
            .nodes
            .iter()
            .find(|own| (own.cpu_base..own.cpu_base + own.view.facts.cpus).contains(&n));
        let own = own.ok_or(ViewError::NoEntry)?;
        let cpus = own.view.facts.cpus;
        let text = cpu::topology(place, n, own.peer.id.get(), own.cpu_base, cpus);
        Ok(text.ok_or(ViewError::NoEntry)?.into_bytes())
    }

    fn root_text(&self, file: PidFile) -> Result<Vec<u8>, ViewError> {
        let nodes = self.gather.nodes().into_iter();
        let online = nodes.filter(|n| self.gather.standing(*n) == Standing::Online).count();
        let cluster = self.gather.cluster();
        Root { cluster: &cluster, nodes: online }.text(file).ok_or(ViewError::NoEntry)
    }

    async fn process_text(
        &self,
        pid: GlobalPid,
        who: Who,
        file: PidFile,
        asker: &Asker,
    ) -> Result<Vec<u8>, ViewError> {
        self.gather.refresh(Some(pid.node()), true, 0, PID_MAX_AGE).await;
        let cluster = self.cluster();
        let (place, view, _) = cluster.place(pid.node()).ok_or(ViewError::NoProcess)?;
        let process = process::find(view, who)?;
        match process::text(process, file, &place, asker) {
            Some(text) => text,
            None => self.live_text(pid, process.start_ticks, 0, (file, ""), asker).await,
        }
    }

    /// A thread's text: its stat, status and comm come with the list of threads; cmdline and the
    /// like are the process's.
    async fn thread_text(
        &self,
        pid: GlobalPid,
        tid: u32,
        file: PidFile,
        asker: &Asker,
    ) -> Result<Vec<u8>, ViewError> {
        let process = self.process_now(pid)?;
        let cluster = self.cluster();
        let (place, view, _) = cluster.place(pid.node()).ok_or(ViewError::NoProcess)?;
        let main = tid == pid.local();
        let silent = self.gather.standing(pid.node()) != Standing::Online;
        let own = matches!(file, PidFile::Stat | PidFile::Status | PidFile::Comm);
        if !own || (main && (silent || process::is_single(&process))) {
            if let Some(text) = process::text(&process, file, &place, asker) {
                return text;
            }
            let (start, what) = (process.start_ticks, (file, ""));
            return self.live_text(pid, start, tid, what, asker).await;
        }
        let threads = self.entries(pid, process.start_ticks, PidFile::Task, asker).await?;
        let thread = threads.iter().find(|e| e.name.parse() == Ok(tid));
        let thread = thread.ok_or(ViewError::NoProcess)?;
        let numbers = process::numbers(view, pid, &threads);
        let place = Place { numbers: &numbers, ..place };
        match file {
            PidFile::Stat => process::stat(&thread.stat, &place, may_trace_all(asker)),
            PidFile::Status => {
                let kthread = render::stat::parse(&thread.stat).is_some_and(|s| s.is_kthread());
                let text = render::status::status(&thread.status, &place, kthread);
                text.ok_or(ViewError::Malformed(place.node))
            }
            _ => Ok(thread.comm.clone()),
        }
    }

    /// What a symbolic link says.
    ///
    /// # Errors
    /// As `text`.
    pub async fn link(&self, item: Item, asker: &Asker) -> Result<Vec<u8>, ViewError> {
        let local = |path: &str| format!(".local/{path}").into_bytes();
        Ok(match item {
            // A caller of another pid namespace has no number here; the kernel knows it.
            Item::Fixed(Fixed::SelfLink) => match asker.tgid(&self.procfs) {
                // A job's process has that number here.
                Some(tgid) if self.with_number(tgid).is_some() => local("self"),
                Some(tgid) => tgid.to_string().into_bytes(),
                None => local("self"),
            },
            Item::Fixed(Fixed::ThreadSelf) => match asker.tgid(&self.procfs) {
                Some(tgid) if self.with_number(tgid).is_some() => local("thread-self"),
                Some(tgid) => format!("{tgid}/task/{}", asker.tid).into_bytes(),
                None => local("thread-self"),
            },
            Item::Fixed(Fixed::Live) => match &self.live {
                Some(live) => self.up_to(live),
                None => b".".to_vec(),
            },
            Item::Fixed(Fixed::Local) => self.local.as_os_str().as_bytes().to_vec(),
            Item::Fixed(Fixed::NodesSelf) => format!("node{}", self.gather.own()).into_bytes(),
            Item::LocalPid(pid) => local(&pid.to_string()),
            Item::LocalName(n) => {
                let path = self.names.path(n).ok_or(ViewError::NoEntry)?;
                [names::up(&path).into_bytes(), local(&path)].concat()
            }
            // As of a kernel thread: the link is there and leads nowhere.
            Item::PidFile(Who::Root, _) => return Err(ViewError::NoEntry),
            Item::PidFile(who @ Who::Process(pid, _), file) => {
                let view = self.gather.view(pid.node()).ok_or(ViewError::NoEntry)?;
                let start = process::find(&view, who)?.start_ticks;
                self.live_text(pid, start, 0, (file, ""), asker).await?
            }
            Item::TaskFile(pid, tid, file) => {
                let start = self.process_now(pid)?.start_ticks;
                self.live_text(pid, start, tid, (file, ""), asker).await?
            }
            Item::Entry(pid, dir, n) => self.entry_link(pid, dir, n, asker).await?,
            _ => return Err(ViewError::WrongKind),
        })
    }

    /// What an entry of a directory says: a link, or a text of fdinfo/.
    async fn entry_link(
        &self,
        pid: GlobalPid,
        dir: PidFile,
        n: u32,
        asker: &Asker,
    ) -> Result<Vec<u8>, ViewError> {
        let name = match dir {
            PidFile::Ns => NAMESPACES.get(n as usize).copied().unwrap_or_default().to_owned(),
            _ => n.to_string(),
        };
        let start = self.process_now(pid).map_or(0, |p| p.start_ticks);
        let entries = self.entries(pid, start, dir, asker).await?;
        let known = entries.iter().find(|e| e.name == name);
        match known.map(|e| &e.link) {
            Some(link) if !link.is_empty() => Ok(link.clone()),
            // It is there and could not be read with the rest: the kernel says why.
            Some(_) => self.live_text(pid, start, 0, (dir, &name), asker).await,
            None => Err(ViewError::NoEntry),
        }
    }
}

fn line(value: impl std::fmt::Display) -> Vec<u8> {
    format!("{value}\n").into_bytes()
}
