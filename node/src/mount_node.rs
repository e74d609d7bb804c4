//! The process of the mount of one node's file tree.

use crate::config::Config;
use crate::export::{self, Whose};
use crate::member_feed::{self, Fed};
use crate::mount_process as process;
use anyhow::Result;
use krg_cluster::Members;
use krg_faf::client::{Destination, Route};
use krg_faf::serve;
use krg_krgfs::node::{self, Source};
use krg_rpc::dial::Secure;
use krg_rpc::peers::Peers;
use krg_types::NodeId;
use krg_types::mfs::{self, Patience};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

/// Between probes of the node while it answers.
const PROBE_PERIOD: Duration = Duration::from_secs(1);

/// Mounts the tree of `node` on `at` and serves it until it is unmounted or asked to end.
pub fn run(config: &Config, at: &Path, node: NodeId, patience: Patience) -> Result<()> {
    let runtime = process::begin(mfs::SERVER)?;
    let source = runtime.block_on(async {
        let fed = member_feed::start(config).await?;
        if fed.members.own() == node {
            let server = export::serve(config, &fed, Whose::Own).await?;
            return Ok(Source::Own(server));
        }
        anyhow::Ok(Source::Remote(route(&fed, node), patience))
    })?;
    let session = node::mount(at, node, source, runtime.handle(), process::threads())?.spawn()?;
    process::serve(runtime, &[at], || session.join(), async {})
}

/// The way to the node's file server, as long as it is a member.
fn route(fed: &Fed, node: NodeId) -> Route {
    let (send, to) = watch::channel(None);
    tokio::spawn(follow(fed.members.clone(), fed.credentials.clone(), node, send));
    let (credentials, cluster) = (fed.credentials.clone(), fed.members.cluster());
    Route { to, credentials, cluster }
}

/// Tells where the node is, and whether it answers: of all members it alone is probed here.
async fn follow(
    members: Arc<Members>,
    credentials: Arc<krg_rpc::tls::Credentials>,
    node: NodeId,
    send: watch::Sender<Option<Destination>>,
) {
    let dial = Arc::new(Secure(credentials));
    let only = Arc::new(Members::new(members.own(), &members.cluster(), dial));
    process::probe(&only, PROBE_PERIOD);
    let (mut list, mut state) = (members.changes(), only.changes());
    // Until it has answered once, the attempt to connect tells.
    let mut met = false;
    loop {
        let known = members.member(node);
        let place = known.iter().map(|m| (m.member, m.address.clone()));
        only.set(&place.collect::<Vec<_>>());
        let now = only.member(node).and_then(|m| {
            met |= m.up;
            let address = serve::address_beside(&m.address)?;
            Some(Destination { member: m.member, address, up: m.up || !met })
        });
        send.send_if_modified(|to| {
            let changed = *to != now;
            *to = now;
            changed
        });
        tokio::select! {
            changed = list.changed() => if changed.is_err() { return },
            changed = state.changed() => if changed.is_err() { return },
        }
    }
}
