//! Becomes a member: shows a token to a node of the cluster, and gets papers for it.

use crate::ca::{self, CaError};
use crate::identity::{Founder, Identity};
use crate::token::Token;
use krg_rpc::dial::Dial;
use krg_rpc::pool;
use krg_rpc::proto::join::join_client::JoinClient;
use krg_rpc::proto::join::{JoinReply, JoinRequest};
use krg_rpc::status;
use krg_rpc::tonic::Code;
use krg_types::limits::{AUTHORITIES_MAX, CLUSTER_NAME_BYTES_MAX, NODE_ID_MAX, PROTOCOL_VERSION};
use krg_types::{MemberId, NodeId};
use std::time::Duration;
use tokio::time::{Instant, sleep_until, timeout};

/// One try may take so long; the cluster may be electing a leader.
const TRY_MAX: Duration = Duration::from_secs(12);
/// Tries in all, while nobody refuses.
const TRIES_MAX: u32 = 3;
/// Between tries.
const PAUSE: Duration = Duration::from_millis(500);

/// Why this node is no member.
#[derive(Debug, thiserror::Error)]
pub enum JoinError {
    /// Nobody answers there, or it is not the cluster of the token.
    #[error("{address} does not take this node in: {why}")]
    Unreachable {
        /// Who was asked.
        address: String,
        /// What happened.
        why: String,
    },
    /// The cluster says no.
    #[error("the cluster refuses this node: {0}")]
    Refused(String),
    /// The cluster's answer makes no sense.
    #[error("the cluster's answer is not one: {0}")]
    Answer(String),
    /// No key could be made.
    #[error(transparent)]
    Key(#[from] CaError),
}

/// What a joiner says of itself.
#[derive(Clone, Debug)]
pub struct Ask {
    /// The number it asks for.
    pub node: Option<NodeId>,
    /// Its host name.
    pub hostname: String,
    /// Where it listens.
    pub address: String,
    /// The newest state version it knows.
    pub state_version: u32,
    /// Its program's version.
    pub release: String,
    /// Its wall clock, Unix time in ms.
    pub wall_ms: u64,
}

/// Joins the cluster that the node at `address` belongs to; the papers are not on disk yet.
/// Also how far the cluster's clock is ahead of this node's, ms.
///
/// # Errors
/// As `JoinError` says; nothing has changed here then.
pub async fn join(address: &str, token: &Token, ask: &Ask) -> Result<(Identity, i64), JoinError> {
    // One key for all tries: the cluster knows by it that it is the same machine asking again.
    let key = ca::new_key()?;
    let request = JoinRequest {
        token_id: token.id().to_owned(),
        token_secret: token.secret_text(),
        ..request(ask, ca::csr(&key)?)
    };
    let mut tries = 0;
    loop {
        tries += 1;
        // A new channel each time: one that could not connect remembers that for a while.
        let channel = pool::pinned_channel(address.to_owned(), token.ca_fingerprint());
        let asked = timeout(TRY_MAX, JoinClient::new(channel).join(request.clone())).await;
        let why = match asked {
            Ok(Ok(reply)) => return read(reply.into_inner(), key, ask),
            Ok(Err(s)) if is_final(s.code()) => {
                return Err(JoinError::Refused(status::why(&s)));
            }
            Ok(Err(s)) => status::why(&s),
            Err(_) => format!("no answer within {} s", TRY_MAX.as_secs()),
        };
        // Another authority's certificate will not become the right one.
        if tries >= TRIES_MAX || why.contains("fingerprint") {
            return Err(JoinError::Unreachable { address: address.to_owned(), why });
        }
        sleep_until(Instant::now() + PAUSE).await;
    }
}

/// Comes back as a new member after the store of `old` was lost: asks the others in turn until one
/// of them can do it, for at most `limit`.
///
/// # Errors
/// The last one's reason.
pub async fn readmit(
    dial: &dyn Dial,
    old: &Identity,
    ask: &Ask,
    limit: Duration,
) -> Result<Identity, JoinError> {
    let deadline = Instant::now() + limit;
    let others: Vec<&Founder> =
        old.founders.iter().filter(|founder| founder.member != old.member).collect();
    // The key stays: by it the others know who asks, also if an answer was lost on its way.
    let key = old.key_pkcs8_der.clone();
    let request = request(ask, ca::csr(&key)?);
    loop {
        let mut last = JoinError::Refused("no other member is known".into());
        for Founder { member, address, .. } in &others {
            let client = &mut JoinClient::new(dial.channel(*member, address));
            let why = match timeout(TRY_MAX, client.readmit(request.clone())).await {
                Ok(Ok(reply)) => return Ok(read(reply.into_inner(), key, ask)?.0),
                Ok(Err(s)) => status::why(&s),
                Err(_) => format!("no answer within {} s", TRY_MAX.as_secs()),
            };
            last = JoinError::Unreachable { address: address.clone(), why };
        }
        if Instant::now() + PAUSE > deadline {
            return Err(last);
        }
        sleep_until(Instant::now() + PAUSE).await;
    }
}

fn request(ask: &Ask, csr: Vec<u8>) -> JoinRequest {
    JoinRequest {
        version: PROTOCOL_VERSION,
        node: ask.node.map_or(0, NodeId::get),
        hostname: ask.hostname.clone(),
        address: ask.address.clone(),
        csr,
        state_version: ask.state_version,
        release: ask.release.clone(),
        wall_ms: ask.wall_ms,
        ..JoinRequest::default()
    }
}

fn is_final(code: Code) -> bool {
    matches!(code, Code::PermissionDenied | Code::InvalidArgument | Code::Unimplemented)
}

fn read(reply: JoinReply, key: Vec<u8>, ask: &Ask) -> Result<(Identity, i64), JoinError> {
    let bad = |words: &str| JoinError::Answer(words.to_owned());
    let member = MemberId::from_u64(reply.member).ok_or_else(|| bad("nobody's membership"))?;
    let node = member.node().filter(|node| node.get() == reply.node);
    let node = node.ok_or_else(|| bad("no number of a node"))?;
    if reply.cluster.is_empty() || reply.cluster.len() > CLUSTER_NAME_BYTES_MAX {
        return Err(bad("no name of a cluster"));
    }
    if reply.members.len() > NODE_ID_MAX as usize || reply.authorities.len() > AUTHORITIES_MAX {
        return Err(bad("more members or authorities than there can be"));
    }
    let founder = |f: krg_rpc::proto::join::Founder| {
        let member = MemberId::from_u64(f.member)?;
        let fingerprint = f.fingerprint.try_into().ok()?;
        Some(Founder { member, address: f.address, fingerprint })
    };
    let founders: Option<Vec<Founder>> = reply.members.into_iter().map(founder).collect();
    let founders = founders.ok_or_else(|| bad("a list of members that is none"))?;
    let own = founders.iter().find(|f| f.member == member).map(|f| f.address.clone());
    let identity = Identity {
        cluster: reply.cluster,
        session: reply.session,
        node,
        member,
        address: own.unwrap_or_else(|| ask.address.clone()),
        founders,
        newest_serial: reply.newest_serial,
        key_pkcs8_der: key,
        certificate_der: reply.certificate,
        authorities: reply.authorities,
        cas: None,
    };
    let skew_ms = i128::from(reply.wall_ms) - i128::from(ask.wall_ms);
    Ok((identity, i64::try_from(skew_ms).unwrap_or(i64::MAX)))
}
