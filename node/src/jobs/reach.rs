//! What the holder of a job needs of the cluster, from its own process: by krgd's door for
//! commands, and by channels of its own to other nodes.

use crate::config::Config;
use crate::member_feed::{self, Fed};
use krg_cluster::Member;
use krg_migrate::cluster::{Answer, Cluster, Record, key};
use krg_rpc::bulk::{Bulk, Preface};
use krg_rpc::local;
use krg_rpc::peers::Peers;
use krg_rpc::proto::control::control_client::ControlClient;
use krg_rpc::proto::control::{ConfigGetRequest, ConfigSetRequest};
use krg_rpc::status::why;
use krg_rpc::tls;
use krg_rpc::tonic::Status;
use krg_rpc::tonic::transport::Channel;
use krg_types::NodeId;
use krg_types::limits::PROTOCOL_VERSION;
use std::io;
use std::net::TcpStream;
use std::path::PathBuf;
use std::time::Duration;
use tokio::sync::OnceCell;
use tokio::time::timeout;

/// An answer of krgd's comes within this.
const ANSWER_MAX: Duration = Duration::from_secs(9);
/// It agrees within this, or says that it cannot, ms.
const AGREE_MAX_MS: u32 = 6_000;

/// It.
pub struct Reach {
    config: Config,
    own: u32,
    socket: PathBuf,
    fed: OnceCell<Fed>,
}

impl Reach {
    /// Of this node. Nobody is asked before there is need.
    pub fn new(config: Config, own: u32) -> Reach {
        let socket = config.run_dir.join("krgd.sock");
        Reach { config, own, socket, fed: OnceCell::new() }
    }

    async fn fed(&self) -> io::Result<&Fed> {
        let start = || async { member_feed::start(&self.config).await };
        self.fed.get_or_try_init(start).await.map_err(|e| io::Error::other(format!("{e:#}")))
    }

    async fn daemon(&self) -> io::Result<ControlClient<Channel>> {
        let channel = local::connect(&self.socket).await;
        Ok(ControlClient::new(channel.map_err(|e| io::Error::other(e.to_string()))?))
    }
}

fn member(fed: &Fed, node: u32) -> io::Result<Member> {
    let none = || io::Error::other(format!("there is no node {node}"));
    NodeId::new(node).and_then(|node| fed.members.member(node)).ok_or_else(none)
}

fn failed(status: &Status) -> io::Error {
    io::Error::other(why(status))
}

async fn in_time<T>(answer: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    let late = || io::Error::new(io::ErrorKind::TimedOut, "krgd does not answer");
    timeout(ANSWER_MAX, answer).await.map_err(|_| late())?
}

impl Cluster for Reach {
    fn own(&self) -> u32 {
        self.own
    }

    fn name(&self) -> Answer<'_, String> {
        Box::pin(async { Ok(self.fed().await?.members.cluster().to_string()) })
    }

    fn channel(&self, node: u32) -> Answer<'_, Channel> {
        Box::pin(async move {
            let none = || io::Error::other(format!("there is no node {node}"));
            let id = NodeId::new(node).ok_or_else(none)?;
            Ok(self.fed().await?.members.get(id).ok_or_else(none)?.channel)
        })
    }

    fn images_to<'a>(&'a self, node: u32, whom: &'a Preface) -> Answer<'a, Bulk> {
        Box::pin(async move {
            let fed = self.fed().await?;
            let Member { member, address, .. } = member(fed, node)?;
            tls::images_to(&address, whom, member, &fed.credentials).await
        })
    }

    fn images_from(&self, connection: TcpStream, from: u32) -> Answer<'_, Bulk> {
        Box::pin(async move {
            let fed = self.fed().await?;
            let bulk = tls::images_from(connection, &fed.credentials).await?;
            match member(fed, from)?.member == bulk.member() {
                true => Ok(bulk),
                false => Err(io::Error::other(format!("it is not node {from} that sends them"))),
            }
        })
    }

    fn record(&self, job: u32) -> Answer<'_, (Option<Record>, u64)> {
        Box::pin(in_time(async move {
            let ask = ConfigGetRequest {
                version: PROTOCOL_VERSION,
                key: key(job),
                prefix: false,
                linearizable: true,
            };
            let told = self.daemon().await?.config_get(ask).await.map_err(|s| failed(&s))?;
            let pair = told.into_inner().pairs.into_iter().next();
            let Some(pair) = pair else { return Ok((None, 0)) };
            Ok((Record::parse(&pair.value), pair.revision))
        }))
    }

    fn set_record<'a>(
        &'a self,
        job: u32,
        record: Option<&'a Record>,
        if_revision: u64,
    ) -> Answer<'a, bool> {
        Box::pin(in_time(async move {
            let ask = ConfigSetRequest {
                version: PROTOCOL_VERSION,
                key: key(job),
                value: record.map(Record::to_text),
                if_revision: Some(if_revision),
                timeout_ms: AGREE_MAX_MS,
                // A node that does not vote hears of it only with the next heartbeat.
                at_once: true,
            };
            let told = self.daemon().await?.config_set(ask).await.map_err(|s| failed(&s))?;
            Ok(told.into_inner().done)
        }))
    }

    fn keep(&self, key: String, text: String) -> Answer<'_, ()> {
        Box::pin(in_time(async move {
            let ask = ConfigSetRequest {
                version: PROTOCOL_VERSION,
                key,
                value: Some(text),
                if_revision: None,
                timeout_ms: AGREE_MAX_MS,
                at_once: false,
            };
            self.daemon().await?.config_set(ask).await.map_err(|s| failed(&s))?;
            Ok(())
        }))
    }
}
