//! A node's krgd, asked over its unix socket from outside: what a test asks many times a second
//! must not cost the start of a program each.

use crate::{Lab, within};
use krg_rpc::local;
use krg_rpc::proto::control::control_client::ControlClient;
use krg_rpc::proto::control::{
    ClusterReply, ConfigGetRequest, ConfigReply, ConfigSetReply, ConfigSetRequest, StatusReply,
    StatusRequest,
};
use krg_rpc::tonic::transport::Channel;
use krg_types::limits::{MESSAGE_BYTES_MAX, PROTOCOL_VERSION};
use std::path::PathBuf;
use std::time::Duration;
use tokio::runtime::Builder;
use tokio::time::timeout;

/// A question that should be answered at once may take so long.
pub const ASK_MAX: Duration = Duration::from_secs(3);
/// Somebody leads after this.
const LEADER_MAX: Duration = Duration::from_secs(10);

/// One node's krgd.
#[derive(Clone, Debug)]
pub struct Talk {
    client: ControlClient<Channel>,
}

/// The process 1 of a lab's node, if it is up.
pub fn init_of(lab: &str, node: u32) -> Option<u32> {
    let text = std::fs::read(format!("/run/krg-lab/{lab}/lab.json")).ok()?;
    let lab: serde_json::Value = serde_json::from_slice(&text).ok()?;
    let node = lab["nodes"].as_array()?.iter().find(|n| n["id"] == node)?;
    u32::try_from(node["init"]["pid"].as_u64()?).ok()
}

/// A file of a node, as the host sees it.
pub fn path_in(lab: &str, node: u32, path: &str) -> Option<PathBuf> {
    Some(format!("/proc/{}/root{path}", init_of(lab, node)?).into())
}

impl Talk {
    /// Connects to it.
    ///
    /// # Errors
    /// In words, when it is not there.
    pub async fn to(lab: &str, node: u32) -> Result<Talk, String> {
        let socket = path_in(lab, node, local::SOCKET).ok_or(format!("node {node} is down"))?;
        let channel = local::connect(&socket).await.map_err(|e| e.to_string())?;
        let client = ControlClient::new(channel).max_decoding_message_size(MESSAGE_BYTES_MAX);
        Ok(Talk { client })
    }

    /// The generated client, for what is asked only here and there.
    pub fn client(&self) -> ControlClient<Channel> {
        self.client.clone()
    }

    /// Sets a key.
    ///
    /// # Errors
    /// In words; whether it was set is open then.
    pub async fn set(
        &self,
        key: &str,
        value: &str,
        if_revision: Option<u64>,
        limit: Duration,
    ) -> Result<ConfigSetReply, String> {
        let ask = ConfigSetRequest {
            version: PROTOCOL_VERSION,
            key: key.to_owned(),
            value: Some(value.to_owned()),
            if_revision,
            timeout_ms: limit.as_millis() as u32,
            at_once: false,
        };
        // A daemon that is stopped does not even say that it is late.
        let patience = limit + Duration::from_secs(1);
        answered(timeout(patience, self.client().config_set(ask)).await)
    }

    /// The keys with a prefix.
    ///
    /// # Errors
    /// In words.
    pub async fn get(&self, prefix: &str, linearizable: bool) -> Result<ConfigReply, String> {
        let ask = ConfigGetRequest {
            version: PROTOCOL_VERSION,
            key: prefix.to_owned(),
            prefix: true,
            linearizable,
        };
        answered(timeout(ASK_MAX, self.client().config_get(ask)).await)
    }

    /// How the cluster stands, as seen from there.
    ///
    /// # Errors
    /// In words.
    pub async fn cluster(&self) -> Result<ClusterReply, String> {
        let ask = StatusRequest { version: PROTOCOL_VERSION };
        answered(timeout(ASK_MAX, self.client().cluster_status(ask)).await)
    }

    /// Who is there, as seen from there.
    ///
    /// # Errors
    /// In words.
    pub async fn status(&self) -> Result<StatusReply, String> {
        let ask = StatusRequest { version: PROTOCOL_VERSION };
        answered(timeout(ASK_MAX, self.client().status(ask)).await)
    }
}

/// Asks one node one thing.
///
/// # Errors
/// In words.
pub fn ask<T, F: Future<Output = Result<T, String>>>(
    lab: &Lab,
    node: u32,
    question: impl FnOnce(Talk) -> F,
) -> Result<T, String> {
    let runtime =
        Builder::new_current_thread().enable_all().build().map_err(|e| e.to_string())?;
    runtime.block_on(async { question(Talk::to(&lab.name, node).await?).await })
}

/// How the cluster stands, as seen from a node.
///
/// # Errors
/// In words.
pub fn cluster(lab: &Lab, node: u32) -> Result<ClusterReply, String> {
    ask(lab, node, |talk| async move { talk.cluster().await })
}

/// Who leads, as soon as one of these nodes knows.
#[track_caller]
pub fn leader(lab: &Lab, nodes: &[u32]) -> u32 {
    within(LEADER_MAX, || {
        let said = nodes.iter().map(|node| cluster(lab, *node));
        let known = said.flatten().find(|c| !c.stale && c.leader.is_some());
        known.and_then(|c| c.leader).ok_or("nobody leads".to_owned())
    })
}

type Asked<T> = Result<
    Result<krg_rpc::tonic::Response<T>, krg_rpc::tonic::Status>,
    tokio::time::error::Elapsed,
>;

fn answered<T>(asked: Asked<T>) -> Result<T, String> {
    match asked {
        Ok(Ok(reply)) => Ok(reply.into_inner()),
        Ok(Err(status)) => Err(krg_rpc::status::why(&status)),
        Err(_) => Err("no answer in time".to_owned()),
    }
}
