//! Who is meant by a number: a process by its cluster pid, a job or one of its processes by the
//! number that it has for life, a process of this machine by its own pid.

use super::service::Service;
use krg_migrate::caps::program_of;
use krg_migrate::place::{self, About};
use krg_procview::numbers::home_of;
use krg_rpc::peers::Peers;
use krg_rpc::proto::job as wire;
use krg_rpc::proto::job::moves_client::MovesClient;
use krg_rpc::status::why;
use krg_rpc::tonic::Status;
use krg_sys::ns;
use krg_types::limits::PROTOCOL_VERSION;
use krg_types::{GlobalPid, NodeId};
use std::time::Duration;
use tokio::time::timeout;

/// A node says it within this.
const FIND_MAX: Duration = Duration::from_millis(1_500);
/// A job that is moved again and again is followed so often.
const STEPS_MAX: usize = 4;

/// Who is meant.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Found {
    /// Where it is.
    pub node: NodeId,
    /// The process, as that node numbers it; 0: the job is meant.
    pub pid: u32,
    /// The job; 0: if it is of any, its node knows.
    pub job: u32,
}

impl Found {
    /// What is asked for, of whom a user meant with this number. A process may end while its job
    /// goes on: then the job is meant.
    ///
    /// # Errors
    /// NOT_FOUND where no process of the job has it.
    pub(super) fn named(self, number: u32) -> Result<Found, Status> {
        let Found { pid, job, .. } = self;
        if pid == 0 && job != number {
            let why = format!("there is no process {number}, though job {job} may have one");
            return Err(Status::not_found(why));
        }
        Ok(Found { pid: if job > 0 { 0 } else { pid }, ..self })
    }
}

impl Service {
    /// The job of which a process of this node is, or whose this number is.
    pub(super) fn find(&self, pid: u32, number: u32) -> Option<About> {
        let mut all = place::all(&self.dir).into_iter();
        if pid > 0 {
            let namespace = ns::id(pid, "pid").ok()?;
            return all.find(|about| about.namespace == namespace);
        }
        all.find(|about| about.owns(number))
    }

    /// What this node knows of a number of a job's.
    pub(super) async fn find_number(&self, number: u32) -> wire::FindReply {
        let Some(about) = self.find(0, number) else { return wire::FindReply::default() };
        // The job's own number is its program's.
        let within = if number == about.id { program_of(about.id, about.pids) } else { number };
        if let Some(pid) = about.process(within) {
            return wire::FindReply { job: about.id, node: self.own().get(), pid };
        }
        let info = match self.talk(about.id).await {
            Some(mut talk) => talk.about().await,
            None => None,
        };
        let Some(mut node) = info.map(|info| info.node) else {
            return wire::FindReply::default();
        };
        if node != self.own().get() {
            // It may have gone on since its home was told.
            node = self.holder_of(about.id).await.unwrap_or(node);
        }
        wire::FindReply { job: about.id, node, pid: 0 }
    }

    async fn find_at(&self, node: NodeId, number: u32) -> Result<wire::FindReply, Status> {
        if node == self.own() {
            return Ok(self.find_number(number).await);
        }
        let peer = self.peer(node)?;
        let cluster = self.station.members.cluster().to_string();
        let ask = wire::FindRequest { version: PROTOCOL_VERSION, cluster, number };
        let told = timeout(FIND_MAX, MovesClient::new(peer.channel).find(ask)).await;
        let late = |_| Status::unavailable(format!("node {node} does not answer"));
        let told = told.map_err(late)?;
        Ok(told.map_err(|s| Status::unavailable(why(&s)))?.into_inner())
    }

    /// Who is meant by a number that a user of this machine has said.
    ///
    /// # Errors
    /// When a node that must know does not answer.
    pub async fn locate(&self, number: u32) -> Result<Found, Status> {
        if let Some(pid) = GlobalPid::from_raw(number) {
            return self.locate_process(pid).await;
        }
        let plain = Found { node: self.own(), pid: number, job: 0 };
        let Some(home) = home_of(number) else { return Ok(plain) };
        // It is known here if it was started here or is here.
        let here = self.find_number(number).await;
        let (mut at, mut told) = (self.own(), here);
        if told.job == 0 {
            if self.station.members.get(home).is_none() || home == at {
                return Ok(plain);
            }
            (at, told) = (home, self.find_at(home, number).await?);
        }
        self.follow(at, told, number).await
    }

    /// From who has told of a job to where it is.
    async fn follow(
        &self,
        mut at: NodeId,
        mut told: wire::FindReply,
        number: u32,
    ) -> Result<Found, Status> {
        let job = told.job;
        for _ in 0..STEPS_MAX {
            let Some(next) = NodeId::new(told.node).filter(|_| told.job > 0) else { break };
            if next == at {
                return Ok(Found { node: at, pid: told.pid, job });
            }
            (at, told) = (next, self.find_at(next, number).await?);
        }
        Err(Status::unavailable(format!("job {job} is on its way")))
    }

    /// A process by its cluster pid. A job whose processes have no numbers for life is called after
    /// its program's, and still is when it is on another node.
    async fn locate_process(&self, pid: GlobalPid) -> Result<Found, Status> {
        let plain = Found { node: pid.node(), pid: pid.local(), job: 0 };
        // Who does not answer does not know of it either: what is asked of it then will say so.
        let Ok(told) = self.find_at(pid.node(), pid.raw()).await else { return Ok(plain) };
        match told.job {
            0 => Ok(plain),
            _ => self.follow(pid.node(), told, pid.raw()).await,
        }
    }
}
