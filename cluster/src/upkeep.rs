//! Keeps a member's papers good: its certificate is renewed in time and after a change of the
//! authority, voters have the authority's key and nobody else does.

use crate::admit::Admission;
use crate::home::Home;
use crate::{ca, fingerprint};
use krg_meta::Meta;
use krg_meta::command::Command;
use krg_meta::table::{nodes, trust};
use krg_rpc::dial::Dial;
use krg_rpc::proto::member::RenewRequest;
use krg_rpc::proto::member::member_client::MemberClient;
use krg_rpc::proto::raft::AuthorityKeysRequest;
use krg_rpc::proto::raft::raft_client::RaftClient;
use krg_types::MemberId;
use krg_types::limits::{GROUP_MAIN, PROTOCOL_VERSION};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, sleep_until, timeout};

/// Looked at this often, and whenever something was agreed on.
const PERIOD: Duration = Duration::from_secs(30);
/// After a failure it is tried again so much later.
const RETRY: Duration = Duration::from_secs(1);
/// One question may take so long.
const ASK_MAX: Duration = Duration::from_secs(5);

/// What this node says of itself to everybody.
#[derive(Clone, Debug)]
pub struct Description {
    /// Its host name.
    pub hostname: String,
    /// Where it listens.
    pub address: String,
    /// Its program's version.
    pub release: String,
    /// The newest state version it knows.
    pub state_version: u32,
}

/// Everything that upkeep needs.
pub struct Upkeep {
    /// What is agreed.
    pub meta: Meta,
    /// This node's papers.
    pub home: Arc<Home>,
    /// Makes channels to members.
    pub dial: Arc<dyn Dial>,
    /// Signs, if this node can.
    pub admission: Admission,
    /// What this node says of itself.
    pub description: Description,
}

impl Upkeep {
    /// Runs until the agreement ends.
    pub async fn run(self) {
        let mut agreed = self.meta.members();
        loop {
            agreed.mark_unchanged();
            let done = self.round().await;
            let pause = if done { PERIOD } else { RETRY };
            let due = Instant::now() + pause;
            if !done {
                sleep_until(due).await;
                continue;
            }
            tokio::select! {
                changed = agreed.changed() => if changed.is_err() { return },
                () = sleep_until(self.due().min(due)) => {}
            }
        }
    }

    /// When the certificate is to be renewed: after two thirds of its time.
    fn due(&self) -> Instant {
        let left_s = self.renew_at_s().saturating_sub(self.home.wall_s());
        Instant::now() + Duration::from_secs(left_s)
    }

    fn renew_at_s(&self) -> u64 {
        let identity = self.home.identity();
        let (from_s, to_s) = identity.validity_unix_s();
        from_s + (to_s.saturating_sub(from_s)) / 3 * 2
    }

    /// Does what is to be done; is all well now?
    async fn round(&self) -> bool {
        let view = self.meta.view();
        let Some(own) = view.state.member(self.meta.own()).cloned() else { return true };
        let described = self.describe(&own).await;
        let keys = self.keys(&own).await;
        let certificate = self.certificate(&own).await;
        self.drop_old_authority().await;
        described && keys && certificate
    }

    async fn propose(&self, command: Command) -> bool {
        match self.meta.propose(command, ASK_MAX).await {
            Ok(_) => true,
            Err(e) => {
                tracing::debug!(error = %e, "not agreed on now");
                false
            }
        }
    }

    async fn describe(&self, own: &nodes::Node) -> bool {
        let Description { hostname, address, release, state_version } = self.description.clone();
        let known = own.hostname == hostname
            && own.address == address
            && own.release == release
            && own.state_version == state_version
            && own.superseded.is_none();
        let member = self.meta.own();
        let describe =
            nodes::Command::Describe { member, hostname, address, release, state_version };
        known || self.propose(Command::Nodes(describe)).await
    }

    fn voters(&self) -> BTreeSet<MemberId> {
        let metrics = self.meta.metrics();
        let metrics = metrics.borrow();
        metrics.membership_config.membership().voter_ids().collect()
    }

    /// A voter gets the keys it lacks; who votes no longer gives them up once all voters have
    /// them.
    async fn keys(&self, own: &nodes::Node) -> bool {
        let voters = self.voters();
        let view = self.meta.view();
        let wanted: BTreeSet<String> = view
            .state
            .authorities
            .iter()
            .map(|(fingerprint, _)| fingerprint.to_owned())
            .collect();
        let mut held: BTreeSet<String> = self.home.can_sign_for().into_iter().collect();
        if voters.contains(&self.meta.own()) {
            if !wanted.is_subset(&held) {
                self.fetch_keys(&voters, &wanted).await;
                held = self.home.can_sign_for().into_iter().collect();
            }
        } else if !held.is_empty() {
            let holds = |voter: &MemberId| {
                let node = view.state.member(*voter);
                node.is_some_and(|n| wanted.iter().all(|w| n.keys.contains(w)))
            };
            if !voters.is_empty() && voters.iter().all(holds) {
                if let Err(e) = self.home.drop_keys() {
                    tracing::error!(error = %e, "the authority's key cannot be given up");
                }
                held.clear();
            }
        }
        let told: BTreeSet<String> = own.keys.iter().cloned().collect();
        let member = self.meta.own();
        let holds = trust::Command::Holds { member, authorities: held.iter().cloned().collect() };
        let said = told == held || self.propose(Command::Trust(holds)).await;
        // A newest authority whose key nobody has is mended by the next change of it.
        said && (!voters.contains(&member) || !held.is_empty())
    }

    async fn fetch_keys(&self, voters: &BTreeSet<MemberId>, wanted: &BTreeSet<String>) {
        let own = self.meta.own();
        for voter in voters.iter().filter(|voter| **voter != own) {
            let Some(address) = self.address(*voter) else { continue };
            let mut client = RaftClient::new(self.dial.channel(*voter, &address));
            let envelope = Some(krg_meta::wire::envelope(GROUP_MAIN, own, *voter));
            let asked = client.authority_keys(AuthorityKeysRequest { envelope });
            if let Ok(Ok(reply)) = timeout(ASK_MAX, asked).await {
                if let Err(e) = self.home.keep_keys(&reply.into_inner().keys) {
                    tracing::error!(error = %e, "the authority's key cannot be kept");
                }
                let held: BTreeSet<String> = self.home.can_sign_for().into_iter().collect();
                if wanted.is_subset(&held) {
                    return;
                }
            }
        }
    }

    fn address(&self, member: MemberId) -> Option<String> {
        self.meta.view().state.member(member).map(|node| node.address.clone())
    }

    /// The authority that signs now.
    fn newest(&self) -> Option<String> {
        let view = self.meta.view();
        let all = view.state.authorities.iter();
        all.max_by_key(|(_, row)| row.value.number).map(|(fingerprint, _)| fingerprint.to_owned())
    }

    async fn certificate(&self, own: &nodes::Node) -> bool {
        let Some(newest) = self.newest() else { return true };
        let due = self.home.wall_s() >= self.renew_at_s();
        if !due && own.authority == newest && self.home.is_signed_by(&newest) {
            return true;
        }
        let identity = self.home.identity();
        let Ok(csr) = ca::csr(&identity.key_pkcs8_der) else { return false };
        let Some(certificate) = self.signed(&csr, &newest).await else { return false };
        match self.home.renew(certificate) {
            Ok(()) => {
                tracing::info!("this node's certificate has been renewed");
                self.home.is_signed_by(&newest)
            }
            Err(e) => {
                tracing::error!(error = %e, "a new certificate cannot be used");
                false
            }
        }
    }

    /// A certificate from this node's own key of the authority, or from a voter's.
    async fn signed(&self, csr: &[u8], newest: &str) -> Option<Vec<u8>> {
        let own = self.meta.own();
        if self.home.can_sign_for().first().is_some_and(|f| f == newest) {
            return self.admission.sign(own, csr).await.ok().map(|s| s.certificate_der);
        }
        let view = self.meta.view();
        let able = |voter: &MemberId| {
            view.state.member(*voter).is_some_and(|n| n.keys.iter().any(|k| k == newest))
        };
        let voters = self.voters();
        for voter in voters.iter().filter(|voter| **voter != own && able(voter)) {
            let Some(address) = self.address(*voter) else { continue };
            let mut client = MemberClient::new(self.dial.channel(*voter, &address));
            let request = RenewRequest {
                version: PROTOCOL_VERSION,
                cluster: view.state.info().name,
                csr: csr.to_vec(),
            };
            if let Ok(Ok(reply)) = timeout(ASK_MAX, client.renew(request)).await {
                return Some(reply.into_inner().certificate);
            }
        }
        None
    }

    /// The leader drops an authority that no member's certificate is of any more.
    async fn drop_old_authority(&self) {
        let view = self.meta.view();
        let leads = self.meta.standing().leader == Some(self.meta.own());
        let Some(newest) = self.newest().filter(|_| leads) else { return };
        let used: BTreeSet<&str> =
            view.state.members().map(|(_, node)| node.authority.as_str()).collect();
        let old = view.state.authorities.iter().map(|(fingerprint, _)| fingerprint);
        for fingerprint in old.filter(|f| **f != newest && !used.contains(*f)) {
            let fingerprint = fingerprint.to_owned();
            self.propose(Command::Trust(trust::Command::DropAuthority { fingerprint })).await;
        }
    }
}

/// A new authority, which signs from now on: every member gets a certificate from it, and the one
/// before is dropped when all have one.
///
/// # Errors
/// In words for a user.
pub async fn rotate(meta: &Meta, home: &Home, cluster: &str) -> Result<String, String> {
    let words = |e: &dyn std::fmt::Display| e.to_string();
    let ca = ca::Ca::new(cluster, home.wall_s(), ca::LIFETIME_DAYS).map_err(|e| words(&e))?;
    let new = fingerprint::to_hex(&ca.fingerprint());
    home.prepare(ca.clone());
    let add = trust::Command::AddAuthority {
        fingerprint: new.clone(),
        certificate: ca.certificate_pem(),
        expires_s: home.wall_s() + ca::LIFETIME_DAYS * 86_400,
    };
    meta.propose(Command::Trust(add), ASK_MAX).await.map_err(|e| words(&e))?;
    Ok(new)
}
