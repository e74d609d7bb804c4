//! The member list as a mount process has it: from krgd, as it changes. While krgd is away the
//! last list stays.

use crate::config::Config;
use anyhow::{Context, Result, bail};
use krg_cluster::Members;
use krg_cluster::identity::Identity;
use krg_rpc::dial::Secure;
use krg_rpc::local;
use krg_rpc::proto::control::control_client::ControlClient;
use krg_rpc::proto::control::{MemberList, MembersRequest};
use krg_rpc::tls::{CertificateDer, Credentials, Roster};
use krg_types::MemberId;
use krg_types::limits::{MESSAGE_BYTES_MAX, NODE_ID_MAX, PROTOCOL_VERSION};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, sleep_until, timeout};

/// krgd is asked again so much later when it was not there.
const RETRY: Duration = Duration::from_millis(200);
/// The first list comes within this.
const FIRST_MAX: Duration = Duration::from_secs(4);

/// Keeps a member list in step with krgd's.
struct MemberFeed {
    members: Arc<Members>,
    credentials: Arc<Credentials>,
    own: MemberId,
    state_dir: PathBuf,
    socket: PathBuf,
    /// What was read of this node's papers last.
    papers: u64,
}

/// What comes of it.
pub struct Fed {
    /// Who is a member, and where.
    pub members: Arc<Members>,
    /// Who this node is, and whom it believes.
    pub credentials: Arc<Credentials>,
    /// This node's papers, as they were at the start.
    pub identity: Identity,
}

/// Reads this node's papers, takes the first list, and follows it from then on.
///
/// # Errors
/// When the papers cannot be read or krgd does not answer.
pub async fn start(config: &Config) -> Result<Fed> {
    let identity = Identity::load(&config.state_dir)?.context("this node has no papers")?;
    let credentials = identity.credentials()?;
    let dial = Arc::new(Secure(credentials.clone()));
    let members = Arc::new(Members::new(identity.node, &identity.cluster, dial));
    let fed = Fed {
        members: members.clone(),
        credentials: credentials.clone(),
        identity: identity.clone(),
    };
    let mut feed = MemberFeed {
        members,
        credentials,
        own: identity.member,
        state_dir: config.state_dir.clone(),
        socket: config.run_dir.join("krgd.sock"),
        papers: 0,
    };
    let first = timeout(FIRST_MAX, feed.follow(true)).await;
    first.context("krgd does not tell who is a member")??;
    tokio::spawn(async move {
        loop {
            if let Err(e) = feed.follow(false).await {
                tracing::debug!(error = %e, "no member list from krgd now");
            }
            sleep_until(Instant::now() + RETRY).await;
        }
    });
    Ok(fed)
}

impl MemberFeed {
    /// Takes lists until krgd is gone; or only one.
    async fn follow(&mut self, once: bool) -> Result<()> {
        let mut client = ControlClient::new(local::connect(&self.socket).await?)
            .max_decoding_message_size(MESSAGE_BYTES_MAX);
        let ask = MembersRequest { version: PROTOCOL_VERSION };
        let mut lists = client.members(ask).await?.into_inner();
        while let Some(list) = lists.message().await? {
            self.take(list)?;
            if once {
                return Ok(());
            }
        }
        Ok(())
    }

    fn take(&mut self, list: MemberList) -> Result<()> {
        if list.own != self.own.get() {
            // krgd replaces this process when that has happened; until then the old list stays.
            bail!("this node is another member now");
        }
        if list.members.len() > 2 * NODE_ID_MAX as usize {
            bail!("a list of {} members", list.members.len());
        }
        let mut roster = Roster { newest_serial: list.newest_serial, ..Roster::default() };
        let mut nodes = Vec::new();
        for member in list.members {
            let Some(id) = MemberId::from_u64(member.id) else { continue };
            let prints =
                member.fingerprints.into_iter().filter_map(|f| <[u8; 32]>::try_from(f).ok());
            roster.members.entry(id).or_default().extend(prints);
            if !member.address.is_empty() {
                nodes.push((id, member.address));
            }
        }
        if self.papers != list.credentials {
            let identity = Identity::load(&self.state_dir)?.context("this node has no papers")?;
            self.credentials.set_own(identity.own())?;
            self.papers = list.credentials;
        }
        let trusted = list.authorities.into_iter().map(CertificateDer::from).collect();
        self.credentials.set_authorities(trusted)?;
        self.credentials.set_roster(roster);
        self.members.set(&nodes);
        Ok(())
    }
}
